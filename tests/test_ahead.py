"""Draws made ahead are those of the rows themselves."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from diffprobe.runtime import ahead
from diffprobe.runtime.ahead import Ahead, DrawnAhead
from diffprobe.runtime.keyed import Draws

shapes = st.sampled_from([(), (1,), (3,), (2, 8, 8), (0,)])
batches = st.lists(st.tuples(st.integers(0, 400), st.integers(1, 60)), min_size=1, max_size=6)


@given(batches, shapes, st.sampled_from(["normal", "uniform"]), st.sampled_from(["noise", "t"]))
def test_numbers_are_those_of_the_rows_whatever_was_drawn_before(spans, shape, draw, purpose):
    one = Ahead(seed=3)
    for first, count in spans:
        rows = torch.arange(first, first + count)
        mine, expected = one.draws(first, rows), Draws(3, rows)
        for a, b in ((mine, expected), (mine.apart("second"), expected.apart("second"))):
            assert torch.equal(getattr(a, draw)(purpose, shape), getattr(b, draw)(purpose, shape))
    columns = mine.normals("angle", 3)
    assert all(map(torch.equal, columns, expected.normals("angle", 3)))


def test_what_a_batch_writes_to_its_numbers_no_other_sees(monkeypatch):
    calls = []
    monkeypatch.setattr(ahead, "normal", lambda *arguments: calls.append(arguments) or torch.zeros(ahead.NUMBERS))
    one = Ahead(seed=0)
    for first in (0, 8, 16, 0):
        draws = one.draws(first, torch.arange(first, first + 8))
        draws.normal("noise").add_(1)
        assert not draws.normal("noise").any()
    assert len(calls) == 1


def test_other_devices_and_large_batches_draw_for_themselves():
    rows = torch.arange(4)
    assert type(Ahead(0).draws(0, rows.to("meta"))) is Draws
    draws = Ahead(0).draws(0, rows)
    assert isinstance(draws, DrawnAhead)
    draws.normal("noise", (ahead.NUMBERS,))
    assert not draws.blocks
