"""Memory that kernels need beside their operands, and the sizes of blocks."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.backend import Array

# Threads of a block in most kernels.
THREADS = 256
# Numbers of a replica's weights that one block sums.
_SUMMED = 8 * THREADS


def ceil_div(a: int, b: int) -> int:
    """Return a / b, rounded up."""
    return -(-int(a) // b)


class Sums:
    """Memory for the partial sums of blocks; see ``Squares`` in ``common.cuh``."""

    def __init__(self, xp: Any, replicas: int, size: int) -> None:
        self.blocks = min(THREADS, ceil_div(size, _SUMMED))
        self.arrays = (xp.empty((replicas, self.blocks), dtype="float64"), xp.zeros((replicas,), dtype="uint32"))


class Members:
    """Addresses of tensors that are read as if they lay side by side; see ``Members`` in ``update.cu``."""

    def __init__(self, xp: Any, tensors: list[Array]) -> None:
        self._tensors = tensors  # the addresses must stay valid
        sizes = [t.size // t.shape[0] for t in tensors]
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
        addresses = np.array([t.data.ptr for t in tensors], np.uint64)
        self.arrays = (xp.asarray(addresses), xp.asarray(starts), np.int32(len(tensors)))

    @classmethod
    def of(cls, xp: Any, tensors: list[Array], known: Members | None) -> Members:
        """Return `known` if it has the same tensors, else a new object."""
        if known is not None and all(a is b for a, b in zip(tensors, known._tensors, strict=True)):
            return known
        return cls(xp, tensors)
