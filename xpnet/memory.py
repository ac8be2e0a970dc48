"""How much memory is free where arrays live."""

from __future__ import annotations

import gc

from xpnet.backend import Backend
from xpnet.utils.memory import free_host_memory


def free_memory(backend: Backend) -> int | None:
    """Return how many bytes are free on a device; None where it cannot be told."""
    if backend.name == "cpu":
        return free_host_memory()
    cuda, pool = (getattr(backend.xp, name, None) for name in ("cuda", "get_default_memory_pool"))
    if cuda is None:
        return None
    # What CuPy's pool keeps for later is taken as far as the driver knows.
    return int(cuda.runtime.memGetInfo()[0]) + (0 if pool is None else int(pool().free_bytes()))


def give_back(backend: Backend) -> None:
    """Give memory that is no longer used, but kept for later, back to the device."""
    gc.collect()  # what an error's frames held
    pool = getattr(backend.xp, "get_default_memory_pool", None)
    if pool is not None:
        pool().free_all_blocks()
