"""What `snakemake --delete-all-output` leaves, and that a line says so."""

from pathlib import Path

import pytest

from diffprobe.plan.leftovers import deletes_outputs, leftover


@pytest.mark.parametrize(
    ("arguments", "deletes"),
    [
        (["--delete-all-output"], True),
        (["--cores", "2", "--delete-all-output"], True),
        (["--delete-all-output", "-n"], False),
        (["-np", "--delete-all-output"], False),
        (["--cores", "2"], False),
    ],
)
def test_only_a_command_that_removes_files_is_followed_by_the_line(arguments: list[str], deletes: bool) -> None:
    assert deletes_outputs(arguments) is deletes


def test_the_line_counts_files_and_says_how_to_remove_them(tmp_path: Path) -> None:
    results = tmp_path / "my results"
    assert leftover(str(results)) is None
    (results / "states").mkdir(parents=True)
    assert leftover(str(results)) is None
    (results / "states/1.safetensors").write_bytes(bytes(2_000_000))
    (results / "link").symlink_to("/nowhere")
    line = leftover(str(results))
    assert line is not None
    assert line.startswith(f"{results}: 2 files (2.0 MB) stay: ")
    assert line.endswith(f"rm -r '{results}'")
