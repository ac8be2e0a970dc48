"""A reproduction as Markdown, and its figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.report.figures import mean_and_band, save_figure
from xpnet.studies.compare import Row, compare, plateau, words_of
from xpnet.studies.draws import matches
from xpnet.studies.model import Experiment
from xpnet.studies.outcome import CellOutcome, Outcome

_COLOURS = {"training": "#0072B2", "validation": "#D55E00"}
_GREEK = {"lambda": "\N{GREEK SMALL LETTER LAMDA}", "eta": "\N{GREEK SMALL LETTER ETA}"}
_SETS = {"train": "training", "validation": "validation"}


def page(chosen: Sequence[Experiment], outcomes: dict[str, Outcome], about: str, figures: dict[str, list[str]]) -> str:
    """Return the whole reproduction as Markdown; `figures` are the paths of each experiment's pictures."""
    lines = ["# The five reports, run again", "", about, ""]
    report = ""
    for experiment in chosen:
        outcome = outcomes.get(experiment.name)
        if outcome is None:
            continue
        if experiment.report != report:
            report = experiment.report
            lines += [f"## Report {report}", ""]
        quick = ", quick: a tenth of the steps" if outcome.quick else ""
        lines += [
            f"### {experiment.name}: {experiment.what}",
            "",
            f"{experiment.source}; {outcome.seconds:.0f} s{quick}.",
            "",
        ]
        lines += [markdown(compare(experiment, outcome), experiment.kind), ""]
        good = plateau(experiment, outcome)
        if good is not None:
            name = _GREEK.get(str(experiment.draw and experiment.draw["name"]), "value")
            low, high = good
            text = f"As good as the best, within two standard deviations of a run: {name} from {low:.2g} to {high:.2g}."
            lines += [text, ""]
        if experiment.claim:
            lines += [f"The report concludes: {experiment.claim}.", ""]
        if experiment.note:
            lines += [experiment.note, ""]
        lines += [f"![{experiment.name}]({path})" for path in figures.get(experiment.name, ())]
        lines += [""]
    return "\n".join(lines)


def markdown(rows: Sequence[Row], kind: str) -> str:
    """Return a comparison as Markdown tables: as the reports have them, their figure before ours."""
    if kind == "gradcheck":
        return _checks(rows)
    tables = []
    by_epoch = [row for row in rows if "@" in row.figure]
    whole = [row for row in rows if "@" not in row.figure]
    tables += [_accuracies(whole)] if whole else []
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in by_epoch:
        groups.setdefault((row.cell, row.figure.partition("@")[0]), []).append(row)
    tables += [_epochs(group) for group in groups.values()]
    return "\n\n".join(tables)


def _table(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _accuracies(rows: Sequence[Row]) -> str:
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
    legend = "\n\n✗: not where one more of our runs would lie (95 %)." if outside else ""
    return _table([*header, "runs", ""], body) + legend


def _epochs(rows: Sequence[Row]) -> str:
    """Return one figure by epoch: the report's above ours."""
    name = rows[0].figure.partition("@")[0].replace("_", " ")
    told = [words_of_row(row, "train") for row in rows]
    header = [f"{rows[0].cell}: {name} after epoch", *(row.figure.partition("@")[2] for row in rows)]
    return _table(header, [["report", *(line[0] for line in told)], ["here", *(line[1] for line in told)]])


def _checks(rows: Sequence[Row]) -> str:
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
        tables.append(_table(header, body))
    return "\n\n".join([*tables, "Largest relative errors, the report's / ours."])


def _errors(row: Row) -> str:
    theirs, ours, _, _ = words_of_row(row, "gradcheck")
    return f"{theirs or '-'} / {ours}"


def words_of_row(row: Row, kind: str) -> list[str]:
    """Return theirs, ours, the number of runs, and whether theirs is within."""
    if kind == "gradcheck":
        theirs = f"{row.theirs[0]:.1e}" if row.theirs else ""
        return [theirs, f"{row.ours[0]:.1e}" if row.ours else "zero, or vanishing", "", row.note]
    theirs = _pair(row.theirs[0], row.theirs[1]) if row.theirs else ""
    ours = _pair(row.ours[0], row.ours[1]) if row.ours else "diverged"
    within = "" if row.within is None else "yes" if row.within else "**no**"
    return [theirs, ours, str(row.ours[2]) if row.ours else "", f"{within} {row.note}".strip()]


def _pair(mean: float, std: float | None) -> str:
    return f"{mean:.4f}" if std is None else f"{mean:.4f} ± {std:.4f}"


def draw_figures(experiment: Experiment, outcome: Outcome, folder: Path) -> list[str]:
    """Write a picture for each figure of the report, and of a search one of accuracy; return their names."""
    made = []
    for entry in experiment.figures:
        cell = next((c for c in outcome.cells if matches(c.values, entry.get("at", {})) and c.history), None)
        if cell is None:
            continue
        words = f": {words_of(cell.values)}" if cell.values else ""
        title = f"Report {experiment.report}, figure {entry['name']}{words}"
        stem = folder / f"{experiment.report}-{experiment.id}-{_safe(entry['name'])}"
        made += [save_figure(_curves(cell, entry["show"], title), stem)[0].name]
    if experiment.draw is not None:
        names = experiment.draw["name"]
        if isinstance(names, str):
            chart = _search(outcome, names, f"{experiment.name}: validation accuracy")
        else:
            chart = _pairs(outcome, names, f"{experiment.name}: validation accuracy")
        made += [save_figure(chart, folder / f"{experiment.report}-{experiment.id}-search")[0].name]
    return made


def _safe(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name).replace("--", "-").strip("-")


def _curves(cell: CellOutcome, show: Sequence[str], title: str) -> Any:
    """Return training and validation by epoch, a panel for each figure; a band where there are several runs."""
    import altair as alt

    panels = []
    epochs = len(next(iter(cell.history.values())))
    for figure in show:
        rows = []
        for which, name in _SETS.items():
            history = cell.history[f"{which}_{figure}"]
            for epoch, values in enumerate(history, start=1):
                band = mean_and_band(np.asarray(values))
                if band is not None:
                    rows.append({"epoch": epoch, "set": name, **band})
        style = alt.Axis(format="%") if figure == "accuracy" else alt.Axis()
        scale = alt.Scale(zero=False)
        base = alt.Chart({"values": rows}).encode(
            x=alt.X("epoch:Q", title="epoch", axis=alt.Axis(format="d", grid=False, tickCount=min(epochs, 6))),
            color=alt.Color("set:N", scale=alt.Scale(domain=list(_COLOURS), range=list(_COLOURS.values()))),
        )
        line = base.mark_line(strokeWidth=1.8, point=len(cell.history[f"train_{figure}"]) == 1)
        band_of = base.mark_area(opacity=0.18).encode(y=alt.Y("low:Q", scale=scale), y2="high:Q")
        chart = line.encode(y=alt.Y("mean:Q", title=figure, axis=style, scale=scale))
        panels.append((band_of + chart if len(cell.seeds) > 1 else chart).properties(width=280, height=190))
    runs = len(cell.seeds)
    subtitle = f"mean of {runs} runs, band ±1 standard deviation" if runs > 1 else "one run"
    return _dressed(alt.hconcat(*panels, spacing=30), title, subtitle)


def _search(outcome: Outcome, name: str, title: str) -> Any:
    """Return validation accuracy against a setting: a point for every run."""
    import altair as alt

    points = [
        {"x": float(cell.values[name]), "y": float(value), "runs": "several" if len(cell.seeds) > 1 else "one"}
        for cell in outcome.cells
        for value in cell.runs("validation_accuracy")
        if np.isfinite(value)
    ]
    xs = [float(cell.values[name]) for cell in outcome.cells]
    wide = min(xs) > 0 and max(xs) > 20 * min(xs)
    scale = alt.Scale(type="log", nice=False, padding=8) if wide else alt.Scale(zero=False, padding=8)
    axis = alt.Axis(format=".0e", tickCount=5, grid=False) if wide else alt.Axis(grid=False, tickCount=8)
    colours = alt.Scale(domain=["one", "several"], range=["#999999", "#D55E00"])
    chart = (
        alt.Chart({"values": points})
        .mark_point(filled=True, opacity=0.75, size=45)
        .encode(
            x=alt.X("x:Q", title=_GREEK.get(name, name), scale=scale, axis=axis),
            y=alt.Y("y:Q", title="validation accuracy", axis=alt.Axis(format=".1%"), scale=alt.Scale(zero=False)),
            color=alt.Color("runs:N", title="seeds", scale=colours),
        )
        .properties(width=480, height=230)
    )
    return _dressed(chart, title, "a point is a run")


def _pairs(outcome: Outcome, names: Sequence[str], title: str) -> Any:
    """Return two searched settings against each other, validation accuracy as colour."""
    import altair as alt

    points = [
        {"x": float(cell.values[names[0]]), "y": float(cell.values[names[1]]), "accuracy": accuracy}
        for cell in outcome.cells
        if np.isfinite(accuracy := cell.mean("validation_accuracy"))
    ]
    scale, axis = alt.Scale(type="log", nice=False, padding=10), alt.Axis(format=".0e", tickCount=4)
    x = alt.X("x:Q", title=_GREEK.get(names[0], names[0]), scale=scale, axis=axis)
    y = alt.Y("y:Q", title=_GREEK.get(names[1], names[1]), scale=scale, axis=axis)
    colour = alt.Color("accuracy:Q", scale=alt.Scale(scheme="viridis"), legend=alt.Legend(format=".1%"))
    chart = (
        alt.Chart({"values": points})
        .mark_point(filled=True, size=130)
        .encode(x=x, y=y, color=colour)
        .properties(width=380, height=260)
    )
    return _dressed(chart, title, "a point is a pair")


def _dressed(chart: Any, title: str, subtitle: str) -> Any:
    import altair as alt

    return (
        chart.properties(title=alt.TitleParams(title, subtitle=subtitle, anchor="start", fontSize=14, offset=10))
        .configure_view(strokeWidth=0)
        .configure_axis(gridColor="#e6e6e6", domainColor="#888", tickColor="#888", titleFontWeight="normal")
        .configure_legend(title=None, labelFontSize=11, symbolOpacity=1)
    )
