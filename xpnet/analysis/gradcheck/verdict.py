"""From two gradients to a verdict."""

from __future__ import annotations

import numpy as np

from xpnet.analysis.gradcheck.problem import Flags, Floats
from xpnet.analysis.gradcheck.report import FAILED, PASSED, UNCHECKED, VANISHING, ZERO, Entries, TensorReport
from xpnet.analysis.gradcheck.tolerances import NORM_TOLERANCE_FLOAT32, Differences, Limits

"""Round-off of a difference of mean losses, in units of eps64 * scale / (h sqrt(n)).

Every sample's loss carries errors of a few eps64 * scale, which are independent, so that their mean
has that over sqrt(n).  The errors of all 156,810 entries of the networks of the reports stay below 4
of these units, with BN and without, for 3 layers and 9; 20 leaves room for deeper networks.
"""


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
