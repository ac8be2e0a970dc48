"""The page that compares runs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from xpnet.report.blocks import (
    again_section,
    curve_cells,
    curve_points,
    repeat_command,
    settings_text,
    spread_of,
    thinned_note,
)
from xpnet.report.charts import by_group, metric_curves
from xpnet.report.format import SET_NAMES
from xpnet.report.page import Block, Page, Panels, Section, Table, Text, cell, metric_cell, seconds_cell, table
from xpnet.report.records import RunRecord
from xpnet.report.significance import Contender, compared, differences

_CURVES = (("validation", "accuracy"), ("validation", "loss"), ("train", "loss"), ("train", "cost"))


def compare_page(records: Sequence[RunRecord], data: str | None, made: str) -> Page:
    """Return the page that compares runs, each represented by its best combination of settings."""
    records = _labelled(records)
    labels = [record.label for record in records]
    contenders = [Contender(record, data) for record in records]
    notes = [f"{record.label}: {note}" for record in records for note in record.notes]
    again = [(f"{record.label}:", repeat_command(record.path)) for record in records]
    again.append(("This page:", shlex.join(["xpnet", "report", *(str(record.path) for record in records)])))
    sections = [
        Section("result", "Result", [*_chosen(contenders), *_result(contenders)]),
        Section("significance", "Is the difference real?", differences(contenders)),
        Section("curves", "Curves", _curves(contenders)),
        Section("settings", "Settings that differ", [_settings(records)]),
        Section("environment", "Environments", [_environments(records)]),
        again_section(again),
    ]
    title = " and ".join(labels) if len(labels) == 2 else f"{len(labels)} runs: {', '.join(labels)}"
    subtitle = f"{len(labels)} runs side by side"
    return Page("comparison", title, subtitle, sections, made, notes, compared(contenders))


def _labelled(records: Sequence[RunRecord]) -> list[RunRecord]:
    """Return the runs with distinct labels: the folder's name, or its path if names are equal."""
    names = [record.label for record in records]
    longer = [r.label if names.count(r.label) == 1 else str(r.path) for r in records]
    return [
        replace(record, label=name if longer.count(name) == 1 else f"{name} ({number})")
        for number, (record, name) in enumerate(zip(records, longer, strict=True), start=1)
    ]


def _chosen(contenders: Sequence[Contender]) -> list[Block]:
    """Return notes on the combination of settings that represents each run."""
    notes = []
    if all(contender.record.none_better for contender in contenders):
        notes.append("None of these runs is better than guessing, so none is called the best.")
    for contender in contenders:
        if contender.settings:
            record, why = contender.record, "its best by validation accuracy."
            if record.none_better:
                why = "of which none is better than guessing."
            notes.append(
                f"{record.label} has {len(record.combinations())} combinations of settings; it is represented by "
                f"{settings_text(contender.settings)}, {why}"
            )
    return [Text(note, "note") for note in notes]


def _result(contenders: Sequence[Contender]) -> list[Block]:
    """Return the final figures of each run, and its test accuracies as a chart."""
    rows: list[list[Any]] = []
    points = []
    for contender in contenders:
        record, members = contender.record, contender.members
        seconds = ((record.metrics or {}).get("seconds") or {}).get("training")
        accuracies = [
            metric_cell("accuracy", spread_of(record.figures(which, "accuracy")[members])) for which in SET_NAMES
        ]
        loss = metric_cell("loss", spread_of(record.figures("test", "loss")[members]))
        rows.append([record.label, record.title, len(members), *accuracies, loss, seconds_cell(seconds, 1)])
        points += [
            {"s": record.label, "seed": record.replicas[r]["seed"], "y": float(value)}
            for r in members
            if np.isfinite(value := record.figures("test", "accuracy")[r])
        ]
    accuracy_heads = [f"{words} accuracy" for words in SET_NAMES.values()]
    head = ["run", "what", "seeds", *accuracy_heads, "test loss", "training time"]
    result = table(head, rows, "Final figures; mean and standard deviation where there are several seeds")
    if not points:
        return [result]
    labels = [contender.record.label for contender in contenders]
    alt = "Test accuracy of every network: " + "; ".join(f"{row[0]} {row[5].text}" for row in rows) + "."
    title = "Test accuracy by run"
    return [result, Panels([by_group("test-accuracy", title, alt, points, labels, x="run", y="test accuracy")])]


def _curves(contenders: Sequence[Contender]) -> list[Block]:
    """Return the curves of all runs in one chart for each figure, and as a table."""
    panels = []
    for which, name in _CURVES:
        y = f"{SET_NAMES[which]} {name}"
        words = f"{y} by epoch, a line for each run"
        curves = [(one.record.label, *curve_points(one.record, one.members, f"{which}_{name}")) for one in contenders]
        panels.append(metric_curves(y.replace(" ", "-"), y.capitalize(), words, name, curves, y=y))
    panels = [panel for panel in panels if panel.rows]
    if not panels:
        return [Text("No epoch was recorded.")]
    columns = [f"{which}_{name}" for which, name in _CURVES]
    rows = [
        [one.record.label, epoch, *cells]
        for one in contenders
        for _, epoch, cells in curve_cells(one.record, one.members, columns)
    ]
    head = ["run", "epoch", *(f"{SET_NAMES[which]} {name}" for which, name in _CURVES)]
    data = table(head, rows, "Figures by run and epoch", "The figures of these charts as a table", tall=True)
    return [*thinned_note(*(one.record for one in contenders)), Panels(panels, data)]


def _settings(records: Sequence[RunRecord]) -> Table:
    rows: list[list[Any]] = []
    for name in dict.fromkeys(name for record in records for name in record.given):
        values = [record.given.get(name) for record in records]
        if any(value != values[0] for value in values[1:]):
            rows.append([name, *("-" if value is None else cell(value) for value in values)])
    rows = rows or [["none: all settings are the same", *("" for _ in records)]]
    return table(["setting", *(record.label for record in records)], rows, "Settings that are not the same in all runs")


def _environments(records: Sequence[RunRecord]) -> Table:
    known = [record.environment or {} for record in records]
    packages = [own.get("packages") or {} for own in known]
    rows = [
        [key, *(str(own.get(key) or "-") for own in known)]
        for key in ("date", "xpnet", "python", "cpu", "cores", "device")
    ]
    rows += [
        [name, *(str(own.get(name, "-")) for own in packages)] for name in dict.fromkeys(n for p in packages for n in p)
    ]
    return table(["what", *(record.label for record in records)], rows, "What the runs were made on")
