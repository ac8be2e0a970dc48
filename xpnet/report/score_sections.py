"""The sections on predicted probabilities, and on the importance of features."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from xpnet.analysis.scores import areas_under_roc, calibration, f1_scores, log_loss
from xpnet.report.charts import dots
from xpnet.report.format import percent
from xpnet.report.inspection import Inspection
from xpnet.report.page import Block, Cell, Panels, Text, metric_cell, table

# Probabilities whose mean is this far from the share of right answers are too sure, or not sure enough.
_BIASED = 0.03
_RIGHT, _IDEAL = "share that is right", "their probability"


def probabilities(found: Inspection, prefix: str) -> list[Block]:
    """Return how far the probabilities of networks on the test set can be trusted."""
    p, labels = found.probabilities, found.labels
    if not len(labels):
        return [Text("There are no samples.")]
    known = calibration(p, labels)
    sure, right = float(p.max(axis=1).mean()), 1 - found.wrong / found.samples
    words = "about as sure as it is right"
    if abs(known.bias) > _BIASED:
        words = "too sure of itself" if known.bias > 0 else "less sure than it could be"
    who = "The mean of the networks" if len(found.members) > 1 else "The network"
    text = f"{who} is {words}: its predictions have a mean probability of {percent(sure)}, and {percent(right)} are "
    text += "right."
    if len(found.members) > 1:
        text += f" The test loss of the mean of their probabilities is {log_loss(p, labels):.4f}."
    rows = [
        {"x": float(confidence), "y": float(value), "s": name, "n": int(count)}
        for confidence, accuracy, count in zip(known.confidence, known.accuracy, known.samples, strict=True)
        for name, value in ((_RIGHT, accuracy), (_IDEAL, confidence))
    ]
    alt = f"Share of right predictions against their probability, in {len(known.samples)} groups; mean distance from "
    alt += f"equality {percent(known.error)}."
    legend = f"Each circle is a group of {_counts(known.samples)} test samples whose predictions are about equally "
    legend += "probable, with the share of them that is right. The square of the same group is where the circle would "
    legend += (
        "be if that share were equal to their probability: a circle below its square means too sure, above it not "
    )
    legend += (
        f"sure enough. On average over all samples the two are {100 * known.error:.1f} points apart (the expected "
    )
    legend += "calibration error)."
    x, y, tips = "probability of the prediction", "share that is right", {"n:Q": "samples"}
    series = [_RIGHT, _IDEAL]
    panel = dots(f"{prefix}calibration", "Calibration", alt, rows, x=x, y=y, series=series, tips=tips)
    cells = [
        [metric_cell("accuracy", float(one)) for one in (confidence, accuracy)] + [int(count)]
        for confidence, accuracy, count in zip(known.confidence, known.accuracy, known.samples, strict=True)
    ]
    head = ["mean probability", "share that is right", "samples"]
    data = table(head, cells, "Predictions by their probability, in tenths", "The chart as a table")
    return [Text(text), Text(legend), Panels([panel], data)]


def _counts(samples: Iterable[int]) -> str:
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
    rows = []
    for i in np.argsort(-loss, kind="stable").tolist():
        name = found.features[i] if i < len(found.features) else f"feature {i}"
        points = Cell(f"{100 * loss[i]:+.2f} ± {100 * spread[i]:.2f}", float(loss[i]))
        rows.append([name, points, "yes" if loss[i] > 2 * spread[i] and loss[i] > 0 else ""])
    several = f"{len(found.members)} networks and " if len(found.members) > 1 else ""
    text = "Points of accuracy that are lost when the values of a feature change places between samples, with the "
    text += f"standard deviation over {several}three permutations. Features that say the same stand in for each other."
    head = ["feature", "points lost", "more than twice its deviation"]
    return [Text(text), table(head, rows, "Importance of features by permutation")]
