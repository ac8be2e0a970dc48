"""Points of a space, drawn as asked: a pure function of the space, the number and the seed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.errors import ConfigError
from xpnet.tuning.space import Dimension, Space
from xpnet.utils.rng import Purpose, generator

# Even ones, random ones, and those that learn from what is known.
EVEN = ("grid", "log-grid", "linspace")
RANDOM = ("random", "uniform", "log-uniform", "sobol")
ADAPTIVE = ("tpe", "gp", "cmaes")


def draw(space: Space, how: str, count: int, seed: int, path: int = 0) -> list[dict[str, Any]]:
    """Return points of `space`.

    Args:
        space: What varies.
        how: ``"grid"``, ``"log-grid"``: all combinations of evenly spaced values, on the axis or in the exponent;
            ``"linspace"``: evenly spaced, all settings advance together; ``"uniform"``, ``"log-uniform"``: random,
            even on the axis or in the exponent; ``"random"``: random, each setting on its own scale; ``"sobol"``:
            the same, but a scrambled Sobol sequence, which leaves no gaps (Owen, 1998).  Lists give all their values
            to a grid, evenly spaced ones to a linspace, and random ones to the others.
        count: How many, without repetitions, which whole numbers and lists may give; a grid has at most so many, as
            many along each setting as fit.
        seed: Of the random ones.
        path: Names a stream of its own, such as a round's.

    Raises:
        ConfigError: A range that includes 0 was to be drawn in the exponent, or the grid is larger than `count`.
    """
    if how in ("log-grid", "log-uniform"):
        for dimension in space.dimensions:
            if dimension.low <= 0:
                raise ConfigError(f"draw = {how}: {dimension.text()} is not above 0 and has no exponent; take random")
    if how in ("grid", "log-grid"):
        return _grid(space, how, count)
    rows = []
    shares = _sobol(len(space.dimensions), count, generator(seed, Purpose.SEARCH, path)) if how == "sobol" else None
    for number, dimension in enumerate(space.dimensions):
        rng = generator(seed, Purpose.SEARCH, path, number)
        if how == "linspace":
            rows.append(_even(dimension, count, log=False))
        else:
            rows.append(_random(dimension, how, rng.random(count) if shares is None else shares[:, number]))
    return _once([dict(zip(space.names, values, strict=True)) for values in zip(*rows, strict=True)])


def _sobol(dimensions: int, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the beginning of a scrambled Sobol sequence (count, dimensions)."""
    from scipy.stats.qmc import Sobol

    whole = Sobol(dimensions, scramble=True, seed=rng).random_base2(math.ceil(math.log2(count)))
    return np.asarray(whole[:count], float)


def _random(dimension: Dimension, how: str, shares: NDArray[np.float64]) -> list[Any]:
    """Return values of a dimension for numbers from 0 up to 1 that are even there."""
    if dimension.values:
        return [dimension.values[int(share * len(dimension.values))] for share in shares]
    low, high = dimension.low, dimension.high
    if dimension.whole:  # each whole number owns what rounds to it, the ends too
        low, high = low - 0.5 + 1e-9, high + 0.5 - 1e-9
    if how == "log-uniform" or (dimension.log and how != "uniform"):
        return [dimension.rounded(float(low * (high / low) ** share)) for share in shares]
    return [dimension.rounded(float(low + (high - low) * share)) for share in shares]


def _even(dimension: Dimension, count: int, *, log: bool) -> list[Any]:
    if dimension.values:
        return [dimension.values[i] for i in np.linspace(0, len(dimension.values) - 1, count).round().astype(int)]
    if count == 1:
        low, high = dimension.low, dimension.high
        return [dimension.rounded(math.sqrt(low * high) if log else (low + high) / 2)]
    spaced = (np.geomspace if log else np.linspace)(dimension.low, dimension.high, count)
    return [dimension.rounded(float(value)) for value in spaced]


def _grid(space: Space, how: str, count: int) -> list[dict[str, Any]]:
    """Return all combinations; every setting with a range gets the same number of values."""
    given = math.prod(len(dimension.values) for dimension in space.dimensions if dimension.values)
    ranges = [dimension for dimension in space.dimensions if not dimension.values]
    if count < given:
        raise ConfigError(f"trials = {count}: the lists of the search have {given} combinations; ask for as many")
    each = 1
    while ranges and given * (each + 1) ** len(ranges) <= count:
        each += 1
    axes = []
    for dimension in space.dimensions:
        values = list(dimension.values) or _even(dimension, each, log=how == "log-grid")
        axes.append(list(dict.fromkeys(values)))
    return [dict(zip(space.names, values, strict=True)) for values in itertools.product(*axes)]


def _once(points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return points without those that are there already: they would come to the same, bit by bit."""
    return list({tuple(point.values()): point for point in reversed(points)}.values())[::-1]
