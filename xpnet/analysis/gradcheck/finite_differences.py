"""Derivatives of one tensor's entries, and what to do where a difference is not one.

A central difference errs where the cost has a kink between its two sides, and where its third
derivative is large.  Such entries are computed again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from xpnet.analysis.gradcheck.problem import Flags, Floats, Indices
from xpnet.analysis.gradcheck.tolerances import SMALLER, Differences

if TYPE_CHECKING:
    from xpnet.analysis.gradcheck.tolerances import Limits

SHRINKS = 3
_TRIED_TOGETHER = 256

Slopes = Callable[[Indices, Floats, Floats], tuple[Floats, Flags]]
"""Slopes of one tensor's entries between two offsets; see :func:`~xpnet.analysis.gradcheck.problem.naive_slopes`."""


def avoid_kinks(slopes: Slopes, found: Differences) -> None:
    """Compute entries that met a kink again, in place, until they meet none or are given up.

    The kink lies to one side of the entry: on the other, the second-order difference

        f'(p) = (3 f(p) - 4 f(p - h) + f(p - 2h)) / (2 h) + O(h**2)

    has no more noise than before, or little.  An input of exactly 0 counts as off, as in the
    backward pass; so the side on which it stays off is the one whose derivative is meant.  Where
    both sides have kinks, the step shrinks, 3 times at most.
    """
    for attempt in range(SHRINKS + 1):
        if attempt:
            again = np.flatnonzero(found.kinked)
            h = found.h[again] / SMALLER
            found.h[again] = h
            found.values[again], found.kinked[again] = slopes(found.flat[again], h, -h)
        for sign in (-1.0, 1.0):
            again = np.flatnonzero(found.kinked)
            if not again.size:
                return
            h = sign * found.h[again]
            near, kinked_near = slopes(found.flat[again], np.zeros(again.size), h)
            far, kinked_far = slopes(found.flat[again], h, 2 * h)
            good = ~(kinked_near | kinked_far)
            again = again[good]
            found.values[again] = ((3 * near - far) / 2)[good]
            found.kinked[again], found.one_sided[again] = False, True


def reduce_curvature(slopes: Slopes, found: Differences, analytic: Floats, limits: Limits) -> None:
    """Compute entries that look wrong again with smaller steps, in place: a difference errs by O(h**2).

    A wrong gradient stays wrong at any step.  Where the weights before BN are tiny, the usual step is
    large beside them, and what looks wrong is the cost's third derivative.  A smaller step is
    believed where it brings the error below the tolerance, or to a tenth and below its own round-off.
    Entries are tried worst first, and no further once some of them stay wrong.

    Args:
        slopes: Computes slopes of this tensor.
        found: Differences so far.
        analytic: Gradient of the loss alone by the backward pass (k,).
        limits: What counts as an error.
    """
    for _ in range(0, found.flat.size, _TRIED_TOGETHER):
        wrong = np.flatnonzero(limits.wrong(analytic, found))
        if not wrong.size:
            return
        error = np.abs(analytic - found.values)
        left = wrong[np.argsort(-limits.relative(analytic, found.values)[wrong])][:_TRIED_TOGETHER]
        for power in range(1, SHRINKS + 1):
            h = found.h[left] / SMALLER**power
            some = Differences.central(found.flat[left], h, *slopes(found.flat[left], h, -h))
            avoid_kinks(slopes, some)
            good = limits.better(analytic[left], some, error[left])
            found.replace(left[good], some, good)
            left = left[~good]
            if not left.size:
                break
        if left.size:
            return
