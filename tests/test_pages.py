"""Pages of the report show what they are given, and colours that all readers can tell apart."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from docutils.core import publish_parts
from matplotlib.colors import to_rgb
from test_reporting import CHOICE, result_rows

from diffprobe.reporting import comparison_plot, html, overview, plots, similarity
from diffprobe.reporting.experiment_page import Drawn, page
from diffprobe.reporting.tables import results, summary

CAPTIONS = [
    path for path in sorted((Path(__file__).parents[1] / "workflow/report").glob("*.rst")) if path.stem != "workflow"
]
# Machado, Oliveira and Fernandes 2009, severity 1: what linear RGB looks like without one kind of cones.
BLIND = {
    "red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])  # of sRGB


@pytest.mark.parametrize("path", CAPTIONS, ids=lambda path: path.stem)
def test_a_caption_reads_as_docutils_renders_it(path: Path) -> None:
    source = path.read_text().replace("{{ snakemake.wildcards.experiment }}", "mine")
    theirs = publish_parts(source, writer="html")["body"]
    plain = theirs.replace('<tt class="docutils literal">', "<code>").replace("</tt>", "</code>")
    plain = plain.replace('<span class="pre">', "").replace("</span>", "")
    assert " ".join(plain.split()) == f"<p>{html.inline(source)}</p>"


def linear(colour: str) -> np.ndarray:
    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(colour: np.ndarray) -> np.ndarray:
    """CIELAB of linear RGB, for white of D65."""
    t = TO_XYZ @ colour.clip(0, 1) / TO_XYZ.sum(axis=1)
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / 3 / (6 / 29) ** 2 + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("missing", BLIND)
def test_colours_of_curves_differ_for_colour_blind_readers(missing: str) -> None:
    """By at least 10 in CIELAB (about 2.3 can just be seen) as by Machado et al.; markers differ besides."""
    for pairs in (comparison_plot.COLOURS, plots.PROBES, ((plots.BLUE, "o"), *plots.PROBES)):
        seen = [lab(np.array(BLIND[missing]) @ linear(colour)) for colour, _ in pairs]
        assert min(float(np.linalg.norm(a - b)) for a, b in combinations(seen, 2)) >= 10
        assert len({marker for _, marker in pairs}) == len(pairs)


def test_one_figure_has_every_checkpoint_of_every_experiment() -> None:
    rows = result_rows()
    rows += [row | {"experiment": "other", "value": row["value"] / 2} for row in rows if "experiment" in row]
    choices = {"digits_edm": CHOICE, "other": CHOICE, "unprobed": None}
    drawn = overview.points(summary(rows), choices)
    assert list(drawn["experiment"]) == ["digits_edm"] * 3 + ["other"] * 3 and set(drawn["dataset"]) == {"digits"}
    assert list(drawn["x"]) == [9.0, 4.0, 3.0, 4.5, 2.0, 1.5] and drawn["y"].iloc[:3].tolist() == [95.0, 97.0, 96.0]
    assert list(drawn["marked"][:3]) == ["", "best probe", "best FD"]
    axes = overview.plot(drawn, choices).axes
    assert [one.get_xlabel() for one in axes] == ["fd1k_classifier of the samples (lower is better)"]
    assert axes[0].get_ylabel() == "accuracy on select (%)"
    table = results(rows, choices)
    shown = overview.page(table, b"png", drawn.to_csv().encode(), [])
    assert shown.count("97.5 ± 0.3 %") == 1 and 'href="runs/unprobed/page.html"' in shown
    assert "<script" not in shown  # within Snakemake's report it stands in one


def test_only_names_of_experiments_are_links_to_their_pages() -> None:
    """Not those of samplers and layers that are called the same."""
    frame = pd.DataFrame({"experiment": ["edm", "ddim"], "best sampler": ["edm", "edm"]})
    assert html.table(frame, {"edm": "<a>edm</a>"}).count("<a>") == 1
    assert html.table(frame.set_index("experiment").T.reset_index(names=""), {"edm": "<a>edm</a>"}).count("<a>") == 1


def test_a_page_has_names_as_text_and_figures_of_the_last_checkpoint() -> None:
    drawn = [Drawn("grid", str(kimg), b"png%d" % kimg, b"a,b\n1,2\n") for kimg in (3, 12)]
    drawn.append(Drawn("losses", "", b"png", b"x" * (html.EMBEDDED + 1)))
    receipts = {"checkpoints/12/receipt.json": {"config": {"network": {"kind": "<b>"}}}}
    shown = page("a<b>", drawn, CHOICE, receipts)
    assert html.uri(b"png12", "image/png") in shown and html.uri(b"png3", "image/png") not in shown
    assert "a<b>" not in shown and "a&lt;b&gt;" in shown and "kind: &lt;b&gt;" in shown
    assert "<code>plots/losses.csv</code>" in shown and 'download="grid.12.csv"' in shown
    assert "after 12 thousand training images" in shown and "kimg" not in shown
    assert shown.index("Layer x noise") < shown.index("Training")


def test_the_data_of_a_map_name_its_pairs() -> None:
    drawn = {"rows": [["0.1", "mid"], ["clean", "z"]], "columns": [3, 6], "cka": [[1, 0.5], [0.25, None]]}
    table = similarity.table({"other": drawn | {"cknna": [[0, 0], [0, 0]]}})
    assert table.iloc[2].tolist() == ["other", "cka", "0.1 mid", "6", 0.5] and len(table) == 8
    assert pd.isna(table["value"][3])
