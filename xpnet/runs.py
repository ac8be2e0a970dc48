"""The run folder and the model file: what a run leaves behind, and never overwrites.

config.toml        the settings; ``xpnet train --config`` repeats the run
history.csv        one row for each epoch and replica
environment.json   what it was made on, and the command
metrics.json       final figures, as ``xpnet train --json`` prints them
curves.png, .svg   loss, cost, accuracy and learning rate by epoch
model.safetensors  the network
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.errors import ConfigError, RunError

MODEL = "model.safetensors"
CONFIG = "config.toml"
HISTORY = "history.csv"
METRICS = "metrics.json"
ENVIRONMENT = "environment.json"

_FORMAT = "xpnet-model-1"


def create_run_folder(out: str | Path | None, *, prefix: str = "", stem: Path | None = None) -> Path:
    """Make the folder of a new run and return its path.

    Without `out`, a folder named by `prefix` and the time is made below ``runs/``, or beside `stem` as ``STEM-TIME``.

    Raises:
        RunError: `out` exists, or cannot be made.
    """
    if out is not None:
        path = Path(out)
        if not _make_folder(path):
            raise RunError(f"out = {path}: exists already; name a folder that does not, nothing is overwritten")
        return path
    stamp = prefix + time.strftime("%Y-%m-%d_%H-%M-%S")
    for number in range(1, 10_000):
        name = stamp if number == 1 else f"{stamp}_{number}"
        path = Path("runs", name) if stem is None else stem.with_name(f"{stem.name}-{name}")
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


def write_new(path: Path, content: bytes) -> None:
    """Write a file that must not exist yet, whole or not at all.

    Raises:
        RunError: The file exists, or cannot be written.
    """
    temporary = _beside(path)
    try:
        temporary.write_bytes(content)
        # A hard link fails where the name is taken, which a rename would silently replace.
        os.link(temporary, path)
    except FileExistsError:
        raise RunError(f"{path}: exists already; nothing is overwritten, name another file") from None
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror}); check the folder and the space left") from None
    finally:
        temporary.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    """Name a file that is written before it takes the place of another.

    Processes of several machines, or containers, that share a folder may have the same number.
    """
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def rewrite(path: Path, content: bytes) -> None:
    """Write a file that may be there already, whole or not at all.

    Raises:
        RunError: It cannot be written.
    """
    try:
        replace_whole(path, content)
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror}); check the folder and the space left") from None


def replace_whole(path: Path, content: bytes) -> None:
    """Write a file that is there after a crash of the machine, or is as it was before.

    Raises:
        OSError: It cannot be written.
    """
    temporary = _beside(path)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Let a rename reach the disk, where folders can be synchronised."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_config(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings of a run, by name, in place of those that it had."""
    import tomli_w

    text = "# Settings of a run of xpnet.  Repeat it: xpnet train --config THIS_FILE\n" + tomli_w.dumps(dict(settings))
    rewrite(folder / CONFIG, text.encode())


def read_config(path: Path) -> dict[str, Any]:
    """Return the settings in a TOML file, or in the ``config.toml`` of a run folder.

    Raises:
        ConfigError: There is no such file, or it is not TOML.
    """
    if path.is_dir():
        path = path / CONFIG
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"config = {path}: there is no such file") from None
    except OSError as error:
        raise ConfigError(f"config = {path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"config = {path}: is not TOML ({error})") from None


def write_environment(folder: Path, environment: Mapping[str, Any]) -> None:
    """Write what a run is made on."""
    rewrite(folder / ENVIRONMENT, (json.dumps(environment, indent=2) + "\n").encode())


def write_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Write the figures of a run, in place of those of a part of it."""
    rewrite(folder / METRICS, (json.dumps(metrics, indent=2) + "\n").encode())


def write_model(
    path: Path, tensors: Mapping[str, np.ndarray[Any, Any]], about: Mapping[str, Any], *, replace: bool = False
) -> None:
    """Write tensors with a description to a safetensors file, a new one unless it may `replace` another.

    Raises:
        RunError: The file exists, or cannot be written.
    """
    from safetensors.numpy import save

    # One entry alone: the order of several is not fixed, and equal models should be equal files.
    metadata = {"xpnet": json.dumps({"format": _FORMAT, **about})}
    whole = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    (rewrite if replace else write_new)(path, save(whole, metadata=metadata))


def model_path(path: Path) -> Path:
    """Return the model file that `path`, itself one or a run folder, stands for.

    Raises:
        RunError: There is none.
    """
    if path.is_dir():
        if not (path / MODEL).is_file():
            raise RunError(f"{path}: is not the folder of a finished run, it has no {MODEL}")
        return path / MODEL
    if not path.is_file():
        raise RunError(f"{path}: there is no such run folder or model file")
    return path


def read_model(path: Path) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, Any]]:
    """Return the tensors and the description in a model file.

    Raises:
        RunError: The file is not a whole model of xpnet.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            about = json.loads((file.metadata() or {}).get("xpnet", "{}"))
            if not isinstance(about, dict) or about.get("format") != _FORMAT:
                raise RunError(f"{path}: is not a model that this version of xpnet reads; it names no {_FORMAT}")
            return {name: file.get_tensor(name) for name in file.keys()}, about  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise RunError(f"{path}: is not a whole safetensors file ({error}); take another copy of it") from None
