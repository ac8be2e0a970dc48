"""From a coarse search to a finer one: the range of the next round, from what the last one found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from xpnet.tuning.space import Dimension, Space

Point = Mapping[str, Any]


def refined(space: Space, found: Sequence[Point], tried: Sequence[Point], rule: str, best: int) -> Space:
    """Return the space of the next round.

    ``"two-best"``, the rule of report A: best ± d on every setting's own scale, where d is the distance of the two
    best points there; it may leave the range that was asked for, but not what a setting can be, and whole numbers,
    which are sizes and lengths, stay within.  ``"k-best"``: from the next tried value below the `best` best ones to the
    next above them, within the range.  A list keeps the values of the best points.  A setting in which they all agree
    reaches to the next tried values on both sides.

    Args:
        space: What was searched.
        found: Points that were trained to the end, the best first.
        tried: All points.
        rule: ``"two-best"`` or ``"k-best"``.
        best: How many points ``"k-best"`` goes around.
    """
    if len(found) < 2:
        return space
    top = found[: 2 if rule == "two-best" else best]
    return Space(tuple(_dimension(d, top, tried, rule) for d in space.dimensions))


def two_best_range(first: float, second: float) -> tuple[float, float]:
    """Return first ± the distance of both."""
    distance = abs(first - second)
    return first - distance, first + distance


def _dimension(dimension: Dimension, top: Sequence[Point], everything: Sequence[Point], rule: str) -> Dimension:
    name = dimension.name
    if dimension.values:
        kept = [value for value in dimension.values if value in [point[name] for point in top]]
        return replace(dimension, values=tuple(kept))
    low, high = dimension.low, dimension.high
    to = math.log10 if dimension.log else float
    tried_here = sorted({to(point[name]) for point in everything})
    mine = [to(point[name]) for point in top]
    if rule == "two-best" and mine[0] != mine[1]:
        start, stop = two_best_range(mine[0], mine[1])
        floor, ceiling = dimension.limits()
        start, stop = max(start, to(floor)), min(stop, to(ceiling))
    else:
        start = max((value for value in tried_here if value < min(mine)), default=to(low))
        stop = min((value for value in tried_here if value > max(mine)), default=to(high))
    edges = (10**start, 10**stop) if dimension.log else (start, stop)
    if dimension.whole:
        edges = math.floor(edges[0] + 1e-9), math.ceil(edges[1] - 1e-9)
    if not edges[0] < edges[1]:
        return replace(dimension, low=low, high=high)
    return replace(dimension, low=float(edges[0]), high=float(edges[1]))
