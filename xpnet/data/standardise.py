"""Standardisation: every feature to mean 0 and standard deviation 1 over the training set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# 256 rows of squares of uint8 sum to less than 2**24: float32 holds them exactly, so BLAS may add them.
_EXACT_ROWS = 256
_CHUNK_BYTES = 2 * 2**20


@dataclass(frozen=True)
class Standardiser:
    """Brings features to the scale of a training set: (x - mean) / std.

    Attributes:
        mean: Mean of each feature over the training set (d,), float64.
        std: Standard deviation (ddof = 0) of each feature (d,), float64; 1 for a constant one, which
            thereby becomes 0.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    @classmethod
    def fit(cls, x: NDArray[Any]) -> Standardiser:
        """Return the standardiser of a training set `x` (n, d), without a floating copy of it."""
        mean, variance = _moments_uint8(x) if x.dtype == np.uint8 else _moments(x)
        std = np.sqrt(variance)
        # A constant feature can have a tiny variance left from rounding its mean.
        constant = std <= 8 * np.finfo(np.float64).eps * np.abs(mean)
        return cls(mean, np.where(constant, 1.0, std))

    def __call__(self, x: NDArray[Any], dtype: str = "float32") -> NDArray[Any]:
        """Return `x` (n, d) standardised, in `dtype`: a new array.

        Integers up to 255 are exact in float32, so for uint8 all is computed in `dtype`; other features
        are centred in float64, where nothing cancels.
        """
        target = np.dtype(dtype)
        out = np.empty(x.shape, target)
        small = x.dtype == np.uint8
        mean, factor = (self.mean.astype(target), (1 / self.std).astype(target)) if small else (self.mean, 1 / self.std)
        for rows in _chunks(x):
            if small:
                np.subtract(x[rows], mean, out=out[rows])
                out[rows] *= factor
            else:
                out[rows] = (x[rows] - mean) * factor
        return out


def _chunks(x: NDArray[Any], most: int = 1 << 30) -> list[slice]:
    rows = max(1, min(most, _CHUNK_BYTES // (8 * max(1, x.shape[1]))))
    return [slice(start, start + rows) for start in range(0, len(x), rows)]


def _moments_uint8(x: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and variance of each feature from exact integer sums."""
    n, d = x.shape
    sums, squares = np.zeros(d), np.zeros(d)  # whole numbers below 2**53
    for rows in _chunks(x, _EXACT_ROWS):
        part = x[rows].astype(np.float32)
        ones = np.ones(len(part), np.float32)
        sums += ones @ part
        np.multiply(part, part, out=part)
        squares += ones @ part
    # n squares - sums**2 in Python's integers cannot cancel or overflow.
    centred = [n * int(q) - int(s) ** 2 for q, s in zip(squares, sums, strict=True)]
    return sums / n, np.array([c / (n * n) for c in centred], dtype=np.float64)


def _moments(x: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and variance of each feature in two passes, in float64."""
    n = len(x)
    shift = x[0].astype(np.float64)  # sums of differences from a sample keep their digits for any offset
    mean = shift + sum((x[rows] - shift).sum(axis=0) for rows in _chunks(x)) / n
    squares = np.zeros(x.shape[1])
    for rows in _chunks(x):
        centred = x[rows] - mean
        squares += np.einsum("ij,ij->j", centred, centred)
    return mean, squares / n
