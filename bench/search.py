"""A coarse search for lambda, beside the same runs one after another: whole commands, as a user waits for them."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.turns import ROOT
from xpnet.analysis.step_benchmark import in_turn, summary

LAMBDAS, CYCLES = 50, 2
_SETTINGS = ("--hidden", "50,50", "--n-s", "1ep", "--cycles", str(CYCLES), "--device", "cpu", "--json")


def search(options: argparse.Namespace, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Time ``xpnet search`` over 50 values of lambda, and 50 times ``xpnet train``, in turn."""
    data = options.data or str(_noise(folder, options.samples))
    lambdas = [float(value) for value in np.geomspace(1e-5, 1e-1, LAMBDAS)]
    shared = ("--data", data, *_SETTINGS)
    listed = "lambda=" + ",".join(map(repr, lambdas))

    def searched() -> list[float]:
        found = _run(options, "search", listed, *shared, "--final", "none")
        return [trial["validation"]["accuracy"]["values"][0] for trial in found["trials"]]

    def one_by_one() -> list[float]:
        return [_run(options, "train", "--lambda", repr(value), *shared)["validation"]["accuracy"] for value in lambdas]

    accuracies: dict[str, list[float]] = {}

    def turn(name: str, work: Callable[[], list[float]]) -> float:
        begin = time.perf_counter()
        accuracies[name] = work()
        return time.perf_counter() - begin

    ways = {"xpnet search": searched, "xpnet train, one after another": one_by_one}
    # The warm-up fills the caches of files and compiled code; of fifty starts the first few do.
    _run(options, "train", *shared)
    times = in_turn({name: lambda _, name=name: turn(name, ways[name]) for name in ways}, options.rounds - 1)
    rows = {name: summary(values) | {"yardstick": name != "xpnet search"} for name, values in times.items()}
    pair = [np.array(accuracies[name]) for name in ways]
    apart = float(np.abs(pair[0] - pair[1]).max())
    for name, row in rows.items():
        say(f"{name:32} {row['median']:8.1f} s (min {row['min']:.1f})")
    say(f"validation accuracies differ by {apart:.4f} at most: rounding, which training amplifies")
    what = f"{LAMBDAS} values of lambda, 3072-50-50-10 with BN, {2 * CYCLES} epochs of {options.samples} samples"
    case = {"what": what, "unit": "s", "reference": None, "rows": rows, "apart": apart}
    return {"cases": {"lambda": case}}


def _noise(folder: Path, samples: int) -> Path:
    """Write a data set of CIFAR-10's shape with `samples` training samples."""
    rng = np.random.default_rng(0)
    count = samples + 5000
    path = folder / "noise.npz"
    x, x_test = (rng.integers(0, 256, (n, 3072), dtype=np.uint8) for n in (count, 1000))
    np.savez(path, x=x, y=np.arange(count) % 10, x_test=x_test, y_test=np.arange(1000) % 10)
    return path


def _run(options: argparse.Namespace, *arguments: str) -> dict[str, Any]:
    environment = dict(os.environ) if options.fast else {**os.environ, "XPNET_FAST": "0"}
    with tempfile.TemporaryDirectory(prefix="xpnet-bench-") as where:
        command: Sequence[str] = [sys.executable, "-m", "xpnet", *arguments, "--out", f"{where}/run"]
        done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))
