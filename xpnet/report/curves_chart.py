"""The curves of a run: loss, cost, accuracy and learning rate by epoch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.report.figure import chart_files, write_files
from xpnet.report.format import SET_NAMES
from xpnet.report.theme import band_rows, epoch_axis, set_colour, titled
from xpnet.training.history import FIGURES, History
from xpnet.utils.atomic_files import write_new

_WIDTH, _HEIGHT, _GAP = 250, 210, 62
_RATE_WIDTH = 3 * _WIDTH + 2 * _GAP


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
    chart = alt.vconcat(panels, _learning_rate(history), spacing=14)
    return titled(chart, title, subtitle, orient="top", title=None, labelFontSize=12)


def save_figure(chart: Any, stem: Path, write: Callable[[Path, bytes], None] = write_new) -> list[Path]:
    """Write a chart or its specification as ``stem.png`` (twice the SVG's pixels) and ``stem.svg``; return the paths.

    Raises:
        RunError: A file exists, or cannot be written.
    """
    return write_files(chart_files(chart, stem.stem), stem.parent, write)


def _panel(history: History, figure: str) -> Any:
    """Return a panel of one figure of both sets by epoch."""
    import altair as alt

    rows = [
        row
        for which in ("train", "validation")
        for row in band_rows(history["epoch"], history[f"{which}_{figure}"], SET_NAMES[which])
    ]
    x = alt.X("x:Q", title="epoch", axis=epoch_axis(len(history) - 1, _WIDTH))
    style = alt.Axis(format="%") if figure == "accuracy" else alt.Axis()
    base = alt.Chart({"values": rows}).encode(x=x, color=set_colour())
    chart = base.mark_line(point=alt.OverlayMarkDef(size=18), strokeWidth=2).encode(
        y=alt.Y("y:Q", title=figure, axis=style, scale=alt.Scale(zero=False))
    )
    if any("l" in row for row in rows):  # no bands for a single network, or if all figures are infinite
        chart = base.mark_area(opacity=0.18).encode(y=alt.Y("l:Q"), y2="h:Q") + chart
    return chart.properties(width=_WIDTH, height=_HEIGHT)


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
    chart = alt.Chart({"values": rows}).mark_line(color="#555", strokeWidth=1.5)
    return chart.encode(
        x=alt.X("epoch:Q", title="epoch", axis=epoch_axis(len(history), _RATE_WIDTH)),
        y=alt.Y("eta:Q", title="learning rate", axis=alt.Axis(tickCount=3)),
        detail="replica:N",
    ).properties(width=_RATE_WIDTH, height=70)
