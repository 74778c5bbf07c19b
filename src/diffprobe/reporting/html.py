"""Pieces of the report's pages. A page is one HTML file that holds its pictures and data, so it needs no network and
can be sent on; it has no script, so that it can also be shown within Snakemake's report (workflow/report/workflow.rst).
"""

import base64
import re
from collections.abc import Iterable
from html import escape
from pathlib import Path

import pandas as pd

from diffprobe.runtime.places import WORKFLOW

CAPTIONS = WORKFLOW / "workflow" / "report"
EMBEDDED = 400_000  # bytes; larger tables are only named

# The colours of text and links reach a contrast of at least 7 on white (WCAG 2.2, criterion 1.4.6).
STYLE = """
.diffprobe { font: 15px/1.5 system-ui, "Liberation Sans", sans-serif; color: #222; background: #fff; max-width: 1180px;
  margin: 0 auto; padding: 16px 20px 40px; text-align: left; }
.diffprobe h1 { font-size: 26px; font-weight: 700; line-height: 1.25; margin: 0 0 8px; }
.diffprobe h2 { font-size: 19px; font-weight: 700; line-height: 1.3; margin: 28px 0 6px; padding-top: 10px;
  border-top: 1px solid #ddd; }
.diffprobe h3 { font-size: 16px; font-weight: 700; margin: 14px 0 2px; }
.diffprobe p { margin: 4px 0 8px; max-width: 105ch; }
.diffprobe a { color: #00497a; text-decoration: underline; cursor: pointer; }
.diffprobe code { font: 13px ui-monospace, "Liberation Mono", monospace; background: none; font-weight: 400; }
.diffprobe figure { margin: 14px 0 22px; }
.diffprobe figure img { max-width: 100%; height: auto; margin: 0; display: block; }
.diffprobe figcaption { font-size: 14px; color: #444; margin-top: 4px; max-width: 112ch; }
.diffprobe .wide { overflow-x: auto; }
.diffprobe table { border-collapse: collapse; width: auto; font-size: 14px; font-variant-numeric: tabular-nums; }
.diffprobe th, .diffprobe td { padding: 3px 12px 3px 0; border-bottom: 1px solid #ddd; vertical-align: top;
  text-align: left; white-space: nowrap; color: #222; }
.diffprobe th { font-weight: 600; }
.diffprobe .side { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 8px 24px; }
.diffprobe .side img { image-rendering: pixelated; width: 100%; }
.diffprobe summary { cursor: pointer; }
.diffprobe details details { margin-left: 18px; }
.diffprobe pre { font: 12px/1.4 ui-monospace, "Liberation Mono", monospace; color: #222; background: #f5f5f5;
  padding: 8px; margin: 4px 0; overflow: auto; max-height: 480px; white-space: pre; }
"""


def document(title: str, parts: Iterable[str]) -> str:
    """A page of these parts."""
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    body = "\n".join(parts)
    # Within Snakemake's report `not-prose` keeps its styles of text away.
    body = f'<div class="diffprobe not-prose">\n{body}\n</div>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{body}</body></html>\n'


def figure(png: bytes, words: str, caption: str, links: Iterable[str] = ()) -> str:
    """A picture with its caption, which is HTML; `words` stand for it where it cannot be seen."""
    image = f'<img alt="{escape(words)}" src="{uri(png, "image/png")}">'
    below = " ".join([caption, *links])
    return f"<figure>{image}<figcaption>{below}</figcaption></figure>"


def download(name: str, content: bytes, kind: str = "text/csv", where: str = "") -> str:
    """A link that saves a file; of a large one its name, and where it lies."""
    if len(content) > EMBEDDED:
        return f"Its data: <code>{escape(where or name)}</code>."
    return f'<a download="{escape(name)}" href="{uri(content, kind)}">{escape(name)}</a>'


def uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def table(frame: pd.DataFrame, links: dict[str, str] | None = None) -> str:
    """A table; a heading, or a cell of the column `experiment`, whose text is among `links` has that HTML instead."""
    links = links or {}

    def cell(value: object, linked: bool = False) -> str:
        text = "" if pd.isna(value) else f"{value:g}" if isinstance(value, float) else str(value)
        return links.get(text, escape(text)) if linked else escape(text)

    head = "".join(f"<th>{cell(name, linked=True)}</th>" for name in frame.columns)
    named = [name == "experiment" for name in frame.columns]
    lines = [
        "".join(f"<td>{cell(value, linked)}</td>" for value, linked in zip(row, named, strict=True))
        for row in frame.itertuples(index=False)
    ]
    rows = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def details(summary: str, content: str) -> str:
    """A line that opens what it names."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def text(content: str) -> str:
    """Text as it is."""
    return f"<pre>{escape(content)}</pre>"


def caption(kind: str, **names: str) -> str:
    """A caption of workflow/report as HTML, with its wildcards and its *kimg* filled in."""
    return inline((CAPTIONS / f"{kind}.rst").read_text(encoding="utf-8"), **names)


def inline(source: str, **names: str) -> str:
    """A paragraph of reStructuredText as HTML: of its markup only code, bold and italics, which captions keep to."""
    line = " ".join(source.split())
    line = line.replace("*kimg*", names.get("kimg", "*kimg*"))
    for name, value in names.items():
        line = line.replace(f"{{{{ snakemake.wildcards.{name} }}}}", value)
    pieces = re.split(r"(``.+?``)", escape(line, quote=False))  # nothing within code is markup
    for i, piece in enumerate(pieces):
        if i % 2:
            pieces[i] = f"<code>{piece[2:-2]}</code>"
        else:
            bold = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", piece)
            pieces[i] = re.sub(r"(?<!\w)\*(.+?)\*(?!\w)", r"<em>\1</em>", bold)
    return "".join(pieces)


def save(path: Path, page: str) -> None:
    """Write a page; in names, bytes that are no text are replaced."""
    path.write_text(page, encoding="utf-8", errors="replace")
