"""Hashes of code: of what it does, whoever has remembered them."""

from pathlib import Path

import pytest

from diffprobe.runtime import code_hashes, receipts


def test_code_hashes_see_what_code_does_and_nothing_else(tmp_path: Path) -> None:
    versions = {
        "plain": "def f(x):\n    return x + 1\n",
        "dressed": '"""A page."""\n\n\ndef f(x):\n    """Adds."""\n    return (x + 1)  # one\n',
        "other": "def f(x):\n    return x + 2\n",
    }
    hashes = {}
    for name, text in versions.items():
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        hashes[name] = code_hashes.module_hash(str(path))
    assert hashes["plain"] == hashes["dressed"] != hashes["other"]


def test_code_hashes_are_remembered_and_a_damaged_memory_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source = tmp_path / "code.py"
    source.write_text("x = 1\n")

    def hashed() -> str:
        code_hashes.module_hash.cache_clear()
        code_hashes.hashes.cache_clear()
        return code_hashes.module_hash(str(source))

    value = hashed()
    code_hashes.remember()
    monkeypatch.setattr(code_hashes, "behaviour", lambda source: "made again")
    assert hashed() == value
    code_hashes.place().write_text(code_hashes.place().read_text().replace(value, "0" * len(value)))
    assert hashed() == "made again"
    code_hashes.module_hash.cache_clear()
    code_hashes.hashes.cache_clear()


def test_a_hash_is_of_the_bytes_it_is_remembered_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "code.py"
    source.write_text("saved = 'before'\n")
    expected = code_hashes.behaviour("saved = 'before'")
    usual = Path.read_bytes

    def read_and_save(path: Path) -> bytes:
        content = usual(path)
        path.write_text("saved = 'after'\n")  # an editor, at this moment
        return content

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", read_and_save)
        assert code_hashes.module_hash(str(source)) == expected


def test_changed_code_names_files_that_changed_or_vanished() -> None:
    present = code_hashes.code_version()
    assert "src/diffprobe/runtime/receipts.py" in present
    assert receipts.changed_code(present) == []
    recorded = present | {"src/diffprobe/runtime/files.py": "0", "src/diffprobe/gone.py": "0"}
    assert receipts.changed_code(recorded) == ["src/diffprobe/runtime/files.py", "src/diffprobe/gone.py"]
