"""The figures of a reproduction, each defined once: for the folder as PNG, SVG and CSV, and for the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.report.charts import SETS, band_rows, dots, lines, surface
from xpnet.report.curves_chart import save_figure
from xpnet.report.figure import Panel, joined, paper_config
from xpnet.report.format import number, percent
from xpnet.reproduction.compare import words_of
from xpnet.reproduction.draws import matches
from xpnet.reproduction.model import Experiment
from xpnet.reproduction.outcome import CellOutcome, Outcome
from xpnet.training.history import csv_lines
from xpnet.utils.atomic_files import write_new

_GREEK = {"lambda": "\N{GREEK SMALL LETTER LAMDA}", "eta": "\N{GREEK SMALL LETTER ETA}"}

# Columns of the CSV that hold figures of several charts.
_VALUES = {"y": "value", "l": "mean - std", "h": "mean + std"}


@dataclass(frozen=True)
class Drawing:
    """A figure of a reproduction.

    Attributes:
        stem: The name of its files.
        title: What it shows.
        short: The same below the name of its report.
        subtitle: What its lines or points are.
        panels: Its charts, side by side.
    """

    stem: str
    title: str
    short: str
    subtitle: str
    panels: Sequence[Panel]


def drawings(experiment: Experiment, outcome: Outcome) -> list[Drawing]:
    """Return a figure for each of the report's, and of a search one of accuracy."""
    made = []
    for entry in experiment.figures:
        cell = next((c for c in outcome.cells if matches(c.values, entry.get("at", {})) and c.history), None)
        if cell is None:
            continue
        words = f": {words_of(cell.values)}" if cell.values else ""
        told = entry.get("title", f"figure {entry['name']}") + words
        title = f"Report {experiment.report}, {told}"
        stem = f"{experiment.report}-{experiment.id}-{_safe(entry['name'])}"
        runs = len(cell.seeds)
        subtitle = f"mean of {runs} runs, band ±1 standard deviation" if runs > 1 else "one run"
        panels = [_curve(cell, figure, f"{stem}-{figure}", title) for figure in entry["show"]]
        made.append(Drawing(stem, title, told[:1].upper() + told[1:], subtitle, panels))
    if experiment.draw is not None:
        names, stem = experiment.draw["name"], f"{experiment.report}-{experiment.id}-search"
        title = f"{experiment.name}: validation accuracy"
        if isinstance(names, str):
            made.append(
                Drawing(stem, title, "Validation accuracy", "a point is a run", [_search(outcome, names, stem, title)])
            )
        else:
            made.append(
                Drawing(stem, title, "Validation accuracy", "a point is a pair", [_pairs(outcome, names, stem, title)])
            )
    return made


def write_drawing(drawing: Drawing, folder: Path) -> str:
    """Write a figure as PNG, SVG and CSV; return the name of the PNG.

    Raises:
        RunError: A file exists, or cannot be written.
    """
    chart = joined(drawing.panels, drawing.title, drawing.subtitle)
    written = save_figure(chart | {"config": paper_config()}, folder / drawing.stem)
    rows: list[list[Any]] = []
    for panel in drawing.panels:
        head = [_VALUES.get(name, words) for name, words in panel.columns.items()]
        rows += [["panel", *head]] if not rows else []
        rows += [[panel.title, *(row.get(name) for name in panel.columns)] for row in panel.rows]
    write_new(folder / f"{drawing.stem}.csv", csv_lines(rows).encode())
    return written[0].name


def _safe(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name).replace("--", "-").strip("-")


def _curve(cell: CellOutcome, figure: str, name: str, title: str) -> Panel:
    """Return training and validation by epoch; a band where there are several runs."""
    rows, said = [], []
    for which, series in zip(("train", "validation"), SETS, strict=True):
        history = cell.history[f"{which}_{figure}"]
        own = band_rows(range(1, len(history) + 1), history, series)
        rows += own
        if own:
            said.append(f"{series} ends at {(percent if figure == 'accuracy' else number)(own[-1]['y'])}")
    alt = f"{title}, {figure} by epoch: {'; '.join(said) or 'nothing finite'}."
    return lines(
        name, figure.capitalize(), alt, rows, x="epoch", y=figure, series=SETS, percent=figure == "accuracy", height=180
    )


def _search(outcome: Outcome, setting: str, name: str, title: str) -> Panel:
    """Return validation accuracy against a setting: a point for every run."""
    rows: list[dict[str, Any]] = [
        {
            "x": float(cell.values[setting]),
            "y": float(value),
            "s": "several seeds" if len(cell.seeds) > 1 else "one seed",
        }
        for cell in outcome.cells
        for value in cell.runs("validation_accuracy")
        if np.isfinite(value)
    ]
    xs = [row["x"] for row in rows]
    wide = bool(xs) and min(xs) > 0 and max(xs) > 20 * min(xs)
    best = max(rows, key=lambda row: float(row["y"]), default=None)
    said = f"; the best, {percent(best['y'])}, is at {best['x']:.3g}" if best else ""
    alt = f"{title} of {len(rows)} runs by {setting}{said}."
    label = _GREEK.get(setting, setting)
    return dots(
        name,
        f"By {label}",
        alt,
        rows,
        x=label,
        y="validation accuracy",
        series=["one seed", "several seeds"],
        log_x=wide,
    )


def _pairs(outcome: Outcome, names: Sequence[str], name: str, title: str) -> Panel:
    """Return two searched settings against each other, validation accuracy as colour."""
    rows = [
        {"kind": "trial", "x": float(cell.values[names[0]]), "y": float(cell.values[names[1]]), "v": accuracy}
        for cell in outcome.cells
        if np.isfinite(accuracy := cell.mean("validation_accuracy"))
    ]
    labels = [_GREEK.get(n, n) for n in names]
    alt = f"{title} of {len(rows)} pairs of {names[0]} (across) and {names[1]} (up), as colour."
    title = f"By {labels[0]} and {labels[1]}"
    return surface(name, title, alt, rows, x=labels[0], y=labels[1], log=(True, True), value="validation accuracy")
