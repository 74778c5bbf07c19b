"""The plain references of `make bench` do the work of ours: at sizes that take a moment, none of it is timed here."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))  # the benchmarks are no part of the package

from benchmarks import row  # noqa: E402


@pytest.mark.parametrize("name", row.NAMES)
def test_the_sides_of_a_row_agree(name: str) -> None:
    for agreement in row.load(name).check(True):
        assert agreement.holds, f"{agreement.what} differ by {agreement.difference} (at most {agreement.tolerance})"
