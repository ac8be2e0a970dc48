"""The sections about the networks themselves: classes, worst mistakes, first-layer weights."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from xpnet.report.blocks import settings_text
from xpnet.report.charts import FEW_CLASSES, matrix, weights_matrix
from xpnet.report.format import percent
from xpnet.report.inspection import Inspection, first_layer, weight_pictures
from xpnet.report.page import Block, Cell, Gallery, Panels, Picture, Table, Text, metric_cell, table
from xpnet.report.records import RunRecord
from xpnet.report.score_sections import scores_by_class
from xpnet.training.confused_classes import confused

# Most pictures of units; most features and units of a heat map; most features in the table.
_UNITS, _MAP, _LISTED = 60, (48, 64), 20
# Most classes that a sentence names; most letters of a feature on an axis.
_NAMED, _LONGEST = 8, 25
_LARGE = "Large weights do not mean important features."


def classes(found: Inspection, best: dict[str, Any], prefix: str) -> list[Block]:
    """Return the confusion matrix of networks, and the accuracy and precision of each class."""
    names = unique(found.names)
    confusion, totals = found.confusion, found.confusion.sum(axis=1)
    rows = [
        {"t": names[t], "p": names[p], "n": int(n), "v": float(n / totals[t]) if totals[t] else 0.0}
        for (t, p), n in np.ndenumerate(confusion)
        if len(names) <= FEW_CLASSES or n
    ]
    off = confusion - np.diag(np.diag(confusion))
    t, p = np.unravel_index(int(off.argmax()), off.shape)
    alt = (
        f"Confusion matrix of {len(names)} classes on {found.samples:,} test samples. "
        f"Most frequent confusion: {names[t]} taken for {names[p]}, {int(off[t, p]):,} times."
    )
    several = f", sums over {len(found.members)} networks" if len(found.members) > 1 else ""
    panel = matrix(f"{prefix}confusion", f"Confusion matrix{several}", alt, rows, names)
    counts = [[names[t], *map(int, of_true)] for t, of_true in enumerate(confusion)]
    caption = f"Samples by true class (row) and prediction (column){several}"
    matrix_table = table(["true \\ predicted", *names], counts, caption, "The matrix as a table")
    words = [Text(f"This is about {settings_text(best)}.")] if best else []
    never = [name for name, count in zip(names, confusion.sum(axis=0), strict=True) if not count]
    if never:
        some = ", ".join(never) if len(never) <= _NAMED else f"{len(never)} of the {len(names)} classes"
        words.append(Text(f"Never predicted: {some}."))
    if (conclusion := confused(confusion, names)) is not None:
        words.append(Text(conclusion.text))
    elif len(names) > 2 and off.any():
        words.append(Text(_first_mistakes(names, off, totals)))
    return [*words, Panels([panel], matrix_table), _by_class(names, found, off)]


def _first_mistakes(names: list[str], off: Any, totals: Any) -> str:
    """Return the two most frequent mistakes, where no pair of classes stands out."""
    mistakes = [
        f"{names[true]} taken for {names[predicted]} ({percent(off[true, predicted] / totals[true])} of {names[true]})"
        for true, predicted in (divmod(int(at), len(names)) for at in np.argsort(-off, axis=None, kind="stable")[:2])
        if off[true, predicted]
    ]
    return f"Most frequent mistakes: {', then '.join(mistakes)}."


def _by_class(names: list[str], found: Inspection, off: Any) -> Table:
    """Return a table with a line for each class; `off` is the confusion matrix without its diagonal."""
    confusion, networks, scores = found.confusion, len(found.members), scores_by_class(found)
    totals, columns, rows = confusion.sum(axis=1), confusion.sum(axis=0), []
    for c, name in enumerate(names):
        hits, wrong = confusion[c, c], int(off[c].argmax())
        shares = [metric_cell("accuracy", hits / n if n else None) for n in (totals[c], columns[c])]
        shares[1] = shares[1] if columns[c] else Cell("never predicted")
        taken = f"{names[wrong]} ({percent(off[c, wrong] / totals[c])})" if off[c, wrong] else ""
        rows.append([name, *shares, *scores[c], int(totals[c]) // networks, taken])
    head = ["class", "accuracy (recall)", "precision", "F1", "AUC", "samples", "most often taken for"]
    caption = "By class. F1 is the harmonic mean of recall and precision; AUC, how often a sample of the class gets a "
    caption += "larger probability of it than another sample (0.5 by chance)"
    return table(head, rows, caption, tall=True)


def unique(names: tuple[str, ...]) -> list[str]:
    """Return names, with numbers added to equal names."""
    count = Counter(names)
    return [name if count[name] == 1 else f"{name} ({i})" for i, name in enumerate(names)]


def mistakes(found: Inspection) -> list[Block]:
    """Return the worst mistakes of the networks on the test set."""
    if not found.mistakes:
        return [Text(f"None of the {found.samples:,} test samples is taken for another class.")]
    together = "the mean of the networks' probabilities gets" if len(found.members) > 1 else "the network gets"
    words = (
        f"Of {found.samples:,} test samples {together} {found.wrong:,} wrong. The worst come first: the smaller the "
        f"probability of the true class, the worse."
    )
    names = found.names
    if found.mistakes[0].picture is not None:
        pictures = [
            Picture(
                m.picture or "",
                f"Test sample {m.index}: {names[m.true]}, taken for {names[m.predicted]} with {percent(m.confidence)}",
                f"{names[m.true]} →\n{names[m.predicted]} {100 * m.confidence:.0f} %",
            )
            for m in found.mistakes
        ]
        below = "Below each: its true class → what it is taken for, and how surely."
        return [Text(f"{words} {below}"), Gallery(pictures, "The worst mistakes")]
    rows = []
    for m in found.mistakes:
        shares = [metric_cell("accuracy", share) for share in (m.confidence, m.probability)]
        features = "; ".join(
            f"{i if isinstance(i, str) else f'feature {i}'}: {value:.4g} ({z:+.1f} std)" for i, value, z in m.features
        )
        rows.append([m.index if m.line is None else m.line, names[m.true], names[m.predicted], *shares, features])
    by_line = found.mistakes[0].line is not None
    head = [
        "line" if by_line else "test row",
        "true",
        "predicted",
        "probability",
        "of the true class",
        "features farthest from their mean",
    ]
    counted = "lines of the file count from 1" if by_line else "rows of the test set count from 0"
    return [Text(words), table(head, rows, f"The worst mistakes; {counted}")]


def weights(record: RunRecord, members: list[int], prefix: str) -> list[Block]:
    """Return the first layer's weights: as pictures if samples are images, else as a heat map or a table."""
    layer = first_layer(record, members)
    if layer is None:
        return [Text("There is no model in the folder.")]
    W, which, names = layer.weights, layer.replica, layer.names
    features, units = W.shape
    norms = np.sqrt((W.astype(float) ** 2).sum(axis=0))
    if not np.isfinite(norms).all():
        return [Text("The network diverged: its weights are not finite.")]
    of_network = f" of network {which}" if len(record.replicas) > 1 else ""
    if layer.shape is not None:
        kind = "Hidden units" if record.settings.network_config(1, 2).hidden else "Classes"
        order = np.argsort(-norms, kind="stable")[:_UNITS]
        pictures = [
            Picture(source, f"First-layer weights of unit {u}, norm {norms[u]:.2f}", f"unit {u}, {norms[u]:.2f}")
            for u, source in zip(order, weight_pictures(W[:, order], layer.shape), strict=True)
        ]
        words = (
            f"{kind}{of_network} by the norm of their weights, largest first"
            f"{f' ({_UNITS} of {units})' if units > _UNITS else ''}. Grey is zero; each picture has a scale of its own."
        )
        return [Text(words), Gallery(pictures, "First-layer weights by unit")]
    if features <= _MAP[0] and units <= _MAP[1]:
        fit = len(set(names)) == features and max(map(len, names)) <= _LONGEST
        x = names if fit else range(features)
        rows = [{"x": x[d], "y": u, "v": float(W[d, u])} for u in range(units) for d in range(features)]
        d, u = np.unravel_index(int(np.abs(W).argmax()), W.shape)
        alt = (
            f"Heat map of the first layer's weights{of_network}, {features} features by {units} units; the largest is "
            f"{W[d, u]:.3g}, of {names[d] if names else f'feature {d}'} in unit {u}."
        )
        panel = weights_matrix(f"{prefix}weights-map", f"Weights{of_network}", alt, rows, angle=-90 if fit else 0)
        return [Text(_LARGE), Panels([panel], _largest_weights(W, names, "The largest weights as a table"))]
    return [Text(_LARGE), _largest_weights(W, names)]


def _largest_weights(W: Any, names: tuple[str, ...], folded: str | None = None) -> Table:
    norms = np.sqrt((W.astype(float) ** 2).sum(axis=1))
    rows = []
    for d in np.argsort(-norms, kind="stable")[:_LISTED].tolist():
        u = int(np.abs(W[d]).argmax())
        numbers = [metric_cell("weight", float(value)) for value in (norms[d], W[d, u])]
        rows.append([Cell(names[d] if names else f"feature {d}", float(d)), *numbers, u])
    caption = f"The {len(rows)} features with the largest weights, features standardised"
    return table(["feature", "norm of its weights", "largest weight", "in unit"], rows, caption, folded)
