"""Tests of whether one run is better than another, which take account of the seeds.

Sources: paired t and Welch's t (Welch, Biometrika 34, 1947); the prediction interval of one further value
(Hahn and Meeker, Statistical Intervals, 1991, section 4.7); McNemar's exact test (Psychometrika 12, 1947) with the
interval of Agresti and Min (Statistics in Medicine 24, 2005); Newcombe's hybrid score interval, his method 10
(Statistics in Medicine 17, 1998), with Fisher's exact test; Holm's correction (Scandinavian Journal of Statistics 6,
1979).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
# If differences of accuracies vary by less than this, the variation is rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Difference:
    """The difference between two values or samples: second minus first.

    Attributes:
        difference: Second minus first.
        low: Lower end of its 95 % confidence interval; None if it cannot be estimated.
        high: Upper end of that interval; None if it cannot be estimated.
        p: Probability of a difference at least this large under the null hypothesis; None if it cannot be estimated.
        method: The test, in words.
        seeds: Whether the test accounts for the spread over seeds.
        p_holm: `p` after Holm's correction for all differences that are compared together.
    """

    difference: float
    low: float | None
    high: float | None
    p: float | None
    method: str
    seeds: bool
    p_holm: float | None = None

    @property
    def significant(self) -> bool | None:
        """Whether the difference is significant at 5 % after the correction; None if unknown."""
        p = self.p if self.p_holm is None else self.p_holm
        return None if p is None else p < 1 - CONFIDENCE


def paired(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Compare values of the same seeds: a paired t test of at least two pairs."""
    from scipy.stats import ttest_rel

    differences = np.asarray(second, float) - np.asarray(first, float)
    n = differences.size
    if n < 2 or differences.shape != np.shape(first):
        raise ValueError(f"paired: needs at least 2 pairs, got {np.shape(first)} and {np.shape(second)}")
    mean, method = float(differences.mean()), f"paired t test over {n} seeds that both have"
    if differences.std(ddof=1) < _ROUNDING:
        alike = "no difference with any seed" if abs(mean) < _ROUNDING else "the same difference with every seed"
        return _without_spread(mean, f"{method}: {alike}")
    return _of_test(mean, ttest_rel(second, first), method)


def welch(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Compare values of different seeds, at least two of each: Welch's t test."""
    from scipy.stats import ttest_ind

    a, b = np.asarray(first, float), np.asarray(second, float)
    if min(a.size, b.size) < 2:
        raise ValueError(f"welch: needs at least 2 values of each, got {a.size} and {b.size}")
    mean, method = float(b.mean() - a.mean()), f"Welch's t test over {a.size} and {b.size} seeds"
    if a.var(ddof=1) / a.size + b.var(ddof=1) / b.size < _ROUNDING**2:
        return _without_spread(mean, f"{method}: no spread over seeds")
    return _of_test(mean, ttest_ind(b, a, equal_var=False), method)


def one_against_many(one: float, many: Sequence[float]) -> Difference:
    """Compare several seeds (first) with a single one (second), assuming equal spread."""
    from scipy.stats import t

    values = np.asarray(many, float)
    n = values.size
    if n < 2:
        raise ValueError(f"one_against_many: needs at least 2 values, got {n}")
    mean, error = float(one - values.mean()), float(values.std(ddof=1)) * np.sqrt(1 + 1 / n)
    method = f"prediction interval from {n} seeds for the single one, as if its spread were theirs"
    if values.std(ddof=1) < _ROUNDING:
        return _without_spread(mean, f"{method}: no spread")
    low, high = t.interval(CONFIDENCE, n - 1, mean, error)
    return Difference(mean, float(low), float(high), float(2 * t.sf(abs(mean) / error, n - 1)), method, True)


def _of_test(mean: float, test: Any, method: str) -> Difference:
    low, high = test.confidence_interval(CONFIDENCE)
    return Difference(mean, float(low), float(high), float(test.pvalue), method, True)


def _without_spread(mean: float, method: str) -> Difference:
    return Difference(mean, None, None, 1.0 if abs(mean) < _ROUNDING else None, method, True)


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Difference:
    """Compare two networks on the same samples, by whether each was right: McNemar's exact test."""
    from scipy.stats import binomtest, norm

    a, b = np.asarray(first, bool), np.asarray(second, bool)
    if a.shape != b.shape or a.size == 0:
        raise ValueError(f"mcnemar: needs the same samples, got {a.shape} and {b.shape}")
    n, gained, lost = a.size, int((b & ~a).sum()), int((a & ~b).sum())
    p = float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    # Half a sample is added to each of the four cells.
    total, up, down = n + 2, gained + 0.5, lost + 0.5
    centre = (up - down) / total
    width = norm.ppf((1 + CONFIDENCE) / 2) * np.sqrt(up + down - (up - down) ** 2 / total) / total
    method = f"McNemar's exact test: {gained} of {n:,} samples right only in the second, {lost} only in the first"
    return Difference((gained - lost) / n, float(centre - width), float(centre + width), p, method, False)


def two_shares(first: float, second: float, n_first: int, n_second: int) -> Difference:
    """Compare two accuracies on `n_first` and `n_second` samples, as if the samples were independent."""
    from scipy.stats import binomtest, fisher_exact

    a, b = round(first * n_first), round(second * n_second)
    low_a, high_a = binomtest(a, n_first).proportion_ci(CONFIDENCE, "wilson")
    low_b, high_b = binomtest(b, n_second).proportion_ci(CONFIDENCE, "wilson")
    p = float(fisher_exact([[a, n_first - a], [b, n_second - b]]).pvalue)
    share_a, share_b = a / n_first, b / n_second
    difference = share_b - share_a
    low = difference - np.hypot(share_b - low_b, high_a - share_a)
    high = difference + np.hypot(high_b - share_b, share_a - low_a)
    method = f"binomial, on {n_first:,} and {n_second:,} samples as if they were different ones"
    return Difference(difference, float(low), float(high), p, method, False)


def holm(differences: Sequence[Difference]) -> list[Difference]:
    """Return the differences with Holm's correction: the k-th smallest p of m is multiplied by m - k + 1."""
    known = [(d.p, i) for i, d in enumerate(differences) if d.p is not None]
    corrected, largest = list(differences), 0.0
    for rank, (p, i) in enumerate(sorted(known)):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        corrected[i] = replace(corrected[i], p_holm=largest)
    return corrected
