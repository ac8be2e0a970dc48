"""Combinations of settings that are compared, and how far chance reaches between two of them."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Probability that chance alone makes a best combination.
LEVEL = 0.05
# Fewer seeds say too little about their spread; so many are a beginning.
FEW_SEEDS = 3


@dataclass(frozen=True)
class Candidate:
    """A combination of settings.

    Attributes:
        values: Its settings that vary, without the seed.
        words: The same in words, such as ``lambda 0.01``.
        accuracies: Validation accuracy of each of its networks (n,), in the same order of seeds; NaN where diverged.
        losses: Their validation losses (n,); None if they are unknown.
    """

    values: Mapping[str, Any]
    words: str
    accuracies: NDArray[np.float64]
    losses: NDArray[np.float64] | None = None

    @functools.cached_property
    def mean(self) -> float:
        """Mean accuracy; -1 if a network diverged."""
        return float(np.nan_to_num(self.accuracies, nan=-1.0).mean())

    @property
    def short(self) -> str:
        """Its words; the value alone if one setting varies."""
        return self.words.partition(" ")[2] if len(self.values) == 1 else self.words

    @property
    def known(self) -> bool:
        """Whether no network diverged."""
        return bool(np.isfinite(self.accuracies).all())


@dataclass(frozen=True)
class Gap:
    """How far the best combination is above another one, and how far chance reaches.

    Attributes:
        points: Difference of the mean accuracies.
        error: Standard error of it over seeds; NaN with fewer than three.
        by_seeds, by_samples: Differences up to these are explained by seeds (0 with fewer than three) or samples.
    """

    points: float
    error: float
    by_seeds: float
    by_samples: float

    @classmethod
    def between(cls, best: Candidate, other: Candidate, samples: int, others: int) -> Gap:
        """Return the gap, one of `others` that are looked at together."""
        level, n = LEVEL / max(1, others), len(best.accuracies)
        p, q = best.mean, other.mean
        by_samples = NormalDist().inv_cdf(1 - level / 2) * math.sqrt((p * (1 - p) + q * (1 - q)) / max(1, samples))
        if n < FEW_SEEDS:
            return cls(p - q, math.nan, 0.0, by_samples)
        error = float((best.accuracies - other.accuracies).std(ddof=1)) / math.sqrt(n)
        return cls(p - q, error, t_quantile(level, n - 1) * error, by_samples)

    @property
    def real(self) -> bool:
        """Whether the difference is beyond what seeds explain, or what samples do where seeds are too few."""
        return self.points > (self.by_samples if math.isnan(self.error) else self.by_seeds)


def t_quantile(level: float, freedom: int) -> float:
    """Return what the absolute value of Student's t exceeds with probability `level`."""
    from scipy.special import stdtrit  # loaded only where several seeds are compared: it takes a tenth of a second

    return float(stdtrit(freedom, 1 - level / 2))
