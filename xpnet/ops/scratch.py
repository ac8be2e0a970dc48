"""Memory for compiled operations: arrays that begin at a cache line, and those that a thread uses again and again."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from xpnet.backend import Array

# Bytes of a cache line.
LINE = 64

_kept = threading.local()


def aligned(shape: tuple[int, ...], dtype: Any) -> Array:
    """Return memory of any content that begins at a cache line."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.empty(size + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + size].view(dtype).reshape(shape)


def borrowed(name: str, shape: tuple[int, ...], dtype: Any) -> Array:
    """Return memory of any content that a thread uses during one operation, by the name of its use.

    Allocating it anew would take longer than filling it.
    """
    memory, count = getattr(_kept, name, None), int(np.prod(shape))
    if memory is None or memory.size < count or memory.dtype != dtype:
        memory = aligned((count,), dtype)
        setattr(_kept, name, memory)
    return memory[:count].reshape(shape)
