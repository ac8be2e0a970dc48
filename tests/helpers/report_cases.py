"""Folders to make pages of."""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import draw_nothing

import xpnet
from xpnet.cli import main

HOSTILE = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(2)>",
    "</script><b>bold",
    "naïve 猫 \u2028 🐈",
    "{{ 7 * 7 }}",
)


_MADE = tempfile.TemporaryDirectory(prefix="xpnet-report-")


@functools.cache
def _trained(*arguments: str) -> Path:
    """Return the folder of a run, which each process makes once."""
    folder = Path(tempfile.mkdtemp(dir=_MADE.name)) / "run"
    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch)
        main(["train", *arguments, "--out", str(folder), "--quiet"])
    return folder


def small(*arguments: str, out: str, data: str = "patterns:600/200") -> Path:
    """Make the folder of a run of seconds."""
    made = _trained("--data", data, "--epochs", "3", "--hidden", "6", *arguments)
    return Path(shutil.copytree(made, out))


def table_data(path: str, features: int = 5, classes: int = 3, **more: Any) -> str:
    """Write samples that are no images, and return where."""
    rng = np.random.default_rng(3)
    y = np.arange(300) % classes
    x = rng.standard_normal((300, features)) + 2 * rng.standard_normal((classes, features))[y]
    np.savez(path, x=x.astype(np.float32), y=y, **more)
    return path


def hostile(folder: Path, suffix: str = "") -> Path:
    """Make the folder of a run whose class names try to leave their place; each ends with `suffix`."""
    small(out=str(folder), data=table_data(str(folder.with_name("mine.npz")), classes=len(HOSTILE)))
    network = xpnet.load(folder)
    network.class_names = tuple(name + suffix for name in HOSTILE)
    (folder / "model.safetensors").unlink()
    network.save(folder / "model.safetensors")
    return folder


def search(folder: Path, *, winner: Path | None = None, trials: int = 16) -> Path:
    """Write the folder of a search of two settings, as ``xpnet search`` leaves it."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    made: list[dict[str, Any]] = []
    for number in range(trials):
        lam, eta = float(10 ** rng.uniform(-5, -1)), float(10 ** rng.uniform(-3, -0.5))
        mean = 0.5 - 0.02 * (np.log10(lam) + 2.5) ** 2 - 0.06 * (np.log10(eta) + 1.3) ** 2
        values = [float(mean + e) for e in rng.normal(0, 0.004, 3)]
        state = "failed" if number == 3 else "pruned" if number % 5 == 4 else "complete"
        epochs = 10 if state == "pruned" else 20
        curve = [{"epoch": e, "accuracy": float(values[0] * (1 - np.exp(-e / 5)))} for e in range(2, epochs + 1, 2)]
        accuracy = {"mean": float(np.mean(values)), "std": float(np.std(values, ddof=1)), "values": values}
        validation = {"accuracy": accuracy, "loss": {"mean": 1.4, "std": 0.01, "values": [1.4, 1.39, 1.41]}}
        made.append(
            {
                "trial": number,
                "round": number // 10,
                "state": state,
                "settings": {"lambda": lam, "eta_max": eta},
                "seeds": [0, 1, 2],
                "validation": None if state == "failed" else validation,
                "epochs": epochs,
                "seconds": 1.25,
                "curve": [] if state == "failed" else curve,
            }
        )
    best = max((t for t in made if t["state"] == "complete"), key=lambda t: t["validation"]["accuracy"]["mean"])
    space = {
        "lambda": {"draw": "log-uniform", "low": 1e-5, "high": 0.1},
        "eta_max": {"draw": "log-uniform", "low": 1e-3, "high": 0.3},
    }
    content = {
        "kind": "search",
        "command": "xpnet search --data patterns --lambda 1e-5..0.1 --eta-max 1e-3..0.3",
        "settings": {"data": "patterns:600/200", "hidden": [6], "cycles": 1},
        "space": space,
        "sampler": "tpe",
        "rounds": 2,
        "trials": made,
        "best": {name: best[name] for name in ("trial", "settings", "validation")},
        "winner": "winner",
        "test": {"accuracy": 0.47, "loss": 1.5},
        "environment": {"date": "2026-11-21 10:00:00 +0000", "cpu": "a processor", "cores": 2, "device": "cpu"},
        "seconds": 12.3,
    }
    (folder / "search.json").write_text(json.dumps(content))
    if winner is not None:
        winner.rename(folder / "winner")
    return folder
