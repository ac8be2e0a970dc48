"""The index page of a folder of runs: a table with a small curve of each run, and links to their pages."""

from __future__ import annotations

import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.errors import XpnetError
from xpnet.report.blocks import again_section, repeat_command
from xpnet.report.page import Cell, Page, Section, Text, cell, metric_cell, seconds_cell, table
from xpnet.runs.folder import HISTORY
from xpnet.runs.listing import RunEntry, differing, list_runs
from xpnet.runs.records import read_history
from xpnet.training.history import evenly
from xpnet.utils.plural import counted

# Columns of settings; points of a small curve; the largest history, in bytes, of which one is drawn.
_SETTINGS, _POINTS, _LARGEST = 8, 40, 4_000_000
# Rules of conclusions in words; others are in words already.
_RULES = {
    "chance": "no better than guessing",
    "far-below-best": "far below its own best",
    "tall-loss": "loss worse than guessing",
    "rate-too-large": "learning rate too large",
    "rate-too-small": "learning rate too small",
    "alike": "settings do not differ",
    "best": "one setting is best",
    "best-at-edge": "best at an end of its list",
    "spread": "spread over seeds",
}
_BEFORE = ("run", "validation accuracy by epoch", "validation accuracy", "test accuracy", "state", "conclusion")
_AFTER = ("data", "network", "test loss", "training time", "begun")


def runs_page(folder: Path, page: str, made: str, target: Path | None = None) -> Page:
    """Return the index page of a folder of runs.

    Args:
        folder: The folder.
        page: The name of a run's page in its folder.
        made: Which version of xpnet makes the page, and when.
        target: The file that the page goes to, from which links lead; None is a file in the folder.

    Raises:
        RunError: The folder cannot be listed.
    """
    entries = list_runs(folder)
    settings = differing(entries)[:_SETTINGS]
    home = (folder if target is None else target.parent).resolve()
    rows = [_row(entry, settings, _link(entry.path / page, home)) for entry in entries]
    head = [*_BEFORE, *settings, *_AFTER]
    caption = "Every run; of several networks, the combination of settings with the best validation accuracy"
    blocks: list[Any] = [table(head, rows, caption)]
    if any(not row[0].link for row in rows):
        words = "Runs without a link have no page yet: xpnet report RUN makes one, and this page again has the link."
        blocks.append(Text(words))
    words = f"{counted(len(entries), 'run')}, {_states(entries)}"
    sections = [
        Section("runs", "Runs", blocks),
        again_section([("This page:", repeat_command(folder, "report"))]),
    ]
    notes = [f"{entry.name} is damaged: {entry.note}" for entry in entries if entry.note]
    return Page("runs", folder.resolve().name, words, sections, made, notes, _best(entries))


def _row(entry: RunEntry, settings: Sequence[str], link: str) -> list[Any]:
    figures = [metric_cell("accuracy", entry.figures.get(which)) for which in ("validation", "test")]
    loss = metric_cell("loss", entry.figures.get("test_loss"))
    curve, rule = _curve(entry), str((entry.conclusion or {}).get("rule", ""))
    return [
        Cell(entry.name, link=link),
        Cell("", curve[-1] if curve else None, curve=curve),
        *figures,
        entry.progress,
        _RULES.get(rule, rule.replace("-", " ")),
        *(cell(entry.settings.get(name)) for name in settings),
        entry.data,
        entry.network,
        loss,
        seconds_cell(entry.seconds, 1),
        entry.when[:16].replace(" ", "\N{NO-BREAK SPACE}"),
    ]


def _curve(entry: RunEntry) -> tuple[float, ...]:
    """Return the validation accuracy of the best network by epoch; nothing if it is unknown or its file is large."""
    path = entry.path / HISTORY
    try:
        if entry.note or not path.is_file() or path.stat().st_size > _LARGEST:
            return ()
        values = read_history(path, entry.networks)["validation_accuracy"]
    except (XpnetError, OSError):
        return ()
    known = np.nan_to_num(values, nan=-1.0)
    if not known.size or known.max() < 0:
        return ()
    best = values[:, int(known[-1].argmax())]
    best = best[np.isfinite(best)]
    return tuple(best[evenly(len(best), _POINTS)].tolist())


def _link(page: Path, home: Path) -> str:
    """Return the link to a run's page from a folder; empty if there is no page, or not below that folder."""
    if not page.is_file() or not page.resolve().is_relative_to(home):
        return ""
    return urllib.parse.quote(page.resolve().relative_to(home).as_posix())


def _states(entries: Sequence[RunEntry]) -> str:
    states = [entry.state for entry in entries]
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))


def _best(entries: Sequence[RunEntry]) -> str:
    """Return which run has the best validation accuracy among runs of the same data, if there are several."""
    known = [entry for entry in entries if "validation" in entry.figures and entry.state == "finished"]
    if len(known) < 2 or len({entry.data for entry in known}) > 1:
        return ""
    best = max(known, key=lambda entry: entry.figures["validation"])
    accuracy = f"{100 * best.figures['validation']:.2f} %"
    return (
        f"{best.name} has the highest validation accuracy of {len(known)} finished runs, {accuracy}; "
        "xpnet report RUN RUN says whether two of them differ by more than chance."
    )
