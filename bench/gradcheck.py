"""Time and memory of gradient checks of whole networks: every parameter the fast way, a sample the naive way.

    python -m bench gradcheck --data PATH --out bench/results/gradcheck.json

Each check runs in a process of its own, so that its peak of memory is its own; the naive way is timed
on a sample of its first layer, which has nearly all parameters, and extrapolated.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.machine import describe, probe

NINE = (50, 30, 20, 20, 10, 10, 10, 10)
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
    from xpnet.gradcheck import check_network
    from xpnet.gradcheck.problem import Problem
    from xpnet.gradcheck.workers import Workers

    loaded = xpnet.load_data(data)
    x = loaded.standardiser(loaded.train.x[:SAMPLES], "float64")
    labels = loaded.train.labels[:SAMPLES]
    classes, source = loaded.classes, loaded.name
    del loaded
    hidden, batch_norm = NETWORKS[name]
    config = xpnet.NetworkConfig(inputs=x.shape[1], hidden=hidden, classes=classes, batch_norm=batch_norm)
    net = xpnet.Network(config, dtype="float64")
    before = _resident()
    report = check_network(net, x, labels, LAM, coverage="all")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

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


def _resident() -> float | None:
    """Return the memory in use in MB."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
    except OSError:
        return None


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark and print a table and the path of its JSON, or the JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench gradcheck", description=__doc__)
    parser.add_argument("--data", help="as xpnet --data takes it [default: CIFAR-10 if it is there, else patterns]")
    parser.add_argument("--out", type=Path, help="JSON file, new")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each check; the median counts [default: 3]")
    parser.add_argument("--one", choices=NETWORKS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        print(json.dumps(measure(options.one, options.data)))
        return
    result: dict[str, Any] = {"machine": describe(), "probe_before": probe(), "samples": SAMPLES, "lambda": LAM}
    rows = []
    print(f"{'network':14} {'parameters':>10} {'fast s':>8} {'naive s':>8} {'ratio':>6} {'peak MB':>8}  largest error")
    for name in NETWORKS:
        runs = []
        for _ in range(options.rounds):
            command = [sys.executable, "-m", "bench.gradcheck", "--one", name]
            command += ["--data", options.data] if options.data else []
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            runs.append(json.loads(done.stdout))
        middle = sorted(runs, key=lambda run: run["seconds"])[len(runs) // 2]
        middle["all_seconds"] = [run["seconds"] for run in runs]
        middle["naive_seconds"] = sorted(run["naive_seconds"] for run in runs)[len(runs) // 2]
        rows.append(middle)
        fast, naive = middle["seconds"], middle["naive_seconds"]
        print(
            f"{name:14} {middle['parameters']:10,} {fast:8.2f} {naive:8.1f} {naive / fast:6.1f} "
            f"{middle['peak_mb']:8.0f}  {middle['largest_relative_error']:.1e}"
        )
    result |= {"probe_after": probe(), "rows": rows}
    if options.out:
        with options.out.open("x") as file:
            file.write(json.dumps(result, indent=1) + "\n")
        print(f"written: {options.out}")
    else:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
