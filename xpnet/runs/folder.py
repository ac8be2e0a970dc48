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

import contextlib
import errno
import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from xpnet.errors import ConfigError, RunError
from xpnet.utils.file_system import put_new, sync_folder
from xpnet.utils.parsing import json_bytes, read_toml, toml_bytes

MODEL = "model.safetensors"
CONFIG = "config.toml"
HISTORY = "history.csv"
METRICS = "metrics.json"
ENVIRONMENT = "environment.json"
CHECKPOINTS = "checkpoints"


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


def check_utf8(name: str | Path, called: str) -> None:
    """Refuse a name that cannot stand in files of JSON and TOML.

    Raises:
        RunError: It is not UTF-8.
    """
    try:
        str(name).encode()
    except UnicodeEncodeError:
        raise RunError(
            f"{called} = {name}: is not UTF-8, and the files that hold this name are; take another"
        ) from None


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
    temporary = None
    try:
        temporary = _beside(path)
        with _opened_anew(temporary) as file:
            file.write(content)
        put_new(temporary, path)
    except FileExistsError:
        raise RunError(f"{path}: exists already; nothing is overwritten, name another file") from None
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror}); check the folder and the space left") from None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    """Name a file that is written before it takes the place of another.

    Processes of several machines, or containers, that share a folder may have the same number.

    Raises:
        OSError: No file can have that name.
    """
    try:
        possible = path.name and "\0" not in str(path) and os.fsencode(path)
    except UnicodeEncodeError:
        possible = False
    if not possible:
        raise OSError(errno.EINVAL, "is no name that a file can have")
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
        OSError: It cannot be written, or what is there is a folder, a device or a pipe.
    """
    temporary = _beside(path)
    # A rename would put a file in the place of /dev/null.  Links are replaced, and not followed.
    if path.exists() and not (path.is_file() or path.is_symlink()):
        raise OSError(errno.EINVAL, "is no file, and is not replaced")
    try:
        with _opened_anew(temporary) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _opened_anew(path: Path) -> BinaryIO:
    """Open a new file; what has its name goes, since a link in a stranger's folder would lead out of it."""
    path.unlink(missing_ok=True)
    return path.open("xb")


def write_config(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings of a run, by name, in place of those that it had."""
    path, head = folder / CONFIG, "Settings of a run of xpnet.  Repeat it: xpnet train --config THIS_FILE"
    rewrite(path, toml_bytes(settings, str(path), RunError, head=head))


def read_config(path: Path) -> dict[str, Any]:
    """Return the settings in a TOML file, or in the ``config.toml`` of a run folder.

    Raises:
        ConfigError: There is no such file, or it is not TOML, or goes beyond a limit of :mod:`xpnet.utils.parsing`.
    """
    named = not path.is_dir()
    path = path if named else path / CONFIG
    return read_toml(path, ConfigError, f"config = {path}", links=named)


def write_environment(folder: Path, environment: Mapping[str, Any]) -> None:
    """Write what a run is made on."""
    path = folder / ENVIRONMENT
    rewrite(path, json_bytes(environment, str(path), RunError, indent=2))


def write_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Write the figures of a run, in place of those of a part of it."""
    path = folder / METRICS
    rewrite(path, json_bytes(metrics, str(path), RunError, indent=2))


def model_path(path: Path) -> Path:
    """Return the model file that `path`, itself one or a run folder, stands for.

    Raises:
        RunError: There is none.
    """
    if path.is_dir():
        if not (path / MODEL).is_file():
            raise RunError(
                f"{path}: is not the folder of a finished run, it has no {MODEL}; xpnet train --resume finishes one"
            )
        return path / MODEL
    if not path.is_file():
        raise RunError(f"{path}: there is no such run folder or model file")
    return path
