"""The index page of a folder of runs: a table with a small curve of each run, and links to their pages."""

from __future__ import annotations

import math
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.errors import XpnetError
from xpnet.report.blocks import again_section, repeat_command
from xpnet.report.page import Block, Cell, Page, Section, Text, cell, metric_cell, table
from xpnet.runs.folder import HISTORY
from xpnet.runs.listing import RunEntry, differing, list_runs
from xpnet.runs.records import read_history
from xpnet.training.history import evenly
from xpnet.utils.plural import counted

# Columns of settings; points of a small curve; the largest history, in bytes, of which one is drawn.
_SETTINGS, _POINTS, _LARGEST = 8, 40, 4_000_000
# Rules of conclusions in words; others are in words already.
_RULES = {
    "": "none",
    "chance": "no better than guessing",
    "tall-loss": "loss worse than guessing",
    "rate-too-large": "learning rate too large",
    "rate-too-small": "learning rate too small",
    "alike": "differences may be chance",
    "best": "one setting is best",
    "best-at-edge": "best at an end of its list",
    "spread": "spread over seeds",
}
# What a search keeps beside its search.json, by the name of the folder.
_KEPT = {"best": "the networks of its best trial", "winner": "the same networks with test figures"}
_BN = " BN"
_Curve = tuple[float, ...]


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
    home = (folder if target is None else target.parent).resolve()
    links = {entry.name: _link(entry.path / page, home) for entry in entries}
    groups: dict[str, list[RunEntry]] = {}
    for entry in entries:
        groups.setdefault(entry.data_set, []).append(entry)
    largest = sorted(groups.values(), key=lambda members: (not members[0].data_set, -len(members)))
    blocks: list[Block] = [_table(members, links, of_many=len(groups) > 1) for members in largest]
    words = f"{counted(len(entries), 'run')}, {_states(entries)}"
    sections = [
        Section("runs", "Runs", [*blocks, *_explanations(entries), *_pages(entries, links, folder)]),
        again_section([("This page:", repeat_command(folder, "report"))]),
    ]
    notes = [f"{entry.name} is damaged: {entry.note}" for entry in entries if entry.note]
    return Page("runs", folder.resolve().name, words, sections, made, notes, _best(entries))


def _table(entries: Sequence[RunEntry], links: Mapping[str, str], *, of_many: bool) -> Block:
    """Return the table of the runs on one data set."""
    settings = differing(entries)[:_SETTINGS]
    curves = [_curve(entry) for entry in entries]
    reached = [value for curve in curves for value in curve]
    scale = (min(reached), max(reached)) if reached else None
    several_splits = len({entry.settings.get("split") for entry in entries if entry.state != "damaged"}) > 1
    unfinished = any(entry.state != "finished" for entry in entries)
    rows = []
    for entry, curve in zip(entries, curves, strict=True):
        row: dict[str, Any] = {
            "run": Cell(entry.name, link=links[entry.name]),
            "accuracy by epoch": Cell("", curve[-1] if curve else None, curve=curve, scale=scale),
            "validation accuracy": _accuracy(entry, "validation"),
            "test accuracy": _accuracy(entry, "test"),
            **({"state": entry.progress} if unfinished else {}),
            "conclusion": _conclusion(entry, curve),
            **{name: _setting(entry, name) for name in settings},
            "hidden": _hidden(entry),
        }
        if several_splits:  # which may break after the slash
            row["split"] = cell(str(entry.settings.get("split", "")).replace("/", "/\N{ZERO WIDTH SPACE}"))
        rows.append(row)
    caption = f"{counted(len(entries), 'run')} on {entries[0].data_set or 'unknown data'}" if of_many else "Every run"
    caption += ", the oldest first" if len(entries) > 1 else ""
    if any(entry.samples for entry in entries):
        caption += "; ± is the standard error for the number of samples"
    if any(entry.best for entry in entries):
        caption += "; of several networks, the setting with the best validation accuracy"
    if scale and len(entries) > 1:
        caption += f"; curves of validation accuracy share a scale, {100 * scale[0]:.1f} to {100 * scale[1]:.1f} %"
    if any(entry.network.endswith(_BN) for entry in entries):
        caption += "; hidden layers have batch normalisation (BN)"
        caption += " unless a row says no BN" if any(_without(entry) for entry in entries) else ""
    return table([*rows[0]], [row.values() for row in rows], caption)


def _hidden(entry: RunEntry) -> str:
    """Return the hidden layers in short; batch normalisation is told where it is missing."""
    hidden, words = entry.settings.get("hidden"), entry.network.removesuffix(_BN)
    if isinstance(hidden, list) and len(hidden) > 2 and len({*hidden}) == 1:
        words = f"{len(hidden)}\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}{hidden[0]}"
    return f"{words} no BN" if _without(entry) else words


def _without(entry: RunEntry) -> bool:
    """Return whether the hidden layers of a network have no batch normalisation."""
    return bool(entry.settings.get("hidden")) and not entry.settings.get("batch_norm", True)


def _accuracy(entry: RunEntry, which: str) -> Cell:
    """Return an accuracy with its standard error, where the number of samples is known."""
    value, samples = entry.figures.get(which), entry.samples.get(which)
    if value is None or not samples or not 0 < value < 1:
        return metric_cell("accuracy", value)
    return Cell(f"{100 * value:.1f} ± {100 * math.sqrt(value * (1 - value) / samples):.1f} %", value)


def _setting(entry: RunEntry, name: str) -> Cell:
    """Return the value of a setting that the figures are of; beside it, the values that were trained, if several."""
    given = entry.settings.get(name)
    if name in entry.best and isinstance(given, list) and len(given) > 1:
        own = _short(entry.best[name])
        return Cell(f"{own.text} of {','.join(_short(value).text for value in given)}", own.sort)
    if name == "runs" and entry.best:
        return Cell(f"{given} each", None if given is None else float(given))
    return _short(given)


def _short(value: Any) -> Cell:
    """Return a setting; numbers have three digits."""
    return Cell(f"{value:.3g}", value) if isinstance(value, float) else cell(value)


def _conclusion(entry: RunEntry, curve: _Curve) -> str:
    """Return the conclusion of a run in a few words."""
    rule = str((entry.conclusion or {}).get("rule", ""))
    end = entry.figures.get("validation")
    if rule == "far-below-best" and curve and end is not None and end < max(curve):
        return f"fell from {100 * max(curve):.1f} to {100 * end:.1f} %"
    return _RULES.get(rule, rule.replace("-", " "))


def _curve(entry: RunEntry) -> _Curve:
    """Return the validation accuracy by epoch that the figures are of; nothing if unknown or in a large file."""
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
    members = [r for r in entry.members or () if r < values.shape[1]] or [int(known[-1].argmax())]
    best = values[:, members].mean(axis=1)
    best = best[np.isfinite(best)]
    return tuple(best[evenly(len(best), _POINTS)].tolist())


def _explanations(entries: Sequence[RunEntry]) -> list[Block]:
    """Return what the folders of a search are."""
    kept = [e.path for e in entries if e.path.name in _KEPT and (e.path.parent / "search.json").is_file()]
    names = [f"{name} has {words}" for name, words in _KEPT.items() if any(path.name == name for path in kept)]
    searches = " and ".join(dict.fromkeys(path.parent.name for path in kept))
    return [Text(f"Of a search ({searches}), {', '.join(names)}.")] if kept else []


def _pages(entries: Sequence[RunEntry], links: Mapping[str, str], folder: Path) -> list[Block]:
    """Return how to make pages that are missing."""
    without = [entry for entry in entries if not links[entry.name] and not entry.note]
    if not without:
        return []
    first, again = repeat_command(without[0].path, "report"), repeat_command(folder, "report")
    which = "None of these runs has a page" if not any(links.values()) else "Runs without a link have no page"
    return [
        Text(f"{which} yet: make one with"),
        Text(first, "code"),
        Text("then this list again with"),
        Text(again, "code"),
    ]


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
