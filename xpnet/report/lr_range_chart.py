"""The figure of a learning rate range test."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np

from xpnet.analysis.lr_suggestion import LRRange
from xpnet.report.theme import band_rows, set_colour, titled
from xpnet.training.history import Values

_WIDTH, _HEIGHT = 390, 240
# Most points of a line: more would exceed its pixels.
_MOST = 400
# Losses above this multiple of the first loss are cut off, so that the fall stays visible.
_TALL = 1.25
# Longest line of the subtitle, in characters, that does not widen the figure.
_LETTERS = 120


def range_figure(test: LRRange, title: str) -> Any:
    """Return loss and accuracy against the learning rate on a logarithmic axis, with the suggested rates marked.

    For several networks a line is their mean, and its band one standard deviation (ddof = 1) to each side.
    """
    import altair as alt

    subtitle = []
    if found := test.suggestion:
        subtitle += [f"suggested: \N{GREEK SMALL LETTER ETA} from {found.eta_min:g} to {found.eta_max:g}"]
    if test.no_suggestion is not None:
        subtitle += textwrap.wrap(f"no suggestion: {test.no_suggestion}", _LETTERS)
    subtitle += [] if test.ended is None else [f"ended as {test.ended}"]
    count = len(test.seeds)
    subtitle += [f"mean of {count} networks, bands ±1 standard deviation"] if count > 1 else []
    panels = alt.hconcat(_panel(test, "loss"), _panel(test, "accuracy"), spacing=30).resolve_scale(color="shared")
    return titled(panels, title, subtitle, orient="top", title=None, labelFontSize=12)


def _panel(test: LRRange, figure: str) -> Any:
    """Return the smoothed losses, or the accuracies, against the learning rate."""
    import altair as alt

    title, scale, style = figure, alt.Scale(zero=False), alt.Axis(format="%")
    if figure == "loss":
        rows, title, style = _rows(test.rates, test.smoothed, "training"), "loss, smoothed", alt.Axis()
        means = [row["y"] for row in rows]
        tallest = _TALL * means[0]
        if max(means) > tallest:
            margin = 0.05 * (tallest - min(means))
            scale = alt.Scale(domain=[min(means) - margin, tallest], nice=False)
            title += f", up to {tallest:.2g}"
    else:
        rows = _rows(test.rates, test.accuracies_smoothed, "training")
        rows += _rows(test.validation_rates, test.validation, "validation")
    across = _rate_axis(float(test.rates[0]), float(test.rates[-1]))
    base = alt.Chart({"values": rows}).encode(x=across, color=set_colour())
    y = alt.Y("y:Q", title=title, axis=style, scale=scale)
    layers = [base.mark_line(strokeWidth=2, clip=True).encode(y=y)]
    if len(test.seeds) > 1:
        layers.insert(0, base.mark_area(opacity=0.18, clip=True).encode(y=alt.Y("l:Q", scale=scale), y2="h:Q"))
    if test.suggestion is not None:
        marks = alt.Chart({"values": [{"x": test.suggestion.eta_min}, {"x": test.suggestion.eta_max}]})
        layers.append(marks.mark_rule(color="#333", strokeDash=[5, 4]).encode(x=across))
    return alt.layer(*layers).properties(width=_WIDTH, height=_HEIGHT)


def _rate_axis(first: float, last: float) -> Any:
    """Return the logarithmic axis of learning rates, with ticks at powers of ten if it has several."""
    import altair as alt

    powers = range(int(np.ceil(np.log10(first) - 1e-9)), int(np.floor(np.log10(last) + 1e-9)) + 1)
    ticks: dict[str, Any] = {"format": ".6~g", "tickCount": 5}
    if len(powers) > 1:
        ticks = {"values": [10.0**power for power in powers], "format": ".0e", "grid": False}
    scale = alt.Scale(type="log", domain=[first, last], nice=False)
    return alt.X("x:Q", title="learning rate", scale=scale, axis=alt.Axis(**ticks))


def _rows(rates: Values, values: Values, name: str) -> list[dict[str, Any]]:
    """Return the points of a line: all, or an evenly spaced sample of many, with the last."""
    step = max(1, -(-len(rates) // _MOST))
    at = sorted({*range(0, len(rates), step), len(rates) - 1} if len(rates) else ())
    return band_rows(rates[at], values[at], name)
