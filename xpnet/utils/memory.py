"""The memory and the cores that this process may use."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from xpnet.errors import DataError, XpnetError


def free_host_memory() -> int | None:
    """Return how many bytes this process can still allocate; None if unknown.

    It is the smallest of the machine's free memory, the rest in the control group, and the rest in this process's
    limits.
    """
    free = []
    with contextlib.suppress(OSError, ValueError, KeyError):
        meminfo = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free.append(int(meminfo["MemAvailable"].split()[0]) * 1024)
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        if limit != "max":
            free.append(int(limit) - used)
    if (addresses := free_addresses()) is not None:
        free.append(addresses)
    if not free and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        free.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    return max(0, min(free)) if free else None


def free_addresses() -> int | None:
    """Return the free bytes within this process's limit on address space; None without a limit."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit == resource.RLIM_INFINITY:
            return None
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        return limit - pages * os.sysconf("SC_PAGE_SIZE")
    except (ImportError, OSError, ValueError):
        return None


def check_room(
    size: int,
    called: str,
    error: type[XpnetError] = DataError,
    *,
    instead: str = "take fewer rows, or a .npy file, which stays on the disk",
) -> None:
    """Check that `size` bytes of memory are free; in messages, `called` is their use and `instead` a remedy.

    Raises:
        XpnetError: Too little memory is free; the error is of class `error`.
    """
    free = free_host_memory()
    if free is not None and size > free:
        raise error(f"{called}: claims {size:,} bytes in memory, of which {free:,} are free; {instead}")


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
