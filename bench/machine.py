"""What a measurement was made on, and a probe of the state that the machine was in."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info

PACKAGES = ("xpnet", "numpy", "scipy", "torch", "cupy-cuda13x", "cupy-cuda12x")


def describe() -> dict[str, Any]:
    """Return hardware, versions, threads and commit."""
    np.ones((2, 2)) @ np.ones((2, 2))
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "threads": {Path(p["filepath"]).name.split("-")[0]: p["num_threads"] for p in threadpool_info()},
        "commit": _commit(),
    }


def probe() -> dict[str, float]:
    """Return the speed of a 2048 x 2048 float32 product in GFLOP/s and of a copy in GB/s.

    The speed of shared machines drifts; two figures can be compared only where these are alike.
    """
    a = np.ones((2048, 2048), np.float32)
    out, big = np.empty_like(a), np.ones(32 * 2**20, np.float32)
    target = np.empty_like(big)
    np.matmul(a, a, out=out)
    np.copyto(target, big)
    begin = time.perf_counter()
    np.matmul(a, a, out=out)
    product = time.perf_counter() - begin
    begin = time.perf_counter()
    np.copyto(target, big)
    copy = time.perf_counter() - begin
    return {"gemm_gflops": round(2 * 2048**3 / product / 1e9, 1), "copy_gb_s": round(2 * big.nbytes / copy / 1e9, 1)}


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
