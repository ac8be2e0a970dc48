"""Start-up times: processes that start, import, and take a first step."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.turns import ROOT
from xpnet.analysis.step_benchmark import in_turn, summary

_FIRST_STEP = """
import numpy as np, xpnet
from xpnet.analysis.step_benchmark import Steps, noise
network = xpnet.Network(xpnet.NetworkConfig(inputs=3072))
steps = Steps(network, xpnet.to_device(noise(100), network.backend, "float32").train, 0.005)
steps(np.arange(100)[None], np.array([0.01]))
"""
COMMANDS = {
    "python": ["-c", "pass"],
    "import numpy": ["-c", "import numpy"],
    "import xpnet": ["-c", "import xpnet"],
    "xpnet --help": ["-m", "xpnet", "--help"],
    "first step": ["-c", _FIRST_STEP],
}
YARDSTICKS = ("python", "import numpy")


def startup(options: argparse.Namespace, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:  # noqa: ARG001
    """Time whole processes, in turn."""
    environment = dict(os.environ)
    environment.pop("XPNET_FAST", None)
    if not options.fast:
        environment["XPNET_FAST"] = "0"

    def turn(name: str) -> float:
        begin = time.perf_counter()
        subprocess.run(
            [sys.executable, *COMMANDS[name]], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL
        )
        return time.perf_counter() - begin

    times = in_turn({name: lambda _, name=name: turn(name) for name in COMMANDS}, options.rounds)
    rows = {name: summary(values[1:]) | {"yardstick": name in YARDSTICKS} for name, values in times.items()}
    for name, row in rows.items():
        say(f"{name:14} {1000 * row['median']:7.0f} ms (min {1000 * row['min']:.0f})")
    case = {"what": "a process from its start to its end", "unit": "s", "reference": "python", "rows": rows}
    return {"cases": {"process": case}}
