"""The kinds of charts that pages are made of; each returns a :class:`~xpnet.report.figure.Panel`.

The first arguments of all functions are the panel's name, title, description and data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np

from xpnet.report.figure import ROWS, Panel, Row
from xpnet.report.format import capitalised, metric
from xpnet.report.theme import COLOURS, DASHES, band_rows, log_axis

# Curves are cut off above this multiple of their median, since they would flatten all others.
_TALL = 4.0
# Numbers from here on are written with an exponent.
_LONG = 1e6
# Pixels for a group of points, and for its name; the name of a run takes about 150.
_GROUP, _NAME = 44, 220
# With more classes, a matrix shows neither their names nor numbers in its cells.
FEW_CLASSES = 12
_SHAPES = ("circle", "square", "triangle-up", "diamond", "cross")


def metric_curves(
    name: str,
    title: str,
    words: str,
    metric_name: str,
    curves: Iterable[tuple[str, Any, Any]],
    *,
    y: str | None = None,
    height: int = 230,
) -> Panel:
    """Return a chart of a loss, cost or accuracy by epoch.

    Args:
        name: The panel's name.
        title: The panel's title.
        words: The panel's description; the last and the best value of each line are added.
        metric_name: ``"loss"``, ``"cost"`` or ``"accuracy"``.
        curves: Each line's name, epochs (n,), and values (n,), or (n, R) for several networks.
        y: Title of the axis; None takes the metric's name.
        height: In pixels.
    """
    rows, series, endings = [], [], []
    best_of = max if metric_name == "accuracy" else min
    for line, epochs, values in curves:
        points = band_rows(epochs, values, line)
        rows += points
        series.append(line)
        if points:
            best = best_of(points, key=lambda row: float(row["y"]))
            end, best_value = (metric(metric_name, row["y"]) for row in (points[-1], best))
            endings.append(f"{line} ends at {end}, best {best_value} in epoch {best['x']:.0f}")
    words = f"{capitalised(words)}: {'; '.join(endings) or 'nothing finite'}."
    percent = metric_name == "accuracy"
    return lines(name, title, words, rows, x="epoch", y=y or metric_name, series=series, percent=percent, height=height)


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
    log: bool = False,
    detail: str | None = None,
    colours: Sequence[str] = COLOURS,
    dashes: Sequence[Sequence[int]] = (),
    wide: bool = False,
    height: int = 230,
    marked: bool = False,
    bold: str | None = None,
    note: str = "",
) -> Panel:
    """Return a chart of lines with bands; `rows` have x, y, the series s, and low l and high h if there is a spread.

    If a series has several lines, `detail` is the title of the field d, which names each of them.  Series are dashed by
    default if each is a single line; `dashes` are other patterns.  `marked` marks the points of lines, so that
    one without neighbours is seen; lines of the series `bold` are thick and all others thin; `note` is text below the
    chart.
    """
    values, xs = [row["y"] for row in rows], [row["x"] for row in rows] or [0.0]
    top = _TALL * float(np.median(values)) if values and cut and not percent else np.inf
    tall = bool(values) and max(values) > top > 0
    scale = alt.Scale(domain=[min(values), top]) if tall else alt.Scale(zero=False)
    ticks = log_axis(min(values), max(values)) if log else {"tickCount": 5, **_number_format(values, percent=percent)}
    scale = alt.Scale(type="log", nice=False, padding=6) if log else scale
    y_title = f"{y}, up to {top:.2g}" if tall else y
    title = f"{title}, cut off above {top:.2g}" if tall else title
    x_axis = alt.Axis(grid=False, tickMinStep=1, tickCount=max(1, min(8, round(max(xs) - min(xs)))))
    base = alt.Chart(ROWS).encode(
        x=alt.X("x:Q", title=x, axis=x_axis, scale=alt.Scale(zero=False)),
        color=_colour(series, legend, colours, symbolType="stroke"),
    )
    up = alt.Y("y:Q", title=y_title, scale=scale, axis=alt.Axis(**ticks))
    points: Any = {"size": 40, "opacity": 1} if marked or len(set(xs)) == 1 else False
    line = base.mark_line(strokeWidth=2, clip=True, point=points).encode(y=up)
    columns, tips = {"x": x, "s": "line", "y": y}, {"s:N": "line", "x:Q": x, "y:Q": y}
    if detail is not None:
        base, line = base.encode(detail="d:N"), line.encode(detail="d:N")
        columns, tips = columns | {"d": detail}, {"d:N": detail} | tips
    if len(series) > 1 and (dashes or detail is None):
        line = line.encode(strokeDash=_dash(series, legend, dashes or DASHES))
    if bold is not None:
        line = line.encode(size=alt.condition(f"datum.s == '{bold}'", alt.value(3.5), alt.value(1.2)))
    layers = [line]
    if any("l" in row for row in rows):
        tips |= {"l:Q": "-1 std", "h:Q": "+1 std"}
        columns |= {"l": f"{y}, mean - std", "h": f"{y}, mean + std"}
        band = base.mark_area(opacity=0.16, clip=True)
        layers.append(band.encode(y=alt.Y("l:Q", title=y_title, scale=scale), y2="h:Q"))
    layers.append(_under_pointer(base, up, tooltips(tips, **dict.fromkeys("ylh", ".1%" if percent else ".4~g"))))
    return Panel(name, title, alt_text, alt.layer(*layers), rows, columns, height=height, wide=wide, note=note)


def _under_pointer(base: Any, y: Any, tooltip: list[Any]) -> Any:
    """Return a layer of points that shows only the point nearest to the pointer."""
    hover = alt.selection_point(
        name="hover", nearest=True, on="pointerover", clear="pointerout", fields=["x", "s"], empty=False
    )
    points = base.mark_point(filled=True, size=60, clip=True)
    opacity = alt.condition(hover, alt.value(1), alt.value(0))
    return points.encode(y=y, opacity=opacity, tooltip=tooltip).add_params(hover)


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
    tips: Mapping[str, str] | None = None,
) -> Panel:
    """Return a chart of shares as points; `rows` have x, y, the series s, and low l and high h if there is a spread.

    `tips` are further fields, with their types as in ``"seed:Q"``, and their titles.
    """
    log_x = log_x and all(row["x"] > 0 for row in rows)
    across = number_axis("x", x, [row["x"] for row in rows], log=log_x)
    base = alt.Chart(ROWS).encode(x=across, color=_colour(series, legend))
    scale = alt.Scale(zero=False, padding=8)
    up = alt.Y("y:Q", title=y, scale=scale, axis=alt.Axis(format="%"))
    shown = tooltips({"x:Q": x, "y:Q": y, **(tips or {})}, x=".4~g", y=".2%")
    points = base.mark_point(filled=True, size=65, opacity=0.85, clip=True).encode(y=up, tooltip=shown)
    if len(series) > 1:
        shapes = alt.Scale(domain=list(series), range=_repeated(_SHAPES, series))
        points = points.encode(shape=alt.Shape("s:N", title=legend, scale=shapes))
    layers = [points]
    columns = {"x": x, "y": y, "s": legend or "series"} | untyped(tips or {})
    if any("l" in row for row in rows):
        rule = base.mark_rule(opacity=0.6, clip=True, strokeWidth=1.5)
        layers.append(rule.encode(y=alt.Y("l:Q", title=y), y2="h:Q"))
        columns |= {"l": f"{y}, mean - std", "h": f"{y}, mean + std"}
    return Panel(name, title, alt_text, alt.layer(*layers), rows, columns)


def by_group(
    name: str, title: str, alt_text: str, rows: Sequence[Row], groups: Sequence[str], *, x: str, y: str
) -> Panel:
    """Return a chart of points by group, with their means; `rows` have the group s, the share y, and the seed.

    Groups are placed below one another, which leaves room for their names.
    """
    order = alt.Scale(domain=list(groups))
    down = alt.Y("s:N", title=None, sort=None, scale=order, axis=alt.Axis(labelLimit=_NAME, grid=False))
    across = alt.X("y:Q", title=y, axis=alt.Axis(format="%", tickCount=5), scale=alt.Scale(zero=False, padding=10))
    base = alt.Chart(ROWS).encode(y=down)
    tips = tooltips({"s:N": x, "y:Q": y, "seed:Q": "seed"}, y=".2%")
    means = base.mark_tick(thickness=2, size=_GROUP / 2, color=COLOURS[4]).encode(x=alt.X("mean(y):Q", title=y))
    points = base.mark_point(filled=True, size=65, opacity=0.85, color=COLOURS[0]).encode(x=across, tooltip=tips)
    columns = {"s": x, "seed": "seed", "y": y}
    height = max(2, len(groups)) * _GROUP
    return Panel(name, title, alt_text, alt.layer(means, points), rows, columns, height=height, zoom=False)


def matrix(name: str, title: str, alt_text: str, rows: Sequence[Row], classes: Sequence[str]) -> Panel:
    """Return a confusion matrix of `rows`: true class t, predicted class p, count n, share of the true class v."""
    few = len(classes) <= FEW_CLASSES
    axis: dict[str, Any] = {"labelLimit": 90} if few else {"labels": False, "ticks": False}
    # In a domain, names stay data; in a sort, they would become part of an expression.
    order = alt.Scale(domain=list(classes))
    base = alt.Chart(ROWS).encode(
        x=alt.X("p:N", title="predicted", sort=None, scale=order, axis=alt.Axis(labelAngle=-45, **axis)),
        y=alt.Y("t:N", title="true", sort=None, scale=order, axis=alt.Axis(**axis)),
    )
    scale, legend = alt.Scale(scheme="blues", domain=[0, 1]), alt.Legend(format="%", gradientLength=160, tickCount=3)
    fields = {"t:N": "true", "p:N": "predicted", "n:Q": "samples", "v:Q": "share"}
    cells = base.mark_rect(stroke=None).encode(
        color=alt.Color("v:Q", title="share of the true class", scale=scale, legend=legend),
        tooltip=tooltips(fields, v=".1%"),
    )
    layers = [cells]
    if few:
        ink = alt.condition("datum.v > 0.69", alt.value("white"), alt.value("#1a1a1a"))
        layers.append(base.mark_text(fontSize=10).encode(text=alt.Text("v:Q", format=".0%"), color=ink))
    return Panel(name, title, alt_text, alt.layer(*layers), rows, untyped(fields), height=380, zoom=False)


def weights_matrix(name: str, title: str, alt_text: str, rows: Sequence[Row], *, angle: int = 0) -> Panel:
    """Return first-layer weights of `rows` as a heat map: feature x, unit y, weight v; features at an `angle`."""
    largest = max((abs(row["v"]) for row in rows), default=1.0) or 1.0
    scale = alt.Scale(scheme="purpleorange", domain=[-largest, largest], domainMid=0)
    fields = {"x:O": "feature", "y:O": "unit", "v:Q": "weight"}
    chart = alt.Chart(ROWS).mark_rect()
    chart = chart.encode(
        x=alt.X("x:O", title="feature", sort=None, axis=alt.Axis(labelAngle=angle, labelOverlap=not angle)),
        y=alt.Y("y:O", title="unit", axis=alt.Axis(labelOverlap=True)),
        color=alt.Color("v:Q", title="weight", scale=scale),
        tooltip=tooltips(fields, v=".3~g"),
    )
    height = min(420, max(120, 14 * len({row["y"] for row in rows})))
    return Panel(name, title, alt_text, chart, rows, untyped(fields), height=height, wide=True, zoom=False)


def _colour(series: Sequence[str], legend: str | None, colours: Sequence[str] = COLOURS, **symbol: Any) -> Any:
    """Return the colours of `series`; a single series needs no legend."""
    scale = alt.Scale(domain=list(series), range=_repeated(colours, series))
    if len(series) == 1:
        return alt.Color("s:N", scale=scale, legend=None)
    # Short labels are in one line, long ones in columns or below one another.
    columns = 0 if sum(map(len, series)) + 4 * len(series) < 50 else 1 if max(map(len, series)) > 20 else 2
    return alt.Color("s:N", title=legend, scale=scale, legend=alt.Legend(columns=columns, symbolLimit=60, **symbol))


def _dash(series: Sequence[str], legend: str | None, dashes: Sequence[Sequence[int]]) -> Any:
    """Return dash patterns that distinguish `series` without colour; with the same title they share a legend."""
    scale = alt.Scale(domain=list(series), range=[list(dash) for dash in _repeated(dashes, series)])
    return alt.StrokeDash("s:N", title=legend, scale=scale)


def number_axis(name: str, title: str, values: Sequence[float], *, log: bool) -> Any:
    """Return the axis ``"x"`` or ``"y"`` of numbers, with round ticks if it is logarithmic."""
    scale = alt.Scale(type="log", nice=False, padding=10) if log else alt.Scale(zero=False, padding=10)
    shown: dict[str, Any] = {"tickCount": 5, **_number_format(values)}
    if log:
        shown = log_axis(min(values), max(values))
    elif values and all(float(value).is_integer() for value in values):  # such as seeds: no ticks between them
        shown = {"format": "d", "tickMinStep": 1, "tickCount": max(1, min(5, round(max(values) - min(values))))}
    axis = alt.Axis(grid=name == "y", labelOverlap=True, **shown)
    return (alt.Y if name == "y" else alt.X)(f"{name}:Q", title=title, scale=scale, axis=axis)


def _number_format(values: Sequence[float], *, percent: bool = False) -> dict[str, Any]:
    """Return the format of an axis; empty for ordinary numbers, whose default shows just the digits needed.

    The format "~g" would make 1e+1 of 10 among the ticks 1, 2, ..., 10.
    """
    if percent:
        return {"format": "%"}
    return {"format": "~g"} if max(map(abs, values), default=0.0) >= _LONG else {}


def tooltips(fields: Mapping[str, str], **formats: str) -> list[Any]:
    """Return tooltips of fields such as ``"x:Q"``, each with its title, and its number format in `formats` by name."""
    formatted: dict[str, Any] = {name: {"format": form} for name, form in formats.items()}
    return [alt.Tooltip(field, title=words, **formatted.get(field[:-2], {})) for field, words in fields.items()]


def untyped(fields: Mapping[str, str]) -> dict[str, str]:
    """Return fields without their types, as the CSV has them."""
    return {field.partition(":")[0]: words for field, words in fields.items()}


def _repeated(values: Sequence[Any], series: Sequence[str]) -> list[Any]:
    """Return a value for each series; values repeat if there are more series."""
    return [values[i % len(values)] for i in range(len(series))]
