"""A reproduction as Markdown, and its figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xpnet.analysis.gradcheck.report import VANISHING
from xpnet.reproduction.compare import Row, compare, plateau
from xpnet.reproduction.model import Experiment, load
from xpnet.reproduction.outcome import Outcome

WHAT_THEY_ARE = (
    "Five students of a course on deep learning wrote a report each, here A to E, on an assignment: a classifier of "
    "CIFAR-10's images with k fully connected layers (D: two), built from its equations. They check its gradients, "
    "try batch normalisation and several initial weights, and search for lambda and the learning rate; all of that "
    "is run again here, and their figures stand beside ours."
)
_GREEK = {"lambda": "\N{GREEK SMALL LETTER LAMDA}", "eta": "\N{GREEK SMALL LETTER ETA}"}


def page(chosen: Sequence[Experiment], outcomes: dict[str, Outcome], about: str, figures: dict[str, list[str]]) -> str:
    """Return the whole reproduction as Markdown; `figures` are the paths of each experiment's pictures."""
    lines = ["# The five reports, run again", "", WHAT_THEY_ARE, "", about, ""]
    report = ""
    for experiment in chosen:
        outcome = outcomes.get(experiment.name)
        if outcome is None:
            continue
        if experiment.report != report:
            report = experiment.report
            lines += [f"## Report {report}", "", f"{load(report).title}.", ""]
        quick = ", quick: a tenth of the steps" if outcome.quick else ""
        lines += [
            f"### {experiment.name}: {experiment.what}",
            "",
            f"{experiment.source}; {outcome.seconds:.0f} s{quick}.",
            "",
        ]
        lines += [markdown(compare(experiment, outcome), experiment.kind), ""]
        for words in sayings(experiment, outcome):
            lines += [words, ""]
        lines += [f"![{experiment.name}]({path})" for path in figures.get(experiment.name, ())]
        lines += [""]
    return "\n".join(lines)


def sayings(experiment: Experiment, outcome: Outcome) -> list[str]:
    """Return what there is to say of an experiment beside its figures, a paragraph each."""
    said = []
    good = plateau(experiment, outcome)
    if good is not None:
        name = _GREEK.get(str(experiment.draw and experiment.draw["name"]), "value")
        low, high = good
        said.append(
            f"As good as the best, within two standard deviations of a run: {name} from {low:.2g} to {high:.2g}."
        )
    said += [f"The report concludes: {experiment.claim}."] if experiment.claim else []
    return said + ([experiment.note] if experiment.note else [])


@dataclass(frozen=True)
class Grid:
    """A table of a reproduction, in words: its head, its lines, and what stands below it."""

    head: Sequence[str]
    body: Sequence[Sequence[str]]
    legend: str = ""


def markdown(rows: Sequence[Row], kind: str) -> str:
    """Return a comparison as Markdown tables."""
    parts = []
    for grid in grids(rows, kind):
        lines = [grid.head, ["---"] * len(grid.head), *grid.body]
        parts.append("\n".join("| " + " | ".join(line) + " |" for line in lines))
        parts += [grid.legend] if grid.legend else []
    return "\n\n".join(parts)


def grids(rows: Sequence[Row], kind: str) -> list[Grid]:
    """Return a comparison as tables: as the reports have them, their figure before ours."""
    if kind == "gradcheck":
        return _checks(rows)
    by_epoch = [row for row in rows if "@" in row.figure]
    whole = [row for row in rows if "@" not in row.figure]
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in by_epoch:
        groups.setdefault((row.cell, row.figure.partition("@")[0]), []).append(row)
    return [*([_accuracies(whole)] if whole else []), *(_epochs(group) for group in groups.values())]


def _accuracies(rows: Sequence[Row]) -> Grid:
    """Return a line for each cell: the report's figure, if there is one, and ours, of each set."""
    figures = list(dict.fromkeys(row.figure for row in rows))
    theirs = {figure for figure in figures if any(row.theirs for row in rows if row.figure == figure)}
    header = [""]
    for figure in figures:
        words = figure.replace("_", " ")
        header += [f"{words}: report", "here"] if figure in theirs else [f"{words}: here"]
    body, outside = [], False
    for cell in dict.fromkeys(row.cell for row in rows):
        own = {row.figure: row for row in rows if row.cell == cell}
        line, runs, notes = [cell], 0, []
        for figure in figures:
            row = own.get(figure)
            known, ours, count, _ = words_of_row(row, "train") if row else ("", "", "", "")
            mark = " ✗" if row is not None and row.within is False else ""
            outside = outside or bool(mark)
            line += [known + mark, ours] if figure in theirs else [ours]
            runs = max(runs, int(count or 0))
            notes += [row.note] if row is not None and row.note else []
        body.append([*line, str(runs), "; ".join(dict.fromkeys(notes))])
    legend = "✗: not where one more of our runs would lie (95 %)." if outside else ""
    return Grid([*header, "runs", ""], body, legend)


def _epochs(rows: Sequence[Row]) -> Grid:
    """Return one figure by epoch: the report's above ours."""
    name = rows[0].figure.partition("@")[0].replace("_", " ")
    told = [words_of_row(row, "train") for row in rows]
    header = [f"{rows[0].cell}: {name} after epoch", *(row.figure.partition("@")[2] for row in rows)]
    return Grid(header, [["report", *(line[0] for line in told)], ["here", *(line[1] for line in told)]])


def _checks(rows: Sequence[Row]) -> list[Grid]:
    """Return a line for each kind of parameter, a column for each layer: the report's error, and ours."""
    tables = []
    for cell in dict.fromkeys(row.cell for row in rows):
        own = [row for row in rows if row.cell == cell]
        found: dict[str, dict[int, Row]] = {}
        for row in own:
            name = row.figure.rstrip("0123456789")
            found.setdefault(name, {})[int(row.figure[len(name) :] or 0)] = row
        layers = sorted({layer for of_kind in found.values() for layer in of_kind})
        body = []
        for name, of_kind in found.items():
            cells = ["" if layer not in of_kind else _errors(of_kind[layer]) for layer in layers]
            body.append([name, *cells])
        verdict = next((row.note for row in own if row.note), "")
        header = [f"{cell}: {verdict}", *(f"layer {layer}" if layer else "largest" for layer in layers)]
        tables.append(Grid(header, body))
    legend = "The report's errors / ours, which are the largest relative ones."
    if any(row.instead == "zero" for row in rows):
        legend += " Zero: BN subtracts this bias again, so its gradient is zero, and what is computed is round-off."
    if any(row.instead == VANISHING for row in rows):
        legend += " Vanishing: both sides are below the round-off of the cost."
    tables[-1:] = [Grid(t.head, t.body, legend) for t in tables[-1:]]
    return tables


def _errors(row: Row) -> str:
    theirs, ours, _, _ = words_of_row(row, "gradcheck")
    return f"{theirs or '-'} / {ours}"


def words_of_row(row: Row, kind: str) -> list[str]:
    """Return theirs, ours, the number of runs, and whether theirs is within."""
    if kind == "gradcheck":
        theirs = f"{row.theirs[0]:.1e}" if row.theirs else ""
        return [theirs, f"{row.ours[0]:.1e}" if row.ours else row.instead, "", row.note]
    theirs = _pair(row.theirs[0], row.theirs[1]) if row.theirs else ""
    ours = _pair(row.ours[0], row.ours[1]) if row.ours else "diverged"
    within = "" if row.within is None else "yes" if row.within else "**no**"
    return [theirs, ours, str(row.ours[2]) if row.ours else "", f"{within} {row.note}".strip()]


def _pair(mean: float, std: float | None) -> str:
    return f"{mean:.4f}" if std is None else f"{mean:.4f} ± {std:.4f}"


def draw_figures(experiment: Experiment, outcome: Outcome, folder: Path) -> list[str]:
    """Write PNG, SVG and CSV of each figure of the report, and of a search of accuracy; return the PNGs' names."""
    from xpnet.report.reproduction_chart import drawings, write_drawing

    return [write_drawing(drawing, folder) for drawing in drawings(experiment, outcome)]
