"""Live pages of runs and searches that any process trains, read from their folders: no one has to cooperate."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xpnet.config.settings import CONFIG, Settings
from xpnet.errors import RunError, XpnetError
from xpnet.report.live_charts import live_page, run_charts, settings_words
from xpnet.report.live_search import RESULT, search_figures, search_summary
from xpnet.report.live_server import address_of
from xpnet.runs.folder import CHECKPOINTS, HISTORY, METRICS
from xpnet.runs.listing import MOST_RUNS, RunEntry, read_entry
from xpnet.runs.records import read_history

# Folders below the named one that are searched; seconds for which what was found counts.
_DEPTH, _FRESH = 3, 1.0
# Most rows of a table: those that train, and the youngest of the others.
_ROWS = 300
# The largest history, in bytes, that is drawn: it is read anew at each change.
_LARGEST = 50_000_000
# Figures of the table of runs.
_FIGURES = ("validation", "test")
SEARCH = "search.toml"
_FILES = (CONFIG, HISTORY, METRICS, SEARCH, RESULT)


class FolderSite:
    """The site of a folder: an index of its runs and searches, each with a page; or the page of the only one.

    Args:
        folder: A folder of runs and searches, or of one of them.

    Raises:
        RunError: There is no such folder, or nothing in it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._read: dict[tuple[str, Path], tuple[Any, Any]] = {}
        self._known: dict[str, tuple[str, Path]] = {}
        self._looked = float("-inf")
        if not folder.is_dir():
            raise RunError(f"{folder}: there is no such folder; name one that holds runs or searches, or is one")
        self.kind = kind_of(folder)
        if not self.kind and not self._places():
            raise RunError(f"{folder}: holds neither runs nor searches; name a folder that does, such as runs")

    def has(self, place: str) -> bool:
        """Return whether there is a page at a place; only names of folders that were found are places."""
        with self._lock:
            return not place or place in self._places()

    def figures(self, place: str = "") -> dict[str, Any]:
        """Return what the page at a place draws; a folder that cannot be read says why."""
        with self._lock:
            kind, path = self._places().get(place, ("", self._folder)) if place else (self.kind, self._folder)
            draw: Callable[[Path], dict[str, Any]] = {"run": self._run, "search": self._search}.get(kind, self._index)
            try:
                found = draw(path)
            except (XpnetError, OSError) as error:
                found = live_page(kind or "runs", path.name, f"cannot be read: {error}")
        return found | {"home": bool(place)}

    @property
    def ended(self) -> bool:
        """Whether the only run or search has ended; an index never does."""
        return bool(self.kind) and bool(self.figures()["ended"])

    def _places(self) -> Mapping[str, tuple[str, Path]]:
        """Return the kind and the path of each folder by its place, looked for again after a second."""
        if not self.kind and time.monotonic() - self._looked > _FRESH:
            found = {}
            for kind, path in _inside(self._folder, _DEPTH):
                found[path.relative_to(self._folder).as_posix()] = kind, path
                if len(found) == MOST_RUNS:
                    break
            self._known, self._looked = found, time.monotonic()
        return self._known

    def _once(self, what: str, path: Path, read: Callable[[Path], Any]) -> Any:
        """Return what is read from a folder, read again only if its files have changed."""
        state = tuple(_stamp(path / name) for name in _FILES)
        known = self._read.get((what, path))
        if known is None or known[0] != state:
            known = self._read[what, path] = state, read(path)
        return known[1]

    def _entry(self, path: Path) -> RunEntry:
        """Return a run; whether one without its end is being trained, no file says."""
        entry: RunEntry = self._once("entry", path, lambda path: read_entry(path, self._folder))
        return entry if entry.state == "finished" else read_entry(path, self._folder)

    def _index(self, folder: Path) -> dict[str, Any]:
        places = self._places()
        runs = [(place, self._entry(path)) for place, (kind, path) in places.items() if kind == "run"]
        searches = [
            (place, search_summary(path, self._once)) for place, (kind, path) in places.items() if kind == "search"
        ]
        tables = [_searches_table(searches)] if searches else []
        tables += [_runs_table(runs)] if runs else []
        states = [entry.state for _, entry in runs]
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(sorted(states, key=_order)))
        words = [f"runs: {counts}"] if runs else []
        words += [f"searches: {len(searches)}"] if searches else []
        return live_page("runs", folder.resolve().name, "; ".join(words), tables=tables)

    def _run(self, path: Path) -> dict[str, Any]:
        entry = self._entry(path)
        if entry.note:
            raise RunError(entry.note)
        charts: list[Any] = self._once("charts", path, lambda path: _charts(path, entry))
        ended = entry.state in ("finished", "stopped")
        goes_on = f"Nobody trains it; to go on with it: xpnet train --resume {path}"
        return live_page(
            "run",
            f"{path.resolve().name}: {entry.data}, {entry.network}",
            entry.progress if entry.epochs else f"{entry.state}, no epoch has ended yet",
            ended=ended,
            done=entry.epochs,
            of=entry.epochs if ended else entry.of or 0,
            conclusion=(entry.conclusion or {}).get("text", ""),
            note=goes_on if entry.state == "unfinished" else "",
            charts=charts,
        )

    def _search(self, path: Path) -> dict[str, Any]:
        return search_figures(path, self._once)


def kind_of(path: Path) -> str:
    """Return ``"run"`` or ``"search"`` for the folder of one; else nothing."""
    if (path / SEARCH).is_file():
        return "search"
    return "run" if (path / CONFIG).is_file() and not (path / "lr_range.csv").exists() else ""


def _inside(folder: Path, depth: int) -> Iterator[tuple[str, Path]]:
    """Yield the folders of runs and searches in a folder with their kinds, by name; links are not followed."""
    try:
        with os.scandir(folder) as inside:
            names = sorted(one.name for one in inside if one.is_dir(follow_symlinks=False))
    except OSError:  # it has just been removed, or may not be read
        return
    for name in names:
        if name.startswith(".") or name in (CHECKPOINTS, "kept"):
            continue
        path = folder / name
        if kind := kind_of(path):
            yield kind, path
        if kind != "run" and depth > 1:
            yield from _inside(path, depth - 1)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when a file is written."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _charts(path: Path, entry: RunEntry) -> list[Any]:
    file = path / HISTORY
    if not file.is_file():
        return []
    if file.stat().st_size > _LARGEST:
        raise RunError(f"{file}: is too large to be drawn again and again; xpnet report {path} draws it once")
    rows = Settings.from_mapping(dict(entry.settings)).replicas()
    names = [settings_words(row) for row in rows] if entry.networks == len(rows) > 1 else []
    columns = read_history(file, entry.networks)
    return run_charts(columns, names) if len(columns["epoch"]) else []


def _order(state: str) -> int:
    return {"training": 0, "unfinished": 1, "damaged": 2}.get(state, 3)


def _runs_table(runs: Sequence[tuple[str, RunEntry]]) -> dict[str, Any]:
    runs = sorted(runs, key=lambda one: one[1].when, reverse=True)
    runs = sorted(runs, key=lambda one: one[1].state != "training")
    rows = []
    for place, entry in runs[:_ROWS]:
        figures = [f"{100 * entry.figures[name]:.2f} %" if name in entry.figures else "-" for name in _FIGURES]
        texts = [entry.progress, *figures, entry.data, entry.network, entry.when[:16]]
        rows.append([{"text": entry.name, "link": address_of(place)}, *({"text": text} for text in texts)])
    head = ["run", "state", "validation accuracy", "test accuracy", "data", "network", "begun"]
    shown = "" if len(runs) <= _ROWS else f", {_ROWS} of {len(runs)}"
    return {"caption": f"Runs{shown}: those that train, then the youngest first", "head": head, "rows": rows}


def _searches_table(searches: Sequence[tuple[str, Mapping[str, str]]]) -> dict[str, Any]:
    rows = []
    for place, summary in searches[:_ROWS]:
        link = {"text": place, "link": address_of(place)}
        rows.append([link, *({"text": summary[name]} for name in ("state", "trials", "best"))])
    head = ["search", "state", "trials", "best validation accuracy"]
    return {"caption": "Searches", "head": head, "rows": rows}
