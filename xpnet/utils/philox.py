"""Philox4x32-10, a counter-based generator: random numbers that are a function of a counter and a key.

A draw needs no state, so it is the same in whatever order, and on whatever device, the draws are computed.  Source:
Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]

_ROUNDS = 10
_FACTORS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_KEY_STEPS = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


def philox(counter: tuple[Words | int, Words | int, Words | int, Words | int], key: tuple[int, int]) -> list[Words]:
    """Return four random words of 32 bits for every counter.

    Args:
        counter: Four words, each an array or a number; they are broadcast against each other.
        key: Two words.

    Returns:
        Four arrays of the broadcast shape.
    """
    c = [np.asarray(word).astype(np.uint64) for word in np.broadcast_arrays(*counter)]
    return [word.astype(np.uint32) for word in rounds(c, [np.uint64(word) for word in key])]


def rounds(c: list[Any], k: list[Any]) -> list[Any]:
    """Return the four words of every counter `c`, four arrays of uint64 of any array module, for the two words `k`."""
    for _ in range(_ROUNDS):
        first, second = c[0] * _FACTORS[0], c[2] * _FACTORS[1]
        c = [
            (second >> _HALF) ^ c[1] ^ k[0],
            second & _LOW,
            (first >> _HALF) ^ c[3] ^ k[1],
            first & _LOW,
        ]
        k = [(word + step) & _LOW for word, step in zip(k, _KEY_STEPS, strict=True)]
    return c


def below(words: Words, limit: int) -> NDArray[np.int64]:
    """Return whole numbers from 0 to `limit` - 1, one for each random word, nearly uniform (to limit / 2^32)."""
    return (words.astype(np.uint64) * np.uint64(limit) >> _HALF).astype(np.int64)
