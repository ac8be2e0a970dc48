"""The section on a run's final figures."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.report.blocks import settings_text, spread_of
from xpnet.report.format import SET_NAMES, percent
from xpnet.report.inspection import Inspection
from xpnet.report.page import Block, Facts, Text, metric_cell, table
from xpnet.report.records import RunRecord
from xpnet.training.chance_level import wilson
from xpnet.training.history import FIGURES
from xpnet.utils.plural import counted

# With fewer right or wrong answers, the interval of a share is not symmetric.  Most that a sentence names.
_FEW, _NAMED = 10, 4
UNTESTED = "The test set was not looked at in this run."


def is_untested(record: RunRecord) -> bool:
    """Return whether a run has figures of its validation set, but not of its test set."""
    validation, test = (record.figures(which, "accuracy") for which in ("validation", "test"))
    return bool(np.isfinite(validation).any() and not np.isfinite(test).any())


def result(record: RunRecord, best: dict[str, Any], members: list[int], found: Inspection | None) -> list[Block]:
    """Return the final figures of the best combination of settings; `found` are its networks on the test set."""
    metrics = record.metrics
    if metrics is None:
        return [Text("There are no final figures, since the run did not end.")]
    figures = {w: {n: spread_of(record.figures(w, n)[members]) for n in FIGURES} for w in SET_NAMES}
    samples = metrics.get("samples") or {}
    several = f"mean and standard deviation of {len(members)} seeds; " if len(members) > 1 else ""
    accuracies = {
        which: (
            f"{words.capitalize()} accuracy",
            percent(figures[which]["accuracy"]),
            (several + _error(figures[which]["accuracy"], samples.get(which))).removesuffix("; "),
        )
        for which, words in SET_NAMES.items()
    }
    if is_untested(record):
        accuracies["test"] = ("Test accuracy", "-", UNTESTED)
    seconds = (metrics.get("seconds") or {}).get("training", 0.0)
    facts = Facts(
        [
            *(accuracies[which] for which in ("test", "validation", "train")),
            *_guessing(found),
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
        blocks.insert(0, Text(_which(record, best)))
    blocks += [Text(line)] if (line := _rows(record, samples)) else []
    if found is not None and len(found.members) > 1:
        blocks.insert(blocks.index(facts) + 1, Text(_together(record, best, found)))
    return blocks


def _which(record: RunRecord, best: dict[str, Any]) -> str:
    """Return of which combination of settings the figures are, and from which others chance does not tell it."""
    count, own = f"{len(record.combinations())} combinations of settings", settings_text(best)
    if record.none_better:
        return f"None of {count} is better than guessing. Figures of {own}."
    if not (tied := record.tied):
        return f"Of {count} the best by validation accuracy: {own}."
    others = " and ".join(map(settings_text, tied)) if len(tied) <= _NAMED else "several others"
    return f"Of {count}, figures of {own}, which is tied with {others}: chance explains the difference."


def _rows(record: RunRecord, samples: Mapping[str, Any]) -> str:
    """Return what a table's labels are, and how many rows each set has; empty for other data."""
    path = Path(str(record.given.get("data", "")))
    if path.suffix not in (".csv", ".parquet") or not all(samples.get(which) for which in SET_NAMES):
        return ""
    target = record.given.get("target")
    column = f"column {target}" if target is not None else "the column called label, labels, target or class"
    rows = [f"{samples[which]:,} {words}" for which, words in SET_NAMES.items()]
    return f"Of {path.name}, {column} is predicted; {rows[0]}, {rows[1]} and {rows[2]} rows."


def _together(record: RunRecord, best: dict[str, Any], found: Inspection) -> str:
    """Return how often the mean of several networks is right, and how to use it."""
    right, one = 1 - found.wrong / found.samples, float(found.correct.mean())
    use = f"xpnet predict {shlex.quote(str(record.path))} does so"
    if best:
        use = f"in Python, xpnet.load({str(record.path)!r}).select({found.members}).predict_proba(x).mean(axis=0)"
        use = use if len(found.members) <= _NAMED else "xpnet predict does so with all networks of a run"
    text = f"Averaging the {len(found.members)} networks{f' of {settings_text(best)}' if best else ''}: test "
    return f"{text}{percent(right)}, {100 * (right - one):+.1f} points ({use})."


def _guessing(found: Inspection | None) -> list[tuple[str, str, str]]:
    """Return what always answering the most frequent class of the test set gets."""
    if found is None or not len(found.labels):
        return []
    counts = np.bincount(found.labels, minlength=len(found.names))
    share, often = percent(counts.max() / counts.sum()), np.flatnonzero(counts == counts.max())
    if len(often) > 1:
        return [("Always one class", share, f"of the test set, where {len(often)} classes are equally frequent")]
    return [(f"Always {found.names[often[0]]}", share, "the most frequent class of the test set")]


def _error(accuracy: Any, samples: int | None) -> str:
    """Return how uncertain an accuracy on so many samples is, or the mean accuracy of several networks, in words."""
    mean = accuracy.get("mean") if isinstance(accuracy, dict) else accuracy
    if not isinstance(mean, float) or not samples or not 0 <= mean <= 1:
        return ""
    if samples * min(mean, 1 - mean) < _FEW:
        low, high = (f"{100 * edge:.3g}" for edge in wilson(mean, samples))
        return f"95 % interval {low} to {high} % for {samples:,} samples"
    error = 100 * (mean * (1 - mean) / samples) ** 0.5
    return f"standard error {error:.1f} points on {samples:,} samples"


def _epochs(record: RunRecord, metrics: Mapping[str, Any]) -> str:
    """Return the number of epochs, of which the last may be cut short."""
    epochs, given = metrics.get("epochs", 0), record.settings.train.epochs
    whole = given is None or metrics.get("interrupted") or not epochs - 1 < given < epochs
    return str(epochs) if whole else f"{given:g}"


def _all(record: RunRecord) -> str:
    """Return of what the time is, if it is not that of one network."""
    return f"of all {len(record.replicas):,} networks, " if len(record.replicas) > 1 else ""
