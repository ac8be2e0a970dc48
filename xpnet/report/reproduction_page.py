"""The page of a reproduction: the reports' figures beside ours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from xpnet.errors import RunError
from xpnet.report.blocks import again_section, environment_section, repeat_command
from xpnet.report.format import capitalised
from xpnet.report.page import Block, Cell, Facts, Page, Panels, Section, Table, Text, table
from xpnet.report.records import RESULTS
from xpnet.report.reproduction_chart import Drawing, drawings
from xpnet.report.reproduction_markdown import WHAT_THEY_ARE, grids, remarks, source_and_time
from xpnet.report.theme import SETS
from xpnet.reproduction.compare import compare
from xpnet.reproduction.experiments import Experiment, choose, load
from xpnet.reproduction.outcome import OUTCOME_SHAPE, Outcome
from xpnet.runs.folder import ENVIRONMENT
from xpnet.runs.records import read_environment
from xpnet.utils import schema
from xpnet.utils.parsing import read_json

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")


def reproduction_page(folder: Path, made: str) -> Page:
    """Return the page of a reproduction's folder.

    Raises:
        RunError: ``results.json`` is broken, or not from a reproduction.
    """
    path = folder / RESULTS
    outcomes = _outcomes(path)
    environment = read_environment(folder / ENVIRONMENT) if (folder / ENVIRONMENT).is_file() else {}
    experiments = [experiment for experiment in choose(["all"]) if experiment.name in outcomes]
    if not experiments:
        raise RunError(f"{path}: has no experiment that this version of xpnet knows")
    sections = [Section("overview", "Overview", _overview(experiments, outcomes, environment))]
    for report in dict.fromkeys(experiment.report for experiment in experiments):
        own = [experiment for experiment in experiments if experiment.report == report]
        words = f"{load(report).title}. {len(own)} experiments: {', '.join(e.name for e in own)}."
        sections.append(Section(f"report-{report}", f"Report {report}", [Text(words)]))
        for experiment in own:
            name, title = experiment.name.replace(".", "-"), f"{experiment.name}: {experiment.what}"
            sections.append(Section(name, title, _experiment(experiment, outcomes[experiment.name]), level=3))
    command = str(environment.get("command") or "xpnet reproduce all")
    commands = [("The reproduction:", command), ("This page:", repeat_command(folder, "report"))]
    sections += [environment_section(environment), again_section(commands)]
    date = str(environment.get("date") or "")[:10]
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
    experiments: Sequence[Experiment], outcomes: dict[str, Outcome], environment: dict[str, Any]
) -> list[Block]:
    """Return an overview: by experiment, how many of the report's figures lie within the spread of ours."""
    rows, inside, known = [], 0, 0
    for experiment in experiments:
        outcome = outcomes[experiment.name]
        within = [row.within for row in compare(experiment, outcome) if row.within is not None]
        inside, known = inside + sum(within), known + len(within)
        checks = dict.fromkeys(cell.note for cell in outcome.cells) if experiment.kind == "gradcheck" else ()
        verdict = Cell(", ".join(checks) or "-")
        if within:
            verdict = Cell(f"{sum(within)} of {len(within)}", sum(within) / len(within))
        seconds = Cell(f"{outcome.seconds:.0f} s", outcome.seconds)
        rows.append([experiment.name, experiment.what, experiment.source, verdict, seconds])
    total = environment.get("seconds") or sum(outcomes[e.name].seconds for e in experiments)
    networks = sum(len(cell.seeds) for e in experiments if e.kind == "train" for cell in outcomes[e.name].cells)
    facts = Facts(
        [
            ("Experiments", str(len(experiments)), f"of {len({e.report for e in experiments})} reports"),
            ("Networks trained", f"{networks:,}", ""),
            (
                "Reported figures within our spread",
                f"{inside} of {known}",
                "where one more of our runs would lie, 95 %",
            ),
            ("Time", f"{total:,.0f} s", str(environment.get("cpu") or "")),
        ]
    )
    head = ["experiment", "what", "where in the report", "within our spread", "time"]
    caption = "All experiments; within our spread is where one more of our runs would lie, 95 %"
    return [Text(WHAT_THEY_ARE), facts, table(head, rows, caption)]


def _experiment(experiment: Experiment, outcome: Outcome) -> list[Block]:
    blocks: list[Block] = [Text(f"{capitalised(source_and_time(experiment, outcome))}.")]
    for grid in grids(compare(experiment, outcome), experiment.kind):
        rows = [[line[0], *map(_numbered, line[1:])] for line in grid.body]
        blocks.append(table(grid.head, rows, f"{experiment.name}: the report's figures and ours"))
        blocks += [Text(grid.legend)] if grid.legend else []
    blocks += [Text(words) for words in remarks(experiment, outcome)]
    found = drawings(experiment, outcome)
    if found:
        subtitles = "; ".join(dict.fromkeys(drawing.subtitle for drawing in found))
        titled = [
            replace(panel, title=f"{drawing.short}, {panel.title.lower()}")
            for drawing in found
            for panel in drawing.panels
            if panel.rows
        ]
        blocks += [Text(f"{capitalised(subtitles)}."), Panels(titled)]
    return [*blocks, *map(_data, found)]


def _numbered(text: str) -> Cell:
    """Return a cell that is sorted by its first number."""
    found = _NUMBER.match(text)
    return Cell(text, float(found[0]) if found else None)


def _data(drawing: Drawing) -> Table:
    """Return the data of a figure's charts as one table: lines by epoch, or a row for each point."""
    panels, folded = drawing.panels, f"{drawing.short} as a table"
    columns = panels[0].columns
    if columns.get("s") != "line":
        fields = [name for name in ("x", "y", "v", "s") if name in columns]
        points = [row for row in panels[0].rows if row.get("kind", "trial") == "trial"]
        body = [[row[name] if name == "s" else _four_digits(row[name]) for name in fields] for row in points]
        return table([columns[n] for n in fields], body, drawing.title, folded, tall=True)
    at = {(row["x"], panel.title, row["s"]): row for panel in panels for row in panel.rows}
    lines = [(panel.title, series) for panel in panels for series in SETS]
    rows = [
        [int(epoch), *(_four_digits(**at[epoch, *line]) if (epoch, *line) in at else "-" for line in lines)]
        for epoch in sorted({key[0] for key in at})
    ]
    head = ["epoch", *(f"{series} {name.lower()}" for name, series in lines)]
    return table(head, rows, drawing.title, folded, tall=True)


def _four_digits(y: float, h: float | None = None, **_: Any) -> Cell:
    """Return a cell with a value y, and its deviation if `h`, the upper end of its band, is given."""
    return Cell(f"{y:.4g}" + ("" if h is None else f" ± {h - y:.2g}"), y)
