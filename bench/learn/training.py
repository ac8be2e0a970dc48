"""One training of a rung in a process of its own, by xpnet or by PyTorch, and its figures."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from bench.turns import ROOT


class TrainingError(Exception):
    """A training that failed, with its last words."""


class Rung(NamedTuple):
    """What every training of a rung is given.

    Attributes:
        name: The recipe.
        settings: Its settings, and the length of the training.
        data, split, device: As for ``xpnet train``.
    """

    name: str
    settings: dict[str, Any]
    data: str
    split: str
    device: str


def ours(rung: Rung, seed: int) -> dict[str, Any]:
    """Train with ``xpnet train --recipe``, without checkpoints; return the figures.

    Seconds are those of the transforms and of the steps, as xpnet itself tells them apart from its evaluation.
    """
    with tempfile.TemporaryDirectory(prefix="xpnet-bench-") as folder:
        run = Path(folder) / "run"
        words = ["--recipe", rung.name, "--epochs", repr(rung.settings["epochs"]), "--data", rung.data]
        words += ["--split", rung.split, "--device", rung.device, "--seed", str(seed), "--views", "6"]
        metrics = _run("-m", "xpnet", "train", *words, "--save-every", "0", "--json", "--out", str(run))
        about = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    seconds = metrics["seconds"]
    return {
        "accuracy": metrics["test"]["accuracy"],
        "accuracy_six_views": metrics["test_views"]["accuracy"],
        "validation": metrics["validation"]["accuracy"],
        **{name: seconds[name] for name in ("transforms", "training", "evaluation")},
        "steps": metrics["steps"],
        "device": about.get("device", metrics["device"]),
    }


def peers(rung: Rung, seed: int, *, way: str = "eager") -> dict[str, Any]:
    """Train the same recipe in PyTorch; return the figures."""
    spec = rung._asdict() | {"seed": seed, "way": way}
    return _run("-m", "bench.peers.torch_learn", json.dumps(spec))


def _run(*arguments: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    try:
        if done.returncode == 0:
            return dict(json.loads(done.stdout.splitlines()[-1]))
    except (ValueError, IndexError):
        pass
    words = (done.stderr.strip() or "nothing was said").splitlines()[-1]
    raise TrainingError(f"exit code {done.returncode}: {words}")
