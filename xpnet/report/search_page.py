"""The page of a search: its trials, what each setting did to them, and the winner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.errors import RunError
from xpnet.report.charts import dots, is_wide, lines, surface
from xpnet.report.figure import COLOURS, Panel
from xpnet.report.page import Block, Cell, Facts, Page, Panels, Section, Table, Text
from xpnet.report.parts import (
    GREEK,
    again_section,
    environment_section,
    figure,
    in_words,
    plain,
    repeat_command,
    settings_table,
    share,
)
from xpnet.report.records import SEARCH, read_json, read_run
from xpnet.report.run_page import run_sections
from xpnet.report.words import percent

# Cells to each side of the field between trials, trials that make one, pairs of settings that get one.
_CELLS, _ENOUGH, _PAIRS = 26, 6, 6
_STATES = {"complete": "complete", "pruned": "stopped early", "failed": "failed"}
# Trials whose curves are drawn, best first.
_CURVES = 40
# The best trial stands out of the others.
_KINDS = (COLOURS[1], COLOURS[4], COLOURS[0], COLOURS[3])
Trial = Mapping[str, Any]


def search_page(folder: Path, data: str | None, made: str) -> Page:
    """Return the page of a search folder.

    Raises:
        RunError: ``search.json`` is broken.
    """
    found = read_json(folder / SEARCH)
    trials, space = _checked(found, folder / SEARCH)
    best = found.get("best") or {}
    sections = [
        Section("result", "Result", _result(found, trials, best)),
        Section("settings-found", "What the settings do", _effects(trials, space)),
        Section("trials", "Trials", [_table(trials, space, best)]),
    ]
    if (curves := _curves(trials, best)) is not None:
        sections.append(Section("trial-curves", "Validation accuracy by epoch", curves))
    notes = []
    winner = folder / str(found.get("winner") or "winner")
    if found.get("winner") and winner.is_dir():
        record = read_run(winner)
        words = f"The best settings, trained again: {record.title}. Its folder: {winner}."
        sections.append(Section("winner", "The winner", [Text(words)]))
        parts = run_sections(record, data, "winner-")
        sections += [Section(part.name, part.title, part.blocks, level=3) for part in parts]
        notes += record.notes
    sections += [
        Section("space", "Space and settings", _space(found, space)),
        environment_section(found.get("environment")),
        again_section([("The search:", found.get("command")), ("This page:", repeat_command(folder, "report"))]),
    ]
    varied = ", ".join(GREEK.get(name, name) for name in space)
    subtitle = f"{len(trials)} trials of {varied}, {found.get('sampler', 'an unknown sampler')}"
    return Page("search", folder.resolve().name, subtitle, sections, made, notes)


def _checked(found: Mapping[str, Any], path: Path) -> tuple[list[Trial], dict[str, Mapping[str, Any]]]:
    """Return the trials and the space, or say what is wrong with the file."""
    trials, space = found.get("trials"), found.get("space")
    if found.get("kind") != "search" or not isinstance(trials, list) or not isinstance(space, dict):
        raise RunError(f"{path}: is not a search of xpnet: it needs kind = search, trials and space")
    for number, trial in enumerate(trials):
        if not isinstance(trial, dict) or not isinstance(trial.get("settings"), dict):
            raise RunError(f"{path}: trial {number} has no settings; take another copy of the file")
    return trials, {str(name): value if isinstance(value, dict) else {} for name, value in space.items()}


def _validation(trial: Trial, name: str = "accuracy") -> Any:
    """Return a trial's figure as metrics have it, or None."""
    return ((trial.get("validation") or {}).get(name)) if isinstance(trial.get("validation"), dict) else None


def _mean(trial: Trial) -> float | None:
    value = _validation(trial)
    mean = value.get("mean") if isinstance(value, dict) else value
    return None if mean is None or not np.isfinite(mean) else float(mean)


def _result(found: Mapping[str, Any], trials: Sequence[Trial], best: Mapping[str, Any]) -> list[Block]:
    states = [str(trial.get("state")) for trial in trials]
    ended = ", ".join(f"{states.count(s)} {words}" for s, words in _STATES.items() if states.count(s))
    accuracy = ((best.get("validation") or {}).get("accuracy")) if best else None
    test = (found.get("test") or {}).get("accuracy")
    seconds = found.get("seconds")
    items = [("Trials", str(len(trials)), ended)]
    if accuracy is not None:
        items.insert(0, ("Best validation accuracy", percent(accuracy), f"trial {best.get('trial')}"))
    if test is not None:
        items.append(("Test accuracy of the winner", percent(test), "looked at once, at the end"))
    if seconds is not None:
        items.append(("Time", f"{float(seconds):.1f} s", f"{found.get('rounds', 1)} rounds"))
    words = (
        f"Best settings: {in_words(best.get('settings') or {})}." if best else "No trial ended, so there is no best."
    )
    return [Facts(items), Text(words)]


def _effects(trials: Sequence[Trial], space: Mapping[str, Mapping[str, Any]]) -> list[Block]:
    """Return accuracy against each setting, and a field for each pair of settings of numbers."""
    numbers = [name for name in space if _numeric(trials, name)]
    panels = [panel for name in numbers if (panel := _effect(trials, name, space[name])) is not None]
    fields = [
        panel for pair in list(combinations(numbers, 2))[:_PAIRS] if (panel := _field(trials, pair, space)) is not None
    ]
    if not panels:
        return [Text("No trial has figures, or no setting of numbers varies; the table below has all trials.")]
    words = (
        "A point is the mean over a trial's seeds, its line one standard deviation to each side; trials that were "
        "stopped early are shown as they were then."
    )
    return [Text(words), Panels([*panels, *fields])]


def _numeric(trials: Sequence[Trial], name: str) -> bool:
    values = [trial["settings"].get(name) for trial in trials]
    return bool(values) and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)


def _effect(trials: Sequence[Trial], name: str, draw: Mapping[str, Any]) -> Panel | None:
    rows: list[dict[str, Any]] = []
    for trial in trials:
        mean, value = _mean(trial), _validation(trial)
        if mean is None:
            continue
        std = value.get("std") if isinstance(value, dict) else None
        state = _STATES.get(str(trial.get("state")), str(trial.get("state")))
        row: dict[str, Any] = {"x": float(trial["settings"][name]), "y": mean, "s": state, "trial": trial.get("trial")}
        rows.append(row | ({"l": mean - std, "h": mean + std} if std else {}))
    if not rows:
        return None
    best = max(rows, key=lambda row: float(row["y"]))
    label = GREEK.get(name, name)
    alt = (
        f"Validation accuracy of {len(rows)} trials against {name}, from {min(r['x'] for r in rows):.3g} to "
        f"{max(r['x'] for r in rows):.3g}; the best, {percent(best['y'])}, is at {best['x']:.3g}."
    )
    series = [words for words in _STATES.values() if any(row["s"] == words for row in rows)]
    series += sorted({str(row["s"]) for row in rows} - set(series))
    tips = {"trial:Q": "trial", "s:N": "state"}
    log = _is_log(draw, [row["x"] for row in rows])
    stem = f"accuracy-by-{_safe(name)}"
    return dots(
        stem,
        f"Validation accuracy by {label}",
        alt,
        rows,
        x=label,
        y="validation accuracy",
        series=series,
        legend="state",
        log_x=log,
        tips=tips,
    )


def _is_log(draw: Mapping[str, Any], values: Sequence[float]) -> bool:
    if min(values) <= 0:
        return False
    return "log" in str(draw.get("draw", "")) or is_wide(values)


def _field(trials: Sequence[Trial], pair: tuple[str, str], space: Mapping[str, Mapping[str, Any]]) -> Panel | None:
    """Return the trials by two settings, with what lies between them interpolated on the axes as they are drawn."""
    from scipy.interpolate import griddata
    from scipy.spatial import QhullError

    points = [
        (float(t["settings"][pair[0]]), float(t["settings"][pair[1]]), mean)
        for t in trials
        if (mean := _mean(t)) is not None
    ]
    if len({p[:2] for p in points}) < 3:
        return None
    at = np.array(points)
    log = (_is_log(space[pair[0]], at[:, 0].tolist()), _is_log(space[pair[1]], at[:, 1].tolist()))
    rows: list[dict[str, Any]] = [{"kind": "trial", "x": x, "y": y, "v": v} for x, y, v in points]
    if len(points) >= _ENOUGH:
        drawn = np.stack([np.log10(at[:, i]) if log[i] else at[:, i] for i in (0, 1)], axis=1)
        edges = [np.linspace(drawn[:, i].min(), drawn[:, i].max(), _CELLS + 1) for i in (0, 1)]
        middles = [(edge[1:] + edge[:-1]) / 2 for edge in edges]
        across, up = np.meshgrid(*middles, indexing="ij")
        try:
            between = griddata(drawn, at[:, 2], (across, up), method="linear", rescale=True)
        except (QhullError, ValueError):  # all on one line
            between = np.full(across.shape, np.nan)
        real = [10**edge if log[i] else edge for i, edge in enumerate(edges)]
        rows += [
            {
                "kind": "between",
                "x": float(real[0][i]),
                "x2": float(real[0][i + 1]),
                "y": float(real[1][j]),
                "y2": float(real[1][j + 1]),
                "v": float(between[i, j]),
            }
            for i, j in zip(*np.nonzero(np.isfinite(between)), strict=True)
        ]
    best = max(points, key=lambda p: p[2])
    labels = [GREEK.get(name, name) for name in pair]
    alt = (
        f"Validation accuracy of {len(points)} trials by {pair[0]} (across) and {pair[1]} (up), interpolated between "
        f"them; the best, {percent(best[2])}, is at {pair[0]} {best[0]:.3g} and {pair[1]} {best[1]:.3g}."
    )
    title = f"Validation accuracy by {labels[0]} and {labels[1]}"
    return surface(
        f"accuracy-by-{_safe(pair[0])}-and-{_safe(pair[1])}",
        title,
        alt,
        rows,
        x=labels[0],
        y=labels[1],
        log=log,
        value="validation accuracy",
    )


def _table(trials: Sequence[Trial], space: Mapping[str, Any], best: Mapping[str, Any]) -> Table:
    rows = []
    ranked = sorted(trials, key=_rank)
    for trial in ranked:
        is_best = bool(best) and trial.get("trial") == best.get("trial")
        number = plain(trial.get("trial"))
        seconds = trial.get("seconds")
        cells = [Cell(number.text, number.sort, is_best), plain(trial.get("round"))]
        cells.append(Cell(_STATES.get(str(trial.get("state")), str(trial.get("state")))))
        cells += [plain(trial["settings"].get(name)) for name in space]
        cells.append(share(_validation(trial)) if _mean(trial) is not None else Cell("-"))
        cells.append(figure(_validation(trial, "loss")) if _mean(trial) is not None else Cell("-"))
        cells += [plain(len(trial.get("seeds") or ())), plain(trial.get("epochs"))]
        cells.append(Cell("-" if seconds is None else f"{float(seconds):.2f} s", seconds))
        rows.append(cells)
    head = ["trial", "round", "state", *space, "validation accuracy", "validation loss", "seeds", "epochs", "time"]
    return Table(head, rows, "All trials, best first, those that ended before others; the best is bold", tall=True)


def _rank(trial: Trial) -> tuple[bool, float]:
    """Return what puts trials that ended before those that did not, and the best of each first."""
    mean = _mean(trial)
    return trial.get("state") != "complete", 1.0 if mean is None else -mean


def _curves(trials: Sequence[Trial], best: Mapping[str, Any]) -> list[Block] | None:
    known = [t for t in trials if isinstance(t.get("curve"), list) and len(t["curve"]) > 1]
    known = sorted(known, key=lambda t: -float(t["curve"][-1].get("accuracy") or 0))[:_CURVES]
    if not known:
        return None
    rows: list[dict[str, Any]] = []
    for trial in known:
        kind = "best" if best and trial.get("trial") == best.get("trial") else _STATES.get(str(trial["state"]), "other")
        rows += [
            {"x": float(point["epoch"]), "y": float(point["accuracy"]), "s": kind, "d": f"trial {trial.get('trial')}"}
            for point in trial["curve"]
            if point.get("accuracy") is not None
        ]
    rows.sort(key=lambda row: row["s"] == "best")  # drawn last, above the others
    series = [kind for kind in ("best", *_STATES.values(), "other") if any(row["s"] == kind for row in rows)]
    words = f" (the {_CURVES} best of {len(trials)})" if len(known) == _CURVES else ""
    highest = percent(max(row["y"] for row in rows))
    alt = f"Validation accuracy by epoch, a line for each trial{words}; the highest is {highest}."
    panel = lines(
        "trial-curves",
        f"Validation accuracy by epoch, a line for each trial{words}",
        alt,
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
    return [Panels([panel])]


def _space(found: Mapping[str, Any], space: Mapping[str, Mapping[str, Any]]) -> list[Block]:
    keys = list(dict.fromkeys(key for draw in space.values() for key in draw))
    rows = [[Cell(name), *(plain(draw.get(key)) for key in keys)] for name, draw in space.items()]
    blocks: list[Block] = [Table(["setting", *keys], rows, "What was drawn, and how")]
    if isinstance(found.get("settings"), dict):
        blocks.append(settings_table(found["settings"], "Settings that all trials share; bold where not the default"))
    return blocks


def _safe(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name)
