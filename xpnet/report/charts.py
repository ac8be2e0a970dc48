"""The kinds of charts that pages are made of; each returns a :class:`~xpnet.report.figure.Panel`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpnet.report.curves_chart import mean_and_band
from xpnet.report.figure import COLOURS, DASHES, ROWS, Panel, Row

SETS = ("training", "validation")
# Values that span more than this factor are drawn on a logarithmic axis.
_WIDE = 30.0
# A curve that rises above so many times its median is cut off there, since it would flatten all others.
_TALL = 4.0
# Numbers from here on are written with an exponent.
_LONG = 1e6
# Pixels of a group of points, and of its name: that of a run has about 150.
_GROUP, _NAME = 44, 220
_SHAPES = ("circle", "square", "triangle-up", "diamond", "cross")


def band_rows(x: Sequence[float], values: Any, series: str) -> list[dict[str, Any]]:
    """Return points of one line: of several networks (epochs, R) their mean and one standard deviation to each side."""
    values = np.asarray(values, float)
    several = values.ndim == 2 and values.shape[1] > 1
    rows = []
    for at, of_epoch in zip(x, values.reshape(len(values), -1), strict=True):
        band = mean_and_band(of_epoch)
        if band is not None:
            row = {"x": float(at), "s": series, "y": band["mean"]}
            rows.append(row | ({"l": band["low"], "h": band["high"]} if several else {}))
    return rows


def lines(
    name: str,
    title: str,
    alt_text: str,
    rows: Sequence[Row],
    *,
    x: str,
    y: str,
    series: Sequence[str],
    legend: str | None = None,
    percent: bool = False,
    cut: bool = True,
    detail: str | None = None,
    colours: Sequence[str] = COLOURS,
    wide: bool = False,
    height: int = 230,
) -> Panel:
    """Return lines with bands of `rows`: x, y, the series s, and low l and high h where there is a spread."""
    import altair as alt

    values = [row["y"] for row in rows]
    top = _TALL * float(np.median(values)) if values and cut and not percent else np.inf
    tall = bool(values) and max(values) > top > 0
    scale = alt.Scale(domain=[min(values), top]) if tall else alt.Scale(zero=False)
    told = f"{y}, up to {top:.2g}" if tall else y
    form = ".1%" if percent else ".4~g"
    hover = alt.selection_point(
        name="hover", nearest=True, on="pointerover", clear="pointerout", fields=["x", "s"], empty=False
    )
    one = len({row["x"] for row in rows}) == 1
    span = max((row["x"] for row in rows), default=1.0) - min((row["x"] for row in rows), default=0.0)
    ticks = max(1, min(8, round(span)))
    base = alt.Chart(ROWS).encode(
        x=alt.X(
            "x:Q",
            title=x,
            axis=alt.Axis(grid=False, tickMinStep=1, tickCount=ticks),
            scale=alt.Scale(zero=False),
        ),
        color=colour(series, legend, colours),
    )
    at = alt.Y("y:Q", title=told, scale=scale, axis=alt.Axis(tickCount=5, **_written(values, percent=percent)))
    line = base.mark_line(strokeWidth=2, clip=True, point={"size": 40, "opacity": 1} if one else False).encode(y=at)
    if len(series) > 1 and detail is None:
        line = line.encode(strokeDash=dash(series, legend))
    tips = [alt.Tooltip("s:N", title="line"), alt.Tooltip("x:Q", title=x), alt.Tooltip("y:Q", title=y, format=form)]
    if detail is not None:  # several lines of one kind
        base, line = base.encode(detail="d:N"), line.encode(detail="d:N")
        tips.insert(0, alt.Tooltip("d:N", title=detail))
    layers = [line]
    if any("l" in row for row in rows):
        tips += [alt.Tooltip("l:Q", title="-1 std", format=form), alt.Tooltip("h:Q", title="+1 std", format=form)]
        band = base.mark_area(opacity=0.16, clip=True).encode(y=alt.Y("l:Q", title=told, scale=scale), y2="h:Q")
        layers.append(band)
    dots = base.mark_point(filled=True, size=60, clip=True).encode(
        y=at, opacity=alt.condition(hover, alt.value(1), alt.value(0)), tooltip=tips
    )
    layers.append(dots.add_params(hover))
    columns = {"x": x, "s": "line", "y": y} | ({"d": detail} if detail is not None else {})
    columns |= {"l": f"{y}, mean - std", "h": f"{y}, mean + std"} if len(layers) == 3 else {}
    return Panel(name, title, alt_text, alt.layer(*layers), rows, columns, height=height, wide=wide)


def dots(
    name: str,
    title: str,
    alt_text: str,
    rows: Sequence[Row],
    *,
    x: str,
    y: str,
    series: Sequence[str],
    legend: str | None = None,
    log_x: bool = False,
    percent: bool = True,
    tips: Mapping[str, str] | None = None,
    wide: bool = False,
) -> Panel:
    """Return points of `rows`: x, y, the series s, low l and high h where there is a spread."""
    import altair as alt

    log_x = log_x and all(row["x"] > 0 for row in rows)
    form = ".2%" if percent else ".4~g"
    base = alt.Chart(ROWS).encode(
        x=number_axis(x, [row["x"] for row in rows], log=log_x), color=colour(series, legend, symbol="shape")
    )
    up = alt.Axis(**_written([row["y"] for row in rows], percent=percent))
    at = alt.Y("y:Q", title=y, axis=up, scale=alt.Scale(zero=False, padding=8))
    shown = [alt.Tooltip("x:Q", title=x, format=".4~g"), alt.Tooltip("y:Q", title=y, format=form)]
    shown += [alt.Tooltip(field, title=words) for field, words in (tips or {}).items()]
    points = base.mark_point(filled=True, size=65, opacity=0.85, clip=True).encode(y=at, tooltip=shown)
    if len(series) > 1:
        shapes = [_SHAPES[i % len(_SHAPES)] for i in range(len(series))]
        scale = alt.Scale(domain=list(series), range=shapes)
        points = points.encode(shape=alt.Shape("s:N", title=legend, scale=scale))
    layers = [points]
    columns = {"x": x, "y": y, "s": legend or "series"} | {f.partition(":")[0]: w for f, w in (tips or {}).items()}
    if any("l" in row for row in rows):
        layers.append(base.mark_rule(opacity=0.6, clip=True, strokeWidth=1.5).encode(y=alt.Y("l:Q", title=y), y2="h:Q"))
        columns |= {"l": f"{y}, mean - std", "h": f"{y}, mean + std"}
    return Panel(name, title, alt_text, alt.layer(*layers), rows, columns, wide=wide)


def by_group(
    name: str, title: str, alt_text: str, rows: Sequence[Row], groups: Sequence[str], *, x: str, y: str
) -> Panel:
    """Return points of `rows` by group: the group s, the share y, and its seed, with the mean of each group.

    Groups stand below one another, where their names have room.
    """
    import altair as alt

    order = alt.Scale(domain=list(groups))
    down = alt.Y("s:N", title=None, sort=None, scale=order, axis=alt.Axis(labelLimit=_NAME, grid=False))
    across = alt.X("y:Q", title=y, axis=alt.Axis(format="%", tickCount=5), scale=alt.Scale(zero=False, padding=10))
    base = alt.Chart(ROWS).encode(y=down)
    tips = [alt.Tooltip("s:N", title=x), alt.Tooltip("y:Q", title=y, format=".2%"), alt.Tooltip("seed:Q", title="seed")]
    means = base.mark_tick(thickness=2, size=_GROUP / 2, color=COLOURS[4]).encode(x=alt.X("mean(y):Q", title=y))
    points = base.mark_point(filled=True, size=65, opacity=0.85, color=COLOURS[0]).encode(x=across, tooltip=tips)
    columns = {"s": x, "seed": "seed", "y": y}
    height = max(2, len(groups)) * _GROUP
    return Panel(name, title, alt_text, alt.layer(means, points), rows, columns, height=height, zoom=False)


def matrix(
    name: str, title: str, alt_text: str, rows: Sequence[Row], classes: Sequence[str], *, wide: bool = False
) -> Panel:
    """Return a confusion matrix of `rows`: true class t, predicted class p, count n, share of the true class v."""
    import altair as alt

    few = len(classes) <= 12
    axis: dict[str, Any] = {"labelLimit": 90} if few else {"labels": False, "ticks": False}
    # Names in a domain stay data; in a sort they would become part of an expression.
    order = alt.Scale(domain=list(classes))
    base = alt.Chart(ROWS).encode(
        x=alt.X("p:N", title="predicted", sort=None, scale=order, axis=alt.Axis(labelAngle=-45, **axis)),
        y=alt.Y("t:N", title="true", sort=None, scale=order, axis=alt.Axis(**axis)),
    )
    cells = base.mark_rect(stroke=None).encode(
        color=alt.Color(
            "v:Q",
            title="share of the true class",
            scale=alt.Scale(scheme="blues", domain=[0, 1]),
            legend=alt.Legend(format="%", gradientLength=160, tickCount=3),
        ),
        tooltip=[
            alt.Tooltip("t:N", title="true"),
            alt.Tooltip("p:N", title="predicted"),
            alt.Tooltip("n:Q", title="samples"),
            alt.Tooltip("v:Q", title="share", format=".1%"),
        ],
    )
    layers = [cells]
    if few:
        ink = alt.condition("datum.v > 0.75", alt.value("white"), alt.value("#1a1a1a"))
        layers.append(base.mark_text(fontSize=10).encode(text=alt.Text("v:Q", format=".0%"), color=ink))
    columns = {"t": "true", "p": "predicted", "n": "samples", "v": "share"}
    return Panel(name, title, alt_text, alt.layer(*layers), rows, columns, height=380, wide=wide, zoom=False)


def weights_matrix(name: str, title: str, alt_text: str, rows: Sequence[Row]) -> Panel:
    """Return first-layer weights of `rows` as a heat map: feature x, unit y, weight v."""
    import altair as alt

    largest = max((abs(row["v"]) for row in rows), default=1.0) or 1.0
    units = len({row["y"] for row in rows})
    chart = (
        alt.Chart(ROWS)
        .mark_rect()
        .encode(
            x=alt.X("x:O", title="feature", axis=alt.Axis(labelAngle=0, labelOverlap=True)),
            y=alt.Y("y:O", title="unit", axis=alt.Axis(labelOverlap=True)),
            color=alt.Color(
                "v:Q", title="weight", scale=alt.Scale(scheme="purpleorange", domain=[-largest, largest], domainMid=0)
            ),
            tooltip=[
                alt.Tooltip("x:O", title="feature"),
                alt.Tooltip("y:O", title="unit"),
                alt.Tooltip("v:Q", title="weight", format=".3~g"),
            ],
        )
    )
    columns = {"x": "feature", "y": "unit", "v": "weight"}
    return Panel(
        name, title, alt_text, chart, rows, columns, height=min(420, max(120, 14 * units)), wide=True, zoom=False
    )


def surface(
    name: str, title: str, alt_text: str, rows: Sequence[Row], *, x: str, y: str, log: tuple[bool, bool], value: str
) -> Panel:
    """Return points of `rows` (x, y, value v) over what lies between them: a field of cells x, y to x2, y2."""
    import altair as alt

    scale = alt.Scale(scheme="viridis", domain=_extent([row["v"] for row in rows]))
    shade = alt.Color("v:Q", title=value, scale=scale, legend=alt.Legend(format=".1%", gradientLength=160, tickCount=4))
    across = number_axis(x, [row["x"] for row in rows], log=log[0])
    up = number_axis(y, [row["y"] for row in rows], log=log[1], cls="Y")
    tips = [
        alt.Tooltip("x:Q", title=x, format=".4~g"),
        alt.Tooltip("y:Q", title=y, format=".4~g"),
        alt.Tooltip("v:Q", title=value, format=".2%"),
    ]
    base = alt.Chart(ROWS)
    points = (
        base.transform_filter("datum.kind == 'trial'")
        .mark_point(filled=True, size=110, stroke="white", strokeWidth=1.5, opacity=1, clip=True)
        .encode(x=across, y=up, color=shade, tooltip=tips)
    )
    field = (
        base.transform_filter("datum.kind == 'between'")
        .mark_rect(clip=True, opacity=0.75)
        .encode(x=across, x2="x2:Q", y=up, y2="y2:Q", color=shade)
    )
    columns = {"kind": "kind", "x": x, "y": y, "v": value}
    layers = [field, points] if any(row["kind"] == "between" for row in rows) else [points]
    return Panel(name, title, alt_text, alt.layer(*layers), rows, columns, height=300)


def colour(series: Sequence[str], legend: str | None, colours: Sequence[str] = COLOURS, symbol: str = "stroke") -> Any:
    """Return the colours of `series`; one of them alone needs no legend."""
    import altair as alt

    scale = alt.Scale(domain=list(series), range=[colours[i % len(colours)] for i in range(len(series))])
    if len(series) == 1:
        return alt.Color("s:N", scale=scale, legend=None)
    # One line of labels, or below one another where they are long.
    columns = 0 if sum(map(len, series)) + 4 * len(series) < 50 else 1 if max(map(len, series)) > 20 else 2
    shape: dict[str, Any] = {"symbolType": "stroke"} if symbol == "stroke" else {}
    return alt.Color("s:N", title=legend, scale=scale, legend=alt.Legend(columns=columns, symbolLimit=60, **shape))


def dash(series: Sequence[str], legend: str | None) -> Any:
    """Return strokes that tell `series` apart without colour; with the title of the colours they share a legend."""
    import altair as alt

    scale = alt.Scale(domain=list(series), range=[list(DASHES[i % len(DASHES)]) for i in range(len(series))])
    return alt.StrokeDash("s:N", title=legend, scale=scale)


def number_axis(title: str, values: Sequence[float], *, log: bool, cls: str = "X") -> Any:
    """Return an axis of numbers for `values`, of powers of ten where it is logarithmic."""
    import altair as alt

    scale = alt.Scale(type="log", nice=False, padding=10) if log else alt.Scale(zero=False, padding=10)
    shown: dict[str, Any] = {"tickCount": 5, **_written(values)}
    if values and all(float(value).is_integer() for value in values):  # seeds, for instance: nothing lies between
        shown = {"format": "d", "tickMinStep": 1, "tickCount": max(1, min(5, round(max(values) - min(values))))}
    if log:
        low, high = min(values), max(values)
        plain = low >= 1e-3 and high < 1e4
        shown = {"format": ".3~g" if plain else ".0e", "values": log_ticks(low, high)}
    axis = alt.Axis(grid=cls == "Y", labelOverlap=True, **shown)
    return getattr(alt, cls)(f"{cls.lower()}:Q", title=title, scale=scale, axis=axis)


def _written(values: Sequence[float], *, percent: bool = False) -> dict[str, Any]:
    """Return the format of an axis; of ordinary numbers none, which has the digits that ticks differ in.

    The format "~g" would make 1e+1 of 10 among the ticks 1, 2, ..., 10.
    """
    if percent:
        return {"format": "%"}
    return {"format": "~g"} if max(map(abs, values), default=0.0) >= _LONG else {}


def is_wide(values: Sequence[float]) -> bool:
    """Return whether values are positive and span so much that a logarithmic axis shows them better."""
    return min(values) > 0 and max(values) > _WIDE * min(values)


def log_ticks(low: float, high: float) -> list[float]:
    """Return about five round numbers from `low` to `high`: powers of ten, and 3 times those where they are few."""
    decades = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    if len(decades) <= 4:
        numbers = [float(f"{digit}e{decade:.0f}") for decade in decades for digit in (1, 3)]
    else:
        numbers = [float(f"1e{decade:.0f}") for decade in decades[:: -(-len(decades) // 7)]]
    return [number for number in numbers if 0.9 * low <= number <= 1.1 * high]


def _extent(values: Sequence[float]) -> list[float]:
    return [min(values), max(values)] if min(values) < max(values) else [min(values) - 0.01, max(values) + 0.01]
