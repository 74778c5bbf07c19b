"""The pages name files, keys and commands that exist."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from diffprobe.__main__ import parser

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MANUAL = [page for page in PAGES if page.name not in ("LOG.md", "BENCHMARKS.md")]


def ids(page: Path) -> str:
    return page.name


def fences(page: Path, language: str) -> list[str]:
    blocks = re.findall(r"^```(\w*).*?\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    return [text for name, text in blocks if name == language]


def test_readme_is_short() -> None:
    assert (ROOT / "README.md").stat().st_size <= 7_000


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_lead_to_files(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_page_of_the_manual_is_linked_from_its_first_page() -> None:
    first = ROOT / "docs" / "README.md"
    assert "](docs/README.md)" in (ROOT / "README.md").read_text()
    linked = set(re.findall(r"\]\(([\w.-]+\.md)", first.read_text())) | {first.name}
    assert {page.name for page in first.parent.glob("*.md")} - linked == set()


def test_named_files_exist() -> None:
    named = re.findall(
        r"`((?:src|rules|workflow|config|docs|tests)/[\w./]+\.\w+)`", (ROOT / "docs/code.md").read_text()
    )
    assert len(named) > 10
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", MANUAL, ids=ids)
def test_yaml_is_yaml(page: Path) -> None:
    for text in fences(page, "yaml"):
        assert isinstance(yaml.safe_load(text.replace(", ...", "")), dict)


@pytest.mark.parametrize("page", MANUAL, ids=ids)
def test_commands_are_understood(page: Path) -> None:
    commands = re.findall(r"^(?:[A-Z0-9_]+=\S+ )?diffprobe (.*)$", "".join(fences(page, "")), re.MULTILINE)
    for command in commands:
        parser().parse_args(shlex.split(command, comments=True))
