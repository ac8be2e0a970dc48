"""The page of a reproduction: the reports' figures beside ours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.errors import RunError
from xpnet.report.blocks import again_section, environment_section, repeat_command
from xpnet.report.page import Block, Cell, Facts, Page, Panels, Section, Table, Text
from xpnet.report.records import RESULTS
from xpnet.report.reproduction_chart import Drawing, drawings
from xpnet.report.reproduction_markdown import WHAT_THEY_ARE, grids, sayings
from xpnet.reproduction.compare import compare
from xpnet.reproduction.model import Experiment, choose, load
from xpnet.reproduction.outcome import OUTCOME_SHAPE, Outcome
from xpnet.runs.folder import ENVIRONMENT
from xpnet.runs.records import read_environment
from xpnet.utils import schema
from xpnet.utils.parsing import read_json

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
_COLUMNS = {"train": "training", "validation": "validation"}


def reproduction_page(folder: Path, made: str) -> Page:
    """Return the page of a reproduction's folder.

    Raises:
        RunError: ``results.json`` is none of a reproduction, or broken.
    """
    path = folder / RESULTS
    outcomes = _outcomes(path)
    environment = read_environment(folder / ENVIRONMENT) if (folder / ENVIRONMENT).is_file() else None
    experiments = [experiment for experiment in choose(["all"]) if experiment.name in outcomes]
    if not experiments:
        raise RunError(f"{path}: has no experiment that this version of xpnet knows")
    sections = [Section("overview", "Overview", _overview(experiments, outcomes, environment))]
    for report in dict.fromkeys(experiment.report for experiment in experiments):
        own = [experiment for experiment in experiments if experiment.report == report]
        words = f"{load(report).title}. {len(own)} experiments: {', '.join(e.name for e in own)}."
        sections.append(Section(f"report-{report}", f"Report {report}", [Text(words)]))
        for experiment in own:
            name = experiment.name.replace(".", "-")
            title = f"{experiment.name}: {experiment.what}"
            sections.append(Section(name, title, _experiment(experiment, outcomes[experiment.name]), level=3))
    command = (environment or {}).get("command") or "xpnet reproduce all"
    commands = [("The reproduction:", str(command)), ("This page:", repeat_command(folder, "report"))]
    sections += [environment_section(environment), again_section(commands)]
    date = str((environment or {}).get("date") or "")[:10]
    subtitle = f"{len(experiments)} experiments run with xpnet" + (f" on {date}" if date else "")
    notes = []
    if any(outcome.quick for outcome in outcomes.values()):
        notes.append("This is a quick reproduction, with a tenth of the steps and few seeds: its figures mean nothing.")
    return Page("reproduction", "The five reports, run again", subtitle, sections, made, notes)


def _outcomes(path: Path) -> dict[str, Outcome]:
    found = read_json(path, RunError)
    schema.check(found, schema.mapping(OUTCOME_SHAPE), f"{path}: is not what xpnet reproduce writes", RunError)
    try:
        return {name: Outcome.from_json(value) for name, value in found.items()}
    except (TypeError, ValueError) as error:  # a table whose rows have several lengths
        raise RunError(f"{path}: is not what xpnet reproduce writes ({error})") from None


def _overview(
    experiments: Sequence[Experiment], outcomes: dict[str, Outcome], environment: dict[str, Any] | None
) -> list[Block]:
    """Return how many of the reports' figures lie within the spread of ours, by experiment."""
    rows, inside, told = [], 0, 0
    for experiment in experiments:
        outcome = outcomes[experiment.name]
        known = [row for row in compare(experiment, outcome) if row.within is not None]
        good = sum(bool(row.within) for row in known)
        inside, told = inside + good, told + len(known)
        checks = [cell.note for cell in outcome.cells] if experiment.kind == "gradcheck" else []
        verdict = f"{good} of {len(known)}" if known else ", ".join(dict.fromkeys(checks))
        share = good / len(known) if known else None
        rows.append(
            [
                Cell(experiment.name),
                Cell(experiment.what),
                Cell(experiment.source),
                Cell(verdict or "-", share),
                Cell(f"{outcome.seconds:.0f} s", outcome.seconds),
            ]
        )
    seconds = (environment or {}).get("seconds") or sum(outcomes[e.name].seconds for e in experiments)
    networks = sum(len(cell.seeds) for e in experiments if e.kind == "train" for cell in outcomes[e.name].cells)
    facts = Facts(
        [
            ("Experiments", str(len(experiments)), f"of {len({e.report for e in experiments})} reports"),
            ("Networks trained", f"{networks:,}", ""),
            ("Reported figures within our spread", f"{inside} of {told}", "where one more of our runs would lie, 95 %"),
            ("Time", f"{seconds:,.0f} s", str((environment or {}).get("cpu") or "")),
        ]
    )
    head = ["experiment", "what", "where in the report", "within our spread", "time"]
    return [
        Text(WHAT_THEY_ARE),
        facts,
        Table(head, rows, "All experiments; within our spread is where one more of our runs would lie, 95 %"),
    ]


def _experiment(experiment: Experiment, outcome: Outcome) -> list[Block]:
    quick = ", quick: a tenth of the steps" if outcome.quick else ""
    blocks: list[Block] = [
        Text(f"{experiment.source[:1].upper()}{experiment.source[1:]}; {outcome.seconds:.0f} s{quick}.")
    ]
    for grid in grids(compare(experiment, outcome), experiment.kind):
        rows = [[_cell(text, first=column == 0) for column, text in enumerate(line)] for line in grid.body]
        blocks.append(Table(grid.head, rows, f"{experiment.name}: the report's figures and ours"))
        blocks += [Text(grid.legend)] if grid.legend else []
    blocks += [Text(words) for words in sayings(experiment, outcome)]
    found = drawings(experiment, outcome)
    if found:
        told = "; ".join(dict.fromkeys(drawing.subtitle for drawing in found))
        titled = [
            replace(panel, title=f"{drawing.short}, {panel.title.lower()}")
            for drawing in found
            for panel in drawing.panels
            if panel.rows
        ]
        blocks += [Text(f"{told[:1].upper()}{told[1:]}."), Panels(titled)]
    return [*blocks, *(_data(drawing) for drawing in found)]


def _cell(text: str, *, first: bool) -> Cell:
    """Return a cell; its first number is what it is sorted by."""
    found = None if first else _NUMBER.match(text)
    return Cell(text, float(found[0]) if found else None)


def _data(drawing: Drawing) -> Table:
    """Return the data of a figure's charts as one table: lines by epoch, points as they are."""
    panels, title = drawing.panels, drawing.title
    columns = panels[0].columns
    if columns.get("s") != "line":
        fields = [name for name in ("x", "y", "v", "s") if name in columns]
        points = [row for row in panels[0].rows if row.get("kind", "trial") == "trial"]
        body = [[_value(row[name]) for name in fields] for row in points]
        return Table([columns[n] for n in fields], body, title, folded=f"{drawing.short} as a table", tall=True)
    at: dict[tuple[float, str, str], Any] = {(r["x"], p.title, r["s"]): r for p in panels for r in p.rows}
    epochs = sorted({key[0] for key in at})
    drawn = [(panel.title, series) for panel in panels for series in _COLUMNS.values()]
    rows = []
    for epoch in epochs:
        cells = [Cell(f"{epoch:.0f}", epoch)]
        for column in drawn:
            row = at.get((epoch, *column))
            std = "" if row is None or "h" not in row else f" ± {row['h'] - row['y']:.2g}"
            cells.append(Cell("-") if row is None else Cell(f"{row['y']:.4g}{std}", row["y"]))
        rows.append(cells)
    head = ["epoch", *(f"{series} {name.lower()}" for name, series in drawn)]
    return Table(head, rows, title, folded=f"{drawing.short} as a table", tall=True)


def _value(value: Any) -> Cell:
    return Cell(value) if isinstance(value, str) else Cell(f"{value:.4g}", value if np.isfinite(value) else None)
