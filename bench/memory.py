"""The memory of a training run, above that of an interpreter that has trained for a moment already.

Every run has a process of its own, since a peak belongs to a process.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.problem import Problem
from bench.turns import ROOT
from xpnet.analysis.step_benchmark import summary


def peak_mib() -> float:
    """Return the peak of this process's resident memory in MiB.

    Linux hands ``ru_maxrss`` down from the parent to a process that it starts, so a large parent would
    hide a small child; the kernel's own high-water mark belongs to the process alone.
    """
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    unit = 2**20 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def one(problem: Problem) -> dict[str, float]:
    """Train one epoch of `problem` with ``xpnet.train``; return MiB.  Run in a process of its own."""
    import numpy as np

    from bench.ours import Train

    # A moment of the same training: libraries are imported, loops compiled, and BLAS has its buffers.
    few = replace(problem, replicas=min(2, problem.replicas), samples=2 * problem.batch)
    Train(few).epoch(np.zeros((0, 0)), np.zeros(0))
    gc.collect()
    before = _forget_peak()
    Train(problem).epoch(np.zeros((0, 0)), np.zeros(0))
    samples = len(problem.labels())
    return {"interpreter": before, "run": peak_mib() - before, "data": samples * 3072 * 4 / 2**20}


def _forget_peak() -> float:
    """Let the peak start anew where the system can; return the peak from which it goes on."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # see proc(5)
    return peak_mib()


def memory(options: argparse.Namespace, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure the peaks of one epoch of each network, and of many at once."""
    problems = {name: Problem.of(name, folder) for name in options.networks}
    replicas = 50 if 50 in options.replicas else max(options.replicas)
    problems[f"{replicas} networks"] = Problem.of(options.networks[0], folder, replicas=replicas)
    cases = {}
    for name, problem in problems.items():
        runs = []
        for _ in range(min(3, options.rounds)):
            command = [sys.executable, "-m", "bench.memory", json.dumps(problem.to_json())]
            done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
            runs.append(json.loads(done.stdout))
        rows = {
            key: summary([run[key] for run in runs]) | {"yardstick": key != "run"}
            for key in ("interpreter", "data", "run")
        }
        cases[name] = {
            "what": problem.words,
            "unit": "MiB",
            "samples": options.samples,
            "reference": None,
            "rows": rows,
        }
        say(
            f"{problem.words}: {rows['run']['median']:.0f} MiB above the interpreter's "
            f"{rows['interpreter']['median']:.0f}, of which {rows['data']['median']:.0f} the training set as float32"
        )
    return {"cases": cases}


if __name__ == "__main__":
    print(json.dumps(one(Problem.from_json(json.loads(sys.argv[1])))))
