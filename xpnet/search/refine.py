"""From a coarse search to a finer one: the range of the next round, from what the last one found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from xpnet.search.space import Dimension, Space

Found = Sequence[tuple[Mapping[str, Any], float]]
"""Points with their scores."""


def refined(space: Space, found: Found, rule: str, best: int) -> Space:
    """Return the space of the next round.

    ``"two-best"``, the rule of report A: best ± d on every setting's own scale, where d is the distance of the two
    best points there; it may leave the range that was asked for.  ``"k-best"``: from the next tried value below the
    `best` best ones to the next above them, within the range.  A list keeps the values of the best points.  A
    setting in which they all agree reaches to the next tried values on both sides.

    Args:
        space: What was searched.
        found: Points with their scores; higher is better.
        rule: ``"two-best"`` or ``"k-best"``.
        best: How many points ``"k-best"`` goes around.
    """
    order = sorted(range(len(found)), key=lambda place: -found[place][1])
    if len(order) < 2:
        return space
    count = 2 if rule == "two-best" else best
    top = [found[place][0] for place in order[: max(1, count)]]
    everything = [point for point, _ in found]
    return Space(tuple(_dimension(d, top, everything, rule) for d in space.dimensions))


def two_best_range(first: float, second: float) -> tuple[float, float]:
    """Return first ± the distance of both."""
    distance = abs(first - second)
    return first - distance, first + distance


def _dimension(
    dimension: Dimension, top: Sequence[Mapping[str, Any]], everything: Sequence[Mapping[str, Any]], rule: str
) -> Dimension:
    name = dimension.name
    if dimension.values:
        kept = [value for value in dimension.values if value in [point[name] for point in top]]
        return replace(dimension, values=tuple(kept))
    low, high = dimension.low, dimension.high
    to = math.log10 if dimension.log else float
    tried = sorted({to(point[name]) for point in everything})
    mine = [to(point[name]) for point in top]
    if rule == "two-best" and mine[0] != mine[1]:
        start, stop = two_best_range(mine[0], mine[1])
        # Nothing was promised about what lies outside, but a share or a size stays one.
        floor, ceiling = _limits(dimension)
        start, stop = max(start, floor), min(stop, ceiling)
    else:
        start = max((value for value in tried if value < min(mine)), default=to(low))
        stop = min((value for value in tried if value > max(mine)), default=to(high))
    edges = (10**start, 10**stop) if dimension.log else (start, stop)
    if dimension.whole:
        edges = math.floor(edges[0] + 1e-9), math.ceil(edges[1] - 1e-9)
    if not edges[0] < edges[1]:
        return replace(dimension, low=low, high=high)
    return replace(dimension, low=float(edges[0]), high=float(edges[1]))


def _limits(dimension: Dimension) -> tuple[float, float]:
    """Return how far a range may grow, on its scale."""
    low, high = dimension.low, dimension.high
    if dimension.whole:
        return (0.0 if dimension.log else 1.0), math.inf
    if dimension.log:
        return -math.inf, math.inf
    ceiling = 0.999 if high < 1 else 1.0 if high == 1 else math.inf
    return (0.0 if low >= 0 else -math.inf), ceiling
