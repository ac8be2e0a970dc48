"""Figures of a gradient check."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xpnet.analysis.gradcheck.report import ZERO, GradcheckReport, TensorReport

# Okabe and Ito's colours: told apart by colour-blind readers and in grey print.
_COLOURS = {"W": "#0072B2", "b": "#D55E00", "gamma": "#009E73", "beta": "#CC79A7"}
_NAMES = {"W": "W", "b": "b", "gamma": "γ", "beta": "β"}
_WIDTH, _HEIGHT = 290, 260
_POINTS = 400  # of one tensor: more would only cover each other
_SMALLEST = 1e-18


def check_figure(report: GradcheckReport, title: str, sweep: Sequence[dict[str, Any]] | None = None) -> Any:
    """Return analytic against numerical gradients, error by layer, and error against h if there is a `sweep`."""
    import altair as alt

    panels = [_scatter(report), _by_layer(report)]
    if sweep:
        panels.append(sweep_figure(sweep))
    subtitle = report.reason if len(report.reason) < 130 else report.reason[:127] + "..."
    return (
        alt.hconcat(*panels, spacing=36)
        .properties(title=alt.TitleParams(title, subtitle=subtitle, anchor="start", fontSize=15, offset=12))
        .configure_view(strokeWidth=0)
        .configure_axis(gridColor="#e6e6e6", domainColor="#888", tickColor="#888", titleFontWeight="normal")
        .configure_legend(orient="top", title=None, labelFontSize=12)
    )


def sweep_figure(rows: Sequence[dict[str, Any]]) -> Any:
    """Return the relative error of differences against their step h."""
    import altair as alt

    values = [
        {"h": row["h"], "error": max(row[which], _SMALLEST), "which": which}
        for row in rows
        if row["kind"] == "all"
        for which in ("median", "largest")
    ]
    return (
        alt.Chart({"values": values})
        .mark_line(point=alt.OverlayMarkDef(size=18), color="#0072B2", strokeWidth=2)
        .encode(
            x=_log("h:Q", "step h"),
            y=_log("error:Q", "relative error"),
            strokeDash=alt.StrokeDash("which:N", legend=None, scale=alt.Scale(domain=["largest", "median"])),
        )
        .properties(
            width=_WIDTH,
            height=_HEIGHT,
            title=alt.TitleParams("error against h; solid: largest, dashed: median", fontSize=12),
        )
    )


def _scatter(report: GradcheckReport) -> Any:
    """Return |analytic| against |numerical|, with the line on which they agree."""
    import altair as alt

    points = [point for tensor in report.parameters for point in _points(tensor)]
    base = [p["analytic"] for p in points] + [p["numerical"] for p in points] or [1e-6, 1.0]
    low, high = min(base) / 2, max(base) * 2
    line = (
        alt.Chart({"values": [{"x": low, "y": low}, {"x": high, "y": high}]})
        .mark_line(color="#888", strokeWidth=1, strokeDash=[4, 3])
        .encode(x=_log("x:Q", "|analytic gradient|", low, high), y=_log("y:Q", "|numerical gradient|", low, high))
    )
    marks = (
        alt.Chart({"values": points})
        .mark_point(filled=True, size=9, opacity=0.5)
        .encode(
            x=_log("analytic:Q", "|analytic gradient|", low, high),
            y=_log("numerical:Q", "|numerical gradient|", low, high),
            color=_colour(report),
        )
    )
    title = alt.TitleParams("gradients, biases before BN left out", fontSize=12)
    return (line + marks).properties(width=_WIDTH, height=_HEIGHT, title=title)


def _by_layer(report: GradcheckReport) -> Any:
    """Return the largest and the norm-wise relative error of each tensor, by layer."""
    import altair as alt

    rows = [
        {
            "layer": _layer(tensor),
            "kind": _NAMES[_kind(tensor)],
            "error": max(value, _SMALLEST),
            "measure": measure,
        }
        for tensor in report.parameters
        if tensor.checked and tensor.verdict != ZERO
        for measure, value in (("largest", tensor.max_relative_error), ("norm-wise", tensor.norm_error))
    ]
    limit = (
        alt.Chart({"values": [{"tolerance": report.settings["tolerance"]}]})
        .mark_rule(color="#888", strokeDash=[4, 3])
        .encode(y="tolerance:Q")
    )
    marks = (
        alt.Chart({"values": rows})
        .mark_point(filled=True, size=60, opacity=0.9)
        .encode(
            x=alt.X("layer:O", title="layer", axis=alt.Axis(labelAngle=0, grid=False)),
            xOffset=alt.XOffset("kind:N", sort=list(_NAMES.values())),
            y=_log("error:Q", "relative error"),
            color=_colour(report),
            shape=alt.Shape("measure:N", scale=alt.Scale(domain=["largest", "norm-wise"], range=["circle", "cross"])),
        )
    )
    title = alt.TitleParams("error by layer; dashed: tolerance", fontSize=12)
    return (limit + marks).properties(width=_WIDTH, height=_HEIGHT, title=title)


def _points(tensor: TensorReport) -> list[dict[str, Any]]:
    """Return some entries of a tensor: an even sample, and the worst ones."""
    entries = tensor.entries
    if tensor.verdict == ZERO or not entries.flat.size:
        return []
    even = np.linspace(0, entries.flat.size - 1, min(_POINTS, entries.flat.size)).astype(int)
    chosen = np.union1d(even, np.argsort(-entries.relative)[:20])
    pairs = np.abs(np.stack([entries.analytic[chosen], entries.numerical[chosen]], axis=1))
    return [
        {"analytic": float(a), "numerical": float(b), "kind": _NAMES[_kind(tensor)]}
        for a, b in pairs
        if np.isfinite([a, b]).all() and min(a, b) > _SMALLEST
    ]


def _kind(tensor: TensorReport) -> str:
    return tensor.name.rstrip("0123456789")


def _layer(tensor: TensorReport) -> int:
    return int(tensor.name[len(_kind(tensor)) :])


def _colour(report: GradcheckReport) -> Any:
    import altair as alt

    kinds = [kind for kind in _COLOURS if any(_kind(tensor) == kind for tensor in report.parameters)]
    scale = alt.Scale(domain=[_NAMES[kind] for kind in kinds], range=[_COLOURS[kind] for kind in kinds])
    return alt.Color("kind:N", scale=scale, legend=alt.Legend(symbolOpacity=1, symbolSize=60))


def _log(shorthand: str, title: str, low: float | None = None, high: float | None = None) -> Any:
    import altair as alt

    scale = alt.Scale(type="log") if low is None or high is None else alt.Scale(type="log", domain=[low, high])
    axis = alt.Axis(format=".0e", tickCount=6, labelOverlap="greedy")
    return (
        alt.X(shorthand, title=title, scale=scale, axis=axis)
        if shorthand[0] in "xah"
        else alt.Y(shorthand, title=title, scale=scale, axis=axis)
    )
