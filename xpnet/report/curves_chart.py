"""Figures, each defined once: the same chart is written as PNG and as SVG."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.report import render
from xpnet.training.history import FIGURES, History
from xpnet.utils.atomic_files import write_new

# Okabe and Ito's colours: told apart by colour-blind readers and in grey print.
_COLOURS = {"training": "#0072B2", "validation": "#D55E00"}
_WIDTH, _HEIGHT, _GAP = 250, 210, 62
_RATE_WIDTH = 3 * _WIDTH + 2 * _GAP
# Pixels between two ticks, at least about so many.
_TICKS_APART = 40


def curves(history: History, title: str) -> Any:
    """Return loss, cost and accuracy by epoch, with the learning rate below.

    For several networks a line is their mean, and its band one standard deviation (ddof = 1) to
    each side; networks that have diverged do not count from there on.
    """
    import altair as alt

    panels = alt.hconcat(*(_panel(history, figure) for figure in FIGURES), spacing=_GAP - 40)
    losses = history["train_loss"]
    subtitle = f"mean of {losses.shape[1]} networks, bands ±1 standard deviation" if losses.ndim == 2 else ""
    if diverged := int(np.isnan(losses[-1]).sum()):
        subtitle += f"; {diverged} diverged and {'is' if diverged == 1 else 'are'} left out from there on"
    return (
        alt.vconcat(panels, _learning_rate(history), spacing=14)
        .properties(title=alt.TitleParams(title, subtitle=subtitle, anchor="start", fontSize=15, offset=12))
        .configure_view(strokeWidth=0)
        .configure_axis(gridColor="#e6e6e6", domainColor="#888", tickColor="#888", titleFontWeight="normal")
        .configure_legend(orient="top", title=None, labelFontSize=12)
    )


def save_figure(chart: Any, stem: Path, write: Callable[[Path, bytes], None] = write_new) -> list[Path]:
    """Write a chart or its specification as ``stem.png`` (twice the SVG's pixels) and ``stem.svg``; return the paths.

    Raises:
        RunError: A file exists, or cannot be written.
    """
    spec = chart if isinstance(chart, dict) else chart.to_dict()
    png, svg = stem.with_suffix(".png"), stem.with_suffix(".svg")
    write(png, render.png(spec, 2))
    write(svg, render.svg(spec).encode())
    return [png, svg]


def epoch_axis(span: int, width: int) -> Any:
    """Return an axis of `width` pixels over `span` epochs, with ticks at whole epochs alone."""
    import altair as alt

    # Vega heeds the least step only where the number of ticks is given as well.
    return alt.Axis(tickMinStep=1, tickCount=max(1, min(span, width // _TICKS_APART)), format="d", grid=False)


def _panel(history: History, figure: str) -> Any:
    """Return one figure of both sets against the epoch."""
    import altair as alt

    rows = [
        row
        for which, name in (("train", "training"), ("validation", "validation"))
        for row in _rows(history["epoch"], history[f"{which}_{figure}"], name)
    ]
    x = alt.X("epoch:Q", title="epoch", axis=epoch_axis(len(history) - 1, _WIDTH))
    style = alt.Axis(format="%") if figure == "accuracy" else alt.Axis()
    colour = alt.Color(
        "set:N",
        scale=alt.Scale(domain=list(_COLOURS), range=list(_COLOURS.values())),
        legend=alt.Legend(symbolOpacity=1),
    )
    base = alt.Chart({"values": rows}).encode(x=x, color=colour)
    line = base.mark_line(point=alt.OverlayMarkDef(size=18), strokeWidth=2).encode(
        y=alt.Y("mean:Q", title=figure, axis=style, scale=alt.Scale(zero=False))
    )
    if not any("low" in row for row in rows):  # one network, or figures that are all infinite
        return line.properties(width=_WIDTH, height=_HEIGHT)
    band = base.mark_area(opacity=0.18).encode(y=alt.Y("low:Q"), y2="high:Q")
    return (band + line).properties(width=_WIDTH, height=_HEIGHT)


def _learning_rate(history: History) -> Any:
    """Return the learning rate against the epoch, from before the first step."""
    import altair as alt

    steps = np.concatenate([[0], history["step"]])
    per_epoch = history["step"][0] / history["epoch"][0]
    etas = np.concatenate([history.initial_eta[np.newaxis], history.columns()["eta"]])
    rows = [
        {"epoch": float(step / per_epoch), "eta": float(eta), "replica": r}
        for step, row in zip(steps, etas, strict=True)
        for r, eta in enumerate(row if np.ptp(etas, axis=1).any() else row[:1])
    ]
    return (
        alt.Chart({"values": rows})
        .mark_line(color="#555", strokeWidth=1.5)
        .encode(
            x=alt.X("epoch:Q", title="epoch", axis=epoch_axis(len(history), _RATE_WIDTH)),
            y=alt.Y("eta:Q", title="learning rate", axis=alt.Axis(tickCount=3)),
            detail="replica:N",
        )
        .properties(width=_RATE_WIDTH, height=70)
    )


def _rows(epochs: Any, values: Any, name: str) -> list[dict[str, Any]]:
    """Return points of one line; with a band where there are several networks."""
    rows = []
    for epoch, of_epoch in zip(epochs, values.reshape(len(values), -1), strict=True):
        band = mean_and_band(of_epoch)
        if band is not None:
            rows.append({"epoch": int(epoch), "set": name, **(band if values.ndim == 2 else {"mean": band["mean"]})})
    return rows


def mean_and_band(values: Any) -> dict[str, float] | None:
    """Return the mean of what is finite, with one standard deviation (ddof = 1) to each side.

    None of what cannot be drawn: nothing, or numbers whose squares are infinite.
    """
    good = values[np.isfinite(values)]
    if not good.size:
        return None
    with np.errstate(over="ignore", invalid="ignore"):  # sums and squares of losses on their way to infinity
        mean, std = float(good.mean()), float(good.std(ddof=1)) if good.size > 1 else 0.0
    if not np.isfinite(mean + std):
        return None
    return {"mean": mean, "low": mean - std, "high": mean + std}
