"""The report in a browser: it opens on the page of experiments, offline, without an error; every page can be read.

Skipped where there is no Chromium; `make test-report` installs Debian's.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Page, installed
from kills import run

pytestmark = pytest.mark.skipif(installed() is None, reason="no chromium; make test-report installs it")
FIRST = "document.querySelector('.diffprobe')"
SCROLLED = f"{FIRST}.closest('.overflow-auto')"
SIZE = "one => parseFloat(getComputedStyle(one).fontSize)"
# Pictures that are not there, or not whole.
BROKEN = "[...document.images].filter(image => !image.complete || !image.naturalWidth).map(image => image.alt)"
# What sticks out to the right, but for what can be scrolled.
WIDER = """[...document.querySelectorAll('.diffprobe *')].filter(one =>
  one.getBoundingClientRect().right > innerWidth + 1 && !one.closest('.wide, pre')).map(one => one.tagName)"""


@pytest.fixture(scope="module")
def report(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    made = run(finished, "--report", str(path), "--quiet")
    assert made.returncode == 0, made.stderr
    return path


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    """A browser without anything to complain of, nor anything that it looks for elsewhere."""
    with Page(tmp_path / "profile") as page:
        yield page
    assert page.problems == []
    assert [url for url in page.requested if not url.startswith(("file:", "data:", "about:"))] == []


def test_it_opens_on_all_experiments_and_leads_to_the_page_of_each(report: Path, page: Page) -> None:
    page.open(report)
    page.wait(FIRST)
    page.picture(report.parent / "first.png")  # to look at
    top = page.value(f"{FIRST}.querySelector('h1').getBoundingClientRect().top")
    assert 0 <= top < 100 and page.value(f"{FIRST}.querySelector('h1').innerText") == "Experiments"
    assert page.value(f"{FIRST}.querySelector('table').getBoundingClientRect().bottom") < 800  # in the first window
    graph = page.value("Math.max(...[...document.querySelectorAll('svg')].map(one => one.getBoundingClientRect().top))")
    assert graph > page.value(f"{FIRST}.getBoundingClientRect().bottom")  # of jobs: below
    assert page.value(f"{FIRST}.getBoundingClientRect().width") > 900
    assert (page.value(BROKEN), page.value(WIDER)) == ([], [])
    shown = page.value(f"[...{FIRST}.querySelectorAll('img')].map(one => one.alt)")
    assert shown == ["Accuracy over distance at every checkpoint", "Samples of tiny", "Samples of tiny_dit"]
    names = page.value(f"[...{FIRST}.querySelectorAll('th a')].map(one => one.innerText)")
    assert names == ["tiny", "tiny_dit"]
    for i, name in enumerate(names):
        page.value("app.setView({content: 'rulegraph'})")
        page.wait(FIRST)
        page.value(f"{FIRST}.querySelectorAll('th a')[{i}].click()")
        page.wait("document.querySelector('iframe')")
        own = f"results/runs/{name}/page.html"
        assert page.value("app.state.resultPath") == own and page.value("app.state.category") == name
        assert page.value(f"document.querySelector('iframe').src === results['{own}'].data_uri")
        page.wait("!document.querySelector('iframe').contentDocument")  # loaded: of another origin than the report
        page.picture(report.parent / f"{name}.png")


def test_the_overview_leads_to_them_as_a_result_of_the_list_too(report: Path, page: Page) -> None:
    page.open(report)
    page.wait(FIRST)
    path = "results/overview.html"
    shown = f"content: 'html', resultPath: '{path}', contentPath: results['{path}'].data_uri"
    page.value(f"app.setView({{navbarMode: 'category', category: 'results', {shown}}})")
    page.wait("document.querySelector('iframe') && !document.querySelector('iframe').contentDocument")
    page.value_in_frame("document.querySelectorAll('th a')[1].click()")
    page.wait(f"app.state.resultPath !== '{path}'")
    own = "results/runs/tiny_dit/page.html"
    assert page.value("app.state.resultPath") == own and page.value("app.state.category") == "tiny_dit"
    page.wait(f"document.querySelector('iframe').src === results['{own}'].data_uri")


@pytest.mark.parametrize("name", ["overview", "runs/tiny/page", "runs/tiny_dit/page"])
def test_a_page_stands_by_itself(finished: Path, page: Page, name: str) -> None:
    """With figures that are seen, captions, data to copy, and receipts and config one click away."""
    path = finished / "results" / f"{name}.html"
    page.open(path)
    assert (page.value(BROKEN), page.value(WIDER)) == ([], [])
    assert page.value("document.documentElement.scrollWidth") <= 1280
    figures = page.value("[...document.querySelectorAll('figure')].map(one => one.innerText.length)")
    assert len(figures) >= 3 and min(figures) > 10
    sizes = page.value(f"[...document.querySelectorAll('p, td, th, figcaption')].map({SIZE})")
    assert min(sizes) >= 14  # pixels
    link = "document.querySelector('a[download]')"
    rows = page.value(f"fetch({link}.href).then(answer => answer.text())").splitlines()
    assert len(rows) > 1 and "," in rows[0] and page.value(f"{link}.download").endswith(".csv")
    if name != "overview":
        assert page.value("document.querySelectorAll('details pre').length") >= 10
        page.value("document.querySelector('details summary').click()")
        config = page.value("document.querySelector('details[open] pre').innerText")
        assert "network:" in config and "batch: 64" in config
        last = page.value("[...document.querySelectorAll('details details pre')].at(-1).textContent")
        assert {"config", "code", "seconds"} <= set(json.loads(last))
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", path.read_text())
