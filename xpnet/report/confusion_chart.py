"""The confusion matrix and the accuracy of every class, as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
from numpy.typing import NDArray

from xpnet.report import render
from xpnet.report.theme import COLOURS, titled

# With more classes, the counts are left out and the cells get smaller.
_COUNTS_OF = 20


def confusion_figure(confusion: NDArray[np.int64], names: Sequence[str], title: str, networks: int = 1) -> Any:
    """Return the matrix (classes, classes), rows are true classes, and beside it the accuracy of each class.

    A cell's colour is its share of the true class, which does not depend on how many samples a class has.  The
    counts are sums over `networks` networks.
    """
    of_class = confusion.sum(axis=1)
    shares = confusion / np.maximum(of_class, 1)[:, None]
    classes, few = len(confusion), len(confusion) <= _COUNTS_OF
    step = alt.Step(40 if few else max(5, 600 // classes))
    matrix = _matrix(confusion, shares, names, few).properties(width=step, height=step)
    accuracies = [
        {"true": t, "accuracy": float(shares[t, t]), "shown": f"{100 * shares[t, t]:.1f} %"}
        for t in range(classes)
        if of_class[t]
    ]
    base = alt.Chart({"values": accuracies}).encode(
        y=alt.Y("true:O", title=None, axis=None, scale=alt.Scale(domain=list(range(classes)))),
        x=alt.X("accuracy:Q", title="accuracy", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%", tickCount=3)),
    )
    bars: Any = base.mark_bar(color=COLOURS[0])
    if few:
        bars = bars + base.mark_text(align="left", dx=4, fontSize=11).encode(text="shown:N")
    chart = alt.hconcat(matrix, bars.properties(width=140, height=step), spacing=16)
    return titled(chart, title, f"sums over {networks} networks" if networks > 1 else "")


def _matrix(confusion: NDArray[np.int64], shares: NDArray[np.float64], names: Sequence[str], few: bool) -> Any:
    """Return the matrix, with its counts if there are few classes."""
    rows = [
        {"true": t, "predicted": p, "count": int(count), "share": float(shares[t, p])}
        for (t, p), count in np.ndenumerate(confusion)
    ]
    labels = "[" + ",".join(render.quoted(name) for name in names) + "][datum.value]"
    axis: dict[str, Any] = {"labelExpr": labels, "labelLimit": 150, "domain": False, "ticks": False}
    axis["labelOverlap"] = not few
    base = alt.Chart({"values": rows}).encode(
        x=alt.X("predicted:O", title="prediction", axis=alt.Axis(labelAngle=-45, **axis)),
        y=alt.Y("true:O", title="true class", axis=alt.Axis(**axis)),
    )
    legend = alt.Legend(format="%", orient="bottom", direction="horizontal", gradientLength=180)
    scale = alt.Scale(scheme="blues", domain=[0, 1])
    cells: Any = base.mark_rect().encode(
        color=alt.Color("share:Q", title="share of the class", scale=scale, legend=legend)
    )
    if few:
        ink = alt.condition("datum.share > 0.55", alt.value("white"), alt.value("#333"))
        cells = cells + base.mark_text(fontSize=11).encode(text="count:Q", color=ink)
    return cells
