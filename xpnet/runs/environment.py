"""The environment of a run: hardware, versions, threads, and the command."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from xpnet.errors import RunError, printable
from xpnet.runs.folder import ENVIRONMENT, write_environment
from xpnet.runs.records import read_environment
from xpnet.utils.extras import version_of
from xpnet.utils.memory import usable_cores
from xpnet.version import __version__

PACKAGES = (
    "numpy",
    "scipy",
    "numba",
    "cupy-cuda13x",
    "cupy-cuda12x",
    "altair",
    "vl-convert-python",
    "safetensors",
    "pillow",
)
# Environment variables that can change speed or the last bits of results.
VARIABLES = (
    "OPENBLAS_CORETYPE",
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NPY_DISABLE_CPU_FEATURES",
    "NPY_ENABLE_CPU_FEATURES",
    "NUMBA_CPU_FEATURES",
    "NUMBA_CPU_NAME",
    "NUMBA_NUM_THREADS",
    "NUMBA_THREADING_LAYER",
    "XLA_FLAGS",
    "XPNET_FAST",
)
# Entries on which the last bits depend.
_SAME = ("xpnet", "device", "cpu", "packages", "blas", "variables")
# Most environments of resumed trainings that a run records, and most characters of a command line.
MOST_RESUMED = 1_000
_LONGEST = 10_000


def describe_environment(backend: Any, command: str | None = None) -> dict[str, Any]:
    """Return hardware, versions, threads and the command, in types that JSON has.

    Args:
        backend: The :class:`xpnet.Backend` that computes.
        command: The command line, if there is one.
    """
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "command": command if command is None or len(command) <= _LONGEST else f"{command[:_LONGEST]} ...",
        "xpnet": __version__,
        "python": platform.python_version(),
        "system": system(),
        "cpu": processor(),
        "cores": usable_cores(),
        "memory_gib": memory_gib(),
        "device": backend.device,
        "gpus": gpus(backend),
        "packages": versions(PACKAGES),
        "blas": blas(),
        "variables": variables(),
    }


def remember_environment(run: Path, now: dict[str, Any], step: int) -> list[str]:
    """Add the environment of a resumed run to its file; return notes on differences from the earlier ones.

    Args:
        run: The run folder.
        now: The present environment, as :func:`describe_environment` returns it.
        step: The step from which the run continues.
    """
    path = run / ENVIRONMENT
    if not path.exists():  # the run was killed before it wrote one
        write_environment(run, now)
        return []
    notes = []
    try:
        first = read_environment(path)
        resumed = first.get("resumed", [])
        last = resumed[-1] if resumed else first
        if changed := [name for name in _SAME if last.get(name) != now[name]]:
            notes.append(f"not as before: {', '.join(changed)} ({ENVIRONMENT} has both); the last bits may differ")
    except RunError as error:
        notes.append(f"warning: {error}; it is written anew")
        first, resumed = {}, []
    write_environment(run, first | {"resumed": [*resumed, {"step": step, **now}][-MOST_RESUMED:]})
    return notes


def system() -> str:
    """Return the operating system, its release and the kind of machine."""
    return f"{platform.system()} {platform.release()} {platform.machine()}"


def versions(packages: Iterable[str], distributions: dict[str, str] | None = None) -> dict[str, str]:
    """Return the versions of the installed `packages`; `distributions` has the differing names of distributions."""
    found = {name: version_of((distributions or {}).get(name, name)) for name in packages}
    return {name: version for name, version in found.items() if version is not None}


def processor() -> str:
    """Return the name of the processor."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def memory_gib() -> float | None:
    """Return the machine's memory in GiB, or None if unknown."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None


def thread_pools() -> list[dict[str, Any]]:
    """Return the thread pools of this process, including NumPy's BLAS, in threadpoolctl's form."""
    import numpy as np
    from threadpoolctl import threadpool_info

    np.ones((2, 2)) @ np.ones((2, 2))
    return list(threadpool_info())


def blas() -> list[dict[str, Any]]:
    """Return the BLAS libraries that NumPy has loaded, with their threads."""
    return [
        {
            "library": pool["internal_api"],
            "version": pool["version"],
            "threads": pool["num_threads"],
            "architecture": pool.get("architecture"),
        }
        for pool in thread_pools()
        if pool["user_api"] == "blas"
    ]


def gpus(backend: Any) -> list[dict[str, Any]]:
    """Return the GPUs that a backend sees: device, name, memory, compute capability."""
    cuda = getattr(backend.xp, "cuda", None)
    if cuda is None:
        return []
    devices = map(cuda.runtime.getDeviceProperties, range(cuda.runtime.getDeviceCount()))
    return [
        {
            "device": f"gpu:{index}",
            "name": device["name"].decode(),
            "memory_bytes": device["totalGlobalMem"],
            "compute_capability": f"{device['major']}.{device['minor']}",
        }
        for index, device in enumerate(devices)
    ]


def variables() -> dict[str, str]:
    """Return those environment variables that are set and affect speed or rounding."""
    return {name: printable(os.environ[name]) for name in VARIABLES if name in os.environ}
