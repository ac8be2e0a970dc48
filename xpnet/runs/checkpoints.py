"""Checkpoints: resumable training states in files whose completeness can be checked.

A checkpoint is two files.  ``step-000001234.safetensors`` holds all tensors; ``step-000001234.json``, written after
it, describes them, with a check sum of the first file and one of itself.  Without the second file a checkpoint does not
count, so a process that is killed while it writes a checkpoint leaves the one before complete.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.backend import Backend
from xpnet.config.arguments import kind, takes
from xpnet.config.arguments import path as a_path
from xpnet.config.fields import optional
from xpnet.errors import ConfigError, RunError
from xpnet.nn.model_description import DESCRIPTION, TRANSFORM, described
from xpnet.nn.network import Network
from xpnet.nn.tensor_file import check_header, tensors_in
from xpnet.runs.checkpoint_tensors import check_training, state_of, tensors_of
from xpnet.training.state import TrainState
from xpnet.utils import schema
from xpnet.utils.atomic_files import replace_whole
from xpnet.utils.file_system import sync_folder
from xpnet.utils.memory import free_host_memory
from xpnet.utils.parsing import json_bytes, read_bytes, read_json

FORMAT = "xpnet-checkpoint-1"
_OUTER = schema.record({"checksum": schema.text, "checkpoint": schema.mapping(schema.anything)}, closed=True)
_ABOUT = schema.record(
    {
        **dict.fromkeys(("step", "epoch", "bytes"), schema.whole(0)),
        "score": schema.number(),
        "seconds": schema.items(schema.number(0), length=2),
        "sha256": schema.text,
    },
    {
        **dict.fromkeys(("settings", "data", "network"), schema.mapping(schema.anything)),
        "length": schema.record(dict.fromkeys(("steps", "steps_per_epoch"), schema.whole(1))),
        "chunk": schema.items(schema.whole(0), length=2),
        "validated": schema.flag,
        "cuts": schema.items(schema.items(schema.whole(0), length=2)),
    },
)


class NewerFormatError(RunError):
    """A checkpoint was written by a newer xpnet: it is not damaged, and must not be skipped."""


def write_checkpoint(
    folder: Path,
    state: TrainState,
    about: Mapping[str, Any],
    transform: Mapping[str, NDArray[Any]] = MappingProxyType({}),
) -> Path:
    """Write a training state into `folder`, completely or not at all; return the path of its description.

    Args:
        folder: The folder of this training's checkpoints.
        state: The training state.
        about: Its ``settings`` and ``data``, as JSON can hold them.
        transform: Arrays of the transform of the features, which the network needs for predictions.

    Raises:
        OSError: The checkpoint cannot be written; earlier checkpoints stay complete.
        RunError: The checkpoint would exceed the size limit for reading.
    """
    from safetensors.numpy import save

    content = save(tensors_of(state) | {name: np.ascontiguousarray(values) for name, values in transform.items()})
    last = state.history["validation.accuracies"][-1:]
    finite = last[np.isfinite(last)]
    description = {
        "format": FORMAT,
        "step": state.step,
        "epoch": state.epochs,
        "score": float(finite.mean()) if finite.size else -1.0,
        "seconds": [state.seconds_evaluation, state.seconds_of_epoch],
        "validated": state.validated,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        **about,
    }
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        sync_folder(folder.parent)
    path = folder / f"step-{state.step:09d}.json"
    tensors_path = path.with_suffix(".safetensors")
    signed = _signed(description, str(path))
    check_header(content[8 : 8 + int.from_bytes(content[:8], "little")], str(tensors_path), RunError)
    # If only settings have changed, the tensors are not rewritten: a kill between two writes would cost the checkpoint.
    if not _has_content(tensors_path, content):
        replace_whole(tensors_path, content)
    replace_whole(path, signed)
    return path


def _has_content(path: Path, content: bytes) -> bool:
    """Return whether a file has this content; it is read only if its size fits."""
    try:
        return path.stat().st_size == len(content) and read_bytes(path, len(content), RunError) == content
    except (OSError, RunError):
        return False


def check_description(about: Mapping[str, Any], replicas: int) -> None:
    """Refuse, before it begins, a training whose checkpoints would be refused when read.

    Args:
        about: ``settings``, ``data``, ``length`` and ``network`` of all networks, which every description has.
        replicas: Number of networks, each of which may become a chunk of its own.

    Raises:
        ConfigError: The descriptions would exceed a limit.
    """
    # The other entries of a description take less than twenty numbers of this length.
    largest = {"cuts": [[replicas, replicas]] * replicas, "rest": [-1e-300 / 3] * 20}
    try:
        _signed({**largest, **about}, "a checkpoint that this training would write")
    except RunError as error:
        raise ConfigError(str(error)) from None


def _signed(description: Mapping[str, Any], called: str) -> bytes:
    """Return the description of a checkpoint with its check sum, as JSON within the limits for reading."""
    content = {"checksum": _checksum(description), "checkpoint": description}
    return json_bytes(content, called, RunError, indent=1)


def _checksum(description: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(description, sort_keys=True, allow_nan=False).encode()).hexdigest()


def read_checkpoint(path: Path) -> tuple[TrainState, dict[str, Any]]:
    """Return the training state and the description of a checkpoint, by the path of its description.

    Raises:
        RunError: The checkpoint is not complete, or does not hold a training; the message has the reason.
    """
    about = read_description(path)
    return state_of(_read_tensors(path, about), about), about


def _read_tensors(path: Path, about: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return the tensors of a checkpoint; `about` is its description, read from `path`."""
    path = path.with_suffix(".safetensors")
    size = about["bytes"]
    try:
        if path.stat().st_size != size:
            raise RunError(f"{path}: has {path.stat().st_size} bytes, and had {size}")
        # Twice its size: the bytes of the file, and the tensors.
        if (free := free_host_memory()) is not None and 2 * size > free:
            raise RunError(f"{path}: takes {2 * size:,} bytes of memory, of which {free:,} are free")
        content = read_bytes(path, size, RunError)
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror})") from None
    if hashlib.sha256(content).hexdigest() != about["sha256"]:
        raise RunError(f"{path}: is not what was written; a bit has changed")
    tensors = tensors_in(content, str(path))
    check_training(tensors, about["epoch"], str(path))
    return tensors


@takes(path=a_path, backend=optional(kind(Backend)))
def load_network(path: str | Path, *, backend: Backend | None = None) -> Network:
    """Return a network from a run folder, a model file, or the description of a checkpoint, such as the best one.

    Raises:
        RunError: There is no such file, or it does not hold a complete network.
    """
    path = Path(path)
    if path.suffix != ".json":
        return Network.load(path, backend=backend)
    if path.is_symlink():  # the tensors are beside the target of the link
        path = path.resolve()
    about = read_description(path)
    if "network" not in about:
        raise RunError(f"{path}: does not say what network it is of; take one of a run folder")
    schema.check(about["network"], DESCRIPTION, f"{path}: network", RunError)
    kept = ("parameters.", "running.", *TRANSFORM)
    tensors = {name: tensor for name, tensor in _read_tensors(path, about).items() if name.startswith(kept)}
    return Network.of(described(tensors, about["network"], str(path)), backend=backend)


def read_description(path: Path) -> dict[str, Any]:
    """Return the description of a checkpoint.

    Raises:
        RunError: The file is missing, truncated, changed, or not of this format.
    """
    outer = read_json(path, RunError)
    schema.check(outer, _OUTER, f"{path}: is not the description of a checkpoint", RunError)
    about: dict[str, Any] = outer["checkpoint"]
    if _checksum(about) != outer["checksum"]:
        raise RunError(f"{path}: is not what was written; it has been changed")
    if about.get("format") != FORMAT:
        raise NewerFormatError(
            f"{path}: has the format {about.get('format')}, which this version of xpnet does not read"
        )
    schema.check(about, _ABOUT, f"{path}: is not the description of a checkpoint", RunError)
    return about


def descriptions_in(folder: Path, wrong: list[str]) -> dict[Path, dict[str, Any]]:
    """Return the descriptions in a folder by path, the last first; append to `wrong` why others cannot be read.

    Raises:
        NewerFormatError: A checkpoint was written by a newer xpnet.
    """
    descriptions = {}
    for path in sorted(folder.glob("step-*.json"), reverse=True):
        try:
            descriptions[path] = read_description(path)
        except NewerFormatError:
            raise
        except RunError as error:
            wrong.append(str(error))
    return descriptions


def complete_states(folder: Path, wrong: list[str]) -> Iterator[tuple[TrainState, dict[str, Any]]]:
    """Yield the states of complete checkpoints with their descriptions, the last first; see :func:`descriptions_in`."""
    for path in descriptions_in(folder, wrong):
        try:
            state, about = read_checkpoint(path)
        except RunError as error:
            wrong.append(str(error))
        else:
            yield state, about


def last_complete(folder: Path) -> tuple[TrainState | None, dict[str, Any], list[str]]:
    """Return state and description of the last complete checkpoint in a folder, and why later ones cannot be used.

    Without one, the state is None and the description empty.
    """
    wrong: list[str] = []
    state, about = next(complete_states(folder, wrong), (None, {}))
    return state, about, wrong


def delete_old(folder: Path, count: int) -> None:
    """Delete all but the last `count` checkpoints and the one with the best validation accuracy."""
    descriptions = descriptions_in(folder, [])
    if len(descriptions) <= count:
        return
    best = max(descriptions, key=lambda path: (descriptions[path]["score"], descriptions[path]["step"]))
    for path in list(descriptions)[count:]:
        if path != best:
            path.unlink(missing_ok=True)  # the description first: without it, tensors do not count as a checkpoint
            path.with_suffix(".safetensors").unlink(missing_ok=True)
