"""From two gradients to a verdict."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xpnet.analysis.gradcheck.finite_differences import SMALLER, Differences
from xpnet.analysis.gradcheck.problem import Flags, Floats
from xpnet.analysis.gradcheck.report import FAILED, PASSED, UNCHECKED, VANISHING, ZERO, Entries, TensorReport

EPS64 = float(np.finfo(np.float64).eps)
EPS32 = float(np.finfo(np.float32).eps)
NORM_TOLERANCE_FLOAT32 = 1e-4

_ROUNDOFF = 20.0
"""Round-off of a difference of mean losses, in units of eps64 * scale / (h sqrt(n)).

Every sample's loss carries errors of a few eps64 * scale, which are independent, so that their mean
has that over sqrt(n).  The errors of all 156,810 entries of the networks of the reports stay below 4
of these units, with BN and without, for 3 layers and 9; 20 leaves room for deeper networks.
"""


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


def judge(
    name: str,
    shape: tuple[int, ...],
    found: Differences,
    analytic: Floats,
    extra: Floats,
    h: Floats,
    limits: Limits,
    *,
    zero: bool,
) -> TensorReport:
    """Return the report on one tensor.

    Args:
        name: Its name.
        shape: Its shape, without the replica axis.
        found: Numerical derivatives of the whole cost, after all repetitions.
        analytic: Gradient of the cost by the backward pass (k,).
        extra: What of both gradients is not the loss's (k,).
        h: The usual steps (k,).
        limits: What counts as an error.
        zero: The gradient is zero by construction.
    """
    kept = ~found.kinked
    a, b = analytic[kept], found.values[kept]
    entries = Entries(found.flat[kept], a, b, limits.floor(found.h[kept]), limits.relative(a, b))
    usual = float(np.median(limits.floor(h))) if h.size else 0.0
    if zero:
        small = max(usual, limits.zero)
        wrong = ~((np.abs(a) <= small) & (np.abs(b) <= np.maximum(small, entries.floor)))
    else:
        wrong = limits.wrong(analytic, found)[kept]
    norms = float(np.linalg.norm(a) + np.linalg.norm(b))
    norm_error = (float(np.linalg.norm(a - b)) / norms if np.isfinite(norms) else np.inf) if norms else 0.0

    if not a.size:
        verdict, note = UNCHECKED, "every probe meets a kink" if found.flat.size else "not reached"
    elif zero:
        verdict, note = _judge_zero(a, b, wrong)
    elif wrong.any():
        verdict, note = FAILED, f"{int(wrong.sum()):,} of {wrong.size:,} entries are wrong"
    elif limits.single and norm_error > NORM_TOLERANCE_FLOAT32 and _size(b) > usual:
        verdict, note = FAILED, f"norm-wise error {norm_error:.1e}, above {NORM_TOLERANCE_FLOAT32:.0e}"
    elif _size(a) == 0 and _size(b) == 0:
        verdict, note = VANISHING, "every gradient is exactly zero: no sample reaches these parameters"
    elif max(_size(a - extra[kept]), _size(b - extra[kept])) < usual:
        without = "without the penalty " if np.any(extra) else ""
        verdict, note = VANISHING, f"vanishing: {without}both sides are below the round-off of the cost, {usual:.0e}"
    else:
        above = bool(np.any(entries.relative > limits.tolerance))
        verdict, note = PASSED, "the largest relative errors are those of gradients near round-off" if above else ""

    at, values = None, (0.0, 0.0)
    if a.size:
        candidates = np.flatnonzero(wrong) if wrong.any() else np.arange(a.size)
        worst = int(candidates[np.argmax(entries.relative[candidates])])
        at = tuple(int(index) for index in np.unravel_index(int(entries.flat[worst]), shape))
        values = float(a[worst]), float(b[worst])
    return TensorReport(
        name=name,
        shape=shape,
        checked=int(kept.sum()),
        of=int(np.prod(shape)),
        max_relative_error=_size(entries.relative),
        mean_relative_error=float(entries.relative.mean()) if a.size else 0.0,
        max_absolute_error=_size(a - b),
        norm_error=norm_error,
        at=at,
        analytic=values[0],
        numerical=values[1],
        failing=int(wrong.sum()),
        kinks=int(found.kinked.sum()),
        one_sided=int((kept & found.one_sided).sum()),
        smaller_steps=int((kept & (found.h < h)).sum()),
        floor=usual,
        verdict=verdict,
        note=note,
        entries=entries,
    )


def _judge_zero(a: Floats, b: Floats, wrong: Flags) -> tuple[str, str]:
    """Return verdict and note for biases in front of BN."""
    sizes = f"analytic at most {_size(a):.1e}, numerical at most {_size(b):.1e}"
    if wrong.any():
        return FAILED, f"BN subtracts this bias again, so its gradient must be zero, but is not: {sizes}"
    return ZERO, f"BN subtracts this bias again, so its gradient is zero: {sizes}"


def _size(values: Floats) -> float:
    """Return the largest of the sizes of `values`; infinity where one is no number."""
    return float(np.max(np.nan_to_num(np.abs(values), nan=np.inf, posinf=np.inf), initial=0))
