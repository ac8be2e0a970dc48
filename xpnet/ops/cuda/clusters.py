"""How many clusters of a kernel's blocks a GPU has room for at once, which CuPy does not tell."""

from __future__ import annotations

import ctypes
import os
from functools import lru_cache
from typing import Any

from xpnet.errors import DeviceError


class _Launch(ctypes.Structure):
    """``CUlaunchConfig`` of CUDA's driver; the kernel itself says how many blocks a cluster has."""

    _fields_ = (
        *((f"{of}_{axis}", ctypes.c_uint) for of in ("grid", "block") for axis in "xyz"),
        ("shared", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.c_void_p),
        ("count", ctypes.c_uint),
    )


@lru_cache(maxsize=1)
def load_driver() -> Any:
    """Return CUDA's driver, which CuPy has loaded already.

    Raises:
        DeviceError: The driver cannot be found.
    """
    try:
        return ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError as error:
        raise DeviceError(f"CUDA's driver cannot be asked for room for clusters ({error})") from None


def active_clusters(function: Any, blocks: int, threads: int, shared: int) -> int:
    """Return how many clusters of a kernel can be on the current GPU at once; 0 if the driver cannot tell.

    Args:
        function: The kernel, as CuPy has compiled it; it is allowed `shared` bytes.
        blocks: Blocks of the grid that is to be launched.
        threads: Threads of a block.
        shared: Bytes of dynamic shared memory of a block.
    """
    ask = getattr(load_driver(), "cuOccupancyMaxActiveClusters", None)
    if ask is None:  # a driver older than CUDA 11.8
        return 0
    count = ctypes.c_int(0)
    launch = _Launch(blocks, 1, 1, threads, 1, 1, shared)
    status = ask(ctypes.byref(count), ctypes.c_void_p(int(function.kernel.ptr)), ctypes.byref(launch))
    return 0 if status else count.value
