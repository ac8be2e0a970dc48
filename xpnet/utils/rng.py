"""Streams of random numbers.

Every draw has its own stream on the host: a child of :class:`numpy.random.SeedSequence` for a seed and a purpose.  So
no draw depends on other draws, on the device, or on the number of networks trained together, and NumPy's global state
is never used.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """The purpose of a stream of random numbers.  The numbers determine what a seed produces: never reuse one."""

    WEIGHTS = 0
    SHUFFLE = 1
    PATTERNS = 2
    ROWS = 3
    BIASES = 4
    VIEWS = 5
    PCA = 6
    DROPOUT = 7
    FOLDS = 20
    CHECK_ENTRIES = 100
    CHECK_DIRECTION = 101
    CHECK_PENALTY = 102
    CHECK_ROWS = 103
    CHECK_ROUNDING = 104
    DIAGNOSIS_ROWS = 200
    SEARCH = 300
    SEARCH_SAMPLER = 301


def generator(seed: int, purpose: Purpose, *path: int) -> np.random.Generator:
    """Return the stream of `seed` for `purpose`; `path` names a substream, such as an epoch's."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(int(purpose), *path))))


def words(seed: int, purpose: Purpose) -> tuple[int, int]:
    """Return two words of 32 bits for `seed` and `purpose`: the key of a counter-based generator."""
    state = np.random.SeedSequence(seed, spawn_key=(int(purpose),)).generate_state(2, np.uint32)
    return int(state[0]), int(state[1])
