"""The trials of a search and their outcome: ranking, tables and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnet.errors import RunError
from xpnet.training.chance_level import Guessing, none_better
from xpnet.training.history import csv_lines, evenly, summary
from xpnet.tuning.trial_queue import Slot, current, given_up
from xpnet.utils.display import Displayed

STATES = ("complete", "pruned", "running", "waiting", "failed")


@dataclass(frozen=True)
class Trial:
    """One point of a search.

    Attributes:
        number: Its number in the search, from 0.
        round: Its round, from 0.
        state: ``"complete"``, ``"pruned"``, ``"running"``, ``"waiting"``, or ``"failed"`` if its workers died during
            it.
        point: Its values, by the names of the space; empty until a sampler has chosen them.
        score: Mean validation accuracy over the seeds, with 0 for diverged networks; None without a result.
        accuracies, losses: Figures of the validation set, by seed; None for diverged networks.
        cycle: Cycles (or epochs) after which it was pruned; None if it was not.
        epochs: Epochs trained.
        seconds: Its share of its population's training time.
        curve: Mean validation accuracy by epoch.
        worker: The worker that trains or trained it.
        attempts: Number of workers that have begun it.
        note: The reason why it failed.
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

    @classmethod
    def of(cls, number: int, slot: Slot, attempts: Sequence[Any]) -> Trial:
        """Return the trial of a slot, from its attempts in the storage.

        Raises:
            RunError: The result of an attempt that has ended is damaged.
        """
        begun, attempt = sum("worker" in trial.user_attrs for trial in attempts), current(attempts)
        if attempt is None:
            lost = given_up(attempts)
            reasons = (str(trial.user_attrs["reason"]) for trial in attempts if "reason" in trial.user_attrs)
            note = next(reasons, "its workers died" if lost else "")
            point = slot.point or next((dict(trial.params) for trial in attempts if trial.params), {})
            return cls(number, slot.round, "failed" if lost else "waiting", point, attempts=begun, note=note)
        point, result = dict(attempt.params) or dict(slot.point or {}), {}
        if attempt.state.is_finished():
            result = attempt.user_attrs.get("result", {})
            if point.keys() != slot.distributions.keys():
                has, wanted = (", ".join(names) or "nothing" for names in (point, slot.distributions))
                words = f"has {has}, and the search is of {wanted}"
                raise RunError(f"trial {attempt.number}: {words}; its storage is damaged")
            # The result is written before the state.
            if not result.get("accuracies") or "score" not in result:
                raise RunError(f"trial {attempt.number}: has ended, and has no accuracies; its storage is damaged")
        return cls(
            number=number,
            round=slot.round,
            state=attempt.state.name.lower(),
            point=point,
            score=result.get("score"),
            accuracies=tuple(result.get("accuracies", ())),
            losses=tuple(result.get("losses", ())),
            cycle=result.get("pruned_after"),
            epochs=int(result.get("epochs", 0)),
            seconds=float(result.get("seconds", 0.0)),
            curve=tuple((int(epoch), float(accuracy)) for epoch, accuracy in result.get("curve", ())),
            worker=str(attempt.user_attrs.get("worker", "")),
            attempts=begun,
            attempt=attempt._trial_id,
        )

    @property
    def learned(self) -> bool:
        """Whether a network of the trial has an accuracy; a trial whose networks all diverged is never chosen."""
        return any(accuracy is not None for accuracy in self.accuracies)

    @property
    def std(self) -> float | None:
        """Standard deviation of its accuracies over the seeds (ddof = 1); None if fewer than two are known."""
        known = numbers(self.accuracies)[np.isfinite(numbers(self.accuracies))]
        return float(known.std(ddof=1)) if known.size > 1 else None

    def validation(self) -> dict[str, Any] | None:
        """Return mean, standard deviation and values of its validation figures; None without a result."""
        if not self.accuracies:
            return None
        return {"accuracy": _summary(self.accuracies), "loss": _summary(self.losses)}

    def to_json(self, seeds: Sequence[int], points: int | None = None) -> dict[str, Any]:
        """Return the trial in the form of ``search.json``, with at most `points` points of its curve (None: all)."""
        curve = self.curve if points is None else [self.curve[at] for at in evenly(len(self.curve), points).tolist()]
        return {
            "trial": self.number,
            "round": self.round,
            "state": self.state,
            "settings": dict(self.point),
            "seeds": list(seeds),
            "score": self.score,
            "validation": self.validation(),
            "pruned_after": self.cycle,
            "epochs": self.epochs,
            "seconds": self.seconds,
            "curve": [{"epoch": epoch, "accuracy": accuracy} for epoch, accuracy in curve],
            "worker": self.worker,
            "attempts": self.attempts,
            "note": self.note,
        }


def numbers(values: Sequence[float | None]) -> np.ndarray[Any, Any]:
    """Return values as an array, with NaN for None, the value of diverged networks."""
    return np.array([np.nan if value is None else value for value in values], float)


def _summary(values: Sequence[float | None]) -> Any:
    one = summary(numbers(values))
    return one if isinstance(one, dict) else {"mean": one, "std": None, "values": [one]}


@dataclass(frozen=True)
class Outcome:
    """All trials of a search.

    Attributes:
        names: Names of the space's settings.
        seeds: Seeds of every trial.
        trials: The trials, in the order in which they were planned.
        lengths: Cycles of each round; trials of different lengths are not compared.
        workers: Names of the workers that are running now.
        guessing: Figures of guessing on the validation set; None if unknown, or if the set is too small.
    """

    names: tuple[str, ...]
    seeds: tuple[int, ...]
    trials: tuple[Trial, ...]
    lengths: tuple[int | None, ...] = ()
    workers: tuple[str, ...] = ()
    guessing: Guessing | None = None

    def counts(self) -> dict[str, int]:
        """Return how many trials are in each state."""
        return {state: sum(trial.state == state for trial in self.trials) for state in STATES}

    def ranked(self) -> list[Trial]:
        """Return the complete trials, the best first: by length of their round, score, loss and number."""

        def loss(trial: Trial) -> float:
            losses = [loss for loss in trial.losses if loss is not None]
            return float(np.mean(losses)) if losses else float("inf")

        done = [trial for trial in self.trials if trial.state == "complete" and trial.learned]
        longest = max(map(self._length, done), default=0)
        return sorted(done, key=lambda t: (self._length(t) < longest, -(t.score or 0.0), loss(t), t.number))

    def longest(self) -> list[Trial]:
        """Return the complete trials that were trained as long as the best, which comes first."""
        ranked = self.ranked()
        return [trial for trial in ranked if self._length(trial) == self._length(ranked[0])]

    def _length(self, trial: Trial) -> int:
        return (self.lengths[trial.round] or 0) if trial.round < len(self.lengths) else 0

    @property
    def best(self) -> Trial | None:
        """The winner by validation accuracy alone; None if there is none."""
        return next(iter(self.ranked()), None)

    def no_better(self) -> list[int]:
        """Return the numbers of the trials without a network that is better than guessing."""
        ended = [trial for trial in self.trials if trial.learned]
        if self.guessing is None or not ended:
            return []
        accuracies = np.concatenate([numbers(trial.accuracies) for trial in ended])
        losses = np.concatenate([numbers(trial.losses) for trial in ended])
        owners = np.repeat([trial.number for trial in ended], [len(trial.accuracies) for trial in ended])
        known = np.isfinite(accuracies)
        guess = self.guessing.no_better(accuracies[known], losses[known])
        return sorted(set(owners[known].tolist()) - set(owners[known][~guess].tolist()))

    @property
    def none_better(self) -> bool:
        """Whether no complete trial is better than guessing, so that the winner must not be called the best."""
        return none_better({"no_better": self.no_better()}, [trial.number for trial in self.ranked()])

    def columns(self) -> list[str]:
        """Return the titles of the columns of ``trials.csv``."""
        seeds = [f"accuracy_seed_{seed}" for seed in self.seeds]
        figures = ["validation_accuracy", "validation_accuracy_std", "validation_loss", *seeds]
        more = ["pruned_after", "epochs", "seconds", "worker", "attempts", "note"]
        return ["trial", "round", "state", *self.names, *figures, *more]

    def row(self, trial: Trial) -> list[Any]:
        """Return a trial as a row of ``trials.csv``."""
        validation = trial.validation() or {"accuracy": {}, "loss": {}}
        accuracy, loss = validation["accuracy"], validation["loss"]
        row = [
            *(trial.number, trial.round, trial.state),
            *(trial.point.get(name) for name in self.names),
            *(accuracy.get("mean"), accuracy.get("std"), loss.get("mean")),
            *([*trial.accuracies] or [None] * len(self.seeds)),
            *(trial.cycle, trial.epochs or None, round(trial.seconds, 3) or None),
            *(trial.worker, trial.attempts, trial.note),
        ]
        return ["" if value is None else value for value in row]

    def to_csv(self) -> str:
        """Return the trials as CSV."""
        return csv_lines([self.columns(), *map(self.row, self.trials)])


class ResultDisplay(Displayed):
    """Base of :class:`~xpnet.tuning.search.SearchResult`: the number of trials, and the winner."""

    def _facts(self: Any) -> Mapping[str, str]:
        states = {state: str(count) for state, count in self.outcome.counts().items() if count}
        best = self.best
        if best is None:
            return {"trials": str(len(self.trials)), **states, "best": "none"}
        point = ", ".join(
            f"{name} = {value:.4g}" if isinstance(value, float) else f"{name} = {value}"
            for name, value in best.point.items()
        )
        return {"trials": str(len(self.trials)), **states, "best": point, "score": f"{best.score:.4f}"}

    def _curves(self: Any) -> Mapping[str, Sequence[float]]:
        ranked = self.outcome.ranked()[:4]
        return {f"trial {trial.number}": [accuracy for _, accuracy in trial.curve] for trial in ranked}
