"""Receipts: beside each result, its inputs, the code that made it, the machine, and the cost.

They are a record. What decides whether a job runs again is its argument: `plan/job_arguments.py`. Whoever reads a
result back compares it with the hash in its receipt (`runtime/results.py`).
"""

import json
import platform
import sys
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from diffprobe.runtime.code_hashes import code_version, module_hash
from diffprobe.runtime.files import digest, read_json, sha256, write_json
from diffprobe.runtime.places import project_file
from diffprobe.runtime.system import peak_memory_mib

RECEIPT = "receipt.json"  # how the name of each ends
PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "h5py", "zarr", "safetensors", "pytorch-fid")
OWN_CHECKSUMS = (".h5", ".safetensors")  # files that need no hash in the receipt; some take minutes to read


def changed_code(recorded: dict[str, str]) -> list[str]:
    """The recorded files that are gone or behave differently now."""
    return [name for name, value in recorded.items() if present_hash(project_file(name)) != value]


def present_hash(path: Path) -> str | None:
    """The hash of a source file as it is now; None where it is gone or has a syntax error."""
    try:
        return module_hash(str(path))
    except (FileNotFoundError, SyntaxError):
        return None


def packages() -> dict[str, str]:
    """The versions of Python and of the packages that this process has loaded."""
    loaded = {name: version(name) for name in PACKAGES if name.replace("-", "_") in sys.modules}
    if "sklearn" in sys.modules:  # the one package whose module has another name
        loaded["scikit-learn"] = version("scikit-learn")
    return {"python": platform.python_version(), **loaded}


def device_name() -> str:
    """The accelerator that torch would use, or the processor, without importing torch."""
    torch = sys.modules.get("torch")  # an import takes seconds, and a job without torch has used no accelerator
    if torch is not None and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"cpu ({platform.machine()})"


def write_receipt(
    path: Path,
    config: object,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str | Path],
    started: float,
    **more: object,
) -> None:
    """Write the receipt of a job that began at `started` (Unix time); `more` holds seeds, counts and rates.

    `inputs` and `outputs` map a name to a path; each is hashed. Peak memory is this process's own, in MiB.
    """
    receipt = {
        "config": config,
        "inputs": {name: {"path": path, "sha256": sha256(path)} for name, path in inputs.items()},
        "outputs": outputs_entry(outputs),
        "code": code_version(),
        "packages": packages(),
        "device": device_name(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(time.time() - started, 2),
        "peak_memory_mib": peak_memory_mib(),
        **more,
    }
    write_json(path, sealed(receipt))


def outputs_entry(outputs: Mapping[str, str | Path]) -> dict[str, dict[str, str]]:
    """The path of every output, and the hash of those that have no checksums of their own."""
    files = {name: Path(path) for name, path in outputs.items()}
    for name, folder in list(files.items()):
        if folder.is_dir():  # its mark, which lies directly in it
            files |= {f"{name}/{path.name}": path for path in sorted(folder.iterdir()) if path.is_file()}
    hashed = {name for name, path in files.items() if path.is_file() and path.suffix not in OWN_CHECKSUMS}
    return {
        name: {"path": str(path)} | ({"sha256": sha256(path)} if name in hashed else {}) for name, path in files.items()
    }


def sealed(receipt: dict[str, Any]) -> dict[str, Any]:
    """A receipt with a checksum over itself."""
    # Over what JSON makes of it: a tuple or an integer key is written and read as something else.
    return receipt | {"checksum": digest(json.loads(json.dumps(receipt)))}


def read_receipt(path: str | Path) -> dict[str, Any] | None:
    """A receipt; None where there is none, or a damaged one. Those from before there were checksums are believed."""
    try:
        receipt = read_json(path)
        checksum = receipt.pop("checksum", None)
        intact = checksum == digest(receipt) if checksum or "outputs" in receipt else True
        typed = all(isinstance(receipt.get(key, {}), dict) for key in ("config", "code", "store", "outputs"))
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return None
    return receipt if intact and typed else None


def entry_of(path: Path) -> tuple[Path, dict[str, str]] | None:
    """The receipt beside a result, or beside its folder, that lists it as an output, and its entry there."""
    path = path.absolute()
    own = f"{path.stem}.{RECEIPT}"  # before the others of a folder, which may be many
    beside = [(paper, 1) for paper in sorted(path.parent.glob(f"*{RECEIPT}"), key=lambda paper: paper.name != own)]
    above = path.parent.with_name(f"{path.parent.name}.{RECEIPT}")
    for paper, depth in [*beside, (above, 2)]:
        for entry in ((read_receipt(paper) or {}).get("outputs") or {}).values():
            # By name alone, since a folder of results may have been moved.
            if Path(entry["path"]).parts[-depth:] == path.parts[-depth:]:
                return paper, entry
    return None
