"""How much memory is left on this machine and in the control groups around this process (containers, Slurm's jobs)."""

from collections.abc import Iterator
from pathlib import Path

# The files of a group by version of control groups: its limit, its use, and what its statistics' keys begin with.
VERSIONS = (
    ("memory.max", "memory.current", ""),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
)


def available_memory(root: Path = Path("/")) -> float:
    """Bytes that can still be filled. The page cache counts as free, since the kernel gives it up on demand.

    The smallest of what the machine and every control group have left; 0 where the system does not say.
    """
    groups = [left for folder in group_folders(root) for left in left_in(folder)]
    return max(0, min([left_on_machine(root), *groups]))


def left_on_machine(root: Path) -> int:
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), 0)


def group_folders(root: Path) -> Iterator[Path]:
    """The folders of this process's memory groups, innermost first. In a container only the outermost may exist."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):  # version 2 has one hierarchy, without a name
            mount = root / "sys/fs/cgroup" / controllers
            folder = mount / path.lstrip("/")
            yield from (group for group in (folder, *folder.parents) if group.is_relative_to(mount))


def left_in(folder: Path) -> Iterator[int]:
    """Bytes left in a group, its page cache counted as free; nothing where the group has no limit."""
    for limit, used, prefix in VERSIONS:
        try:
            most = int((folder / limit).read_text())  # ValueError: the word "max"
            statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            files = sum(int(statistics[f"{prefix}{which}_file"]) for which in ("active", "inactive"))
            yield most - int((folder / used).read_text()) + files
        except (OSError, ValueError, KeyError):
            continue
