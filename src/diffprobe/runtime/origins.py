"""What a result was made from, by its receipt and those of its inputs."""

from pathlib import Path

from diffprobe.runtime.receipts import RECEIPT, entry_of, read_receipt


def origins(paper: Path) -> dict[str, str]:
    """The hash of every file, by its path, that the result of a receipt was made from: of its inputs as they were, of
    what those were made from, and so on. What has no receipt ends the search.
    """
    hashes: dict[str, str] = {}
    papers: list[Path] = [paper]
    while papers:
        for entry in (read_receipt(papers.pop()) or {}).get("inputs", {}).values():
            if entry["path"] not in hashes:
                hashes[entry["path"]] = entry["sha256"]
                before = receipt_of(Path(entry["path"]))
                papers += [before] if before else []
    return hashes


def receipt_of(path: Path) -> Path | None:
    """The receipt of a file or folder, if it has one; that of features outlives them."""
    beside = path.with_name(f"{path.name}.{RECEIPT}")
    if beside.exists():
        return beside
    listed = entry_of(path)
    return listed[0] if listed else None
