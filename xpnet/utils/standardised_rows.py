"""Features kept as they were read, and standardised batch by batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.utils.lazy_arrays import Features, Rows


def on_host(x: Any) -> bool:
    """Return whether features, an array or :class:`StandardisedRows`, lie in the host's memory or on its disk."""
    return isinstance(x.x if isinstance(x, StandardisedRows) else x, (np.ndarray, Rows))


def kept_as_bytes(x: Any) -> bool:
    """Return whether features are :class:`StandardisedRows` of uint8, which a GPU standardises by itself."""
    return isinstance(x, StandardisedRows) and x.x.dtype == np.uint8


@dataclass(frozen=True, eq=False)
class StandardisedRows:
    """Raw features that read as their standardised values: no second copy, and uint8 is a quarter of float32.

    A value is (x - whole - rest) * factor in the floating type, in this order. For uint8 that is exactly what
    :class:`~xpnet.data.Standardiser` stores, bit for bit; for floating features up to rounding.

    Attributes:
        x: The features as they are (N, d): uint8 or floating, in memory or on the disk.
        whole: What of the mean is subtracted first (d,): for uint8 its whole part, which brings no error.
        rest: What is left of the mean (d,).
        factor: 1 / standard deviation (d,).
    """

    x: Features
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
        x = self.x[rows]
        if out is None and x.dtype.kind == "f" and x.dtype != self.dtype:
            out = np.empty(x.shape, self.dtype)
        out = x - self.whole if out is None else np.subtract(x, self.whole, out=out)
        out -= self.rest
        out *= self.factor
        return out

    def located(self) -> tuple[NDArray[Any], NDArray[np.int64] | None] | None:
        """Return an array that compiled code can read, and which of its rows are these (None: all).

        Returns None where there is no such array.
        """
        if not isinstance(self.x, Rows):
            return self.x, None
        table = self.x.mapped()
        return None if table is None else (table, self.x.order)

    def to(self, asarray: Callable[[Any], Any], *, move_x: bool = True) -> StandardisedRows:
        """Return the same features on another device, whose arrays `asarray` makes; without `move_x`, x stays here."""
        scale = (asarray(part) for part in (self.whole, self.rest, self.factor))
        x = self.x[:] if move_x and isinstance(self.x, Rows) else self.x
        return StandardisedRows(asarray(x) if move_x else x, *scale)
