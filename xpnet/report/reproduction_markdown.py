"""A reproduction as Markdown, and tables that its HTML page shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from xpnet.analysis.gradcheck.report import VANISHING
from xpnet.report.format import setting_label
from xpnet.reproduction.compare import Row, compare, plateau
from xpnet.reproduction.experiments import Experiment, load
from xpnet.reproduction.outcome import Outcome

WHAT_THEY_ARE = (
    "Five students of a course on deep learning wrote a report each, here A to E, on an assignment: a classifier of "
    "CIFAR-10's images with k fully connected layers (D: two), built from its equations. They check its gradients, "
    "try batch normalisation and several initial weights, and search for lambda and the learning rate; all of that "
    "is run again here, and their figures stand beside ours."
)


def markdown_page(
    chosen: Sequence[Experiment], outcomes: dict[str, Outcome], about: str, figures: dict[str, list[str]]
) -> str:
    """Return a complete reproduction as Markdown; `figures` are the paths of each experiment's pictures."""
    lines = ["# The five reports, run again", "", WHAT_THEY_ARE, "", about, ""]
    report = ""
    for experiment in chosen:
        outcome = outcomes.get(experiment.name)
        if outcome is None:
            continue
        if experiment.report != report:
            report = experiment.report
            lines += [f"## Report {report}", "", f"{load(report).title}.", ""]
        paragraphs = [
            f"### {experiment.name}: {experiment.what}",
            f"{source_and_time(experiment, outcome)}.",
            markdown(compare(experiment, outcome), experiment.kind),
            *remarks(experiment, outcome),
        ]
        for paragraph in paragraphs:
            lines += [paragraph, ""]
        lines += [*(f"![{experiment.name}]({path})" for path in figures.get(experiment.name, ())), ""]
    return "\n".join(lines)


def source_and_time(experiment: Experiment, outcome: Outcome) -> str:
    """Return a sentence on the experiment's place in the report and on its wall time here."""
    return f"{experiment.source}; {outcome.seconds:.0f} s{', quick: a tenth of the steps' if outcome.quick else ''}"


def remarks(experiment: Experiment, outcome: Outcome) -> list[str]:
    """Return remarks on an experiment, a paragraph each."""
    paragraphs = []
    if (good := plateau(experiment, outcome)) is not None and experiment.draw is not None:
        label = setting_label(experiment.draw["name"])
        values = f"{label} from {good[0]:.2g} to {good[1]:.2g}"
        paragraphs.append(f"As good as the best, within two standard deviations of a run: {values}.")
    paragraphs += [f"The report concludes: {experiment.claim}."] if experiment.claim else []
    return paragraphs + ([experiment.note] if experiment.note else [])


@dataclass(frozen=True)
class Grid:
    """A table of a reproduction as text: its head, its lines, and the legend below it."""

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
    """Return a comparison as tables in the form of the reports, with each report's figure before ours."""
    if kind == "gradcheck":
        return _checks(rows)
    final = [row for row in rows if "@" not in row.figure]
    by_epoch: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if "@" in row.figure:
            by_epoch.setdefault((row.cell, row.figure.partition("@")[0]), []).append(row)
    return [*([_accuracies(final)] if final else []), *map(_epochs, by_epoch.values())]


def _accuracies(rows: Sequence[Row]) -> Grid:
    """Return a table with a line for each cell: for each set, the report's figure, if it has one, and ours."""
    figures = list(dict.fromkeys(row.figure for row in rows))
    reported = {row.figure for row in rows if row.theirs}
    head = [""]
    for figure in figures:
        words = figure.replace("_", " ")
        head += [f"{words}: report", "here"] if figure in reported else [f"{words}: here"]
    body = []
    for cell in dict.fromkeys(row.cell for row in rows):
        own = {row.figure: row for row in rows if row.cell == cell}
        line = [cell]
        for figure in figures:
            row = own.get(figure)
            theirs, ours = row_texts(row, "train")[:2] if row else ("", "")
            mark = " ✗" if row and row.within is False else ""
            line += [theirs + mark, ours] if figure in reported else [ours]
        runs = max(row.ours[2] if row.ours else 0 for row in own.values())
        notes = dict.fromkeys(row.note for row in own.values() if row.note)
        body.append([*line, str(runs), "; ".join(notes)])
    outside = any(row.within is False for row in rows)
    legend = "✗: not where one more of our runs would lie (95 %)." if outside else ""
    return Grid([*head, "runs", ""], body, legend)


def _epochs(rows: Sequence[Row]) -> Grid:
    """Return a table of one figure by epoch, with the report's line above ours."""
    name = rows[0].figure.partition("@")[0].replace("_", " ")
    head = [f"{rows[0].cell}: {name} after epoch", *(row.figure.partition("@")[2] for row in rows)]
    theirs, ours, *_ = zip(*(row_texts(row, "train") for row in rows), strict=True)
    return Grid(head, [["report", *theirs], ["here", *ours]])


def _checks(rows: Sequence[Row]) -> list[Grid]:
    """Return tables with a line for each kind of parameter and a column for each layer: the report's error and ours."""
    tables = []
    for cell in dict.fromkeys(row.cell for row in rows):
        own = [row for row in rows if row.cell == cell]
        kinds: dict[str, dict[int, str]] = {}
        for row in own:
            kind = row.figure.rstrip("0123456789")
            theirs, ours, *_ = row_texts(row, "gradcheck")
            kinds.setdefault(kind, {})[int(row.figure[len(kind) :] or 0)] = f"{theirs or '-'} / {ours}"
        layers = sorted({layer for errors in kinds.values() for layer in errors})
        verdict = next((row.note for row in own if row.note), "")
        head = [f"{cell}: {verdict}", *(f"layer {layer}" if layer else "largest" for layer in layers)]
        tables.append(Grid(head, [[kind, *(of.get(layer, "") for layer in layers)] for kind, of in kinds.items()]))
    legend = "The report's errors / ours, which are the largest relative ones."
    if any(row.instead == "zero" for row in rows):
        legend += " Zero: BN subtracts this bias again, so its gradient is zero, and what is computed is round-off."
    if any(row.instead == VANISHING for row in rows):
        legend += " Vanishing: both sides are below the round-off of the cost."
    return [*tables[:-1], *(replace(last, legend=legend) for last in tables[-1:])]


def row_texts(row: Row, kind: str) -> tuple[str, str, str, str]:
    """Return as text the report's figure, ours, the number of runs, and whether the first lies within our spread."""
    if kind == "gradcheck":
        theirs = f"{row.theirs[0]:.1e}" if row.theirs else ""
        return theirs, f"{row.ours[0]:.1e}" if row.ours else row.instead, "", row.note
    theirs = _pair(*row.theirs) if row.theirs else ""
    ours = _pair(*row.ours[:2]) if row.ours else "diverged"
    within = "" if row.within is None else "yes" if row.within else "**no**"
    return theirs, ours, str(row.ours[2]) if row.ours else "", f"{within} {row.note}".strip()


def _pair(mean: float, std: float | None) -> str:
    return f"{mean:.4f}" if std is None else f"{mean:.4f} ± {std:.4f}"
