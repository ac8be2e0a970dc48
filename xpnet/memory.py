"""How much memory is free where arrays live."""

from __future__ import annotations

import gc

from xpnet.backend import Backend
from xpnet.data.room import free_host_memory


def free_memory(backend: Backend) -> int | None:
    """Return how many bytes are free on a device; None where it cannot be told."""
    if backend.name != "cpu":
        cuda = getattr(backend.xp, "cuda", None)
        return int(cuda.runtime.memGetInfo()[0]) if cuda is not None else None
    return free_host_memory()


def give_back(backend: Backend) -> None:
    """Give memory that is no longer used, but kept for later, back to the device."""
    gc.collect()  # what an error's frames held
    pool = getattr(backend.xp, "get_default_memory_pool", None)
    if pool is not None:
        pool().free_all_blocks()
