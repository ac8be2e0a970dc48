"""Model files: the tensors of a network and their description, in a safetensors file with a check sum.

The description of ``xpnet-model-2`` has the SHA-256 of the complete file, computed with zeros in place of the checksum,
so a changed bit is noticed anywhere in the file.  ``xpnet-model-1``, of earlier versions, has no checksum.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.config.definitions import NetworkConfig
from xpnet.data import Transform
from xpnet.errors import ConfigError, RunError, one_line
from xpnet.nn.layers import parameter_shapes
from xpnet.nn.model_description import OPTIONAL, REQUIRED, SEEDS, Model, Tensors, described
from xpnet.nn.tensor_file import broken, check_header, largest_header, metadata_in, tensors_in
from xpnet.utils import schema
from xpnet.utils.atomic_files import rewrite, write_new
from xpnet.utils.memory import free_host_memory
from xpnet.utils.parsing import json_object, opened, read_bytes

MODEL = "model.safetensors"

FORMAT = "xpnet-model-2"
_FIRST_FORMAT = "xpnet-model-1"
_ZEROS = "0" * 64

_FORMATTED = {"format": schema.text, **REQUIRED}
_DESCRIPTIONS = {
    _FIRST_FORMAT: schema.record(_FORMATTED, {"seeds": SEEDS, "seed": schema.whole(0, None), **OPTIONAL}, closed=True),
    FORMAT: schema.record({"sha256": schema.text, "seeds": SEEDS, **_FORMATTED}, OPTIONAL, closed=True),
}


def save_network(network: Any, path: Path, *, replace: bool = False) -> None:
    """Write a :class:`~xpnet.Network` to a file; see :func:`write_model`.

    Raises:
        RunError: The file exists, cannot be written, or would be refused when read.
    """
    tensors = {
        f"{group}.{name}": network.backend.to_numpy(tensor)
        for group in ("parameters", "running")
        for name, tensor in getattr(network, group).items()
    }
    if network.transform is not None:
        tensors |= network.transform.tensors()
    about, called = network.description(), str(path)
    described(tensors, _parsed(_metadata(about, called), called), called)
    write_model(path, tensors, about, replace=replace)


def write_model(path: Path, tensors: Tensors, about: Mapping[str, Any], *, replace: bool = False) -> None:
    """Write tensors with a description to a new file, or `replace` an existing one; equal models are equal files.

    Raises:
        RunError: The file exists, cannot be written, or would exceed the size limit for reading.
    """
    from safetensors.numpy import save

    metadata = _metadata(about, str(path))
    content = save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, metadata=metadata)
    check_header(content[8 : 8 + int.from_bytes(content[:8], "little")], str(path), RunError)
    digest = _digest(content, _ZEROS).encode()
    (rewrite if replace else write_new)(path, content.replace(_ZEROS.encode(), digest, 1))


def check_description(about: Mapping[str, Any], config: NetworkConfig, replicas: int, transform: Transform) -> None:
    """Refuse, before training, networks whose file would be refused when read; `about` is their :func:`description`.

    Raises:
        ConfigError: The description exceeds a limit, or has text that cannot be read again.
    """
    called = "the model that this training would write"
    try:
        metadata = _metadata(about, called)
        _parsed(metadata, called)
        shapes = parameter_shapes(config, replicas) | {name: t.shape for name, t in transform.tensors().items()}
        check_header(largest_header(shapes, metadata), called, RunError)
    except RunError as error:
        raise ConfigError(str(error)) from None


def read_model(path: Path, *, links: bool = False) -> Model:
    """Return the model in a file; `links` says whether the file may be a link, as files that users name may be.

    Raises:
        RunError: The file is not a complete, undamaged model of xpnet; the message says what is wrong with it.
    """
    called = str(path)
    with opened(path, RunError, called, links=links) as (_, size):
        # Twice its size: the bytes of the file, and the tensors.
        if (free := free_host_memory()) is not None and 2 * size > free:
            raise RunError(f"{called}: takes {2 * size:,} bytes of memory, of which {free:,} are free")
    content = read_bytes(path, size, RunError, links=links)
    about = _parsed(metadata_in(content, called), called)
    tensors = tensors_in(content, called)
    if about["format"] == FORMAT and _digest(content, about["sha256"]) != about["sha256"]:
        raise broken(called, "its check sum is another, so a bit of it has changed")
    return described(tensors, about, called)


def _digest(content: bytes, digest: str) -> str:
    """Return the check sum of a file that contains `digest`, computed with zeros in its place."""
    start = content.find(digest.encode())
    checksum = hashlib.sha256(content[:start] + _ZEROS.encode())
    checksum.update(memoryview(content)[start + len(digest) :])
    return checksum.hexdigest()


def _metadata(about: Mapping[str, Any], called: str) -> dict[str, str]:
    """Return the metadata of a file from its description.

    Raises:
        RunError: The metadata would be refused when read.
    """
    try:
        # Only one entry: the order of several is not fixed, and equal models should be equal files.
        return {"xpnet": json.dumps({"format": FORMAT, "sha256": _ZEROS, **about})}
    except (TypeError, ValueError) as error:
        raise RunError(f"{called}: its description cannot be written ({error})") from None


def _parsed(metadata: Mapping[str, Any], called: str) -> dict[str, Any]:
    """Return the description in the metadata of a file, checked.

    Raises:
        RunError: The file has no description, or its format is unknown.
    """
    text = metadata.get("xpnet") if len(metadata) == 1 else None
    if not isinstance(text, str):
        raise RunError(f"{called}: is not a model that this version of xpnet reads; it names no {FORMAT}")
    about = json_object(text.encode(), f"{called}: its description", RunError)
    if about.get("format") not in (FORMAT, _FIRST_FORMAT):
        raise RunError(
            f"{called}: is not a model that this version of xpnet reads; it names "
            f"{one_line(str(about.get('format')), 60)} for {FORMAT}"
        )
    schema.check(about, _DESCRIPTIONS[about["format"]], f"{called}: its description", RunError)
    return about


def model_path(path: Path) -> Path:
    """Return the model file at `path`, which is the file itself or its run folder.

    Raises:
        RunError: There is no model file.
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
