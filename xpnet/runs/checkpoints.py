"""Checkpoints: resumable training states in files that are complete, or known not to be.

A checkpoint is two files.  ``step-000001234.safetensors`` holds all tensors; ``step-000001234.json``, written after
it, says what they belong to, with the check sum of the first and one of itself.  Without its second file a checkpoint
does not exist, so a process that is killed while it writes one leaves the last one whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
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
from xpnet.nn.model_file import DESCRIPTION, described
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
    """A checkpoint was written by a newer xpnet: it is not damaged, and must not be passed over."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on the disk, whole when it was looked at.

    Attributes:
        path: Its description.
        about: What the description says: ``step``, ``epoch``, ``score``, ``settings``, ``data``.
    """

    path: Path
    about: Mapping[str, Any]

    @property
    def step(self) -> int:
        """Steps taken."""
        return int(self.about["step"])

    @property
    def score(self) -> float:
        """Mean validation accuracy of the last finished epoch; below 0 before the first."""
        return float(self.about["score"])


def write_checkpoint(
    folder: Path,
    state: TrainState,
    about: Mapping[str, Any],
    standardise: Mapping[str, NDArray[Any]] = MappingProxyType({}),
) -> Path:
    """Write a training state into `folder`, completely or not at all; return the path of its description.

    Args:
        folder: Where checkpoints of this training are.
        state: The training state.
        about: What it belongs to, as JSON can hold it: ``settings`` and ``data``.
        standardise: ``mean`` and ``std`` of the features, for who wants to use the network.

    Raises:
        OSError: It cannot be written; checkpoints that are there already stay whole.
        RunError: It would be larger than what is read.
    """
    from safetensors.numpy import save

    stem = f"step-{state.step:09d}"
    more = {f"standardise.{name}": np.ascontiguousarray(values) for name, values in standardise.items()}
    content = save(tensors_of(state) | more)
    last = state.history["validation.accuracies"][-1:]
    good = last[np.isfinite(last)]
    text = {
        "format": FORMAT,
        "step": state.step,
        "epoch": state.epochs,
        "score": float(good.mean()) if good.size else -1.0,
        "seconds": [state.seconds_evaluation, state.seconds_of_epoch],
        "validated": state.validated,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        **about,
    }
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        sync_folder(folder.parent)
    tensors_path, path = folder / f"{stem}.safetensors", folder / f"{stem}.json"
    signed = _signed(text, str(path))
    check_header(content[8 : 8 + int.from_bytes(content[:8], "little")], str(tensors_path), RunError)
    # Where settings alone have changed, a kill between the two would cost a checkpoint that was whole.
    if not _holds(tensors_path, content):
        replace_whole(tensors_path, content)
    replace_whole(path, signed)
    return path


def _holds(path: Path, content: bytes) -> bool:
    """Return whether a file has this content already; it is not read if it is not even as long."""
    try:
        return path.stat().st_size == len(content) and read_bytes(path, len(content), RunError) == content
    except (OSError, RunError):
        return False


def check_description(about: Mapping[str, Any], replicas: int) -> None:
    """Refuse a training whose checkpoints would not be read, before it begins.

    Args:
        about: What all of them say: ``settings``, ``data``, ``length`` and ``network``, of all networks.
        replicas: Number of networks, each of which may become a chunk of its own.

    Raises:
        ConfigError: Their descriptions go beyond a limit.
    """
    # What else a checkpoint says takes less than twenty numbers of this length.
    largest = {"cuts": [[replicas, replicas]] * replicas, "rest": [-1e-300 / 3] * 20}
    try:
        _signed({**largest, **about}, "a checkpoint that this training would write")
    except RunError as error:
        raise ConfigError(str(error)) from None


def _signed(text: Mapping[str, Any], called: str) -> bytes:
    """Return the description of a checkpoint with its check sum.

    Raises:
        RunError: It is larger than what is read.
    """
    body = json.dumps(text, sort_keys=True, allow_nan=False)
    whole = {"checksum": hashlib.sha256(body.encode()).hexdigest(), "checkpoint": text}
    return json_bytes(whole, called, RunError, indent=1)


def read_checkpoint(path: Path) -> tuple[TrainState, dict[str, Any]]:
    """Read a checkpoint by the path of its description; return the training state and the description.

    Raises:
        RunError: One of the two files is missing, cut or changed, or not of this format.
    """
    about = read_description(path)
    return state_of(_tensors_of(path, about), about), about


def _tensors_of(path: Path, about: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    tensors_path = path.with_suffix(".safetensors")
    try:
        if tensors_path.stat().st_size != about["bytes"]:
            raise RunError(f"{tensors_path}: has {tensors_path.stat().st_size} bytes, and had {about['bytes']}")
        # Twice: the file's bytes, and the tensors made of them.
        if (free := free_host_memory()) is not None and 2 * about["bytes"] > free:
            raise RunError(f"{tensors_path}: takes {2 * about['bytes']:,} bytes of memory, of which {free:,} are free")
        content = read_bytes(tensors_path, about["bytes"], RunError)
        if hashlib.sha256(content).hexdigest() != about["sha256"]:
            raise RunError(f"{tensors_path}: is not what was written; a bit has changed")
    except OSError as error:
        raise RunError(f"{tensors_path}: cannot be read ({error.strerror})") from None
    tensors = tensors_in(content, str(tensors_path))
    check_training(tensors, about["epoch"], str(tensors_path))
    return tensors


def network_in(path: Path, *, backend: Backend | None = None) -> Network:
    """Return the network that a checkpoint holds, such as the best one.

    Raises:
        RunError: It is not whole, or does not say what network it is of; see :func:`read_checkpoint`.
    """
    about = read_description(path)
    if "network" not in about:
        raise RunError(f"{path}: does not say what network it is of; take one of a run folder")
    schema.check(about["network"], DESCRIPTION, f"{path}: network", RunError)
    tensors = _tensors_of(path, about)
    of_network = ("parameters.", "running.", "standardise.")
    mine = {name: tensor for name, tensor in tensors.items() if name.startswith(of_network)}
    return Network.of(described(mine, about["network"], str(path)), backend=backend)


@takes(path=a_path, backend=optional(kind(Backend)))
def load_network(path: str | Path, *, backend: Backend | None = None) -> Network:
    """Read a network from a run folder, a model file, or the description of a checkpoint.

    Raises:
        RunError: There is no such file, or it does not hold a whole network.
    """
    path = Path(path)
    if path.suffix == ".json":
        # The tensors are beside the file that a link means.
        return network_in(path.resolve() if path.is_symlink() else path, backend=backend)
    return Network.load(path, backend=backend)


def read_description(path: Path) -> dict[str, Any]:
    """Return what a checkpoint says of itself.

    Raises:
        RunError: The file is missing, cut or changed, or not of this format.
    """
    outer = read_json(path, RunError)
    schema.check(outer, _OUTER, f"{path}: is not the description of a checkpoint", RunError)
    about: dict[str, Any] = outer["checkpoint"]
    body = json.dumps(about, sort_keys=True, allow_nan=False)
    if hashlib.sha256(body.encode()).hexdigest() != outer["checksum"]:
        raise RunError(f"{path}: is not what was written; it has been changed")
    if about.get("format") != FORMAT:
        raise NewerFormatError(
            f"{path}: has the format {about.get('format')}, which this version of xpnet does not read"
        )
    schema.check(about, _ABOUT, f"{path}: is not the description of a checkpoint", RunError)
    return about


def checkpoints_in(folder: Path) -> tuple[list[Checkpoint], list[str]]:
    """Return the checkpoints in a folder, the last first, and what is wrong with those that cannot be read.

    Raises:
        NewerFormatError: One was written by a newer xpnet.
    """
    found, wrong = [], []
    for path in sorted(folder.glob("step-*.json"), reverse=True):
        try:
            found.append(Checkpoint(path, read_description(path)))
        except NewerFormatError:
            raise
        except RunError as error:
            wrong.append(str(error))
    return found, wrong


def last_complete(folder: Path) -> tuple[TrainState | None, dict[str, Any], list[str]]:
    """Return the state of the last complete checkpoint in a folder, its description, and what is wrong with later ones.

    Without one, the state is None and the description empty.
    """
    found, wrong = checkpoints_in(folder)
    for checkpoint in found:
        try:
            state, about = read_checkpoint(checkpoint.path)
        except RunError as error:
            wrong.append(str(error))
        else:
            return state, about, wrong
    return None, {}, wrong


def delete_old(folder: Path, count: int) -> None:
    """Delete all but the last `count` checkpoints and the one with the best validation accuracy."""
    found, _ = checkpoints_in(folder)
    if len(found) <= count:
        return
    best = max(found, key=lambda checkpoint: (checkpoint.score, checkpoint.step))
    for checkpoint in found[count:]:
        if checkpoint.path != best.path:
            # The description first: without it, what is left is no checkpoint.
            checkpoint.path.unlink(missing_ok=True)
            checkpoint.path.with_suffix(".safetensors").unlink(missing_ok=True)
