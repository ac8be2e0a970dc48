"""Tests of whether networks are better than guessing, on samples outside the training set.

A network is *no better than guessing* if its accuracy is not significantly above that of the best constant answer.
The level :data:`LEVEL` is shared by all networks that are compared (Bonferroni). One of two tests suffices:

- the accuracy is above that of guessing by a sufficient number of standard errors of a binomial share;
- the accuracy is above that of guessing, and the network's probabilities give the labels a sufficiently higher
  likelihood than the shares of the classes do. If the probabilities did not depend on the samples, this ratio of
  likelihoods would exceed k with a probability of at most 1 / k (Markov). This test can decide small or unbalanced
  sets, where the first one cannot.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data import Dataset
from xpnet.utils.plural import counted

# Probability that a guessing network passes as better: two standard errors for a single network.
LEVEL = 0.023


@dataclass(frozen=True)
class Guessing:
    """The best accuracy and loss on a set that are possible without its samples.

    Attributes:
        set: Name of the set: ``"validation"``, or ``"test"`` if there is no validation set.
        samples: Number of its samples.
        accuracy: Share of its most frequent class: no constant answer is right more often.
        loss: Entropy of the shares of its classes: no constant probabilities have a lower loss.
    """

    set: str
    samples: int
    accuracy: float
    loss: float

    @classmethod
    def on(cls, data: Dataset, which: str) -> Guessing:
        """Return the figures of guessing on one set of `data`, which must not be empty."""
        counts = class_counts(data, which)
        shares = counts[counts > 0] / counts.sum()
        return cls(which, int(counts.sum()), float(shares.max()), float(-(shares * np.log(shares)).sum()))

    @classmethod
    def of(cls, data: Dataset, sets: Sequence[str], among: int = 1) -> Guessing | None:
        """Return the figures for the first set that can tell `among` networks from guessing; None if none can."""
        return next((one for which in sets if (one := cls.on(data, which)).tells(among)), None)

    def tells(self, among: int = 1) -> bool:
        """Return whether a network with two thirds of the errors and loss of guessing would count as better."""
        return not self.no_better([1 - (1 - self.accuracy) * 2 / 3], [self.loss * 2 / 3], among)[0]

    def no_better(self, accuracies: Any, losses: Any, among: int | None = None) -> NDArray[np.bool_]:
        """Return which networks are no better than guessing, by their figures on the set (R,).

        `among` is the number of networks that are compared, R if not given.  The result is False for diverged networks.
        """
        accuracies, losses = np.asarray(accuracies, float), np.asarray(losses, float)
        among = among or len(accuracies)
        quantile = NormalDist().inv_cdf(1 - LEVEL / max(1, among))
        errors = quantile * math.sqrt(self.accuracy * (1 - self.accuracy) / self.samples)
        above = accuracies > self.accuracy
        better = (accuracies > self.accuracy + errors) | (above & self.likelier(losses, among))
        return np.asarray(np.isfinite(accuracies) & ~better)

    def likelier(self, losses: Any, among: int = 1) -> NDArray[np.bool_]:
        """Return whether networks' probabilities depend on the samples, by their losses (R,)."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self.samples * (self.loss - losses) > math.log(max(1, among) / LEVEL))

    def to_json(self, no_better: Iterable[int]) -> dict[str, Any]:
        """Return the form for files, with the numbers of the networks, or trials, that are no better."""
        return {**dataclasses.asdict(self), "no_better": [int(number) for number in no_better]}

    def sentence(self, begin: str, accuracies: Any, subject: str, consequence: str = "") -> str:
        """Return a sentence, without a full stop, that networks or trials are no better than guessing.

        `begin` is a beginning such as "The network is no better"; `subject` names the networks again, such as "this
        one".
        """
        good = np.asarray(accuracies, float)
        good = good[np.isfinite(good)]
        low, high = percent(float(good.min())), percent(float(good.max()))
        return (
            f"{begin} than guessing, as far as {counted(self.samples, f'{self.set} sample')} can tell{consequence}: "
            f"always answering the most frequent class is right for {percent(self.accuracy)}, "
            f"{subject} for {low if low == high else f'{low} to {high}'}"
        )

    def none_better(self, accuracies: Any, what: str) -> str:
        """Return a sentence, without a full stop, that none of several networks or trials is better than guessing."""
        return self.sentence(f"None of the {what} is better", accuracies, "these", ", so none is called the best")


def class_counts(data: Dataset, which: str) -> NDArray[np.int64]:
    """Return the number of samples of each class in a set (classes,)."""
    return np.bincount(np.asarray(getattr(data, which).labels, np.int64), minlength=data.classes)


def none_better(guessing: Mapping[str, Any] | None, numbers: Iterable[int]) -> bool:
    """Return whether, by the records in files, none of these networks or trials is better than guessing."""
    numbers = set(numbers)
    return bool(guessing) and bool(numbers) and numbers <= set((guessing or {}).get("no_better", ()))


def wilson(share: float, samples: int) -> tuple[float, float]:
    """Return the interval that holds the share of all samples with 95 %, from the share of so many (Wilson, 1927)."""
    z = NormalDist().inv_cdf(0.975)
    centre = (share + z * z / (2 * samples)) / (1 + z * z / samples)
    width = z * math.sqrt(share * (1 - share) / samples + (z / (2 * samples)) ** 2) / (1 + z * z / samples)
    return max(0.0, centre - width), min(1.0, centre + width)


def percent(share: float) -> str:
    """Return a share in percent."""
    return f"{100 * share:.2f} %"
