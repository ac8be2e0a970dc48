"""The figure of a population whose settings vary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xpnet.report.format import SET_NAMES, is_number
from xpnet.report.theme import COLOURS, DASHES, band_rows, epoch_axis, titled
from xpnet.training.history import evenly
from xpnet.training.population import Population
from xpnet.training.result import TrainResult

# Most lines with bands; most lines that are all in the legend; legend entries if there are more lines.
_FEW, _MANY, _NAMED = 6, 12, 8
# A loss above this multiple of the median diverges, and would flatten all other lines.
_TALL = 3
_WIDTH, _HEIGHT = 360, 230
# Patterns of the values of a second setting.
_DASHES = (*DASHES, (1, 3), (12, 3))
Combinations = Sequence[tuple[dict[str, Any], list[int]]]


def population_figure(population: Population, result: TrainResult, title: str) -> Any:
    """Return loss and accuracy by epoch, a line for each combination of settings, and the final accuracies.

    If two settings vary, colours stand for one of them and dashes for the other.

    A line is the mean over the seeds, with a band of one standard deviation (ddof = 1) to each side if there are few
    lines.  If exactly one numeric setting varies, the panel on the right has the final validation accuracy of every
    network against this setting, with the means.
    """
    import altair as alt

    combinations = population.combinations()
    names = list(combinations[0][0])
    panels = [
        _lines(result, combinations, which, figure) for which, figure in (("train", "loss"), ("validation", "accuracy"))
    ]
    if len(names) == 1 and all(is_number(combination[names[0]]) for combination, _ in combinations):
        panels.append(_outcome(result, combinations, names[0]))
    runs = max(len(members) for _, members in combinations)
    words = [f"lines are means of {runs} runs"] if runs > 1 else []
    if runs > 1 and len(combinations) <= _FEW:
        words[0] += ", bands ±1 standard deviation"
    if result.diverged:
        words.append(f"{len(result.diverged)} of {len(population)} networks diverged and are left out from there on")
    chart = alt.hconcat(*panels, spacing=40).resolve_scale(color="shared")
    return titled(chart, title, "; ".join(words), labelFontSize=11, symbolStrokeWidth=3)


def _lines(result: TrainResult, combinations: Combinations, which: str, figure: str) -> Any:
    """Return a panel of one figure by epoch, with a line for each combination of settings."""
    import altair as alt

    history = result.history
    values = history[f"{which}_{figure}"].reshape(len(history), -1)
    labels = [", ".join(map(_text, combination.values())) for combination, _ in combinations]
    two = _two_settings(combinations)
    rows = [
        row | {name: _text(combination[setting]) for name, setting in zip("cd", two, strict=False)}
        for (combination, members), label in zip(combinations, labels, strict=True)
        for row in band_rows(history["epoch"], values[:, [r for r in members if r < values.shape[1]]], label)
    ]
    means = [row["y"] for row in rows]
    tallest = _TALL * float(np.median(means))
    scale, y_title = alt.Scale(zero=False), f"{SET_NAMES[which]} {figure}"
    if figure == "loss" and max(means) > tallest:
        scale = alt.Scale(domain=[min(means), tallest])
        y_title += f", up to {tallest:.2g}"
    x = alt.X("x:Q", title="epoch", axis=epoch_axis(len(history) - 1, _WIDTH))
    y = alt.Y("y:Q", title=y_title, axis=alt.Axis(format="%") if figure == "accuracy" else alt.Axis(), scale=scale)
    base = alt.Chart({"values": rows}).encode(x=x, detail="s:N")
    if two:
        colour, dash = ([*dict.fromkeys(_text(one[name]) for one, _ in combinations)] for name in two)
        base = base.encode(color=_by_value("c", colour, two[0]))
    else:
        base = base.encode(color=_colour(labels, list(combinations[0][0])))
    few, one_epoch = len(labels) <= _FEW, len({row["x"] for row in rows}) == 1
    line = base.mark_line(strokeWidth=1.8 if few else 1.0, point=one_epoch, clip=not one_epoch)
    if two:
        patterns = alt.Scale(domain=dash, range=[list(pattern) for pattern in _DASHES[: len(dash)]])
        legend = alt.Legend(title=two[1], symbolType="stroke", symbolSize=400)
        line = line.encode(strokeDash=alt.StrokeDash("d:N", sort=dash, scale=patterns, legend=legend))
    chart = line.encode(y=y, order="x:Q")
    if few and any("l" in row for row in rows):
        chart = base.mark_area(opacity=0.15, clip=True).encode(y=alt.Y("l:Q"), y2="h:Q") + chart
    return chart.properties(width=_WIDTH, height=_HEIGHT)


def _two_settings(combinations: Combinations) -> list[str]:
    """Return the settings that colours and dashes stand for, if two vary that have few values; else nothing."""
    names = list(combinations[0][0])
    if len(names) != 2:
        return []
    counts = {name: len({_text(combination[name]) for combination, _ in combinations}) for name in names}
    colour, dash = sorted(names, key=lambda name: -counts[name])
    return [colour, dash] if counts[dash] <= len(_DASHES) and counts[colour] <= _MANY else []


def _by_value(field: str, values: list[str], name: str) -> Any:
    """Return the colours of the values of one setting: distinct ones of few values, a ramp of many."""
    import altair as alt

    few = len(values) <= len(COLOURS)
    scale = alt.Scale(domain=values, range=list(COLOURS[: len(values)])) if few else alt.Scale(scheme="viridis")
    legend = alt.Legend(title=name, symbolOpacity=1, symbolType="stroke")
    return alt.Color(f"{field}:N", sort=values, scale=scale, legend=legend)


def _colour(labels: list[str], names: list[str]) -> Any:
    """Return the colours of combinations: neighbouring values get similar colours; the legend names at most some."""
    import altair as alt

    named, title = labels, ", ".join(names)
    if len(labels) > _MANY:
        named, title = _some(labels), f"{title} ({_NAMED} of {len(labels)})"
    legend = alt.Legend(title=title, values=named, symbolOpacity=1, symbolType="stroke")
    return alt.Color("s:N", sort=labels, scale=alt.Scale(scheme="viridis", domain=labels), legend=legend)


def _outcome(result: TrainResult, combinations: Combinations, name: str) -> Any:
    """Return the final validation accuracy of every network against the setting `name`, and their means."""
    import altair as alt

    accuracies = result.validation.accuracies
    points, means = [], []
    for combination, members in combinations:
        value = float(combination[name])
        good = [float(accuracies[r]) for r in members if r < len(accuracies) and np.isfinite(accuracies[r])]
        points += [{"x": value, "accuracy": accuracy} for accuracy in good]
        if good:
            means.append({"x": value, "accuracy": float(np.mean(good))})
    scale, axis = _setting_scale(sorted(float(combination[name]) for combination, _ in combinations))
    x = alt.X("x:Q", title=name, scale=scale, axis=axis)
    y = alt.Y("accuracy:Q", title="final validation accuracy", axis=alt.Axis(format="%"), scale=alt.Scale(zero=False))
    line = alt.Chart({"values": means}).mark_line(color="#888", strokeWidth=1.2).encode(x=x, y=y)
    dots = alt.Chart({"values": points}).mark_circle(color=COLOURS[1], size=42, opacity=0.8).encode(x=x, y=y)
    return (line + dots).properties(width=_WIDTH, height=_HEIGHT)


def _setting_scale(xs: list[float]) -> tuple[Any, Any]:
    """Return scale and axis for sorted values of a setting: logarithmic if they span more than a decade."""
    import altair as alt

    above = [x for x in xs if x > 0]
    if not above or above[-1] <= 10 * above[0]:
        return alt.Scale(zero=False, padding=8), alt.Axis(format=".6~g", tickCount=5, grid=False)
    if xs[0] > 0:
        return alt.Scale(type="log", padding=8, nice=False), alt.Axis(format=".0e", tickCount=5, grid=False)
    # For a list such as 0, 1e-4, 1e-2: linear from 0 to the smallest positive value, logarithmic above.
    axis = alt.Axis(format=".6~g", values=xs if len(xs) <= _MANY else _some(xs), grid=False)
    return alt.Scale(type="symlog", constant=above[0], padding=8), axis


def _some(values: list[Any]) -> list[Any]:
    return [values[at] for at in evenly(len(values), _NAMED).tolist()]


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
