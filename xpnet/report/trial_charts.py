"""Charts of trials: against one setting, and over a field of two; see :mod:`xpnet.report.trial_kinds`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from xpnet.report.charts import number_axis, tooltips, untyped
from xpnet.report.figure import ROWS, Panel, Row
from xpnet.report.format import is_number
from xpnet.report.trial_kinds import BEST, legend_of

# Area of a mark, in square pixels; pixels between a trial without an accuracy and the lower edge of a chart.
_SIZE, _ABOVE = 70, 6
# Accuracies that span so much are told apart by whole percent.
_WIDE = 0.04


def by_setting(
    name: str, title: str, alt_text: str, rows: Sequence[Row], *, x: str, y: str, log_x: bool, order: Sequence[str]
) -> Panel:
    """Return a chart of trials against one setting, whose values are numbers or texts (in their `order`).

    `rows` have the value x; the accuracy y, None if the trial diverged; the legend's entry s; its number, trial,
    and what became of it, fate; and low l and high h if there is a spread.
    """
    entries, colours, shapes = legend_of([row["s"] for row in rows])
    is_text = not all(is_number(row["x"]) for row in rows)
    if is_text:
        across: Any = alt.X("x:N", title=x, scale=alt.Scale(domain=list(order)), axis=alt.Axis(labelAngle=0))
    else:
        across = number_axis("x", x, [row["x"] for row in rows], log=log_x)
    legend = None if len(entries) == 1 else alt.Legend(columns=0 if sum(map(len, entries)) < 40 else 2, symbolLimit=60)
    base = alt.Chart(ROWS).encode(
        x=across,
        color=alt.Color("s:N", title=None, scale=alt.Scale(domain=entries, range=colours), legend=legend),
    )
    shape = alt.Shape("s:N", title=None, scale=alt.Scale(domain=entries, range=shapes), legend=legend)
    size = alt.condition(f"datum.s == '{BEST}'", alt.value(2 * _SIZE), alt.value(_SIZE))
    fields = {"trial:Q": "trial", "fate:N": "state", "x:N" if is_text else "x:Q": x, "y:Q": y}
    tips = tooltips(fields, y=".2%", **({} if is_text else {"x": ".4~g"}))
    base = base.transform_calculate(known="isValid(datum.y)")
    up = alt.Y("y:Q", title=y, scale=alt.Scale(zero=False, padding=12), axis=alt.Axis(format="%"))
    points = base.transform_filter("datum.known").mark_point(filled=True, opacity=0.85, clip=True)
    layers = [points.encode(y=up, shape=shape, size=size, tooltip=tips)]
    columns = {"trial": "trial", "x": x, "y": y, "s": "kind", "fate": "state"}
    if any("l" in row for row in rows):
        rule = base.transform_filter("isValid(datum.l)").mark_rule(opacity=0.6, clip=True, strokeWidth=1.5)
        layers.append(rule.encode(y=alt.Y("l:Q", title=y), y2="h:Q"))
        columns |= {"l": f"{y}, mean - std", "h": f"{y}, mean + std"}
    if any(row["y"] is None for row in rows):
        lost = base.transform_filter("!datum.known").mark_point(filled=True, size=_SIZE, opacity=0.85)
        layers.append(lost.encode(shape=shape, y=alt.value({"expr": f"height - {_ABOVE}"}), tooltip=tips))
    return Panel(name, title, alt_text, alt.layer(*layers), rows, columns, height=250, zoom=not is_text)


def surface(
    name: str, title: str, alt_text: str, rows: Sequence[Row], *, x: str, y: str, log: tuple[bool, bool], value: str
) -> Panel:
    """Return a chart of points (x, y, value v) over a field of interpolated cells from x, y to x2, y2.

    The `kind` of a row is ``"trial"``, ``"between"``, or a kind of trials that are marked apart.
    Trials may have a number, trial, and what became of them, fate.
    """
    values = [row["v"] for row in rows if row["v"] is not None]
    margin = 0.01 if min(values) == max(values) else 0.0
    scale = alt.Scale(scheme="viridis", domain=[min(values) - margin, max(values) + margin])
    wide = max(values) - min(values) >= _WIDE
    legend: Any = alt.Legend(format=".0%" if wide else ".2%", gradientLength=200, tickCount=3)
    shade = alt.Color("v:Q", title=value, scale=scale, legend=legend)
    across, up = (
        number_axis(axis, words, [row[axis] for row in rows], log=is_log)
        for axis, words, is_log in zip("xy", (x, y), log, strict=True)
    )
    more = {"trial:Q": "trial", "fate:N": "state"} if any("fate" in row for row in rows) else {}
    tips = tooltips({**more, "x:Q": x, "y:Q": y, "v:Q": value}, x=".4~g", y=".4~g", v=".2%")
    base = alt.Chart(ROWS).encode(x=across, y=up)
    layers = []
    if any(row["kind"] == "between" for row in rows):
        field = base.transform_filter("datum.kind == 'between'").mark_rect(clip=True, opacity=0.75)
        layers.append(field.encode(x2="x2:Q", y2="y2:Q", color=shade))
    if marked := [row["kind"] for row in rows if row["kind"] not in ("trial", "between")]:
        entries, colours, shapes = legend_of(marked)
        others = base.transform_filter("datum.kind != 'trial' && datum.kind != 'between'")
        others = others.mark_point(filled=False, strokeWidth=2, opacity=1, clip=True)
        legend = alt.Legend(orient="bottom", columns=2)
        stroke = alt.Stroke("kind:N", title=None, scale=alt.Scale(domain=entries, range=colours), legend=legend)
        shape = alt.Shape("kind:N", title=None, scale=alt.Scale(domain=entries, range=shapes), legend=legend)
        large = alt.condition(f"datum.kind == '{BEST}'", alt.value(5 * _SIZE), alt.value(_SIZE))
        layers.append(others.encode(stroke=stroke, shape=shape, size=large, tooltip=tips))
    points = base.transform_filter("datum.kind == 'trial'")
    points = points.mark_point(filled=True, size=110, stroke="white", strokeWidth=1.5, opacity=1, clip=True)
    layers.append(points.encode(color=shade, tooltip=tips))
    note = "Each circle is a trial, coloured by its accuracy."
    if any(row["kind"] == "between" for row in rows):
        note += " The field between circles is estimated from the nearest of them, and blank outside all trials."
    columns = {"kind": "kind", "x": x, "y": y, "v": value} | untyped(more)
    return Panel(name, title, alt_text, alt.layer(*layers), rows, columns, height=300, note=note)
