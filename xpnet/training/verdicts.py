"""What can be said against a training once its figures are known: rules over figures, and nothing else."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.config.definitions import NetworkConfig, TrainConfig
from xpnet.data import Dataset
from xpnet.training.guessing import Guessing, class_counts, percent
from xpnet.utils.plural import counted

if TYPE_CHECKING:
    from xpnet.training.result import TrainResult

# Three epochs of 10,000 samples in batches of 100: by then running statistics have forgotten the first batches, and a
# cycle of the learning rate is more than a few steps up and down.
FEW_STEPS = 300
# Accuracies wander by two or three points from epoch to epoch while the rate is high; five are a loss. In small sets
# chance moves more than that: the loss must also be so many standard errors of a difference.
FAR_BELOW, FAR_ERRORS = 0.05, 3.0
# Probabilities that are the shares of the classes have the entropy as loss. A training loss of twice that comes from
# large logits that are wrong on the very samples that were trained on. On other samples overfitting alone makes some
# multiple of it, but not ten times as much.
TALL_LOSS = {"train": 2.0, "validation": 10.0, "test": 10.0}
# A lambda or a rate above these, or a rate or initial weights below them, is the first suspect.
LARGE_LAMBDA, LARGE_RATE, SMALL_RATE, SMALL_INIT = 0.1, 1.0, 1e-4, 0.02
# Combinations of settings that a sentence names.
_NAMED = 4
_SETS = ("validation", "test")
_WORDS = {"train": "training", "validation": "validation", "test": "test"}
_SMALLER_RATE = "a smaller learning rate (xpnet lr-range suggests one)"


def judged(
    result: TrainResult,
    network: NetworkConfig,
    config: TrainConfig,
    data: Dataset,
    rows: Sequence[Mapping[str, Any]],
) -> TrainResult:
    """Return a result of training with what guessing gives and with warnings.

    Args:
        result: The result.
        network: The networks' settings.
        config: How they were trained.
        data: On what.
        rows: What sets each network apart: its seed, and what varies.
    """
    known = [which for which in _SETS if np.isfinite(getattr(result, which).accuracies).any()]
    guessing = Guessing.of(data, known, len(rows))
    told = _Training(result, network, config, data, rows[: len(result.test.losses)], guessing)
    return dataclasses.replace(result, guessing=guessing, warnings=told.warnings(), no_better=told.guess)


def few_steps(steps: int, config: TrainConfig, samples: int) -> list[str]:
    """Return a sentence where a training is too short to say much, and what would be longer.

    Args:
        steps: How many it has.
        config: Its settings.
        samples: Training samples.
    """
    if steps >= FEW_STEPS:
        return []
    length = config.length(samples)
    name, one = "epochs", length.steps_per_epoch
    if config.epochs is None and config.schedule == "triangular":
        name, one = "cycles", 2 * length.n_s
    enough = -(-FEW_STEPS // one)
    words = (
        f"{counted(steps, 'step')} {'is' if steps == 1 else 'are'} few, and what comes of fewer than {FEW_STEPS} says "
    )
    return [f"{words}little about the settings; try {name} = {enough}, which is {counted(enough * one, 'step')}."]


@dataclass
class _Training:
    """A training that has ended, and the rules."""

    result: TrainResult
    network: NetworkConfig
    config: TrainConfig
    data: Dataset
    rows: Sequence[Mapping[str, Any]]
    guessing: Guessing | None

    def __post_init__(self) -> None:
        self.guess: list[int] = []
        self.counts = {which: class_counts(self.data, which) for which in _WORDS}
        if self.guessing is not None:
            metrics = getattr(self.result, self.guessing.set)
            self.accuracies, self.losses = metrics.accuracies, metrics.losses
            self.guess = np.flatnonzero(self.guessing.no_better(self.accuracies, self.losses)).tolist()

    def warnings(self) -> list[str]:
        """Return all there is to say, the gravest first."""
        said: list[str] = []
        if self.guessing is not None:
            said += self._at_chance(self.guessing) + self._far_below(self.guessing)
        said += self._tall_loss()
        if not self.result.interrupted:
            said += few_steps(self.result.steps, self.config, len(self.data.train))
        return said

    # -- rules ----------------------------------------------------------------------------

    def _at_chance(self, guessing: Guessing) -> list[str]:
        if not self.guess:
            return []
        known = int(np.isfinite(self.accuracies).sum())
        if len(self.rows) > 1 and known == len(self.guess) > 1:
            words = guessing.none_better(self.accuracies, f"{known} networks")
        else:
            who = "this one" if len(self.guess) == 1 else "these"
            words = guessing.sentence(f"{self._who(self.guess)} no better", self.accuracies[self.guess], who)
        if len(self.guess) == 1:
            words += self._more_of_one(guessing, self.guess[0])
        elif all(self._same_answer(r) is not None for r in self.guess):
            words += "; each takes every sample for one class"
        return [f"{words}. {_hints([hint for r in self.guess for hint in self._against_chance(r)])}"]

    def _more_of_one(self, guessing: Guessing, r: int) -> str:
        """Return what else is known of a network that guesses."""
        loss, words = float(self.losses[r]), ""
        if (answer := self._same_answer(r)) is not None:
            words += f"; it takes every sample for the class {answer}"
        elif (best := self._fallen_from(guessing, r)) is not None:
            words += f"; it had {percent(best[1])} after epoch {best[0]}"
        if guessing.likelier(loss):
            return words + f"; its loss {_loss(loss)} is below {guessing.loss:.4g}, so its probabilities tell something"
        return words + f"; its loss is {_loss(loss)}, and {guessing.loss:.4g} for the shares of the classes"

    def _tall_loss(self) -> list[str]:
        """Say for the first set for which it holds that losses are far above that of guessing."""
        for which, tall in TALL_LOSS.items():
            losses, usual = getattr(self.result, which).losses, Guessing.on(self.data, which).loss
            members = sorted(set(np.flatnonzero(losses > tall * usual).tolist()) - set(self.guess))
            if members and usual > 0:
                words = f"{self._who(members)} far worse in loss than guessing: {_loss(losses[members].max())} on the "
                words += f"{_WORDS[which]} set, where the shares of the classes give {usual:.4g}. "
                tries = [_SMALLER_RATE] if self.network.batch_norm else [_SMALLER_RATE, "batch normalisation"]
                return [words + _hints(tries)]
        return []

    def _far_below(self, guessing: Guessing) -> list[str]:
        others = sorted(set(np.flatnonzero(np.isfinite(self.accuracies)).tolist()) - set(self.guess))
        fallen = {r: best for r in others if (best := self._fallen_from(guessing, r)) is not None}
        if not fallen:
            return []
        members = list(fallen)
        worst = max(members, key=lambda r: fallen[r][1] - self.accuracies[r])
        epoch, best_accuracy = fallen[worst]
        words = f"{self._who(members)} far below {'its' if len(members) == 1 else 'their'} own best"
        words += ", such as " if len(members) > 1 else ": "
        words += f"{percent(float(self.accuracies[worst]))} of the validation samples at the end, and "
        tries = [_SMALLER_RATE, "fewer epochs"]
        if self.config.schedule == "constant":
            tries = ["a rate that falls (schedule = triangular, cosine or decay)", _SMALLER_RATE]
        return [f"{words}{percent(best_accuracy)} after epoch {epoch}. {_hints(tries)}"]

    # -- what is known of one network -----------------------------------------------------

    def _fallen_from(self, guessing: Guessing, r: int) -> tuple[int, float] | None:
        """Return the epoch of a network's best validation accuracy, from 1, with it, where the last is far below."""
        column = self.result.history.columns()["validation.accuracies"][:, r]
        if guessing.set != "validation" or not np.isfinite(column).any():
            return None
        epoch = int(np.nanargmax(column))
        best, last = float(column[epoch]), float(self.accuracies[r])
        error = math.sqrt((best * (1 - best) + last * (1 - last)) / guessing.samples)
        return (epoch + 1, best) if best - last > max(FAR_BELOW, FAR_ERRORS * error) else None

    def _same_answer(self, r: int) -> str | None:
        """Return the class for which a network takes every sample, if its hits are those of one class in every set."""
        classes = np.ones(self.data.classes, bool)
        for which, counts in self.counts.items():
            accuracy = float(getattr(self.result, which).accuracies[r])
            if not np.isfinite(accuracy):
                return None  # too little to go by: a single set may have a class of just so many samples
            classes &= counts == round(accuracy * int(counts.sum()))
        return self.data.class_names[int(np.argmax(classes))] if classes.any() else None

    def _of(self, value: Any, r: int) -> Any:
        """Return a network's own value of a setting that may vary."""
        return value[r] if isinstance(value, tuple) else value

    def _rate(self, r: int) -> float:
        """Return a network's highest learning rate."""
        return float(self._of(self.config.eta_max if self.config.schedule == "triangular" else self.config.eta, r))

    # -- what to try ----------------------------------------------------------------------

    def _against_chance(self, r: int) -> list[str]:
        if self.guessing is not None and self.guessing.likelier(self.losses[r]):
            return ["figures by class, which xpnet evaluate prints: accuracy hides rare classes"]
        found, rate = [], self._rate(r)
        if self._of(self.config.lam, r) >= LARGE_LAMBDA:
            found.append("a smaller lambda")
        plain = bool(self.network.hidden) and not self.network.batch_norm
        small = isinstance(init := self._of(self.network.init, r), float) and init <= SMALL_INIT
        if rate >= LARGE_RATE or (plain and not small and rate > SMALL_RATE):
            found.append(_SMALLER_RATE)
        if plain:  # from layer to layer small weights, or units that are dead, let less of the sample through
            found += ["init = he", "batch normalisation"] if small else ["batch normalisation"]
        if self.result.steps < FEW_STEPS:
            found.append("more steps")
        if rate <= SMALL_RATE:
            found.append("a larger learning rate (xpnet lr-range suggests one)")
        return found or ["other learning rates (xpnet lr-range suggests some)"]

    # -- words ----------------------------------------------------------------------------

    def _who(self, members: Sequence[int]) -> str:
        """Return which networks a sentence is about, with its verb."""
        if len(self.rows) == 1:
            return "The network is"
        return f"{len(members)} of {len(self.rows)} networks ({_named(self.rows, members)}) {_are(members)}"


def _named(rows: Sequence[Mapping[str, Any]], members: Sequence[int]) -> str:
    """Return what sets networks apart: the combinations of settings that they have, or their seeds."""
    groups: dict[str, list[bool]] = {}
    chosen = set(members)
    for r, row in enumerate(rows):
        own = {name: value for name, value in row.items() if name != "seed"} or dict(row)
        words = ", ".join(f"{n} {f'{v:g}' if isinstance(v, float) else v}" for n, v in own.items())
        groups.setdefault(words, []).append(r in chosen)
    found = [
        words if all(among) else f"{words}: {sum(among)} of {len(among)}"
        for words, among in groups.items()
        if any(among)
    ]
    more = len(found) - _NAMED
    return "; ".join(found[:_NAMED]) + (f"; and {more} more" if more > 0 else "")


def _hints(tries: Sequence[str]) -> str:
    """Return what to try, each once, with what would help most networks first."""
    order = sorted(dict.fromkeys(tries), key=lambda hint: -tries.count(hint))
    return f"Try {' or '.join([*([', '.join(order[:-1])] if order[1:] else []), order[-1]])}."


def _are(members: Sequence[int]) -> str:
    return "is" if len(members) == 1 else "are"


def _loss(value: float) -> str:
    return f"{value:.4g}" if value < 1e4 or value >= 1e9 else f"{value:,.0f}"
