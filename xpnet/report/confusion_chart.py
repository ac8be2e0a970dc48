"""The confusion matrix and the accuracy of every class, as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.report import render

# Of more classes the counts are left out, and the cells get small.
_COUNTS_OF = 20


def confusion_figure(confusion: NDArray[np.int64], names: Sequence[str], title: str, networks: int = 1) -> Any:
    """Return the matrix (classes, classes), rows are true classes, and beside it the accuracy of each class.

    A cell's colour is its share of the true class, which does not depend on how many samples a class has.  The
    counts are sums over `networks` networks.
    """
    import altair as alt

    of_class = confusion.sum(axis=1)
    shares = confusion / np.maximum(of_class, 1)[:, None]
    rows = [
        {"true": int(t), "predicted": int(p), "count": int(confusion[t, p]), "share": float(shares[t, p])}
        for t, p in np.ndindex(confusion.shape)
    ]
    classes = len(confusion)
    step = 40 if classes <= _COUNTS_OF else max(5, 600 // classes)
    labels = "[" + ",".join(render.quoted(name) for name in names) + "][datum.value]"
    axis: dict[str, Any] = {
        "labelExpr": labels,
        "labelLimit": 150,
        "domain": False,
        "ticks": False,
        "labelOverlap": classes > _COUNTS_OF,
    }
    base = alt.Chart({"values": rows}).encode(
        x=alt.X("predicted:O", title="prediction", axis=alt.Axis(labelAngle=-45, **axis)),
        y=alt.Y("true:O", title="true class", axis=alt.Axis(**axis)),
    )
    cells = base.mark_rect().encode(
        color=alt.Color(
            "share:Q",
            title="share of the class",
            scale=alt.Scale(scheme="blues", domain=[0, 1]),
            legend=alt.Legend(format="%", orient="bottom", direction="horizontal", gradientLength=180),
        )
    )
    matrix: Any = cells
    if classes <= _COUNTS_OF:
        matrix = cells + base.mark_text(fontSize=11).encode(
            text="count:Q",
            color=alt.condition("datum.share > 0.55", alt.value("white"), alt.value("#333")),
        )
    accuracies = [
        {"true": t, "accuracy": float(shares[t, t]), "shown": f"{100 * shares[t, t]:.1f} %"}
        for t in range(classes)
        if of_class[t]
    ]
    bar = alt.Chart({"values": accuracies}).encode(
        y=alt.Y("true:O", title=None, axis=None, scale=alt.Scale(domain=list(range(classes)))),
        x=alt.X("accuracy:Q", title="accuracy", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%", tickCount=3)),
    )
    bars: Any = bar.mark_bar(color="#0072B2")
    if classes <= _COUNTS_OF:
        bars = bars + bar.mark_text(align="left", dx=4, fontSize=11).encode(text="shown:N")
    size: dict[str, Any] = {"height": alt.Step(step)}
    summed = f"sums over {networks} networks" if networks > 1 else ""
    return (
        alt.hconcat(matrix.properties(width=alt.Step(step), **size), bars.properties(width=140, **size), spacing=16)
        .properties(title=alt.TitleParams(title, subtitle=summed, anchor="start", fontSize=15, offset=12))
        .configure_view(strokeWidth=0)
        .configure_axis(gridColor="#e6e6e6", titleFontWeight="normal")
    )
