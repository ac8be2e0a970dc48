"""axe-core finds no violation on any kind of page, light and wide or dark and narrow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from accessibility import NEEDS_AXE, violations
from browsing import NEEDS_BROWSER, drawn, show, until
from report_cases import small, table_data

import xpnet
from xpnet.analysis.layer_history import Recorder
from xpnet.report.live import LivePage
from xpnet.report.live_folder import FolderSite
from xpnet.report.live_server import LiveServer

_DOCS = Path(__file__).parents[2] / "docs"
_KINDS = ("search", "comparison", "table", "index", "diagnosis")

pytestmark = [
    *NEEDS_BROWSER,
    NEEDS_AXE,
]


def check(browser: Any, page: Path | str, *, most: int = 99) -> None:
    """Check a page at both widths and in both themes, with up to `most` charts drawn."""
    for dark, width in ((False, 1280), (True, 390)):
        show(browser, page, dark=dark, width=width)
        if isinstance(page, str):
            until(lambda: browser.find_elements("css selector", "#charts svg, #tables table"), "the page to be drawn")
        else:
            drawn(browser, most)
        assert violations(browser) == [], f"{page}, {'dark' if dark else 'light'}, {width} pixels wide"


@pytest.fixture(scope="module")
def more(pages: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the pages of the kinds that only these tests look at."""
    home = tmp_path_factory.mktemp("more")
    table = small(out=str(home / "table"), data=table_data(str(home / "mine.npz"), classes=24))
    xpnet.write_report(table, out=home / "table.html")
    small(out=str(home / "runs" / "one"))
    xpnet.write_report(home / "runs", out=home / "index.html")
    (home / "diagnosis").mkdir()
    (home / "diagnosis" / "diagnosis.json").write_text(json.dumps(_diagnosed()))
    xpnet.write_report(home / "diagnosis", out=home / "diagnosis.html")
    return pages | {kind: home / f"{kind}.html" for kind in ("table", "index", "diagnosis")}


def _diagnosed() -> dict[str, Any]:
    data = xpnet.load_data("patterns:300/60")
    network = xpnet.Network(xpnet.NetworkConfig(inputs=data.inputs, classes=data.classes, hidden=(8, 6)))
    config = xpnet.TrainConfig(epochs=2)
    recorder = Recorder(network, data, config)
    xpnet.train(network, data, config, callbacks=[recorder])
    return {"title": "a run", "samples": recorder.samples} | recorder.history.to_json()


@pytest.mark.parametrize("kind", _KINDS)
def test_pages_violate_no_rule(browser, more, kind):
    check(browser, more[kind], most=2)


def test_page_of_the_reports_violates_no_rule(browser):
    show(browser, _DOCS / "reproduction" / "index.html")
    drawn(browser, 2)
    assert violations(browser, opened=False) == []  # opened, its tables of every epoch take minutes


@pytest.fixture
def served(pages: dict[str, Path]) -> Iterator[str]:
    """Return the address of the live page of the folder of all pages' runs."""
    folder = pages["run"].parent
    (folder / "search" / "search.toml").touch()
    server = LiveServer(FolderSite(folder))
    yield server.address
    server.close(linger=False)


@pytest.mark.parametrize("place", ["", "at/search/", "at/2026-11-21_19-31-17/"])
def test_live_pages_violate_no_rule(browser, served, place):
    check(browser, served + place)


def test_live_index_leads_to_the_pages_of_runs_and_back(browser, served):
    show(browser, served)
    until(lambda: browser.find_elements("link text", "search"), "the index")
    browser.find_element("link text", "search").click()
    until(
        lambda: "16 trials" in browser.find_element("id", "tables").text or browser.title.startswith("1"), "the search"
    )
    assert len(browser.find_elements("css selector", "#charts svg")) == 3
    browser.find_element("link text", "All runs of the folder").click()
    until(lambda: browser.find_elements("link text", "2026-11-21_19-31-05"), "the index again")
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_live_page_keeps_the_focus_when_it_is_drawn_again(browser):
    with LivePage("A run") as page:
        rows = [[{"text": "one", "link": "/at/one/"}], [{"text": "two", "link": "/at/two/"}]]
        shown = page.figures() | {"tables": [{"caption": "Runs", "head": ["run"], "rows": rows}]}
        page.figures = lambda _="": shown
        show(browser, page.address)
        until(lambda: browser.find_elements("link text", "two"), "the table")
        browser.execute_script("document.querySelector('a[href=\"/at/two/\"]').focus()")
        rows.append([{"text": "three", "link": "/at/three/"}])
        until(lambda: browser.find_elements("link text", "three"), "the new row")
        assert browser.switch_to.active_element.text == "two"
        page.server.asked = 0.0
