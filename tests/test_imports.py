"""What is loaded before anything happens: seconds that a user waits for nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
READERS = ("plot", "comparison", "summary", "dataset_table", "choice", "download")  # they plot, tabulate or fetch


def loaded(code: str, *arguments: str) -> set[str]:
    """The top-level packages that a program has loaded when it ends."""
    report = "import sys, atexit; atexit.register(lambda: print({name.partition('.')[0] for name in sys.modules}))\n"
    command = [sys.executable, "-c", report + code, *arguments]
    return eval(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def test_help_loads_the_standard_library_alone() -> None:
    packages = loaded("from diffprobe.__main__ import main; main()", "--help")
    site = loaded("")  # an environment may load packages of its own at every start
    assert packages - site - sys.stdlib_module_names == {"diffprobe"}


@pytest.mark.parametrize("script", READERS)
def test_readers_load_no_torch(script: str) -> None:
    code = "import runpy; runpy.run_path(sys.argv[1], run_name='__main__')"
    assert not {"torch", "torchvision", "diffusers"} & loaded(
        code, str(ROOT / "workflow" / "scripts" / f"{script}.py"), "--help"
    )


def test_describing_a_network_again_loads_no_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    code = "from diffprobe.__main__ import main; main()"
    arguments = ["describe", "digits_dit", "--json", "--configfile", str(ROOT / "config" / "config.yaml")]
    assert "torch" in loaded(code, *arguments)
    assert "torch" not in loaded(code, *arguments)
