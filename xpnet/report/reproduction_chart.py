"""The figures of a reproduction, each defined once: for the folder as PNG, SVG and CSV, and for the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnet.report.charts import dots, metric_curves
from xpnet.report.figure import KINDS, Panel, chart_files, side_by_side
from xpnet.report.format import SET_NAMES, capitalised, file_stem, percent, setting_label
from xpnet.report.theme import is_wide
from xpnet.report.trial_charts import surface
from xpnet.reproduction.compare import words_of
from xpnet.reproduction.experiments import Experiment
from xpnet.reproduction.outcome import CellOutcome, Outcome
from xpnet.reproduction.sampling import matches
from xpnet.training.history import csv_lines

# Columns of the CSV that several charts share.
_VALUES = {"y": "value", "l": "mean - std", "h": "mean + std"}


@dataclass(frozen=True)
class Drawing:
    """A figure of a reproduction.

    Attributes:
        stem: The name of its files.
        title: Its title.
        short: The title without the name of the report.
        subtitle: The meaning of its lines or points.
        panels: Its charts, side by side.
    """

    stem: str
    title: str
    short: str
    subtitle: str
    panels: Sequence[Panel]


def drawings(experiment: Experiment, outcome: Outcome) -> list[Drawing]:
    """Return a figure for each figure of the report, and a figure of accuracy for a search."""
    made = []
    for entry in experiment.figures:
        cell = next((c for c in outcome.cells if matches(c.values, entry.get("at", {})) and c.history), None)
        if cell is None:
            continue
        words = entry.get("title", f"figure {entry['name']}") + (f": {words_of(cell.values)}" if cell.values else "")
        title = f"Report {experiment.report}, {words}"
        stem = f"{experiment.report}-{experiment.id}-{file_stem(entry['name']).replace('--', '-').strip('-')}"
        runs = len(cell.seeds)
        subtitle = f"mean of {runs} runs, band ±1 standard deviation" if runs > 1 else "one run"
        panels = [_curve(cell, figure, f"{stem}-{figure}", title) for figure in entry["show"]]
        made.append(Drawing(stem, title, capitalised(words), subtitle, panels))
    if experiment.draw is not None:
        names, stem = experiment.draw["name"], f"{experiment.report}-{experiment.id}-search"
        title = f"{experiment.name}: validation accuracy"
        one = isinstance(names, str)
        panel = (_search if one else _pairs)(outcome, names, stem, title)
        made.append(Drawing(stem, title, "Validation accuracy", f"a point is a {'run' if one else 'pair'}", [panel]))
    return made


def reproduction_files(experiment: Experiment, outcome: Outcome, kinds: Sequence[str] = KINDS) -> dict[str, bytes]:
    """Return each figure as pictures and CSV, by the names of the files."""
    files: dict[str, bytes] = {}
    for drawing in drawings(experiment, outcome):
        chart = side_by_side(drawing.panels, drawing.title, drawing.subtitle)
        files |= chart_files(chart, drawing.stem, kinds)
        columns = drawing.panels[0].columns
        rows: list[list[Any]] = [["panel", *(_VALUES.get(name, words) for name, words in columns.items())]]
        for panel in drawing.panels:
            rows += [[panel.title, *(row.get(name) for name in panel.columns)] for row in panel.rows]
        files[f"{drawing.stem}.csv"] = csv_lines(rows).encode()
    return files


def _curve(cell: CellOutcome, figure: str, name: str, title: str) -> Panel:
    """Return a chart of training and validation figures by epoch, with a band if there are several runs."""
    curves = [
        (SET_NAMES[which], range(1, len(history) + 1), history)
        for which in ("train", "validation")
        for history in [cell.history[f"{which}_{figure}"]]
    ]
    return metric_curves(name, figure.capitalize(), f"{title}, {figure} by epoch", figure, curves, height=180)


def _search(outcome: Outcome, setting: str, name: str, title: str) -> Panel:
    """Return a chart of validation accuracy against a setting, with a point for every run."""
    series = ["one seed", "several seeds"]
    rows: list[dict[str, Any]] = [
        {"x": float(cell.values[setting]), "y": float(value), "s": series[len(cell.seeds) > 1]}
        for cell in outcome.cells
        for value in cell.runs("validation_accuracy")
        if np.isfinite(value)
    ]
    best = max(rows, key=lambda row: float(row["y"]), default=None)
    best_words = f"; the best, {percent(best['y'])}, is at {best['x']:.3g}" if best else ""
    alt = f"{title} of {len(rows)} runs by {setting}{best_words}."
    label, log = setting_label(setting), is_wide([row["x"] for row in rows])
    return dots(name, f"By {label}", alt, rows, x=label, y="validation accuracy", series=series, log_x=log)


def _pairs(outcome: Outcome, names: Sequence[str], name: str, title: str) -> Panel:
    """Return a chart of two searched settings against each other, with validation accuracy as colour."""
    rows = [
        {"kind": "trial", "x": float(cell.values[names[0]]), "y": float(cell.values[names[1]]), "v": accuracy}
        for cell in outcome.cells
        if np.isfinite(accuracy := cell.mean("validation_accuracy"))
    ]
    x, y = map(setting_label, names)
    alt = f"{title} of {len(rows)} pairs of {names[0]} (across) and {names[1]} (up), as colour."
    return surface(name, f"By {x} and {y}", alt, rows, x=x, y=y, log=(True, True), value="validation accuracy")
