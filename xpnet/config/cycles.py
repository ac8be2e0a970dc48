"""Schedules of several cycles, and how long these are."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

# Schedules whose length may be given in cycles.
CYCLIC = ("triangular", "cosine-restarts")
# No training has a cycle of more steps.
_LONGEST = 2**53


def cycle_epochs(n_s: int | str, steps_per_epoch: float) -> float:
    """Return the epochs of the first cycle, of which `n_s` is half, in steps or in epochs as ``5ep``."""
    return 2.0 * int(n_s[:-2]) if isinstance(n_s, str) else 2 * n_s / steps_per_epoch


def cycle_lengths(first: int, factor: float) -> Iterator[int]:
    """Yield the steps of each cycle, without end: each has `factor` times those of the one before, which is rounded."""
    exact = float(first)
    while True:
        yield round(min(exact, _LONGEST))
        exact *= factor


def cycle_ends(first: int, factor: float, steps: int) -> list[int]:
    """Return the steps, below `steps`, that have been taken when a cycle ends."""
    if factor == 1:
        return list(range(first, steps, first))
    ends = itertools.accumulate(cycle_lengths(first, factor))
    return list(itertools.takewhile(lambda end: end < steps, ends))


def steps_of_cycles(first: int, factor: float, cycles: int, most: int) -> int:
    """Return the steps of so many cycles, the first of which has `first`; above `most`, any number above it."""
    if factor == 1 or cycles * first > most:
        return cycles * first
    total = 0
    for length in itertools.islice(cycle_lengths(first, factor), cycles):
        total += length
        if total > most:
            break
    return total
