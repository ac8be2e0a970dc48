"""The section of a run's page on its cross-validation: figures by fold, and by combination of settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.report.blocks import settings_text, spread_of
from xpnet.report.charts import dots
from xpnet.report.format import percent
from xpnet.report.page import Block, Cell, Panels, Text, cell, metric_cell, table
from xpnet.report.records import RunRecord
from xpnet.training.history import evenly
from xpnet.utils.plural import counted

# Most combinations of settings in the table, and most columns of folds.
_MOST_ROWS, _MOST_FOLDS = 1000, 50
_FIGURES = ("accuracy", "loss")
Values = NDArray[np.float64]


def folds(record: RunRecord, prefix: str) -> list[Block]:
    """Return what a run's page says about its cross-validation; nothing for a run without one."""
    found = (record.metrics or {}).get("cv")
    if found is None:
        return []
    figures = {name: _by_network(found, name, len(record.replicas)) for name in _FIGURES}
    if any(not of_all.size for of_all in figures.values()):
        return [Text("The figures of the folds in metrics.json are not those of its networks.", "note")]
    combinations = record.combinations()
    means = [_mean(figures["accuracy"][members]) for _, members in combinations]
    values, members = combinations[int(np.argmax(np.nan_to_num(means, nan=-1.0)))]
    several = f" of {len(members)} networks" if len(members) > 1 else ""
    words = (
        f"Each of {found['folds']} folds of the training set was held out once, while networks of these settings "
        "trained on the others; the network of this run trained on all rows."
    )
    blocks: list[Block] = [Text(words)]
    if values:
        blocks.append(Text(f"Best by the mean accuracy of the folds: {settings_text(values)}."))
    own = {name: of_all[members] for name, of_all in figures.items()}
    blocks.append(_panel(own["accuracy"], f"{prefix}folds", several))
    blocks.append(_by_fold(own, several))
    if values:
        blocks.append(_by_combination(combinations, figures, means))
    return blocks


def _by_network(found: Mapping[str, Any], name: str, count: int) -> Values:
    """Return a figure of every network and fold (R, K), NaN where it diverged; nothing (0, 0) if some are missing."""
    values, folds = found[name], found["folds"]
    listed = values.get("values", []) if isinstance(values, Mapping) else []
    if len(listed) < count * folds:
        return np.empty((0, 0))
    known = [np.nan if value is None else float(value) for value in listed[: count * folds]]
    return np.array(known).reshape(count, folds)


def _mean(values: Values) -> float:
    """Return the mean of figures; NaN if one of them is."""
    return float(values.mean())


def _panel(accuracies: Values, name: str, several: str) -> Panels:
    """Return a chart of the accuracy on each fold, with a point for each network."""
    rows: list[dict[str, Any]] = [
        {"x": float(fold + 1), "y": float(accuracies[r, fold]), "s": "held out"}
        for fold in evenly(accuracies.shape[1], _MOST_FOLDS).tolist()
        for r in evenly(len(accuracies), _MOST_ROWS).tolist()
        if np.isfinite(accuracies[r, fold])
    ]
    if not rows:
        return Panels([])
    low, high = (percent(edge(row["y"] for row in rows)) for edge in (min, max))
    alt = (
        f"Accuracy on each of {counted(accuracies.shape[1], 'fold')}{several}, held out in turn: from {low} to {high}."
    )
    series, tips = ("held out",), {"s:N": "set"}
    return Panels([dots(name, "Accuracy by fold", alt, rows, x="fold", y="accuracy", series=series, tips=tips)])


def _by_fold(figures: Mapping[str, Values], several: str) -> Block:
    """Return a table of the figures on each fold, with their mean and standard deviation over the folds below."""
    count = figures["accuracy"].shape[1]
    rows: list[list[Cell | int]] = [
        [fold + 1, *(metric_cell(name, spread_of(figures[name][:, fold])) for name in _FIGURES)]
        for fold in evenly(count, _MOST_ROWS).tolist()
    ]
    rows.append([cell("all", strong=True), *(metric_cell(name, spread_of(figures[name])) for name in _FIGURES)])
    caption = f"Figures of the held-out folds{several}; mean and standard deviation of all in the last line"
    return table(["fold", *_FIGURES], rows, caption, tall=True)


def _by_combination(
    combinations: Sequence[tuple[dict[str, Any], list[int]]], figures: Mapping[str, Values], means: Sequence[float]
) -> Block:
    """Return a table of the accuracy of every combination of settings on each fold; the best one is bold."""
    order = np.argsort(-np.nan_to_num(np.array(means), nan=-1.0), kind="stable")
    best, shown = int(order[0]), sorted(order[:_MOST_ROWS].tolist())
    columns = evenly(figures["accuracy"].shape[1], _MOST_FOLDS).tolist()
    rows = []
    for at in shown:
        values, members = combinations[at]
        own = figures["accuracy"][members]
        each = [metric_cell("accuracy", spread_of(own[:, fold])) for fold in columns]
        settings = [cell(value, strong=at == best) for value in values.values()]
        rows.append([*settings, metric_cell("accuracy", spread_of(own)), *each])
    head = [*combinations[0][0], "mean accuracy", *(f"fold {fold + 1}" for fold in columns)]
    caption = "Accuracy on the folds by combination of settings; the best is bold"
    if len(combinations) > _MOST_ROWS:
        caption += f"; the {_MOST_ROWS:,} best of {len(combinations):,}"
    return table(head, rows, caption, tall=True)
