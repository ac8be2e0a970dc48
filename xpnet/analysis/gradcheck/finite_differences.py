"""Numerical derivatives of a tensor's entries, how far they may be from analytic ones, and how to improve them.

A central difference errs where the cost has a kink between its two sides, and where its third
derivative is large.  Such entries are computed again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from xpnet.analysis.gradcheck.problem import Flags, Floats, Indices

EPS64 = float(np.finfo(np.float64).eps)
_EPS32 = float(np.finfo(np.float32).eps)
NORM_TOLERANCE_FLOAT32 = 1e-4
# Round-off of a difference of mean losses, in units of eps64 * scale / (h sqrt(n)).  Every sample's loss carries
# errors of a few eps64 * scale; they are independent, so their mean is smaller by sqrt(n).  The errors of all
# 156,810 entries of the reports' networks stay below 4 of these units, with and without BN, for 3 and 9 layers; 20
# leaves room for deeper networks.
_ROUNDOFF = 20.0
_SHRINKS, _SMALLER = 3, 10.0
_TRIED_TOGETHER = 256

Slopes = Callable[[Indices, Floats, Floats], tuple[Floats, Flags]]
"""Slopes of one tensor's entries between two offsets; see :func:`~xpnet.analysis.gradcheck.slopes.naive_slopes`."""


@dataclass
class Differences:
    """Numerical derivatives of some entries of a tensor.

    Attributes:
        flat: Flat indices (k,).
        h: Step of each difference (k,).
        values: Derivatives of the loss alone (k,).
        kinked: Whether no difference avoids a kink (k,).
        one_sided: Whether the derivative is one-sided (k,).
    """

    flat: Indices
    h: Floats
    values: Floats
    kinked: Flags
    one_sided: Flags

    @classmethod
    def central(cls, flat: Indices, h: Floats, values: Floats, kinked: Flags) -> Differences:
        """Return the results of a first round of central differences."""
        return cls(flat, h.copy(), values, kinked, np.zeros(len(flat), bool))

    def replace(self, at: Indices, other: Differences, which: Flags) -> None:
        """Overwrite the derivatives at the positions `at` with the derivatives `which` of `other`."""
        for name in ("h", "values", "kinked", "one_sided"):
            getattr(self, name)[at] = getattr(other, name)[which]


@dataclass(frozen=True)
class Limits:
    """Which differences count as errors.

    Attributes:
        eps: Smallest denominator of a relative error.
        tolerance: Largest relative error that passes.
        scale: Size of the numbers whose round-off is the noise of a sample's loss.
        samples: Number of samples n.
        single: Whether the analytic gradient was computed in float32.
    """

    eps: float
    tolerance: float
    scale: float
    samples: int
    single: bool = False

    def floor(self, h: Floats) -> Floats:
        """Return the round-off of central differences with steps `h`."""
        return np.asarray(_ROUNDOFF * EPS64 * self.scale / (h * np.sqrt(self.samples)))

    def relative(self, a: Floats, b: Floats) -> Floats:
        """Return |a - b| / max(eps, |a| + |b|); infinity where a value is not finite."""
        with np.errstate(invalid="ignore"):
            error = np.abs(a - b) / np.maximum(self.eps, np.abs(a) + np.abs(b))
        return np.where(np.isnan(error), np.inf, error)

    def wrong(self, analytic: Floats, differences: Differences) -> Flags:
        """Return which entries (k,) have an error above both the tolerance and round-off, kinks left out.

        NaN counts as wrong: the comparisons are written so that they are false for NaN.
        """
        floor = self.floor(differences.h)
        if self.single and analytic.size:
            # Sums of float32 numbers err in proportion to the largest of them.
            largest = np.max(np.abs(differences.values), where=~differences.kinked, initial=0)
            floor = np.maximum(floor, NORM_TOLERANCE_FLOAT32 * largest)
        right = (np.abs(analytic - differences.values) <= floor) | (
            self.relative(analytic, differences.values) <= self.tolerance
        )
        return np.asarray(~right & ~differences.kinked)

    def better(self, analytic: Floats, differences: Differences, before: Floats) -> Flags:
        """Return which `differences` with smaller steps clear an entry whose error was `before` (k,)."""
        error = np.abs(analytic - differences.values)
        close = self.relative(analytic, differences.values) <= self.tolerance
        noise = (error <= self.floor(differences.h)) & (error <= before / _SMALLER)
        return np.asarray((close | noise) & ~differences.kinked)

    @property
    def zero(self) -> float:
        """Largest analytic gradient that counts as zero by construction: the round-off of a sum in its precision."""
        return (100 * _EPS32 if self.single else 1e4 * EPS64) * self.scale


def avoid_kinks(slopes: Slopes, differences: Differences) -> None:
    """Recompute the derivatives of entries that meet a kink, in place, until they avoid it or are given up.

    The kink lies to one side of the entry: on the other, the second-order difference

        f'(p) = (3 f(p) - 4 f(p - h) + f(p - 2h)) / (2 h) + O(h**2)

    is hardly noisier than the central one.  An input of exactly 0 counts as off, as in the backward pass; so the
    derivative is taken on the side where the input stays off.  If both sides have kinks, the step shrinks, at most 3
    times.
    """
    for attempt in range(_SHRINKS + 1):
        if attempt:
            again = np.flatnonzero(differences.kinked)
            h = differences.h[again] / _SMALLER
            differences.h[again] = h
            differences.values[again], differences.kinked[again] = slopes(differences.flat[again], h, -h)
        for sign in (-1.0, 1.0):
            again = np.flatnonzero(differences.kinked)
            if not again.size:
                return
            h = sign * differences.h[again]
            near, kinked_near = slopes(differences.flat[again], np.zeros(again.size), h)
            far, kinked_far = slopes(differences.flat[again], h, 2 * h)
            good = ~(kinked_near | kinked_far)
            again = again[good]
            differences.values[again] = ((3 * near - far) / 2)[good]
            differences.kinked[again], differences.one_sided[again] = False, True


def reduce_curvature(slopes: Slopes, differences: Differences, analytic: Floats, limits: Limits) -> None:
    """Recompute entries that look wrong with smaller steps, in place: a difference has an error of O(h**2).

    A wrong gradient stays wrong at any step.  Where the weights before BN are tiny, the usual step is large beside
    them, and the error comes from the cost's third derivative.  A smaller step is accepted if it brings the error below
    the tolerance, or to a tenth and below its own round-off.  Entries are tried worst first, until some of them stay
    wrong.
    """
    for _ in range(0, differences.flat.size, _TRIED_TOGETHER):
        wrong = np.flatnonzero(limits.wrong(analytic, differences))
        if not wrong.size:
            return
        error = np.abs(analytic - differences.values)
        left = wrong[np.argsort(-limits.relative(analytic, differences.values)[wrong])][:_TRIED_TOGETHER]
        for power in range(1, _SHRINKS + 1):
            h = differences.h[left] / _SMALLER**power
            some = Differences.central(differences.flat[left], h, *slopes(differences.flat[left], h, -h))
            avoid_kinks(slopes, some)
            good = limits.better(analytic[left], some, error[left])
            differences.replace(left[good], some, good)
            left = left[~good]
            if not left.size:
                break
        if left.size:
            return
