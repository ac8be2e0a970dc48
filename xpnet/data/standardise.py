"""Standardisation: every feature to mean 0 and standard deviation 1 over the training set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.config.arguments import floating, takes
from xpnet.errors import DataError
from xpnet.utils.lazy_arrays import Features, Rows, StandardisedRows

# Squares of 256 rows of uint8 sum to less than 2**24: float32 holds them exactly, so BLAS may add them.
_EXACT_ROWS = 256
# Squares of smaller deviations lose digits, or all of them.
_SMALL = 1e-140
_FEATURES = 2**16  # searched at a time
_CHUNK_BYTES = 2 * 2**20  # of float64: small enough to stay in the cache


@dataclass(frozen=True, eq=False)
class Standardiser:
    """Brings features to the scale of a training set: (x - mean) / std.

    Attributes:
        mean: Mean of each feature over the training set (d,), float64.
        std: Standard deviation (ddof = 0) of each feature (d,), float64; 1 for a constant feature, which so becomes 0.

    Raises:
        DataError: `mean` and `std` differ in length, or a deviation is not above 0.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            try:
                object.__setattr__(self, name, np.asarray(getattr(self, name), np.float64))
            except (TypeError, ValueError, OverflowError) as error:
                raise DataError(f"Standardiser: {name} must be a vector of numbers ({error})") from None
        if self.mean.ndim != 1 or self.mean.shape != self.std.shape:
            raise DataError(
                f"Standardiser: mean {self.mean.shape} and std {self.std.shape} must be two vectors of one length"
            )
        if not (np.isfinite(self.mean).all() and np.isfinite(self.std).all() and (self.std > 0).all()):
            raise DataError("Standardiser: mean and std must be finite, and std above 0")

    @classmethod
    def fit(cls, x: Features) -> Standardiser:
        """Return the standardiser of a training set `x` (n, d), without a floating copy of it.

        Features that are constant, or differ by no more than the rounding of their type, get a
        standard deviation of 1.

        Raises:
            DataError: `x` is not of two dimensions, or is empty.
        """
        x = numeric_features(x, "a training set must be (n, d) and not empty")
        if x.size == 0:
            raise DataError(f"Standardiser: a training set must be (n, d) and not empty, got {x.shape}")
        mean, std = _moments_uint8(x) if x.dtype == np.uint8 else _moments(x)
        resolution = np.finfo(x.dtype).eps if x.dtype.kind == "f" else 0.0
        constant = std <= 2 * resolution * np.abs(mean)
        return cls(mean, np.where(constant, 1.0, std))

    @takes(dtype=floating)
    def __call__(self, x: Features, dtype: str = "float32") -> NDArray[Any]:
        """Return `x` (n, d) standardised, in the floating type `dtype`: a new array.

        The result is that of float64 arithmetic, rounded to `dtype`, except for the last two bits.

        Raises:
            DataError: `x` has another number of features.
        """
        x = numeric_features(x, f"features must be (n, {len(self.mean)})", len(self.mean))
        out = np.empty(x.shape, np.dtype(dtype))
        lazy = self.lazily(x, str(out.dtype)) if x.dtype == np.uint8 else None
        for rows in chunks_of(x):
            if lazy is not None:
                lazy.take(rows, out=out[rows])
            else:
                out[rows] = (x[rows] - self.mean) / self.std  # in float64: nothing cancels
        return out

    @takes(dtype=floating)
    def lazily(self, x: Features, dtype: str = "float32") -> StandardisedRows:
        """Return a view of `x` (n, d) that is standardised when it is read, to the values of :meth:`__call__`.

        Raises:
            DataError: `x` has another number of features, or a feature's mean or deviation lies beyond the normal
                numbers of `dtype`.
        """
        x = numeric_features(x, f"features must be (n, {len(self.mean)})", len(self.mean))
        limits = np.finfo(dtype)
        beyond = (np.abs(self.mean) + self.std > limits.max) | (self.std < limits.tiny)
        if beyond.any():
            column = int(np.argmax(beyond))
            raise DataError(
                f"in_memory = raw: column {column} (from 0) has mean {self.mean[column]:.3g} and standard deviation "
                f"{self.std[column]:.3g}, beyond {np.dtype(dtype)}; rescale it, or take in_memory = float"
            )
        # In float32, x - mean would lose digits where the mean is close to x.  The mean's integer part (for floating
        # features: as much of the mean as the type holds) is subtracted without error, and then its small rest.
        head = np.rint(self.mean) if x.dtype == np.uint8 else self.mean.astype(dtype).astype(np.float64)
        return StandardisedRows(
            x if isinstance(x, Rows) else np.ascontiguousarray(x),
            head.astype(dtype),
            (self.mean - head).astype(dtype),
            (1 / self.std).astype(dtype),
        )


def numeric_features(given: Any, wanted: str, width: int | None = None, who: str = "Standardiser") -> Features:
    """Return numeric features (n, d), with d = `width` if it is given; `who` wants them, as `wanted` says.

    Raises:
        DataError: `given` is something else.
    """
    try:
        x: Features = given if isinstance(given, Rows) else np.asarray(given)
    except ValueError as error:
        raise DataError(f"{who}: {wanted}, and are no array ({error})") from None
    if x.ndim != 2 or (width is not None and x.shape[1] != width):
        raise DataError(f"{who}: {wanted}, got {x.shape}")
    if x.dtype.kind not in "biuf":
        raise DataError(f"{who}: {wanted}, of numbers, got {x.dtype}")
    return x


def chunks_of(x: Features, most: int = 1 << 30) -> Iterator[slice]:
    """Yield slices over the rows of `x`, of a few MB of float64 each and of at most `most` rows."""
    rows = max(1, min(most, _CHUNK_BYTES // (8 * max(1, x.shape[1]))))
    return (slice(start, start + rows) for start in range(0, len(x), rows))


def _moments_uint8(x: Features) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and deviation of each feature from exact integer sums."""
    n, d = x.shape
    sums, squares = np.zeros(d), np.zeros(d)  # integers below 2**53
    for rows in chunks_of(x, _EXACT_ROWS):
        block = x[rows].astype(np.float32)
        ones = np.ones(len(block), np.float32)
        sums += ones @ block
        np.multiply(block, block, out=block)
        squares += ones @ block
    # In Python's integers, which take 100 bytes each, n squares - sums**2 cannot cancel or overflow.
    variance = ((n * int(q) - int(s) ** 2) / (n * n) for q, s in zip(squares, sums, strict=True))
    return sums / n, np.sqrt(np.fromiter(variance, np.float64, d))


def _moments(x: Features) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and deviation of each feature in two passes, in float64."""
    n, d = x.shape
    shift = x[:1][0].astype(np.float64)  # differences from a sample keep their digits for any offset
    sums = np.zeros(d)
    for rows in chunks_of(x):
        sums += (x[rows] - shift).sum(axis=0)
    mean = shift + sums / n
    del shift, sums
    squares, farthest = np.zeros(d), np.zeros(d)
    for rows in chunks_of(x):
        centred = x[rows] - mean
        squares += np.einsum("ij,ij->j", centred, centred)
        # Some features at a time, to bound memory: all of them may be constant.
        for first in range(0, d, _FEATURES):
            small = first + np.flatnonzero(squares[first : first + _FEATURES] < n * _SMALL**2)
            farthest[small] = np.maximum(farthest[small], np.abs(centred[:, small]).max(axis=0))
    del centred
    std = np.sqrt(squares / n)
    # Squares of the smallest deviations have lost their digits: they are computed again, scaled by powers of 2.
    small = np.flatnonzero((squares < n * _SMALL**2) & (farthest > 0))
    if len(small):
        _, exponent = np.frexp(farthest[small])
        squares = np.zeros(len(small))
        for rows in chunks_of(x):
            centred = np.ldexp(x[rows][:, small] - mean[small], -exponent)
            squares += np.einsum("ij,ij->j", centred, centred)
        std[small] = np.ldexp(np.sqrt(squares / n), exponent)
    return mean, std
