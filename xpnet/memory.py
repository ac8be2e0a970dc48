"""How much memory is free where arrays live."""

from __future__ import annotations

import gc
import os
from pathlib import Path

from xpnet.backend import Backend


def free_memory(backend: Backend) -> int | None:
    """Return how many bytes are free on a device; None where it cannot be told."""
    if backend.name != "cpu":
        cuda = getattr(backend.xp, "cuda", None)
        return int(cuda.runtime.memGetInfo()[0]) if cuda is not None else None
    free = []
    try:
        meminfo = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free.append(int(meminfo["MemAvailable"].split()[0]) * 1024)
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        if limit != "max":
            free.append(int(limit) - used)
    except (OSError, ValueError, KeyError):
        pass
    if not free and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        free.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    return min(free) if free else None


def give_back(backend: Backend) -> None:
    """Give memory that is no longer used, but kept for later, back to the device."""
    gc.collect()  # what an error's frames held
    pool = getattr(backend.xp, "get_default_memory_pool", None)
    if pool is not None:
        pool().free_all_blocks()
