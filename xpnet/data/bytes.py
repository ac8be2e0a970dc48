"""Features kept as the bytes that they were read as, and standardised batch by batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


def on_host(x: Any) -> bool:
    """Return whether features, an array or :class:`StandardisedBytes`, lie in the host's memory."""
    return isinstance(x.x if isinstance(x, StandardisedBytes) else x, np.ndarray)


@dataclass(frozen=True, eq=False)
class StandardisedBytes:
    """uint8 features that read as their standardised values: a quarter of the memory, and of what a gather reads.

    A value is (x - whole - rest) * factor in the floating type, in this order: exactly what
    :class:`~xpnet.data.Standardiser` stores, bit for bit.

    Attributes:
        x: The features as they are (N, d), uint8.
        whole: The mean's whole part (d,), which is subtracted without error.
        rest: What is left of the mean (d,).
        factor: 1 / standard deviation (d,).
    """

    x: NDArray[np.uint8]
    whole: NDArray[Any]
    rest: NDArray[Any]
    factor: NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Samples and features."""
        return self.x.shape

    @property
    def ndim(self) -> int:
        """Two."""
        return 2

    @property
    def dtype(self) -> Any:
        """The floating type of the values."""
        return self.factor.dtype

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        """Return the standardised values of `rows`, a slice or indices: a new array."""
        return self.take(rows)

    def take(self, rows: Any, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return the standardised values of `rows`, in `out` where it is given (on the CPU)."""
        out = self.x[rows] - self.whole if out is None else np.subtract(self.x[rows], self.whole, out=out)
        out -= self.rest
        out *= self.factor
        return out

    def to(self, asarray: Callable[[Any], Any], *, move_x: bool = True) -> StandardisedBytes:
        """Return the same features on another device, whose arrays `asarray` makes; without `move_x`, x stays here."""
        scale = (asarray(part) for part in (self.whole, self.rest, self.factor))
        return StandardisedBytes(asarray(self.x) if move_x else self.x, *scale)
