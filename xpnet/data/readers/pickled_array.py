"""An array as a pickle describes it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass
class PickledArray:
    """What a pickle claims about a uint8 array: its shape, its order in memory, and its bytes."""

    shape: tuple[int, ...] | None = None
    fortran: bool = False
    raw: bytes | memoryview = b""

    def to_numpy(self) -> NDArray[np.uint8]:
        """Return the array, read-only, over the bytes of the pickle.

        Raises:
            ValueError: The shape was never set, or is not that of the bytes.
        """
        if self.shape is None or math.prod(self.shape) != len(self.raw):
            raise ValueError(f"an array said to be {self.shape} has {len(self.raw):,} bytes")
        return np.frombuffer(self.raw, np.uint8).reshape(self.shape, order="F" if self.fortran else "C")
