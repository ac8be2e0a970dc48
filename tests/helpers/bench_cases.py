"""Results of benchmarks that never ran."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from bench.results import FORMAT
from xpnet.analysis.step_benchmark import summary

MACHINE = {
    "date": "2026-01-02",
    "time": "10:00:00",
    "processor": "Abacus",
    "cores": 2,
    "system": "Linux x86_64",
    "python": "3.11.7",
    "packages": {"numpy": "2.4.6"},
    "pools": [{"internal_api": "openblas", "num_threads": 2, "version": "0.3", "architecture": "Haswell"}],
    "environment": {"OPENBLAS_CORETYPE": "Haswell"},
    "commit": "abc1234",
}
PROBE = {"gemm_gflops": 200.0, "copy_gb_s": 40.0, "copy_two_threads_gb_s": 60.0, "load": 0.1}


def row(seconds: list[float], floor: list[float], **more: Any) -> dict[str, Any]:
    values = [1e6 * s for s in seconds]
    found = summary(values) | {"epoch_seconds": float(np.median(values)) * 450 / 1e6, "yardstick": False}
    return found | {"floor_reached": float(np.median(floor)) / float(np.median(seconds))} | more


def result(speed: float = 1.0, noise: float = 0.01, seed: int = 0, machine: float = 1.0) -> dict[str, Any]:
    """Return a result in which xpnet takes `speed` times 600 us, on a machine that takes `machine` times as long."""
    rng = np.random.default_rng(seed)
    drift = machine * np.exp(noise * rng.standard_normal(7))

    def times(us: float) -> list[float]:
        return [float(1e-6 * us * d * np.exp(noise * e)) for d, e in zip(drift, rng.standard_normal(7), strict=True)]

    floor = times(400)
    rows = {
        "xpnet numpy": row(times(600 * speed), floor),
        "xpnet train": row(times(610 * speed), floor, evaluation_share=0.05),
        "torch.compile": row(times(700), floor, yardstick=True),
        "floor": row(floor, floor, yardstick=True),
    }
    case = {
        "what": "3072-50-50-10 with BN, batch 100",
        "unit": "us a step",
        "reference": "floor",
        "steps": 450,
        "scaled": False,
        "rows": rows,
        "left_out": {"JAX": "jax is not installed"},
        "agreement": {"with": "xpnet numpy", "contenders": {"torch.compile": {"agrees": True}}},
    }
    return {
        "format": FORMAT,
        "command": "python -m bench epoch",
        "machine": copy.deepcopy(MACHINE),
        "probe_before": PROBE,
        "probe_after": PROBE,
        "samples": 45_000,
        "suites": {"epoch": {"cases": {"a": case}, "seconds": 10.0}},
    }
