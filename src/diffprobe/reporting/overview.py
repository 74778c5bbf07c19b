"""The first page of the report: all experiments in one table and one figure, and their samples side by side."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

from diffprobe.reporting import comparison, comparison_plot, html
from diffprobe.reporting.comparison import Probed
from diffprobe.reporting.plots import style
from diffprobe.reporting.rows import Choice
from diffprobe.reporting.tables import distances

POINTS = ["dataset", *comparison.POINTS[1:]]
FEW = 6  # at most so many experiments are columns of the table; more are its rows
COLUMNS, ROWS, WIDTH = 8, 2, 560  # of a strip of samples: images, and the most screen pixels


@dataclass(frozen=True)
class Strip:
    """The first samples of an experiment."""

    experiment: str
    words: str  # what drew them
    png: bytes


def points(frame: pd.DataFrame, choices: Mapping[str, Choice | None]) -> pd.DataFrame:
    """A line for each checkpoint with both a distance and an accuracy, columns POINTS; `series` is the distance, `x`
    its value, `y` the accuracy in per cent. Of a dataset's distances each experiment has the first that it measures.
    """
    lines: list[dict[str, object]] = []
    for name, choice in choices.items():
        mine = frame[frame["experiment"] == name]
        first = next((one for one in distances(frame) if (mine["evaluator"] == one).any()), None)
        if choice and first:
            probed = Probed(name, choice, pd.DataFrame(), ())
            lines += [{"dataset": choice["dataset"], **line} for line in comparison.parting(mine, probed, first)]
    return pd.DataFrame(lines).reindex(columns=POINTS)


def plot(drawn: pd.DataFrame, choices: Mapping[str, Choice | None], dpi: int = 110) -> Figure:
    """A panel for each dataset and distance, accuracy over distance: different distances cannot be compared."""
    panels = list(drawn.groupby(["dataset", "series"], sort=False))
    columns = min(len(panels), 2)
    lines = -(-len(panels) // columns) if panels else 1
    layout = ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.08)
    figure = Figure(figsize=(5.2 * max(columns, 1) + 1.2, 0.9 + 3.3 * lines), dpi=dpi, layout=layout)
    every = figure.subplots(lines, max(columns, 1), squeeze=False).flatten()
    names = {name: name for name in dict.fromkeys(drawn["experiment"])}
    looks = comparison_plot.looks_of(names)
    for ((dataset, _), own), axes in zip(panels, every, strict=False):
        style(axes)
        made = [choice for name in dict.fromkeys(own["experiment"]) if (choice := choices[name])]
        comparison_plot.parting(axes, own, looks, comparison.split_words(made))
        axes.set_title(str(dataset), loc="left", fontsize=10)
    for axes in every[len(panels) :]:
        axes.set_visible(False)
    comparison_plot.legend(figure, looks, names, "", boxes=True)
    return figure


def strip(picture: Image.Image) -> bytes:
    """A picture of samples as PNG, at most WIDTH wide."""
    picture.thumbnail((WIDTH, WIDTH))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def page(results: pd.DataFrame, png: bytes | None, data: bytes, strips: Sequence[Strip]) -> str:
    """The page. results: the table of results; png and data: the figure and its points, where there is one."""
    names = list(results["experiment"])
    links = {name: opens(name) for name in names}
    shown = results.dropna(axis="columns", how="all")
    shown = shown.loc[:, [column for column in shown if (shown[column].astype(str) != "").any()]]
    if len(names) <= FEW:
        turned = shown.astype(object).set_index("experiment").T.reset_index(names="")
        shown = turned.rename_axis(columns=None)
    csv = results.to_csv(index=False).encode(errors="replace")
    parts = ["<h1>Experiments</h1>", f"<p>{html.caption('overview')}</p>", html.table(shown, links)]
    parts += [f"<p>{html.caption('results')} Data: {html.download('results.csv', csv)}</p>"]
    parts += ["<h2>Generation and representation</h2>"]
    if png is None:
        parts += ["<p>No checkpoint has both a distance of its samples and an accuracy of its features.</p>"]
    else:
        link = f"Data: {html.download('experiments.csv', data)}"
        parts += [html.figure(png, "Accuracy over distance at every checkpoint", html.caption("experiments"), [link])]
    if strips:
        parts += ["<h2>Samples</h2>", f"<p>{html.caption('strips')}</p>", '<div class="side">']
        parts += [
            html.figure(one.png, f"Samples of {one.experiment}", f"{links[one.experiment]}, {escape(one.words)}")
            for one in strips
        ]
        parts += ["</div>"]
    return html.document("Experiments", parts)


def opens(name: str) -> str:
    """A link to an experiment's page: a file near this one, or in Snakemake's report a result of it."""
    # `showPage` is of workflow/report/workflow.rst. As a result of the list the page lies in a frame of the report.
    within = (
        f"if (window.showPage) {{ showPage('{name}'); return false; }} "
        f"if (parent !== window) {{ parent.postMessage('{name}', '*'); return false; }}"
    )
    return f'<a href="{escape(f"runs/{name}/page.html")}" onclick="{escape(within)}">{escape(name)}</a>'
