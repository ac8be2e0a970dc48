"""Figures of a gradient check."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np

from xpnet.analysis.gradcheck.report import ZERO, GradcheckReport, TensorReport
from xpnet.report.theme import COLOURS, titled

_COLOURS = {"W": COLOURS[0], "b": COLOURS[1], "γ": COLOURS[2], "β": "#CC79A7"}
_GREEK = {"gamma": "γ", "beta": "β"}
_WIDTH, _HEIGHT = 290, 260
_POINTS = 400  # for each tensor; more would only cover each other
_SMALLEST = 1e-18


def check_figure(report: GradcheckReport, title: str, sweep: Sequence[dict[str, Any]] | None = None) -> Any:
    """Return analytic against numerical gradients, error by layer, and error against h if there is a `sweep`."""
    panels = [_scatter(report), _by_layer(report)]
    if sweep:
        panels.append(sweep_figure(sweep))
    subtitle = report.reason if len(report.reason) < 130 else report.reason[:127] + "..."
    return titled(alt.hconcat(*panels, spacing=36), title, subtitle, orient="top", title=None, labelFontSize=12)


def sweep_figure(rows: Sequence[dict[str, Any]]) -> Any:
    """Return the relative error of differences against their step h."""
    values = [
        {"x": row["h"], "y": max(row[which], _SMALLEST), "which": which}
        for row in rows
        if row["kind"] == "all"
        for which in ("median", "largest")
    ]
    line = alt.Chart({"values": values}).mark_line(point=alt.OverlayMarkDef(size=18), color=COLOURS[0], strokeWidth=2)
    chart = line.encode(
        x=_log(alt.X, "step h"),
        y=_log(alt.Y, "relative error"),
        strokeDash=alt.StrokeDash("which:N", legend=None, scale=alt.Scale(domain=["largest", "median"])),
    )
    return _framed(chart, "error against h; solid: largest, dashed: median")


def _scatter(report: GradcheckReport) -> Any:
    """Return |analytic| against |numerical|, with the line on which they agree."""
    points = [point for tensor in report.parameters for point in _points(tensor)]
    values = [point[axis] for axis in "xy" for point in points] or [1e-6, 1.0]
    ends = [min(values) / 2, max(values) * 2]
    axes = {"x": _log(alt.X, "|analytic gradient|", ends), "y": _log(alt.Y, "|numerical gradient|", ends)}
    line = alt.Chart({"values": [{"x": end, "y": end} for end in ends]})
    line = line.mark_line(color="#888", strokeWidth=1, strokeDash=[4, 3]).encode(**axes)
    marks = alt.Chart({"values": points}).mark_point(filled=True, size=9, opacity=0.5)
    return _framed(line + marks.encode(color=_colour(report), **axes), "gradients, biases before BN left out")


def _by_layer(report: GradcheckReport) -> Any:
    """Return the largest and the norm-wise relative error of each tensor, by layer."""
    rows = [
        {"layer": layer, "kind": kind, "y": max(value, _SMALLEST), "measure": measure}
        for tensor in report.parameters
        if tensor.checked and tensor.verdict != ZERO
        for kind, layer in [_kind_and_layer(tensor)]
        for measure, value in (("largest", tensor.max_relative_error), ("norm-wise", tensor.norm_error))
    ]
    limit = alt.Chart({"values": [{"tolerance": report.settings["tolerance"]}]})
    limit = limit.mark_rule(color="#888", strokeDash=[4, 3]).encode(y="tolerance:Q")
    marks = alt.Chart({"values": rows}).mark_point(filled=True, size=60, opacity=0.9)
    marks = marks.encode(
        x=alt.X("layer:O", title="layer", axis=alt.Axis(labelAngle=0, grid=False)),
        xOffset=alt.XOffset("kind:N", sort=list(_COLOURS)),
        y=_log(alt.Y, "relative error"),
        color=_colour(report),
        shape=alt.Shape("measure:N", scale=alt.Scale(domain=["largest", "norm-wise"], range=["circle", "cross"])),
    )
    return _framed(limit + marks, "error by layer; dashed: tolerance")


def _framed(chart: Any, title: str) -> Any:
    return chart.properties(width=_WIDTH, height=_HEIGHT, title=alt.TitleParams(title, fontSize=12))


def _points(tensor: TensorReport) -> list[dict[str, Any]]:
    """Return some entries of a tensor: an evenly spaced sample, and the worst ones."""
    entries = tensor.entries
    if tensor.verdict == ZERO or not entries.flat.size:
        return []
    even = np.linspace(0, entries.flat.size - 1, min(_POINTS, entries.flat.size)).astype(int)
    chosen = np.union1d(even, np.argsort(-entries.relative)[:20])
    pairs = np.abs(np.stack([entries.analytic[chosen], entries.numerical[chosen]], axis=1))
    kind, _ = _kind_and_layer(tensor)
    return [
        {"x": float(a), "y": float(b), "kind": kind}
        for a, b in pairs
        if np.isfinite([a, b]).all() and min(a, b) > _SMALLEST
    ]


def _kind_and_layer(tensor: TensorReport) -> tuple[str, int]:
    kind = tensor.name.rstrip("0123456789")
    return _GREEK.get(kind, kind), int(tensor.name[len(kind) :])


def _colour(report: GradcheckReport) -> Any:
    present = {_kind_and_layer(tensor)[0] for tensor in report.parameters}
    kinds = [kind for kind in _COLOURS if kind in present]
    scale = alt.Scale(domain=kinds, range=[_COLOURS[kind] for kind in kinds])
    return alt.Color("kind:N", scale=scale, legend=alt.Legend(symbolOpacity=1, symbolSize=60))


def _log(channel: Any, title: str, domain: list[float] | None = None) -> Any:
    """Return the field x or y on a logarithmic axis: `channel` is ``alt.X`` or ``alt.Y``."""
    scale = alt.Scale(type="log") if domain is None else alt.Scale(type="log", domain=domain)
    axis = alt.Axis(format=".0e", tickCount=6, labelOverlap="greedy")
    return channel(f"{channel.__name__.lower()}:Q", title=title, scale=scale, axis=axis)
