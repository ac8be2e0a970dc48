"""The section on a run's final figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from xpnet.report.blocks import settings_text, spread_of
from xpnet.report.format import SET_NAMES, percent
from xpnet.report.page import Block, Facts, Text, metric_cell, table
from xpnet.report.records import RunRecord
from xpnet.training.history import FIGURES
from xpnet.utils.plural import counted

UNTESTED = "The test set was not looked at in this run."


def is_untested(record: RunRecord) -> bool:
    """Return whether a run has figures of its validation set, but not of its test set."""
    validation, test = (record.figures(which, "accuracy") for which in ("validation", "test"))
    return bool(np.isfinite(validation).any() and not np.isfinite(test).any())


def result(record: RunRecord, best: dict[str, Any], members: list[int]) -> list[Block]:
    """Return the final figures of the best combination of settings."""
    metrics = record.metrics
    if metrics is None:
        return [Text("There are no final figures, since the run did not end.")]
    figures = {w: {n: spread_of(record.figures(w, n)[members]) for n in FIGURES} for w in SET_NAMES}
    samples = metrics.get("samples") or {}
    several = f"mean and standard deviation of {len(members)} seeds" if len(members) > 1 else ""
    accuracies = {
        which: (
            f"{words.capitalize()} accuracy",
            percent(figures[which]["accuracy"]),
            several or _error(figures[which]["accuracy"], samples.get(which)),
        )
        for which, words in SET_NAMES.items()
    }
    if is_untested(record):
        accuracies["test"] = ("Test accuracy", "-", UNTESTED)
    seconds = (metrics.get("seconds") or {}).get("training", 0.0)
    facts = Facts(
        [
            *(accuracies[which] for which in ("test", "validation", "train")),
            (
                "Training time",
                f"{seconds:.{1 if seconds >= 1 else 3}f} s",
                f"{_all(record)}on {metrics.get('device', 'an unknown device')}",
            ),
            ("Epochs", _epochs(record, metrics), counted(metrics.get("steps", 0), "step")),
        ]
    )
    names = ("accuracy", "loss", "cost")
    rows = [
        [words, *(metric_cell(name, figures[which][name]) for name in names), samples.get(which)]
        for which, words in SET_NAMES.items()
    ]
    if views := metrics.get("test_views"):
        seen = [metric_cell(n, spread_of(record.figures("test_views", n)[members])) for n in ("accuracy", "loss")]
        rows.append([f"test, mean of {views['views']} views", *seen, None, samples.get("test")])
    caption = "Final figures on each whole set; loss is the mean cross-entropy, cost is the loss and the L2 penalty "
    caption += "(lambda times the sum of the squared weights)"
    blocks: list[Block] = [facts, table(["set", *names, "samples"], rows, caption)]
    if best:
        count = f"{len(record.combinations())} combinations of settings"
        words = f"Of {count} the best by validation accuracy: "
        if record.none_better:
            words = f"None of {count} is better than guessing. Figures of "
        blocks.insert(0, Text(f"{words}{settings_text(best)}."))
    return blocks


def _error(accuracy: Any, samples: int | None) -> str:
    """Return the standard error of a single network's accuracy on so many samples, in words."""
    if not isinstance(accuracy, float) or not samples or not 0 < accuracy < 1:
        return ""
    error = 100 * (accuracy * (1 - accuracy) / samples) ** 0.5
    return f"standard error {error:.1f} points on {samples:,} samples"


def _epochs(record: RunRecord, metrics: Mapping[str, Any]) -> str:
    """Return the number of epochs, of which the last may be cut short."""
    epochs, given = metrics.get("epochs", 0), record.settings.train.epochs
    whole = given is None or metrics.get("interrupted") or not epochs - 1 < given < epochs
    return str(epochs) if whole else f"{given:g}"


def _all(record: RunRecord) -> str:
    """Return of what the time is, if it is not that of one network."""
    return f"of all {len(record.replicas):,} networks, " if len(record.replicas) > 1 else ""
