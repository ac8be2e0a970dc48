"""The style of all figures: colours, axes, titles, and means with a band of one standard deviation to each side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

# Okabe and Ito's colours, which stay distinct for colour-blind readers and in grey print.  Colours with a contrast
# below 3:1 to the white page are darkened; on the dark page, page.css has brighter ones, all of 4.5:1 and more.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#BC6A94", "#7A7A7A", "#8A7A00")
DASHES = ((1, 0), (7, 3), (2, 2), (9, 3, 2, 3))
# The two sets with curves.
SETS = ("training", "validation")
# Values that span more than this factor are drawn on a logarithmic axis.
_WIDE = 30.0
# Approximate smallest distance between two ticks, in pixels.
_TICKS_APART = 40

_INK = "currentColor"
_TEXT = {"labelColor": _INK, "titleColor": _INK, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"}
_LINES = {"gridColor": _INK, "gridOpacity": 0.13, "domainColor": _INK, "tickColor": _INK}
PAGE_CONFIG: dict[str, Any] = {
    "background": None,
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {**_TEXT, **_LINES, "domainOpacity": 0.5, "tickOpacity": 0.5, "aria": False},
    "legend": {**_TEXT, "orient": "top", "symbolOpacity": 1, "labelLimit": 260, "aria": False},
    "mark": {"aria": False},
    "text": {"color": _INK},
    "rule": {"color": _INK},
}


def paper_config() -> dict[str, Any]:
    """Return the page's style for paper: dark on white."""
    config: dict[str, Any] = json.loads(json.dumps(PAGE_CONFIG).replace(_INK, "#222222"))
    return config | {"background": "white", "font": "sans-serif"}


def titled(chart: Any, heading: str, subtitle: str | Sequence[str] = "", **legend: Any) -> Any:
    """Return a chart with its heading in the style of all figures for folders; `legend` is the style of its legends."""
    import altair as alt

    return (
        chart.properties(title=alt.TitleParams(heading, subtitle=subtitle, anchor="start", fontSize=15, offset=12))
        .configure_view(strokeWidth=0)
        .configure_axis(gridColor="#e6e6e6", domainColor="#888", tickColor="#888", titleFontWeight="normal")
        .configure_legend(**legend)
    )


def set_colour() -> Any:
    """Return the colour encoding of the field s: the training and the validation set."""
    import altair as alt

    scale = alt.Scale(domain=list(SETS), range=list(COLOURS[: len(SETS)]))
    return alt.Color("s:N", scale=scale, legend=alt.Legend(symbolOpacity=1))


def epoch_axis(span: int, width: int) -> Any:
    """Return an axis of `width` pixels over `span` epochs, with ticks only at integer epochs."""
    import altair as alt

    # Vega respects the smallest step only if the number of ticks is given too.
    return alt.Axis(tickMinStep=1, tickCount=max(1, min(span, width // _TICKS_APART)), format="d", grid=False)


def is_wide(values: Sequence[float]) -> bool:
    """Return whether values are positive and span so wide a range that a logarithmic axis is better."""
    return bool(len(values)) and min(values) > 0 and max(values) > _WIDE * min(values)


def log_axis(low: float, high: float) -> dict[str, Any]:
    """Return ticks and format of a logarithmic axis: about five round numbers from `low` to `high`.

    The ticks are powers of ten, and also 3 times these if there are few.
    """
    decades = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    if len(decades) <= 4:
        numbers = [float(f"{digit}e{decade:.0f}") for decade in decades for digit in (1, 3)]
    else:
        numbers = [float(f"1e{decade:.0f}") for decade in decades[:: -(-len(decades) // 7)]]
    form = ".3~g" if low >= 1e-3 and high < 1e4 else ".0e"
    return {"format": form, "values": [number for number in numbers if 0.9 * low <= number <= 1.1 * high]}


def mean_and_std(values: Any) -> tuple[float, float | None] | None:
    """Return mean and standard deviation (ddof = 1; None for a single value) of the finite values.

    Returns None if no value is finite.
    """
    values = np.asarray(values, float)
    good = values[np.isfinite(values)]
    if not good.size:
        return None
    with np.errstate(over="ignore", invalid="ignore"):  # sums and squares of diverging losses
        return float(good.mean()), float(good.std(ddof=1)) if good.size > 1 else None


def band_rows(x: Any, values: Any, series: str) -> list[dict[str, Any]]:
    """Return the points of a line as rows for a chart.

    Args:
        x: Positions of the points (n,).
        values: Values of one network (n,) or several (n, R). Values that are not finite, of diverged networks, are left
            out, as are points that cannot be drawn.
        series: The line's name.

    Returns:
        Rows of x, the series s and the mean y; for several networks also l and h, one standard deviation below and
        above.
    """
    values = np.asarray(values, float)
    several = values.ndim == 2 and values.shape[1] > 1
    rows = []
    for at, members in zip(x, values, strict=True):
        mean, std = mean_and_std(np.atleast_1d(members)) or (np.nan, None)
        if np.isfinite(mean + (std or 0.0)):
            row = {"x": float(at), "s": series, "y": mean}
            rows.append(row | ({"l": mean - (std or 0.0), "h": mean + (std or 0.0)} if several else {}))
    return rows
