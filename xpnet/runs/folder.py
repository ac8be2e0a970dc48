"""The folder of a run.

config.toml        the settings; ``xpnet train --config`` repeats the run
history.csv        one row for each epoch and replica
cv.json            figures of cross-validation by network and fold, with the settings and data that they belong to
environment.json   hardware, versions and the command
metrics.json       final figures, as ``xpnet train --json`` prints them
curves.png, .svg   loss, cost, accuracy and learning rate by epoch
tensorboard/       event files of ``--log tensorboard``, with a folder for each network of a population
checkpoints/       states from which ``--resume`` continues; see :mod:`xpnet.runs.checkpoints`
model.safetensors  the network; see :mod:`xpnet.nn.model_file`
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xpnet.config.settings import CONFIG
from xpnet.errors import RunError
from xpnet.utils.atomic_files import rewrite
from xpnet.utils.file_system import check_utf8, unused
from xpnet.utils.parsing import json_bytes, toml_bytes

HISTORY = "history.csv"
METRICS = "metrics.json"
ENVIRONMENT = "environment.json"
CROSS_VALIDATION = "cv.json"
CHECKPOINTS = "checkpoints"
LOCK = ".lock"  # in CHECKPOINTS; it is never replaced


def chunk_folder(run: Path, chunk: tuple[int, int]) -> Path:
    """Return the folder of the checkpoints of a chunk of networks, given as (first, last + 1)."""
    return run / CHECKPOINTS / f"{chunk[0]}-{chunk[1]}"


def chunks_in(run: Path) -> list[tuple[int, int]]:
    """Return the chunks of networks for which a run has a folder, in ascending order."""
    names = (re.fullmatch("([0-9]{1,9})-([0-9]{1,9})", folder.name) for folder in (run / CHECKPOINTS).glob("*-*"))
    chunks = ((int(name[1]), int(name[2])) for name in names if name)
    return sorted(chunk for chunk in chunks if chunk[0] < chunk[1])


def refuse_links(run: Path) -> None:
    """Refuse checkpoint folders that are links: nothing outside the run's folder may be deleted or written.

    Raises:
        RunError: A checkpoint folder is a link.
    """
    home = run / CHECKPOINTS
    for path in (home, home / LOCK, *home.glob("*-*")):
        if path.is_symlink():
            raise RunError(f"{path}: is a link, which may lead out of the run's folder; put what it means in its place")


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
            raise is_taken(path)
        return path
    stamp = prefix + time.strftime("%Y-%m-%d_%H-%M-%S")
    for number in range(1, 10_000):
        name = stamp if number == 1 else f"{stamp}_{number}"
        path = Path("runs", name) if stem is None else stem.with_name(f"{stem.name}-{name}")
        check_utf8(path, "out")
        if _make_folder(path):
            return path
    raise RunError(f"{path}: all its names are taken; name a folder with --out")


def is_taken(path: Path) -> RunError:
    """Return the error that something is where a new folder is asked for, with what to type."""
    for file, command in (("search.toml", "search"), (CONFIG, "train")):
        if path.name and (path / file).is_file() and not (path / METRICS).is_file():
            more = f", or go on with it: xpnet {command} --resume {path}"
            break
    else:
        more = ""
    return RunError(f"out = {path}: exists already, and nothing is overwritten; type --out {unused(path)}{more}")


def _make_folder(path: Path) -> bool:
    """Make a folder and its parents; return whether it is new."""
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
    """Write the settings of a run, by name; replace the file if there is one."""
    path, head = folder / CONFIG, "Settings of a run of xpnet.  Repeat it: xpnet train --config THIS_FILE"
    rewrite(path, toml_bytes(settings, str(path), RunError, head=head))


def write_environment(folder: Path, environment: Mapping[str, Any]) -> None:
    """Write the hardware, versions and command of a run."""
    _write_json(folder / ENVIRONMENT, environment)


def write_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Write the final figures of a run; replace the file if there is one."""
    _write_json(folder / METRICS, metrics)


def write_cross_validation(folder: Path, figures: Mapping[str, Any]) -> None:
    """Write the figures of a run's cross-validation; replace the file if there is one."""
    _write_json(folder / CROSS_VALIDATION, figures)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    rewrite(path, json_bytes(content, str(path), RunError, indent=2))
