"""Receipts: beside each result, its inputs, the code that made it, the machine, and the cost.

They are a record. What decides whether a job runs again is its argument: `plan/job_arguments.py`.
"""

import ast
import hashlib
import platform
import resource
import sys
import time
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from diffprobe.runtime.files import sha256

PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "h5py", "zarr", "safetensors", "pytorch-fid")
ROOT = Path(__file__).parents[3]  # the workflow's folder, which holds src/ and workflow/


@cache
def module_hash(path: str) -> str:
    """A hash of a source file's behaviour: comments, docstrings and layout do not count."""
    # `ast.unparse` writes one layout without comments. Docstrings are statements and must be dropped here.
    tree = ast.parse(Path(path).read_text())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                body[:] = body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:12]


def code_version() -> dict[str, str]:
    """The hash of every file of this project that this process has loaded, by path from the root."""
    # A list, since another thread may import while this one iterates.
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    ours = sorted(Path(file).resolve() for file in files if file and file.endswith(".py"))
    ours = [file for file in ours if any(file.is_relative_to(ROOT / room) for room in ("src", "workflow"))]
    return {str(file.relative_to(ROOT)): module_hash(str(file)) for file in ours}


def changed_code(recorded: dict[str, str]) -> list[str]:
    """The recorded files that are gone or behave differently now."""
    return [name for name, value in recorded.items() if present_hash(ROOT / name) != value]


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


def receipt(config: object, inputs: Mapping[str, str], started: float, **more: object) -> dict[str, Any]:
    """The receipt of a job that began at `started` (Unix time); `more` holds seeds, counts and rates.

    `inputs` maps a name to a path; each is hashed. Peak memory is this process's own, in MiB.
    """
    return {
        "config": config,
        "inputs": {name: {"path": path, "sha256": sha256(path)} for name, path in inputs.items()},
        "code": code_version(),
        "packages": packages(),
        "device": device_name(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(time.time() - started, 2),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,  # Linux counts in KiB
        **more,
    }
