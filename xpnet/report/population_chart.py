"""The figure of a population whose settings vary."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.report.curves_chart import epoch_axis, mean_and_band
from xpnet.training.population import Population
from xpnet.training.result import TrainResult

# Up to so many lines have bands; up to so many are all named in the legend, and of more these.
_FEW, _MANY, _NAMED = 6, 12, 8
# A loss that is so many times the median is on its way to infinity, and would flatten all others.
_TALL = 3
_WIDTH, _HEIGHT = 360, 230
_NAMES = {"lambda": "\N{GREEK SMALL LETTER LAMDA}"}


def population_figure(population: Population, result: TrainResult, title: str) -> Any:
    """Return loss and accuracy by epoch, a line for each combination of settings, and what it came to.

    A line is the mean over the seeds, with a band of one standard deviation (ddof = 1) to each side where
    there are few lines.  The panel on the right has the final validation accuracy of every network against
    the setting that varies, with the mean, where one list of numbers varies.
    """
    import altair as alt

    combinations = population.combinations()
    names = list(combinations[0][0])
    labels = [", ".join(_text(value) for value in combination.values()) for combination, _ in combinations]
    panels = [
        _lines(result, combinations, labels, names, "train", "loss"),
        _lines(result, combinations, labels, names, "validation", "accuracy"),
    ]
    numbers = [combination[names[0]] for combination, _ in combinations]
    if len(names) == 1 and all(isinstance(value, (int, float)) for value in numbers):
        panels.append(_outcome(result, combinations, names[0]))
    runs = max(len(members) for _, members in combinations)
    subtitle = f"lines are means of {runs} runs" if runs > 1 else ""
    if runs > 1 and len(combinations) <= _FEW:
        subtitle += ", bands ±1 standard deviation"
    if result.diverged:
        gone = f"{len(result.diverged)} of {len(population)} networks diverged and are left out from there on"
        subtitle = f"{subtitle}; {gone}" if subtitle else gone
    return (
        alt.hconcat(*panels, spacing=40)
        .resolve_scale(color="shared")
        .properties(title=alt.TitleParams(title, subtitle=subtitle, anchor="start", fontSize=15, offset=12))
        .configure_view(strokeWidth=0)
        .configure_axis(gridColor="#e6e6e6", domainColor="#888", tickColor="#888", titleFontWeight="normal")
        .configure_legend(labelFontSize=11, symbolStrokeWidth=3)
    )


def _lines(result: TrainResult, combinations: Any, labels: list[str], names: list[str], which: str, figure: str) -> Any:
    import altair as alt

    history = result.history
    values = history[f"{which}_{figure}"].reshape(len(history), -1)
    rows: list[dict[str, Any]] = []
    for order, ((_, members), label) in enumerate(zip(combinations, labels, strict=True)):
        own = values[:, [r for r in members if r < values.shape[1]]]
        for epoch, of_epoch in zip(history["epoch"], own, strict=True):
            band = mean_and_band(of_epoch)
            if band is not None:
                rows.append({"epoch": int(epoch), "setting": label, "order": order, **band})
    head = ", ".join(_NAMES.get(name, name) for name in names)
    # Neighbouring values get neighbouring colours; of dozens of lines some suffice as a legend.
    if len(labels) > _MANY:
        head += f" ({_NAMED} of {len(labels)})"
    colour = alt.Color(
        "setting:N",
        sort=labels,
        scale=alt.Scale(scheme="viridis", domain=labels),
        legend=alt.Legend(
            title=head,
            values=labels if len(labels) <= _MANY else [labels[i] for i in _spread(len(labels))],
            symbolOpacity=1,
            symbolType="stroke",
        ),
    )
    words = {"train": "training", "validation": "validation"}[which]
    style = alt.Axis(format="%") if figure == "accuracy" else alt.Axis()
    few = len(labels) <= _FEW
    values_drawn = [row["mean"] for row in rows]
    tallest = _TALL * float(np.median(values_drawn))
    scale, cut = alt.Scale(zero=False), ""
    if figure == "loss" and max(values_drawn) > tallest:
        scale, cut = alt.Scale(domain=[min(values_drawn), tallest]), f", up to {tallest:.2g}"
    x = alt.X("epoch:Q", title="epoch", axis=epoch_axis(len(history) - 1, _WIDTH))
    y = alt.Y("mean:Q", title=f"{words} {figure}{cut}", axis=style, scale=scale)
    base = alt.Chart({"values": rows}).encode(x=x, color=colour)
    one_epoch = len({row["epoch"] for row in rows}) == 1
    line = base.mark_line(strokeWidth=1.8 if few else 1.0, point=one_epoch, clip=not one_epoch)
    chart = line.encode(y=y, order="epoch:Q")
    if few and any(len(members) > 1 for _, members in combinations):
        chart = base.mark_area(opacity=0.15, clip=True).encode(y=alt.Y("low:Q"), y2="high:Q") + chart
    return chart.properties(width=_WIDTH, height=_HEIGHT)


def _outcome(result: TrainResult, combinations: Any, name: str) -> Any:
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
    xs = [float(combination[name]) for combination, _ in combinations]
    above = [x for x in xs if x > 0]
    wide = bool(above) and max(above) > 10 * min(above)
    scale, axis = alt.Scale(zero=False, padding=8), alt.Axis(format=".6~g", tickCount=5, grid=False)
    if wide and min(xs) > 0:
        scale, axis = alt.Scale(type="log", padding=8, nice=False), alt.Axis(format=".0e", tickCount=5, grid=False)
    elif wide:  # a list such as 0, 1e-4, 1e-2: linear from 0 to the least, logarithmic from there on
        ticks = sorted(xs) if len(xs) <= _MANY else [sorted(xs)[i] for i in _spread(len(xs))]
        scale = alt.Scale(type="symlog", constant=min(above), padding=8)
        axis = alt.Axis(format=".6~g", values=ticks, grid=False)
    x = alt.X("x:Q", title=_NAMES.get(name, name), scale=scale, axis=axis)
    y = alt.Y("accuracy:Q", title="final validation accuracy", axis=alt.Axis(format="%"), scale=alt.Scale(zero=False))
    line = alt.Chart({"values": means}).mark_line(color="#888", strokeWidth=1.2).encode(x=x, y=y)
    dots = alt.Chart({"values": points}).mark_circle(color="#D55E00", size=42, opacity=0.8).encode(x=x, y=y)
    return (line + dots).properties(width=_WIDTH, height=_HEIGHT)


def _spread(count: int) -> list[int]:
    return sorted({round(i * (count - 1) / (_NAMED - 1)) for i in range(_NAMED)})


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
