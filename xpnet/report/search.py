"""Figures of a search: accuracy against each setting, and over two of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xpnet.search.outcome import Outcome, Trial
from xpnet.search.space import Dimension, Space

_WIDTH, _HEIGHT = 380, 260
_GRID, _LEVELS, _FEWEST = 60, 9, 6
_NAMES = {"lambda": "\N{GREEK SMALL LETTER LAMDA}", "eta": "\N{GREEK SMALL LETTER ETA}"}


def search_figures(space: Space, outcome: Outcome) -> dict[str, Any]:
    """Return the figures by name: ``accuracy``, and ``contour`` where two numbers are searched.

    A point is the mean of a trial's validation accuracies, its bar one standard deviation (ddof = 1) over the seeds to
    each side.
    """
    import altair as alt

    known = [trial for trial in outcome.trials if trial.score is not None and trial.accuracies]
    panels = [_against(dimension, known, outcome) for dimension in space.dimensions]
    seeds = len(outcome.seeds)
    subtitle = f"{len(known)} trials; the ring is the winner"
    if any(trial.state == "pruned" for trial in known):
        subtitle += "; dropped ones as they stood then"
    if seeds > 1:
        subtitle += f"; means of {seeds} seeds, bars ±1 standard deviation"
    title = f"Search of {', '.join(_NAMES.get(d.name, d.name) for d in space.dimensions)}"
    figures = {"accuracy": _styled(alt.hconcat(*panels, spacing=40), title, subtitle)}
    numbers = [dimension for dimension in space.dimensions if not dimension.values]
    if len(space.dimensions) == 2 and len(numbers) == 2 and len(known) >= _FEWEST:
        chart = _contour(numbers, known, outcome)
        if chart is not None:
            subtitle = "bands: interpolated between the trials, which are the points; the ring is the winner"
            figures["contour"] = _styled(chart, f"{title}: validation accuracy", subtitle)
    return figures


def _styled(chart: Any, title: str, subtitle: str) -> Any:
    import altair as alt

    return (
        chart.properties(title=alt.TitleParams(title, subtitle=subtitle, anchor="start", fontSize=15, offset=12))
        .configure_view(strokeWidth=0)
        .configure_axis(gridColor="#e6e6e6", domainColor="#888", tickColor="#888", titleFontWeight="normal")
        .configure_legend(labelFontSize=11)
    )


def _rows(known: Sequence[Trial], dimension: Dimension, outcome: Outcome) -> list[dict[str, Any]]:
    rows = []
    for trial in known:
        good = np.array([value for value in trial.accuracies if value is not None], float)
        mean = trial.score or 0.0
        std = float(good.std(ddof=1)) if len(good) > 1 else 0.0
        what = (
            "dropped"
            if trial.state == "pruned"
            else f"round {trial.round + 1}"
            if len(outcome.lengths) > 1
            else "trained"
        )
        row = {"x": trial.point[dimension.name], "accuracy": mean, "low": mean - std, "high": mean + std, "what": what}
        rows.append(row | {"best": outcome.best is not None and trial.number == outcome.best.number})
    return rows


def _x(dimension: Dimension, known: Sequence[Trial], title: str) -> Any:
    """Return the axis of a setting: logarithmic where it was drawn so."""
    import altair as alt

    values = [trial.point[dimension.name] for trial in known]
    if not all(isinstance(value, (int, float)) for value in values):
        return alt.X("x:N", title=title, sort=list(dimension.values))
    least, most = min(values), max(values)
    if dimension.log and least > 0 and most > least:
        small = most / least > 100
        axis = alt.Axis(format=".0e" if small or most < 0.01 else "~g", tickCount=5, grid=False)
        return alt.X("x:Q", title=title, scale=alt.Scale(type="log", padding=12, nice=False), axis=axis)
    return alt.X("x:Q", title=title, scale=alt.Scale(zero=False, padding=12), axis=alt.Axis(grid=False, tickCount=6))


def _against(dimension: Dimension, known: Sequence[Trial], outcome: Outcome) -> Any:
    """Return accuracy against one setting."""
    import altair as alt

    rows = _rows(known, dimension, outcome)
    x = _x(dimension, known, _NAMES.get(dimension.name, dimension.name))
    y = alt.Y("accuracy:Q", title="validation accuracy", axis=alt.Axis(format="%"), scale=alt.Scale(zero=False))
    kinds = sorted({row["what"] for row in rows})
    palette = ["#999999" if kind == "dropped" else "" for kind in kinds]
    colours = iter(["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"] * 10)
    palette = [colour or next(colours) for colour in palette]
    legend = alt.Legend(title=None, orient="top") if len(kinds) > 1 else None
    colour = alt.Color("what:N", scale=alt.Scale(domain=kinds, range=palette), legend=legend)
    base = alt.Chart({"values": rows}).encode(x=x)
    chart = base.mark_circle(size=46, opacity=0.85).encode(y=y, color=colour)
    if len(outcome.seeds) > 1:
        chart = base.mark_rule(opacity=0.45).encode(y=alt.Y("low:Q"), y2="high:Q", color=colour) + chart
    ring = base.transform_filter("datum.best").mark_point(size=190, color="#000000", strokeWidth=1.6).encode(y=y)
    return (chart + ring).properties(width=_WIDTH, height=_HEIGHT)


def _contour(dimensions: Sequence[Dimension], known: Sequence[Trial], outcome: Outcome) -> Any | None:
    """Return bands of interpolated accuracy over two settings; None where the trials lie on a line."""
    import altair as alt
    from scipy.interpolate import LinearNDInterpolator
    from scipy.spatial import QhullError

    def scaled(value: float, dimension: Dimension) -> float:
        return float(np.log10(value)) if dimension.log else float(value)

    across, up = dimensions
    points = np.array([[scaled(t.point[d.name], d) for d in dimensions] for t in known])
    accuracies = np.array([trial.score or 0.0 for trial in known])
    low, high = points.min(axis=0), points.max(axis=0)
    try:
        surface = LinearNDInterpolator((points - low) / np.where(high > low, high - low, 1.0), accuracies)
    except QhullError:
        return None
    edges = np.linspace(0, 1, _GRID + 1)
    middles = (edges[:-1] + edges[1:]) / 2
    values = surface(*np.meshgrid(middles, middles))
    if not np.isfinite(values).any():
        return None
    # Bands hold as many trials each, so that the best region is told apart however bad the worst is.
    levels = np.unique(np.quantile(accuracies, np.linspace(0, 1, _LEVELS + 1)))
    bands = np.clip(np.searchsorted(levels, values, side="right") - 1, 0, len(levels) - 2)

    def edge(dimension: Dimension, number: int, at: float) -> float:
        value = float(low[number] + at * (high[number] - low[number]))
        return 10**value if dimension.log else value

    cells = [
        {
            "x": edge(across, 0, edges[j]),
            "x2": edge(across, 0, edges[j + 1]),
            "y": edge(up, 1, edges[i]),
            "y2": edge(up, 1, edges[i + 1]),
            "band": float((levels[bands[i, j]] + levels[bands[i, j] + 1]) / 2),
        }
        for i in range(_GRID)
        for j in range(_GRID)
        if np.isfinite(values[i, j])
    ]
    dots = [
        {
            "x": trial.point[across.name],
            "y": trial.point[up.name],
            "accuracy": trial.score,
            "best": outcome.best is not None and trial.number == outcome.best.number,
        }
        for trial in known
    ]

    def scale(dimension: Dimension, number: int) -> Any:
        domain = [edge(dimension, number, -0.03), edge(dimension, number, 1.03)]
        return alt.Scale(type="log" if dimension.log else "linear", domain=domain, nice=False)

    def axis(dimension: Dimension) -> Any:
        return alt.Axis(format=".0e" if dimension.log else "~g", tickCount=5, grid=False)

    x = alt.X("x:Q", scale=scale(across, 0), axis=axis(across), title=_NAMES.get(across.name, across.name))
    y = alt.Y("y:Q", scale=scale(up, 1), axis=axis(up), title=_NAMES.get(up.name, up.name))
    colour = alt.Color(
        "band:Q",
        scale=alt.Scale(scheme="viridis"),
        legend=alt.Legend(title="accuracy", format=".1%"),
    )
    # Neighbours of one colour are to be one surface: without a rim the ground shines through between them.
    stroke = alt.Stroke("band:Q", scale=alt.Scale(scheme="viridis"), legend=None)
    ground = (
        alt.Chart({"values": cells})
        .mark_rect(strokeWidth=0.6)
        .encode(x=x, x2="x2:Q", y=y, y2="y2:Q", color=colour, stroke=stroke)
    )
    base = alt.Chart({"values": dots}).encode(x=x, y=y)
    marks = base.mark_circle(size=26, color="white", stroke="black", strokeWidth=0.8, opacity=1)
    ring = base.transform_filter("datum.best").mark_point(size=210, color="#D55E00", strokeWidth=2.4)
    return (ground + marks + ring).properties(width=_WIDTH + 60, height=_HEIGHT + 60)
