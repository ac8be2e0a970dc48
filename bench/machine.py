"""The machine of a measurement, and a probe of its current speed."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from xpnet.runs import environment
from xpnet.runs.environment import memory_gib, processor, thread_pools, variables
from xpnet.utils.memory import usable_cores

PACKAGES = ("xpnet", "numpy", "scipy", "numba", "cupy-cuda13x", "cupy-cuda12x")
_DISTRIBUTIONS = {"sklearn": "scikit-learn"}


def describe() -> dict[str, Any]:
    """Return hardware, versions, threads and commit."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "time": time.strftime("%H:%M:%S"),
        "processor": processor(),
        "cores": usable_cores(),
        "memory_gib": memory_gib(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": versions(PACKAGES),
        "pools": pools(),
        "environment": variables(),
        "commit": _commit(),
    }


def pools() -> list[dict[str, Any]]:
    """Return the thread pools of this process: library, threads, and the architecture that BLAS has chosen."""
    keys = ("internal_api", "num_threads", "version", "architecture")
    return [{key: pool[key] for key in keys if pool.get(key) is not None} for pool in thread_pools()]


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of those `packages` that are installed, peers under the names that they are imported by."""
    return environment.versions(packages, _DISTRIBUTIONS)


def probe(side: int = 2048, numbers: int = 2**25) -> dict[str, Any]:
    """Return the speed of a float32 product, side x side, and of copies of `numbers` by one thread and by two.

    The speed of shared machines drifts; figures of two runs can be compared only if their probes are alike.  Each is
    the best of three.  If two threads copy no faster than one, the host is short of bandwidth or busy.
    """
    a = np.ones((side, side), np.float32)
    out, source = np.empty_like(a), np.ones(numbers, np.float32)
    target = np.empty_like(source)
    halves = [(target[part], source[part]) for part in (slice(None, numbers // 2), slice(numbers // 2, None))]
    product = _best(lambda: np.matmul(a, a, out=out))
    one = _best(lambda: np.copyto(target, source))
    with ThreadPoolExecutor(2) as pool:
        two = _best(lambda: list(pool.map(lambda half: np.copyto(*half), halves)))
    figures: dict[str, Any] = {
        "gemm_gflops": round(2 * side**3 / product / 1e9, 1),
        "copy_gb_s": round(2 * source.nbytes / one / 1e9, 1),
        "copy_two_threads_gb_s": round(2 * source.nbytes / two / 1e9, 1),
    }
    if hasattr(os, "getloadavg"):
        figures["load"] = round(os.getloadavg()[0], 2)
    return figures


def _best(work: Callable[[], Any]) -> float:
    work()
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def _commit() -> str | None:
    command = ["git", "describe", "--always", "--dirty"]
    # Only looks: takes no lock, and so never stands in the way of another git command.
    environment = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10, env=environment)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
