"""Which entries are checked, in what order, and random directions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from xpnet.analysis.gradcheck.problem import Floats, Indices
from xpnet.errors import ConfigError
from xpnet.utils.rng import Purpose, generator

ALL_UP_TO = 2_000_000
DEFAULT_SAMPLE = 10_000
"""Larger networks are checked by a sample of this size, and by the random direction."""


def parse_coverage(coverage: Any, size: int) -> int:
    """Return how many of `size` entries to check.

    Args:
        coverage: ``"all"``; a fraction, which is a float or a text with a point such as ``"0.1"``; a
            count, which is an int or a text of digits; None takes all of up to 2 million, and a
            sample of 10,000 of more.
        size: Parameters of the network.

    Raises:
        ConfigError: `coverage` is none of these.
    """
    wanted = "must be all, a fraction above 0 and up to 1 such as 0.1, or a whole number of at least 1"
    given = coverage
    if coverage is None:
        return size if size <= ALL_UP_TO else DEFAULT_SAMPLE
    if isinstance(coverage, str):
        if coverage == "all":
            return size
        try:
            coverage = int(coverage) if coverage.strip().isdigit() else float(coverage)
        except ValueError:
            raise ConfigError(f"coverage = {given}: {wanted}") from None
    if isinstance(coverage, (bool, np.bool_)) or not isinstance(coverage, (int, float, np.integer, np.floating)):
        raise ConfigError(f"coverage = {given}: {wanted}")
    if isinstance(coverage, (int, np.integer)):
        if coverage < 1:
            raise ConfigError(f"coverage = {given}: {wanted}")
        return min(int(coverage), size)
    if not 0 < coverage <= 1:
        raise ConfigError(f"coverage = {given}: {wanted}")
    return math.ceil(float(coverage) * size)


def choose(sizes: dict[str, int], count: int, seed: int) -> dict[str, Indices]:
    """Return the flat indices to check of each tensor, sorted, about `count` of them together.

    Tensors get equal shares: small ones are checked in full and leave the rest to the larger, and
    every one has at least one entry.
    """
    shares = _shares(sizes, count)
    chosen = {}
    for number, (name, size) in enumerate(sizes.items()):
        if shares[name] == size:
            chosen[name] = np.arange(size, dtype=np.int64)
        else:
            draw = generator(seed, Purpose.CHECK_ENTRIES, number)
            chosen[name] = np.sort(draw.choice(size, shares[name], replace=False)).astype(np.int64)
    return chosen


def _shares(sizes: dict[str, int], count: int) -> dict[str, int]:
    shares: dict[str, int] = {}
    left = count
    for number, (name, size) in enumerate(sorted(sizes.items(), key=lambda item: item[1])):
        shares[name] = min(size, max(1, left // (len(sizes) - number)))
        left -= shares[name]
    return shares


def direction(shapes: dict[str, tuple[int, ...]], seed: int, attempt: int) -> dict[str, Floats]:
    """Return a random direction of length 1 over all parameters, every tensor with an equal part.

    A single entry of the largest tensor moves by little, which keeps the probes away from kinks.  The
    entries are normal: with signs alone, the gradient of the last bias, whose sum is zero, would be
    missed wherever all signs agree.
    """
    draw = generator(seed, Purpose.CHECK_DIRECTION, attempt)
    v = {name: draw.standard_normal(shape) for name, shape in shapes.items()}
    return {name: part / (np.linalg.norm(part) * math.sqrt(len(v))) for name, part in v.items()}


def choose_rows(count: int, samples: int, seed: int) -> Indices:
    """Return `samples` of `count` rows in random order."""
    return generator(seed, Purpose.CHECK_ROWS).permutation(count)[:samples]


def rounding(seed: int, draw: int) -> np.random.Generator:
    """Return the stream of changes in the last bit."""
    return generator(seed, Purpose.CHECK_ROUNDING, draw)


def penalty_direction(number: int, shape: tuple[int, ...]) -> Floats:
    """Return the direction along which the penalty of a layer's weights is checked."""
    return generator(0, Purpose.CHECK_PENALTY, number).standard_normal(shape)
