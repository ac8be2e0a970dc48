"""What a search has found so far: its trials, the best of them, as tables and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xpnet.training.guessing import Guessing, none_better
from xpnet.training.history import csv_lines, evenly, summary

STATES = ("complete", "pruned", "running", "waiting", "failed")


@dataclass(frozen=True)
class Trial:
    """One point of a search.

    Attributes:
        number: Its number in the search, from 0.
        round: Its round, from 0.
        state: ``"complete"``, ``"pruned"``, ``"running"``, ``"waiting"``, or ``"failed"``: its workers died over it.
        point: What sets it apart, by the names of the space; empty until a sampler has said it.
        score: Mean of the validation accuracy over the seeds, 0 for those that diverged; None without a result.
        accuracies, losses: Of the validation set, by seed; None where it diverged.
        cycle: Cycles (or looks) after which it was pruned; None if it was not.
        epochs: Epochs trained.
        seconds: Its share of its population's training time.
        curve: Mean validation accuracy by epoch.
        worker: Who trained it, or does.
        attempts: How many workers have begun it.
        note: Why it failed.
        attempt: Number in the storage of the attempt that counts; None if there is none.
    """

    number: int
    round: int
    state: str
    point: Mapping[str, Any]
    score: float | None = None
    accuracies: Sequence[float | None] = ()
    losses: Sequence[float | None] = ()
    cycle: int | None = None
    epochs: int = 0
    seconds: float = 0.0
    curve: Sequence[tuple[int, float]] = ()
    worker: str = ""
    attempts: int = 0
    note: str = ""
    attempt: int | None = None

    @property
    def learned(self) -> bool:
        """Whether a network of it has come to an accuracy; where all diverged, there is nothing to choose."""
        return any(accuracy is not None for accuracy in self.accuracies)

    def to_json(self, seeds: Sequence[int], points: int | None = None) -> dict[str, Any]:
        """Return the trial as ``search.json`` holds it, with at most so many points of its curve; None takes all."""
        curve = self.curve if points is None else [self.curve[at] for at in evenly(len(self.curve), points).tolist()]
        validation = None
        if self.accuracies:
            validation = {
                "accuracy": _summary(self.accuracies),
                "loss": _summary(self.losses),
            }
        return {
            "trial": self.number,
            "round": self.round,
            "state": self.state,
            "settings": dict(self.point),
            "seeds": list(seeds),
            "score": self.score,
            "validation": validation,
            "pruned_after": self.cycle,
            "epochs": self.epochs,
            "seconds": self.seconds,
            "curve": [{"epoch": epoch, "accuracy": accuracy} for epoch, accuracy in curve],
            "worker": self.worker,
            "attempts": self.attempts,
            "note": self.note,
        }


def _summary(values: Sequence[float | None]) -> Any:
    numbers = np.array([np.nan if value is None else value for value in values], float)
    one = summary(numbers)
    return one if isinstance(one, dict) else {"mean": one, "std": None, "values": [one]}


@dataclass(frozen=True)
class Outcome:
    """All trials of a search.

    Attributes:
        names: Names of the space's settings.
        seeds: Seeds of every trial.
        trials: In the order in which they were planned.
        lengths: Cycles of each round; trials of different lengths are not compared.
        workers: Those that are at work now.
        guessing: What guessing gives on the validation set; None where that is not known, or the set is too small.
    """

    names: tuple[str, ...]
    seeds: tuple[int, ...]
    trials: tuple[Trial, ...]
    lengths: tuple[int | None, ...] = ()
    workers: tuple[str, ...] = field(default=())
    guessing: Guessing | None = None

    def counts(self) -> dict[str, int]:
        """Return how many trials are in each state."""
        return {state: sum(trial.state == state for trial in self.trials) for state in STATES}

    def ranked(self) -> list[Trial]:
        """Return the complete trials, the best first: of the rounds that train longest, by score, loss and number."""
        done = [trial for trial in self.trials if trial.state == "complete" and trial.learned]
        length = self._length
        longest = max((length(trial) for trial in done), default=0)
        return sorted(done, key=lambda t: (length(t) < longest, -(t.score or 0.0), _loss(t), t.number))

    @property
    def best(self) -> Trial | None:
        """The winner: validation accuracy decides, and nothing else."""
        return next(iter(self.ranked()), None)

    def no_better(self) -> list[int]:
        """Return the numbers of the trials of which no network is better than guessing."""
        ended = [trial for trial in self.trials if trial.learned]
        if self.guessing is None or not ended:
            return []
        pairs = [(a, b) for t in ended for a, b in zip(t.accuracies, t.losses, strict=True) if a is not None]
        same = self.guessing.no_better(*np.array([(a, np.nan if b is None else b) for a, b in pairs]).T)
        owners = np.array([t.number for t in ended for a in t.accuracies if a is not None])
        return sorted(set(owners.tolist()) - set(owners[~same].tolist()))

    @property
    def none_better(self) -> bool:
        """Whether no complete trial is better than guessing: a winner is the highest then, and not the best."""
        return none_better({"no_better": self.no_better()}, [trial.number for trial in self.ranked()])

    def _length(self, trial: Trial) -> int:
        return (self.lengths[trial.round] or 0) if trial.round < len(self.lengths) else 0

    def head(self) -> list[str]:
        """Return the titles of the columns of ``trials.csv``."""
        return [
            "trial",
            "round",
            "state",
            *self.names,
            "validation_accuracy",
            "validation_accuracy_std",
            "validation_loss",
            *(f"accuracy_seed_{seed}" for seed in self.seeds),
            "pruned_after",
            "epochs",
            "seconds",
            "worker",
            "attempts",
            "note",
        ]

    def row(self, trial: Trial) -> list[Any]:
        """Return a trial as a row of ``trials.csv``."""
        accuracy, loss = (_summary(values) if values else {} for values in (trial.accuracies, trial.losses))
        row = [
            trial.number,
            trial.round,
            trial.state,
            *(trial.point.get(name) for name in self.names),
            accuracy.get("mean"),
            accuracy.get("std"),
            loss.get("mean"),
            *([*trial.accuracies] or [None] * len(self.seeds)),
            trial.cycle,
            trial.epochs or None,
            round(trial.seconds, 3) or None,
            trial.worker,
            trial.attempts,
            trial.note,
        ]
        return ["" if value is None else value for value in row]

    def to_csv(self) -> str:
        """Return the trials as CSV."""
        return csv_lines([self.head(), *(self.row(trial) for trial in self.trials)])


def _loss(trial: Trial) -> float:
    losses = [loss for loss in trial.losses if loss is not None]
    return float(np.mean(losses)) if losses else float("inf")
