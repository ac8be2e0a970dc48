"""The figure of a learning rate range test."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np

from xpnet.analysis.lr_suggestion import LRRange
from xpnet.report.curves_chart import mean_and_band
from xpnet.training.history import Values

_COLOURS = {"training": "#0072B2", "validation": "#D55E00"}
_WIDTH, _HEIGHT = 390, 240
# A line needs no more points than it has pixels.
_MOST = 400
# Losses above this many times that of the start are cut off, so that the fall stays visible.
_TALL = 1.25
# Letters of a line of the subtitle that do not widen the figure.
_LETTERS = 120


def range_figure(test: LRRange, title: str) -> Any:
    """Return loss and accuracy against the learning rate on a logarithmic axis, with the suggested rates marked.

    For several networks a line is their mean, and its band one standard deviation (ddof = 1) to each side.
    """
    import altair as alt

    panels = [_panel(test, "loss"), _panel(test, "accuracy")]
    found = test.suggestion
    told = (
        [] if found is None else [f"suggested: \N{GREEK SMALL LETTER ETA} from {found.eta_min:g} to {found.eta_max:g}"]
    )
    if test.no_suggestion is not None:
        told += textwrap.wrap(f"no suggestion: {test.no_suggestion}", _LETTERS)
    told += [] if test.ended is None else [f"ended as {test.ended}"]
    count = len(test.seeds)
    told += [f"mean of {count} networks, bands ±1 standard deviation"] if count > 1 else []
    return (
        alt.hconcat(*panels, spacing=30)
        .resolve_scale(color="shared")
        .properties(title=alt.TitleParams(title, subtitle=told, anchor="start", fontSize=15, offset=12))
        .configure_view(strokeWidth=0)
        .configure_axis(gridColor="#e6e6e6", domainColor="#888", tickColor="#888", titleFontWeight="normal")
        .configure_legend(orient="top", title=None, labelFontSize=12)
    )


def _panel(test: LRRange, figure: str) -> Any:
    import altair as alt

    values = test.smoothed if figure == "loss" else test.accuracies_smoothed
    rows = _rows(test.rates, values, "training")
    if figure == "accuracy":
        rows += _rows(test.validation_rates, test.validation, "validation")
    scale, cut, style = alt.Scale(zero=False), "", alt.Axis(format="%")
    if figure == "loss":
        means = [row["mean"] for row in rows]
        tallest = _TALL * means[0]
        style = alt.Axis()
        if max(means) > tallest:
            margin = 0.05 * (tallest - min(means))
            scale, cut = alt.Scale(domain=[min(means) - margin, tallest], nice=False), f", up to {tallest:.2g}"
    first, last = float(test.rates[0]), float(test.rates[-1])
    decades = [10.0**k for k in range(int(np.ceil(np.log10(first) - 1e-9)), int(np.floor(np.log10(last) + 1e-9)) + 1)]
    x = alt.X(
        "eta:Q",
        title="learning rate",
        scale=alt.Scale(type="log", domain=[first, last], nice=False),
        axis=alt.Axis(values=decades, format=".0e", grid=False)
        if len(decades) > 1
        else alt.Axis(format=".6~g", tickCount=5),
    )
    colour = alt.Color(
        "set:N",
        scale=alt.Scale(domain=list(_COLOURS), range=list(_COLOURS.values())),
        legend=alt.Legend(symbolOpacity=1),
    )
    base = alt.Chart({"values": rows}).encode(x=x, color=colour)
    title = f"{figure}, smoothed{cut}" if figure == "loss" else figure
    line = base.mark_line(strokeWidth=2, clip=True).encode(y=alt.Y("mean:Q", title=title, axis=style, scale=scale))
    layers = [line]
    if len(test.seeds) > 1:
        layers.insert(0, base.mark_area(opacity=0.18, clip=True).encode(y=alt.Y("low:Q", scale=scale), y2="high:Q"))
    if test.suggestion is not None:
        marks = [{"eta": test.suggestion.eta_min}, {"eta": test.suggestion.eta_max}]
        layers.append(alt.Chart({"values": marks}).mark_rule(color="#333", strokeDash=[5, 4]).encode(x=x))
    return alt.layer(*layers).properties(width=_WIDTH, height=_HEIGHT)


def _rows(rates: Values, values: Values, name: str) -> list[dict[str, Any]]:
    """Return points of a line, with a band where there are several networks."""
    step = -(-len(rates) // _MOST)
    at = sorted({*range(0, len(rates), step), len(rates) - 1}) if len(rates) else []
    rows = []
    for t in at:
        band = mean_and_band(values[t])
        if band is not None:
            rows.append(
                {"eta": float(rates[t]), "set": name, **(band if values.shape[1] > 1 else {"mean": band["mean"]})}
            )
    return rows
