"""The kinds of trials on the page of a search: a colour and a mark for each, and what became of a trial in words.

Training and validation curves of the winner, on the same page, have the first two colours of the theme.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpnet.config.cycles import CYCLIC
from xpnet.report.format import is_number
from xpnet.report.theme import COLOURS
from xpnet.training.chance_level import none_better
from xpnet.tuning.close_trials import Close, close_trials
from xpnet.tuning.whole_cycles import Cycle, cycle_of
from xpnet.utils.plural import counted

Trial = Mapping[str, Any]
STATES = ("complete", "pruned", "failed", "running", "waiting")
BEST, COMPLETE, PRUNED, DIVERGED = "best", "complete", "pruned (stopped early)", "diverged"
# Colour and mark of each kind, in the order of legends.
_MARKS = {
    BEST: (COLOURS[3], "diamond"),
    COMPLETE: (COLOURS[2], "circle"),
    PRUNED: (COLOURS[4], "triangle-down"),
    DIVERGED: (COLOURS[5], "cross"),
}
# Complete trials of further rounds.
_ROUNDS = ("circle", "square", "triangle-up", "triangle-right", "triangle-left")
_WITHOUT = {"failed": "failed", "running": "not at its end yet", "waiting": "not trained"}
# Parts of a budget after which trials are compared.
_PARTS = 8


def kind_of(trial: Trial, best: Trial) -> str:
    """Return the kind of a trial that is drawn, or its state if it has no figures."""
    state = str(trial.get("state"))
    if state not in ("complete", "pruned"):
        return state
    if is_same(trial, best):
        return BEST
    if accuracy_of(trial) is None:
        return DIVERGED
    return COMPLETE if state == "complete" else PRUNED


def labels_of(trials: Sequence[Trial], best: Trial, rounds: int) -> list[str]:
    """Return the legend's entry for each trial: its kind, and of a complete one in several rounds its round."""
    kinds = [kind_of(trial, best) for trial in trials]
    return [
        f"{kind}, round {round_of(trial)}" if kind == COMPLETE and rounds > 1 else kind
        for trial, kind in zip(trials, kinds, strict=True)
    ]


def legend_of(labels: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Return the entries of a legend in their order, with their colours and marks."""
    entries = sorted(set(labels), key=lambda entry: (list(_MARKS).index(_kind(entry)), len(entry), entry))
    marks = [_MARKS[_kind(entry)] for entry in entries]
    shapes = [
        _ROUNDS[(int(entry.rpartition(" ")[2]) - 1) % len(_ROUNDS)] if "round" in entry else shape
        for entry, (_, shape) in zip(entries, marks, strict=True)
    ]
    return entries, [colour for colour, _ in marks], shapes


def _kind(entry: str) -> str:
    return entry.partition(", round")[0]


def fate_of(trial: Trial, found: Mapping[str, Any]) -> str:
    """Return what became of a trial, in words."""
    state, epochs, seeds = str(trial.get("state")), int(trial.get("epochs") or 0), len(trial.get("seeds") or ())
    if state not in ("complete", "pruned"):
        note = str(trial.get("note") or "")
        return _WITHOUT.get(state, state) + (f": {note}" if note else "")
    if accuracy_of(trial) is None:
        if state == "pruned":
            return "diverged, and pruned"
        return f"diverged after {counted(epochs, 'epoch')}" if epochs else "diverged in its first epoch"
    lost = int(trial.get("lost") or 0)
    words = f", {lost} of {seeds} seeds diverged, which counts as 0 %" if lost else ""
    if state == "complete":
        return state + words
    after, cut = trial.get("pruned_after"), budget_of(found) is not None
    when = f"at {after}/{_PARTS} of budget" if cut and after else f"after {counted(epochs, 'epoch')}"
    return f"pruned {when if epochs or (cut and after) else 'in its first epoch'}{words}"


def pruned_in_words(found: Mapping[str, Any]) -> str:
    """Return what pruned trials are and what their accuracies mean, or why none was pruned; empty if nothing is."""
    pruned = sum(trial.get("state") == "pruned" for trial in found["trials"])
    if not pruned:
        rule, cycle = (found.get("search") or {}).get("prune", "none"), cycle_in(found)
        if rule == "none" or cycle is None or cycle.pruned:
            return ""
        words = (
            f"No trial was pruned (--prune {rule}): trials are compared at the end of a cycle of the learning rate, "
        )
        return f"{words}which takes {cycle.first:g} epochs, and these had {cycle.epochs:g} in all."
    cyclic = (found.get("settings") or {}).get("schedule", "triangular") in CYCLIC
    when, same = ("a cycle" if cyclic else "an epoch"), "epoch"
    if budget_of(found) is not None:
        when, same = "an eighth of its budget", "share of their budget"
    rule = (found.get("search") or {}).get("prune")
    worse = {"median": "below the median of", "halving": "in the worse half of"}.get(str(rule), "worse than most of")
    words = f"Pruned means stopped early: at the end of {when}, a trial {worse} all trials that had come as far was "
    words += f"trained no further ({pruned:,} of {len(found['trials']):,}). Its accuracy is that of this moment, which "
    words += (
        f"more training would have raised: compare it with others at the same {same}, not with complete trials. The "
    )
    return f"{words}best is one of the complete trials, and where colour stands for accuracy, only these have it."


def budget_of(found: Mapping[str, Any]) -> float | None:
    """Return the arithmetic of each trial in 10^12 operations; None if it was not fixed."""
    budget: Any = (found.get("search") or {}).get("budget")
    return float(budget) if is_number(budget) else None


def cycle_in(found: Mapping[str, Any]) -> Cycle | None:
    """Return how the trainings lie in the cycles of their learning rate; None if they have none, or several lengths."""
    search, settings = found.get("search") or {}, found.get("settings")
    if not isinstance(settings, dict) or search.get("round_cycles") is not None or budget_of(found) is not None:
        return None
    return cycle_of(settings, list(found["space"]))


def complete_of(found: Mapping[str, Any]) -> list[Trial]:
    """Return the complete trials that were trained as long as the longest."""
    complete = [t for t in found["trials"] if t.get("state") == "complete" and accuracy_of(t) is not None]
    given = (found.get("search") or {}).get("round_cycles")
    lengths = dict(enumerate(given, 1)) if isinstance(given, list) else {}
    most = max((lengths.get(round_of(trial), 0) for trial in complete), default=0)
    return [trial for trial in complete if lengths.get(round_of(trial), 0) == most]


def close_of(found: Mapping[str, Any]) -> tuple[Close | None, list[Trial]]:
    """Return what is known of the trials that chance does not tell from the best, and these trials."""
    longest = complete_of(found)
    longest.sort(key=lambda trial: -(mean_of(trial) or 0.0))
    guessing = found.get("guessing") or {}
    samples = found.get("samples") or (guessing.get("samples") if guessing.get("set") == "validation" else None)
    stds = [value.get("std") if isinstance(value := validation_of(t), dict) else None for t in longest]
    seeds = max((len(trial.get("seeds") or ()) for trial in longest), default=1)
    close = close_trials([mean_of(trial) or 0.0 for trial in longest], stds, seeds, samples)
    return close, longest[: close.count if close else 1]


def marked(found: Mapping[str, Any]) -> Trial:
    """Return the trial to highlight as the best; an empty one if no trial ended or none is better than guessing."""
    ended = [t for t in found["trials"] if t.get("state") == "complete" and accuracy_of(t) is not None]
    if none_better(found.get("guessing"), [trial["trial"] for trial in ended]):
        return {}
    return found.get("best") or {}


def is_same(trial: Trial, best: Trial) -> bool:
    """Return whether a trial is the highlighted one; never True if `best` is empty."""
    return bool(best) and trial.get("trial") == best.get("trial")


def validation_of(trial: Trial, name: str = "accuracy") -> Any:
    """Return a trial's validation figure in the form of the metrics, or None."""
    return (trial.get("validation") or {}).get(name)


def round_of(trial: Trial) -> int:
    """Return a trial's round, counted from 1 for readers; files count from 0."""
    return int(trial.get("round") or 0) + 1


def mean_of(trial: Trial) -> float | None:
    """Return the accuracy that ranks a trial: its score, in which a seed that diverged counts as 0, or its mean."""
    score: Any = trial.get("score")
    return float(score) if is_number(score) and np.isfinite(score) else accuracy_of(trial)


def accuracy_of(trial: Trial) -> float | None:
    """Return a trial's mean validation accuracy over the seeds that have one; None if all diverged or none ended."""
    value = validation_of(trial)
    mean = value.get("mean") if isinstance(value, dict) else value
    return None if mean is None or not np.isfinite(mean) else float(mean)
