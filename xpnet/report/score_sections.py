"""The sections on predicted probabilities, and on the importance of features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xpnet.analysis.scores import Calibration, areas_under_roc, calibration, f1_scores, log_loss
from xpnet.report.charts import dots
from xpnet.report.format import percent
from xpnet.report.inspection import Inspection
from xpnet.report.page import Block, Cell, Panels, Text, metric_cell, table
from xpnet.utils.plural import counted

# Fewer samples say nothing about probabilities, and groups of fewer nothing about one.
_FEW, _GROUP = 100, 10
# So many rows tell how sure the importance of a feature is: of fewer, one row is more than its deviation.
_MANY = 200
_RIGHT, _IDEAL = "share that is right", "their probability"


def probabilities(found: Inspection, prefix: str) -> list[Block]:
    """Return how far the probabilities of networks on the test set can be trusted."""
    p, labels = found.probabilities, found.labels
    if len(labels) < _FEW:
        few = counted(len(labels), "test sample")
        return [Text(f"{few} {'is' if len(labels) == 1 else 'are'} too few to judge the probabilities.")]
    known = calibration(p, labels)
    groups = [
        (float(confidence), float(accuracy), int(count))
        for confidence, accuracy, count in zip(known.confidence, known.accuracy, known.samples, strict=True)
        if count >= _GROUP
    ]
    text = _verdict(found, known)
    if len(found.members) > 1:
        text += f" The test loss of the mean of their probabilities is {log_loss(p, labels):.4f}."
    rows = [
        {"x": confidence, "y": value, "s": name, "n": count}
        for confidence, accuracy, count in groups
        for name, value in ((_RIGHT, accuracy), (_IDEAL, confidence))
    ]
    alt = f"Share of right predictions against their probability, in {len(groups)} groups; mean distance from "
    alt += f"equality {percent(known.error)}."
    legend = f"Each circle is a group of {_counts([count for *_, count in groups])} test samples whose predictions are "
    legend += (
        "about equally probable, with the share of them that is right. The square is where the circle would be if "
    )
    legend += "that share were their probability: a circle below it means too sure, above it not sure enough. On "
    legend += f"average they are {100 * known.error:.1f} points apart (the expected calibration error)."
    if len(groups) < len(known.samples):
        legend += f" Groups of fewer than {_GROUP} samples are left out."
    x, y, tips = "probability of the prediction", "share that is right", {"n:Q": "samples"}
    series = [_RIGHT, _IDEAL]
    panel = dots(f"{prefix}calibration", "Calibration", alt, rows, x=x, y=y, series=series, tips=tips)
    cells = [[*(metric_cell("accuracy", one) for one in shares), count] for *shares, count in groups]
    head = ["mean probability", "share that is right", "samples"]
    data = table(head, cells, "Predictions by their probability, in tenths", "The chart as a table")
    return [Text(text), Text(legend), Panels([panel], data)]


def _verdict(found: Inspection, known: Calibration) -> str:
    """Return whether probabilities are too sure, by their distance from the share of right answers and its error."""
    right = 1 - found.wrong / found.samples
    who = "The mean of the networks" if len(found.members) > 1 else "The network"
    figures = (
        f"its predictions have a mean probability of {percent(right + known.bias)}, and {percent(right)} are right"
    )
    if abs(known.bias) <= 2 * (right * (1 - right) / found.samples) ** 0.5:
        return f"{who} is about as sure as it is right, as far as {found.samples:,} samples tell: {figures}."
    how = "too sure of itself" if known.bias > 0 else "less sure than it could be"
    return f"{who} is {how}, by {100 * abs(known.bias):.1f} points: {figures}."


def _counts(samples: Sequence[int]) -> str:
    low, high = min(samples), max(samples)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def scores_by_class(found: Inspection) -> list[list[Cell]]:
    """Return the cells of F1 and of the area under the ROC curve of each class."""
    areas = (
        areas_under_roc(found.probabilities, found.labels) if len(found.labels) else np.full(len(found.names), np.nan)
    )
    return [[_share(f1), _share(area)] for f1, area in zip(f1_scores(found.confusion), areas, strict=True)]


def _share(value: float) -> Cell:
    return Cell(f"{value:.3f}", float(value)) if np.isfinite(value) else Cell("-")


def importance(found: Inspection) -> list[Block]:
    """Return how much accuracy is lost without each feature; nothing if it was not measured."""
    if found.importance is None:
        return []
    loss, spread = found.importance.loss, found.importance.spread
    row = 1 / found.importance.rows
    many, rows = found.importance.rows >= _MANY, []
    for i in np.argsort(-loss, kind="stable").tolist():
        name = found.features[i] if i < len(found.features) else f"feature {i}"
        points = Cell(f"{round(100 * loss[i], 2) + 0.0:+.2f} ± {100 * spread[i]:.2f}", float(loss[i]))
        clear = ["yes" if loss[i] > 2 * max(spread[i], row) else ""] if many else []
        rows.append([name, points, *clear])
    several = f"{len(found.members)} networks and " if len(found.members) > 1 else ""
    text = "Points of accuracy on the test set lost when one column is shuffled, with the standard deviation over "
    text += f"{several}three shuffles. One of its {found.importance.rows:,} rows is {100 * row:.2f} points. "
    text += "Correlated columns hide each other's importance."
    head = ["feature", "points lost", *(["more than twice its deviation"] if many else [])]
    return [Text(text), table(head, rows, "Accuracy lost when one column is shuffled")]
