"""Time and memory of gradient checks of whole networks: every parameter the fast way, a sample the naive way.

    python -m bench gradcheck --data PATH

Each check runs in a process of its own, so that its peak of memory is its own; the naive way is timed
on a sample of its first layer, which has nearly all parameters, and extrapolated.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.memory import peak_mib
from bench.problem import NINE
from bench.turns import ROOT
from xpnet.analysis.step_benchmark import summary

NETWORKS = {
    "3 layers, BN": ((50, 50), True),
    "3 layers": ((50, 50), False),
    "9 layers, BN": (NINE, True),
    "9 layers": (NINE, False),
}
SAMPLES, LAM, NAIVE = 100, 0.005, 400


def measure(name: str, data: str | None) -> dict[str, Any]:
    """Return the figures of one network; run in a process of its own."""
    import xpnet
    from xpnet.analysis.gradcheck import check_network
    from xpnet.analysis.gradcheck.problem import Problem
    from xpnet.analysis.gradcheck.slopes import Workers

    loaded = xpnet.load_data(data)
    x = loaded.standardiser(loaded.train.x[:SAMPLES], "float64")
    labels = loaded.train.labels[:SAMPLES]
    classes, source = loaded.classes, loaded.name
    del loaded
    hidden, batch_norm = NETWORKS[name]
    config = xpnet.NetworkConfig(inputs=x.shape[1], hidden=hidden, classes=classes, batch_norm=batch_norm)
    net = xpnet.Network(config, dtype="float64")
    before = peak_mib()
    report = check_network(net, x, labels, LAM, coverage="all")
    peak = peak_mib()

    flat = np.linspace(0, net.parameters["W1"].size - 1, NAIVE).astype(np.int64)
    h = np.full(NAIVE, 6e-6)
    seconds = []
    # The naive way gets what serves it best: one thread with BLAS's own, or workers with one each.
    problem = Problem.of(net, x, labels, LAM)
    for threads in (1, None):
        with Workers(problem, "naive", threads) as workers:
            begin = time.perf_counter()
            naive, _ = workers.slopes("W1", flat, h, -h)
            seconds.append((time.perf_counter() - begin) / NAIVE * net.size)
    return {
        "network": name,
        "data": source,
        "parameters": report.of,
        "checked": report.checked,
        "passed": report.passed,
        "largest_relative_error": report.worst.max_relative_error if report.worst else None,
        "seconds": report.seconds,
        "naive_seconds": min(seconds),
        "naive_threads": ("1", "as many as cores")[int(np.argmin(seconds))],
        "largest_difference_to_naive": float(
            np.abs(naive + 2 * LAM * net.parameters["W1"].ravel()[flat] - report["W1"].entries.numerical[flat]).max()
        )
        if report["W1"].checked == report["W1"].of
        else None,
        "resident_before_mb": before,
        "peak_mb": peak,
    }


def gradcheck(options: argparse.Namespace, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:  # noqa: ARG001
    """Check each network in processes of their own, in turn; a case has the details of its median run."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in NETWORKS}
    for _ in range(min(3, options.rounds)):
        for name in NETWORKS:
            command = [sys.executable, "-m", "bench.gradcheck", name, *([options.data] if options.data else [])]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
            runs[name].append(json.loads(done.stdout))
    cases = {}
    for name, found in runs.items():
        middle = sorted(found, key=lambda run: run["seconds"])[len(found) // 2]
        rows = {
            "fast": summary([run["seconds"] for run in found]),
            "naive": summary([run["naive_seconds"] for run in found]) | {"yardstick": True},
        }
        what = f"{name}, {middle['data']}"
        cases[name] = {"what": what, "unit": "s", "reference": None, "rows": rows, "detail": middle}
        fast, naive = rows["fast"]["median"], rows["naive"]["median"]
        say(
            f"{name:14} {middle['parameters']:10,} parameters {fast:6.2f} s, "
            f"naive {naive:6.1f} s (x {naive / fast:.0f}), "
            f"{middle['peak_mb']:.0f} MiB, largest error {middle['largest_relative_error']:.1e}"
        )
    return {"cases": cases, "samples": SAMPLES, "lambda": LAM}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)))
