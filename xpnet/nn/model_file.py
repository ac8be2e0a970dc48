"""Model files: the tensors of a network and their description, in a safetensors file with a check sum.

The description of ``xpnet-model-2`` has the SHA-256 of the complete file, computed with zeros in place of the checksum,
so a changed bit is noticed anywhere in the file.  ``xpnet-model-1``, of earlier versions, has no checksum.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.config.definitions import NetworkConfig
from xpnet.data import Transform
from xpnet.errors import ConfigError, RunError, one_line
from xpnet.nn.layers import parameter_shapes
from xpnet.nn.tensor_file import broken, check_header, largest_header, metadata_in, tensors_in
from xpnet.utils import schema
from xpnet.utils.atomic_files import rewrite, write_new
from xpnet.utils.memory import free_host_memory
from xpnet.utils.parsing import json_object, opened, read_bytes

MODEL = "model.safetensors"

FORMAT = "xpnet-model-2"
_FIRST_FORMAT = "xpnet-model-1"
_ZEROS = "0" * 64
TRANSFORM = "standardise."  # of the names of a transform's tensors
Tensors = Mapping[str, NDArray[Any]]

_OPTIONAL = {
    "feature_names": schema.items(schema.text),
    "image_shape": schema.items(schema.whole(1), length=3),
    "pool": schema.whole(2, 64),
}
_SEEDS = schema.items(schema.whole(0, None))
_REQUIRED = {"config": schema.record({"inputs": schema.anything}), "class_names": schema.items(schema.text)}
DESCRIPTION = schema.record({"seeds": _SEEDS, **_REQUIRED}, _OPTIONAL, closed=True)
_FORMATTED = {"format": schema.text, **_REQUIRED}
_DESCRIPTIONS = {
    _FIRST_FORMAT: schema.record(
        _FORMATTED, {"seeds": _SEEDS, "seed": schema.whole(0, None), **_OPTIONAL}, closed=True
    ),
    FORMAT: schema.record({"sha256": schema.text, "seeds": _SEEDS, **_FORMATTED}, _OPTIONAL, closed=True),
}


@dataclass(frozen=True, eq=False)
class Model:
    """A checked model: it has exactly the tensors of its description, and their shapes fit each other.

    Attributes:
        tensors: ``parameters.NAME``, ``running.NAME``, by name, each (R, ...).
        config: The architecture.
        seeds: Seed of each replica; the first release stored only the first seed, and the others count up from it.
        class_names, feature_names, image_shape: As in :class:`~xpnet.Network`.
        transform: Brings raw features to the network's inputs; None if it is not known.
    """

    tensors: Tensors
    config: NetworkConfig
    seeds: tuple[int, ...]
    class_names: tuple[str, ...]
    feature_names: tuple[str, ...]
    image_shape: tuple[int, int, int] | None
    transform: Transform | None

    @property
    def replicas(self) -> int:
        """Number of networks R."""
        return len(self.seeds)


def description(
    config: NetworkConfig,
    seeds: Sequence[int],
    class_names: Sequence[str],
    image_shape: Sequence[int] | None,
    feature_names: Sequence[str],
    pool: int = 1,
) -> dict[str, Any]:
    """Return the description of networks, all that a file holds beside their tensors, in types that JSON has."""
    described: dict[str, Any] = {
        "config": dataclasses.asdict(config),
        "seeds": list(seeds),
        "class_names": list(class_names),
    }
    # Keys that do not apply are left out, so that equal models are equal files.
    if image_shape is not None:
        described["image_shape"] = list(image_shape)
    if feature_names:
        described["feature_names"] = list(feature_names)
    if pool > 1:
        described["pool"] = pool
    return described


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


def described(tensors: Tensors, about: Mapping[str, Any], called: str) -> Model:
    """Return the model made of tensors and a description that fit each other.

    Args:
        tensors: By name, as in a file.
        about: The :func:`description`, of the shape :data:`DESCRIPTION`.
        called: Name of the file in messages.

    Raises:
        RunError: The tensors and the description do not fit each other.
    """
    try:
        return _model(tensors, about)
    except ValueError as error:  # ConfigError and DataError are ValueErrors
        raise RunError(f"{called}: does not describe a network that xpnet can build ({error})") from None


def _model(tensors: Tensors, about: Mapping[str, Any]) -> Model:
    """Return a model.

    Raises:
        ValueError: Tensors and description do not fit.
    """
    config = _config(about["config"], len(tensors))
    first = tensors.get("parameters.W1")
    if first is None or first.dtype.kind != "f" or not first.ndim:
        raise ValueError("it has no parameters.W1 of floating numbers")
    replicas, expected = len(first), parameter_shapes(config, len(first))
    for name, shape in expected.items():
        tensor = tensors.get(name)
        if tensor is None:
            raise ValueError(f"it has no {name}")
        if tensor.shape != shape or tensor.dtype != first.dtype:
            raise ValueError(f"{name} is {tensor.dtype} {tensor.shape}, not {first.dtype} {shape}")
        if name.startswith("running.var") and (tensor < 0).any():
            raise ValueError(f"{name} has a variance below 0")
    if others := {name for name in tensors.keys() - expected.keys() if not name.startswith(TRANSFORM)}:
        raise ValueError(f"it has the tensor {one_line(min(others), 60)}, which is none of its network")
    if "seeds" not in about and "seed" not in about:
        raise ValueError("it names no seeds")
    seeds = tuple(about["seeds"]) if "seeds" in about else tuple(about["seed"] + r for r in range(replicas))
    if len(seeds) != replicas:
        raise ValueError(f"it has {len(seeds)} seeds for {replicas} networks")
    if isinstance(config.init, tuple) and len(config.init) != replicas:
        raise ValueError(f"config.init has {len(config.init)} values for {replicas} networks")
    class_names, feature_names = tuple(about["class_names"]), tuple(about.get("feature_names", ()))
    if len(class_names) > config.classes:
        raise ValueError(f"class_names has {len(class_names):,} names for {config.classes:,} classes")
    image_shape = tuple(about["image_shape"]) if about.get("image_shape") else None
    transform = _transform(tensors, config.inputs, image_shape, about.get("pool", 1))
    features = config.inputs if transform is None else transform.features
    if feature_names and len(feature_names) != features:
        raise ValueError(f"feature_names has {len(feature_names):,} names for {features:,} features")
    if image_shape and (math.prod(image_shape) != features or image_shape[0] not in (1, 3)):
        images = " x ".join(map(str, image_shape))
        raise ValueError(f"images of {images} are not {features:,} features in 1 or 3 channels")
    own = {name: tensors[name] for name in expected}
    return Model(own, config, seeds, class_names, feature_names, image_shape, transform)


def _config(values: Mapping[str, Any], tensors: int) -> NetworkConfig:
    hidden = values.get("hidden", ())
    # Every layer has a tensor, so a description with more layers than tensors is refused at once.
    if isinstance(hidden, list) and len(hidden) >= tensors:
        raise ValueError(f"config.hidden has {len(hidden):,} layers, and there are {tensors:,} tensors")
    try:
        return NetworkConfig(**values)
    except TypeError as error:
        raise ValueError(f"config: {str(error).partition('() ')[2]}") from None
    except ConfigError as error:
        raise ValueError(f"config: {error}") from None


def _transform(tensors: Tensors, inputs: int, image_shape: Any, pool: int) -> Transform | None:
    own = {name: tensor for name, tensor in tensors.items() if name.startswith(TRANSFORM)}
    transform = Transform.of(own, image_shape, pool)
    if transform is None and pool > 1:
        raise ValueError(f"it pools {pool} x {pool} pixels, and has no standardise.mean")
    if transform is not None and transform.inputs != inputs:
        raise ValueError(f"its transform gives {transform.inputs:,} inputs, and its network takes {inputs:,}")
    return transform


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
