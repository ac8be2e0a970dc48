"""Numerical derivatives, and how far they may be from analytic ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xpnet.analysis.gradcheck.problem import Flags, Floats, Indices

EPS64 = float(np.finfo(np.float64).eps)
EPS32 = float(np.finfo(np.float32).eps)
NORM_TOLERANCE_FLOAT32 = 1e-4
_ROUNDOFF = 20.0

SMALLER = 10.0


@dataclass
class Differences:
    """Numerical derivatives of some entries of a tensor.

    Attributes:
        flat: Flat indices (k,).
        h: Step that each was computed with (k,).
        values: Derivatives of the loss alone (k,).
        kinked: No way was found around a kink (k,).
        one_sided: The derivative is that of one side (k,).
    """

    flat: Indices
    h: Floats
    values: Floats
    kinked: Flags
    one_sided: Flags

    @classmethod
    def central(cls, flat: Indices, h: Floats, values: Floats, kinked: Flags) -> Differences:
        """Return what a first round of central differences gave."""
        return cls(flat, h.copy(), values, kinked, np.zeros(len(flat), bool))

    def replace(self, at: Indices, other: Differences, which: Flags) -> None:
        """Put the derivatives `which` of another set in the places `at`."""
        for name in ("h", "values", "kinked", "one_sided"):
            getattr(self, name)[at] = getattr(other, name)[which]


@dataclass(frozen=True)
class Limits:
    """What counts as an error.

    Attributes:
        eps: Smallest denominator of a relative error.
        tolerance: Largest relative error that passes.
        scale: Size of the numbers whose round-off is the noise of a sample's loss.
        samples: Number of samples n.
        single: The analytic gradient was computed in float32.
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
        """Return |a - b| / max(eps, |a| + |b|); infinity where a value is no finite number."""
        with np.errstate(invalid="ignore"):
            error = np.abs(a - b) / np.maximum(self.eps, np.abs(a) + np.abs(b))
        return np.where(np.isnan(error), np.inf, error)

    def wrong(self, analytic: Floats, found: Differences) -> Flags:
        """Return which entries (k,) have an error above both the tolerance and round-off; kinks have none.

        What is no number is wrong: comparisons with it are false.
        """
        floor = self.floor(found.h)
        if self.single and analytic.size:
            # Sums of float32 numbers err in proportion to the largest of them.
            largest = np.max(np.abs(found.values), where=~found.kinked, initial=0)
            floor = np.maximum(floor, NORM_TOLERANCE_FLOAT32 * largest)
        right = (np.abs(analytic - found.values) <= floor) | (self.relative(analytic, found.values) <= self.tolerance)
        return np.asarray(~right & ~found.kinked)

    def better(self, analytic: Floats, found: Differences, before: Floats) -> Flags:
        """Return which differences `found` with smaller steps clear an entry that had the error `before` (k,)."""
        error = np.abs(analytic - found.values)
        close = self.relative(analytic, found.values) <= self.tolerance
        noise = (error <= self.floor(found.h)) & (error <= before / SMALLER)
        return np.asarray((close | noise) & ~found.kinked)

    @property
    def zero(self) -> float:
        """What an analytic gradient may be that is zero by construction: the round-off of sums of its precision."""
        return (100 * EPS32 if self.single else 1e4 * EPS64) * self.scale
