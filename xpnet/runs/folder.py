"""The run folder: what a run leaves behind, and never overwrites.

config.toml        the settings; ``xpnet train --config`` repeats the run
history.csv        one row for each epoch and replica
environment.json   what it was made on, and the command
metrics.json       final figures, as ``xpnet train --json`` prints them
curves.png, .svg   loss, cost, accuracy and learning rate by epoch
checkpoints/       from which ``--resume`` goes on; see :mod:`xpnet.runs.saver`
model.safetensors  the network; see :mod:`xpnet.nn.model_file`
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xpnet.config.settings import CONFIG
from xpnet.errors import RunError
from xpnet.utils.atomic_files import rewrite
from xpnet.utils.file_system import check_utf8
from xpnet.utils.parsing import json_bytes, toml_bytes

HISTORY = "history.csv"
METRICS = "metrics.json"
ENVIRONMENT = "environment.json"
CHECKPOINTS = "checkpoints"


def chunk_folder(run: Path, chunk: tuple[int, int]) -> Path:
    """Return the folder of the checkpoints of a chunk of networks, given as (first, last + 1)."""
    return run / CHECKPOINTS / f"{chunk[0]}-{chunk[1]}"


def create_run_folder(out: str | Path | None, *, prefix: str = "", stem: Path | None = None) -> Path:
    """Make the folder of a new run and return its path.

    Without `out`, a folder named by `prefix` and the time is made below ``runs/``, or beside `stem` as ``STEM-TIME``.

    Raises:
        RunError: `out` exists, cannot be made, or has a name that is not UTF-8.
    """
    if out is not None:
        path = Path(out)
        check_utf8(path, "out")
        if not _make_folder(path):
            raise RunError(f"out = {path}: exists already; name a folder that does not, nothing is overwritten")
        return path
    stamp = prefix + time.strftime("%Y-%m-%d_%H-%M-%S")
    for number in range(1, 10_000):
        name = stamp if number == 1 else f"{stamp}_{number}"
        path = Path("runs", name) if stem is None else stem.with_name(f"{stem.name}-{name}")
        check_utf8(path, "out")
        if _make_folder(path):
            return path
    raise RunError(f"{path}: all its names are taken; name a folder with --out")


def _make_folder(path: Path) -> bool:
    """Make a folder and what it lies in; return whether it is new."""
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir()
    except OSError as error:
        if path.exists():
            return False
        raise RunError(f"out = {path}: cannot be made ({error.strerror}); name another folder with --out") from None
    return True


def write_config(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings of a run, by name, in place of those that it had."""
    path, head = folder / CONFIG, "Settings of a run of xpnet.  Repeat it: xpnet train --config THIS_FILE"
    rewrite(path, toml_bytes(settings, str(path), RunError, head=head))


def write_environment(folder: Path, environment: Mapping[str, Any]) -> None:
    """Write what a run is made on."""
    path = folder / ENVIRONMENT
    rewrite(path, json_bytes(environment, str(path), RunError, indent=2))


def write_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Write the figures of a run, in place of those of a part of it."""
    path = folder / METRICS
    rewrite(path, json_bytes(metrics, str(path), RunError, indent=2))
