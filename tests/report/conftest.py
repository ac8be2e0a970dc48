"""Chromium and a page of each kind, for tests in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import new_browser, until
from report_cases import hostile, search, small

import xpnet


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return a browser, which the tests of a module share."""
    driver = new_browser(tmp_path_factory.mktemp("browser"))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> dict[str, Path]:
    """Return the page of each kind; workers that run beside each other make them once."""
    there = tmp_path_factory.getbasetemp()
    there = (there if worker_id == "master" else there.parent) / "report-pages"
    done = there / "done"
    try:
        there.mkdir()
    except FileExistsError:
        until(done.exists, "the pages that another worker makes", 120)
    else:
        one = small(out=str(there / "2026-11-21_19-31-05"))
        lists = small("--lambda", "0.001,0.1", "--runs", "2", out=str(there / "2026-11-21_19-31-17"))
        winner = small(out=str(there / "winner"))
        folders = {
            "run": [one],
            "lists": [lists],
            "search": [search(there / "search", winner=winner)],
            "comparison": [one, lists],
            "hostile": [hostile(there / "hostile")],
        }
        for kind, paths in folders.items():
            xpnet.write_report(*paths, out=there / f"{kind}.html")
        done.touch()
    found = {kind: there / f"{kind}.html" for kind in ("run", "lists", "search", "comparison", "hostile")}
    return found | {"reproduction": Path(__file__).parents[2] / "docs" / "reproduction" / "index.html"}
