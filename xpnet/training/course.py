"""The course of a training: curves by epoch, and what conclusions compare in them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from xpnet.config.cycles import CYCLIC, cycle_epochs
from xpnet.training.advice import Situation

# An accuracy that gains less, or less than its standard error, does not rise.
_NO_GAIN = 0.01
# Cycles of fewer epochs cannot be seen in curves by epoch.
_EPOCHS = 3
# Schedules whose rate has fallen at the end, so that late progress says little.
_ANNEALED = ("cosine", "one-cycle", "coslog4")


@dataclass(frozen=True)
class Course:
    """The course of one combination of settings, as means over its networks.

    Attributes:
        who: The subject of the sentence, in the singular.
        train_accuracy, validation_accuracy, train_loss, validation_loss, eta: By epoch (E,).
        final: Accuracies of full passes at the end, by set: ``"train"`` and ``"validation"``.
        samples: Number of samples, by set.
        schedule: The schedule of the learning rate.
        at: Settings and data, on which advice depends.
        stopped: Whether `patience` ended the training.
    """

    who: str
    train_accuracy: NDArray[np.float64]
    validation_accuracy: NDArray[np.float64]
    train_loss: NDArray[np.float64]
    validation_loss: NDArray[np.float64]
    eta: NDArray[np.float64]
    final: Mapping[str, float]
    samples: Mapping[str, int]
    schedule: str
    at: Situation = field(default_factory=Situation)
    stopped: bool = False

    @property
    def epochs(self) -> int:
        """Number of epochs."""
        return len(self.eta)

    @property
    def cyclic(self) -> bool:
        """Whether the learning rate starts again after it has fallen."""
        return self.schedule in CYCLIC

    @property
    def gap(self) -> float:
        """Training accuracy minus validation accuracy, at the end."""
        return self.final["train"] - self.final["validation"]

    @property
    def gap_error(self) -> float:
        """Standard error of :attr:`gap`."""
        parts = [p * (1 - p) / max(1, self.samples[which]) for which, p in self.final.items() if which in self.samples]
        return math.sqrt(sum(parts))

    @property
    def no_gain(self) -> float:
        """Gain of the validation accuracy that is none: chance alone explains it."""
        return max(_NO_GAIN, self.validation_error)

    @property
    def validation_error(self) -> float:
        """Standard error of the validation accuracy at the end, of one network."""
        p = self.final["validation"]
        return math.sqrt(p * (1 - p) / max(1, self.samples.get("validation", 1)))

    @property
    def best_is_last(self) -> bool:
        """Whether the epoch with the best validation accuracy is one of the last tenth, or no better than the last."""
        accuracy = self.validation_accuracy
        late = int(accuracy.argmax()) >= self.epochs - 1 - self.epochs // 10
        return late or bool(accuracy.max() - accuracy[-1] < self.no_gain)

    def earlier(self) -> int:
        """Return the position of an epoch to compare the last one with: about two thirds of the training."""
        two_thirds = self.epochs - 1 - self.epochs // 3
        before = self.cycle_ends()[:-1] if self.cyclic else []
        return max([end for end in before if end <= two_thirds] or before[-1:] or [two_thirds])

    def compared(self, curve: NDArray[np.float64]) -> tuple[float, float]:
        """Return the values of a curve to compare: at the ends of an earlier and the last cycle, or means of thirds."""
        before, third = self.earlier(), self.epochs // 3
        if self.cyclic and not self.annealed:
            return float(curve[before]), float(curve[self.cycle_ends()[-1]])
        return float(curve[-2 * third : -third].mean()), float(curve[-third:].mean())

    @property
    def annealed(self) -> bool:
        """Whether the rate has fallen towards the end, so that progress, or none, says little about further epochs."""
        return self.schedule in _ANNEALED or (self.cyclic and len(self.cycle_ends()) < 2)

    @property
    def first_cycle(self) -> float:
        """Epochs of the first cycle of the learning rate; 0 if it has none, or this is unknown."""
        if not self.cyclic or "train" not in self.samples:
            return 0.0
        train = self.at.train
        return cycle_epochs(train.n_s, max(1, train.length(self.samples["train"], self.at.network).steps_per_epoch))

    def first_peak(self) -> int:
        """Return the position of the epoch up to which the learning rate rises; 0 if it falls from the beginning."""
        falls = np.flatnonzero(np.diff(self.eta) < 0)
        rises = bool(self.epochs > 1 and self.eta[1] > self.eta[0])
        return (int(falls[0]) if falls.size else self.epochs - 1) if rises else 0

    def cycle_ends(self) -> list[int]:
        """Return the positions of the epochs that end a cycle of the learning rate: it falls there, and not after."""
        eta = np.append(self.eta, np.inf)
        return [e for e in range(1, self.epochs) if eta[e] < eta[e - 1] and eta[e] <= eta[e + 1]]

    def cycle_end(self) -> float | None:
        """Return in how many epochs an unfinished cycle would end; None if none, or a later one of growing cycles."""
        cycle = self.first_cycle
        known = self.schedule == "triangular" or self.epochs < cycle
        if not known or cycle < _EPOCHS or (end := round(math.ceil(self.epochs / cycle) * cycle, 2)) <= self.epochs:
            return None
        return int(end) if end % 1 == 0 else end
