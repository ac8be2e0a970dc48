"""The page of a search: its trials, the effect of each setting, and the winner."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xpnet.report.blocks import again_section, environment_section, repeat_command, settings_table, settings_text
from xpnet.report.charts import lines
from xpnet.report.format import percent, setting_label
from xpnet.report.page import Block, Facts, Page, Panels, Section, Table, Text, cell, metric_cell, seconds_cell, table
from xpnet.report.records import SEARCH, read_run
from xpnet.report.run_page import run_sections
from xpnet.report.search_chart import (
    DRAWN,
    STATES,
    Trial,
    is_same,
    marked,
    mean_of,
    round_of,
    search_panels,
    validation_of,
)
from xpnet.report.search_file import CURVES, read_search_result, winner_in
from xpnet.report.theme import COLOURS
from xpnet.training.history import evenly
from xpnet.utils.plural import counted

# Most trials in the table, best first, and most points of a curve.
_ROWS, _POINTS = 1000, 200
# Colours of the kinds of trials, so that the best trial stands out.
_KINDS = (COLOURS[1], COLOURS[4], COLOURS[0], COLOURS[3])


def search_page(folder: Path, data: str | None, made: str) -> Page:
    """Return the page of a search folder.

    Raises:
        RunError: ``search.json`` is broken.
    """
    found = read_search_result(folder / SEARCH)
    trials, space, best = found["trials"], found["space"], marked(found)
    sections = [
        Section("result", "Result", _result(found, best)),
        Section("settings-found", "What the settings do", _effects(found)),
        Section("trials", "Trials", _trials(trials, space, best)),
    ]
    if curves := _curves(found, best):
        sections.append(Section("trial-curves", "Validation accuracy by epoch", curves))
    notes = list(found.get("warnings", ()))
    winner = winner_in(folder, found)
    if winner is not None:
        record = read_run(winner)
        which = "best settings" if best else "settings of the highest accuracy"
        origin = "trained again" if found.get("trained_again", True) else "as the search trained them"
        words = f"The {which}, {origin}: {record.title}. Its folder: {winner}."
        sections.append(Section("winner", "The winner", [Text(words)]))
        of_run = run_sections(record, data, "winner-")
        sections += [Section(section.name, section.title, section.blocks, level=3) for section in of_run]
        notes += [note for note in record.notes if note not in notes]
    sections += [
        Section("space", "Space and settings", _space(found, space)),
        environment_section(found.get("environment")),
        again_section(
            [*_next(folder), ("The search:", found.get("command")), ("This page:", repeat_command(folder, "report"))]
        ),
    ]
    varied = ", ".join(map(setting_label, space))
    subtitle = f"{len(trials)} trials of {varied}, {found.get('sampler', 'an unknown sampler')}"
    conclusion = str((found.get("conclusion") or {}).get("text", ""))
    notes = [note for note in notes if note != conclusion]
    return Page("search", folder.resolve().name, subtitle, sections, made, notes, conclusion)


def _next(folder: Path) -> list[tuple[str, str | None]]:
    """Return the command that trains the winner's settings, which a reader may give other options."""
    best = folder / "best.toml"
    return [("The best settings, with three seeds:", f"{repeat_command(best)} --runs 3")] if best.is_file() else []


def _result(found: Mapping[str, Any], best: Trial) -> list[Block]:
    states = [str(trial.get("state")) for trial in found["trials"]]
    ended = ", ".join(f"{states.count(s)} {s}" for s in STATES if states.count(s))
    items = [("Trials", str(len(states)), ended)]
    if (accuracy := validation_of(best)) is not None:
        items.insert(0, ("Best validation accuracy", percent(accuracy), f"trial {best.get('trial')}"))
    if (test := (found.get("test") or {}).get("accuracy")) is not None:
        items.append(("Test accuracy of the winner", percent(test), "looked at once, at the end"))
    if (seconds := found.get("seconds")) is not None:
        items.append(("Time", f"{seconds:.1f} s", counted(found.get("rounds") or 1, "round")))
    words = "No trial ended, so there is no best."
    if best:
        words = f"Best settings: {settings_text(best.get('settings') or {})}."
    elif highest := found.get("best"):
        words = "No trial is better than guessing, so none is the best; the highest validation accuracy has "
        words += f"{settings_text(highest.get('settings') or {})}."
    return [Facts(items), Text(words)]


def _effects(found: Mapping[str, Any]) -> list[Block]:
    """Return charts of accuracy against each setting, and over pairs of numeric settings."""
    panels, trials = search_panels(found), found["trials"]
    if not panels:
        return [Text("No trial has figures, or no setting of numbers varies; the table below has all trials.")]
    ended = sum(mean_of(trial) is not None for trial in trials)
    words = f"Of {ended:,} trials {DRAWN:,} are drawn, evenly spaced by number, and the best. " if ended > DRAWN else ""
    words += "A point is the mean over a trial's seeds, its line one standard deviation to each side"
    if any(trial.get("state") == "pruned" for trial in trials):
        words += "; trials that were pruned, that is trained no further, are shown as they were then"
    return [Text(f"{words}."), Panels(panels)]


def _trials(trials: Sequence[Trial], space: Mapping[str, Any], best: Trial) -> list[Block]:
    words = f"Shown are the {_ROWS:,} best of {len(trials):,} trials; trials.csv in the search's folder has all."
    return [*([Text(words, "note")] if len(trials) > _ROWS else []), _table(trials, space, best)]


def _table(trials: Sequence[Trial], space: Mapping[str, Any], best: Trial) -> Table:
    rows = []
    for trial in heapq.nsmallest(_ROWS, trials, key=_rank):
        known = mean_of(trial) is not None
        row = [cell(trial.get("trial"), strong=is_same(trial, best)), round_of(trial), str(trial.get("state"))]
        row += [trial["settings"].get(name) for name in space]
        row += [metric_cell(name, validation_of(trial, name) if known else None) for name in ("accuracy", "loss")]
        row += [len(trial.get("seeds") or ()), trial.get("epochs"), seconds_cell(trial.get("seconds"), 2)]
        rows.append(row)
    which = "All trials" if len(rows) == len(trials) else f"{_ROWS:,} of {len(trials):,} trials"
    head = ["trial", "round", "state", *space, "validation accuracy", "validation loss", "seeds", "epochs", "time"]
    bold = "the best is bold" if best else "none is the best"
    return table(head, rows, f"{which}, best first, those that ended before others; {bold}", tall=True)


def _rank(trial: Trial) -> tuple[bool, float]:
    """Return a sort key: trials that ended before the others, and the best of each group first."""
    mean = mean_of(trial)
    return trial.get("state") != "complete", 1.0 if mean is None else -mean


def _curves(found: Mapping[str, Any], best: Trial) -> list[Block]:
    """Return validation accuracy by epoch, a line for each trial; nothing if no trial has a curve."""
    trials = found["trials"]
    known = [trial for trial in trials if len(trial.get("curve") or ()) > 1]
    known = sorted(known, key=lambda t: -float(t["curve"][-1].get("accuracy") or 0))[:CURVES]
    if not known:
        return []
    rows: list[dict[str, Any]] = []
    for trial in known:
        kind = trial["state"] if trial["state"] in STATES else "other"
        kind = "best" if is_same(trial, best) else kind
        rows += [
            {"x": float(point["epoch"]), "y": float(point["accuracy"]), "s": kind, "d": f"trial {trial.get('trial')}"}
            for point in (trial["curve"][at] for at in evenly(len(trial["curve"]), _POINTS).tolist())
            if point.get("accuracy") is not None
        ]
    rows.sort(key=lambda row: row["s"] == "best")  # drawn last, above the others
    series = [kind for kind in ("best", *STATES, "other") if any(row["s"] == kind for row in rows)]
    title = "Validation accuracy by epoch, a line for each trial"
    title += f" (the {CURVES} best of {len(trials)})" if len(known) == CURVES else ""
    panel = lines(
        "trial-curves",
        title,
        f"{title}; the highest is {percent(max(row['y'] for row in rows))}.",
        rows,
        x="epoch",
        y="validation accuracy",
        series=series,
        legend="trial",
        percent=True,
        wide=True,
        detail="trial",
        colours=_KINDS,
    )
    if found.get("curve_points") is None and all(len(trial["curve"]) <= _POINTS for trial in known):
        return [Panels([panel])]
    words = "Of long curves only some points are drawn, evenly spaced; the search's storage has every epoch."
    return [Text(words, "note"), Panels([panel])]


def _space(found: Mapping[str, Any], space: Mapping[str, Mapping[str, Any]]) -> list[Block]:
    keys = list(dict.fromkeys(key for draw in space.values() for key in draw))
    rows = [[name, *(draw.get(key) for key in keys)] for name, draw in space.items()]
    blocks: list[Block] = [table(["setting", *keys], rows, "What was drawn, and how")]
    if isinstance(found.get("settings"), dict):
        blocks.append(settings_table(found["settings"], "Settings that all trials share; bold where not the default"))
    return blocks
