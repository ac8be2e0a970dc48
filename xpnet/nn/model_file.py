"""Model files: the tensors of a network with what they mean, in a safetensors file with a check sum.

``xpnet-model-2`` has the SHA-256 of the whole file in its description, taken with zeros in its own place, so a bit that
changes anywhere is noticed.  ``xpnet-model-1``, of earlier versions, has none.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.config.definitions import NetworkConfig
from xpnet.data import Standardiser
from xpnet.errors import ConfigError, DataError, RunError, one_line
from xpnet.nn.layers import parameter_shapes
from xpnet.nn.tensor_file import broken, check_header, check_length, header_of, layout_of, places_of
from xpnet.utils import schema
from xpnet.utils.atomic_files import rewrite, write_new
from xpnet.utils.memory import free_host_memory
from xpnet.utils.parsing import json_object, opened

MODEL = "model.safetensors"

FORMAT = "xpnet-model-2"
_FIRST_FORMAT = "xpnet-model-1"
_BLANK = "0" * 64
_STANDARDISER = ("standardise.mean", "standardise.std")
Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Model:
    """What a model file holds, checked: tensors are those that the description asks for, and fit each other.

    Attributes:
        tensors: ``parameters.NAME``, ``running.NAME``, by name, each (R, ...).
        config: The architecture.
        seeds: Of each replica; of the first release, which kept the first alone, counted on from there.
        class_names, feature_names, image_shape: As those of :class:`~xpnet.Network`.
        standardiser: What brings raw features to the network's; None if that is not known.
    """

    tensors: Tensors
    config: NetworkConfig
    seeds: tuple[int, ...]
    class_names: tuple[str, ...]
    feature_names: tuple[str, ...]
    image_shape: tuple[int, int, int] | None
    standardiser: Standardiser | None

    @property
    def replicas(self) -> int:
        """Number of networks R."""
        return len(self.seeds)


def write_model(path: Path, tensors: Tensors, about: Mapping[str, Any], *, replace: bool = False) -> None:
    """Write tensors with a description to a file, a new one unless it may `replace` one; equal models are equal files.

    Raises:
        RunError: The file exists, cannot be written, or would be larger than what is read.
    """
    from safetensors.numpy import save

    metadata = _metadata(about, str(path))
    whole = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    content = save(whole, metadata=metadata)
    check_header(content[8 : 8 + int.from_bytes(content[:8], "little")], str(path), RunError)
    at = content.index(_BLANK.encode())
    digest = hashlib.sha256(content).hexdigest().encode()
    (rewrite if replace else write_new)(path, content[:at] + digest + content[at + len(digest) :])


def check_model(tensors: Tensors, about: Mapping[str, Any], called: str) -> None:
    """Refuse a network that the reader would refuse.

    Raises:
        RunError: It would.
    """
    described(dict(tensors), _description(_metadata(about, called), called), called)


def check_description(about: Mapping[str, Any], config: NetworkConfig, replicas: int) -> None:
    """Refuse networks whose file would not be read, before they are trained.

    Args:
        about: What :func:`description` returns.
        config: The architecture.
        replicas: Number of networks.

    Raises:
        ConfigError: Their description goes beyond a limit, or holds text that cannot be read again.
    """
    called = "the model that this training would write"
    try:
        metadata = _metadata(about, called)
        _description(metadata, called)
        shapes = {**parameter_shapes(config, replicas), **dict.fromkeys(_STANDARDISER, (config.inputs,))}
        check_header(header_of(shapes, metadata), called, RunError)
    except RunError as error:
        raise ConfigError(str(error)) from None


def description(
    config: NetworkConfig,
    seeds: Sequence[int],
    class_names: Sequence[str],
    image_shape: Sequence[int] | None,
    feature_names: Sequence[str],
) -> dict[str, Any]:
    """Return what networks are beside their tensors, as JSON can hold it."""
    about: dict[str, Any] = {
        "config": dataclasses.asdict(config),
        "seeds": list(seeds),
        "class_names": list(class_names),
    }
    # What data of other kinds does not have is not there: equal models are equal files.
    if image_shape is not None:
        about["image_shape"] = list(image_shape)
    if feature_names:
        about["feature_names"] = list(feature_names)
    return about


def _metadata(about: Mapping[str, Any], called: str) -> dict[str, str]:
    """Return what a file says of itself.

    Raises:
        RunError: It cannot be written.
    """
    try:
        # One entry alone: the order of several is not fixed, and equal models should be equal files.
        return {"xpnet": json.dumps({"format": FORMAT, "sha256": _BLANK, **about})}
    except (TypeError, ValueError) as error:
        raise RunError(f"{called}: its description cannot be written ({error})") from None


def read_model(path: Path, *, links: bool = False) -> Model:
    """Read a model file, which may be a link where a user has named it.

    Raises:
        RunError: The file is not a whole model of xpnet; the message says what is wrong with it.
    """
    with opened(path, RunError, str(path), links=links) as (file, size):
        tensors, about = _read(file, size, str(path))
    return described(tensors, about, str(path))


def _read(file: io.FileIO, size: int, called: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the tensors and the description; nothing is allocated that the file's size does not bear out."""
    length = int.from_bytes(file.read(8), "little")
    check_length(length, size, called)
    header = file.read(length)
    if len(header) < length:
        raise broken(called, "it is being changed while it is read")
    layout, metadata = layout_of(header, called)
    about = _description(metadata, called)
    held = size - 8 - length
    places = places_of(layout, held, called)
    free = free_host_memory()
    if free is not None and held > free:
        raise RunError(f"{called}: takes {held:,} bytes of memory, of which {free:,} are free")
    # The check sum was taken with zeros in its own place.
    digest = str(about.get("sha256", "")).encode()
    sum_ = hashlib.sha256(length.to_bytes(8, "little"))
    sum_.update(header.replace(digest, _BLANK.encode(), 1) if digest else header)
    tensors = {}
    for name, dtype, shape in places:
        numbers = np.empty(math.prod(shape), dtype)
        view = memoryview(numbers.data).cast("B")
        done = 0
        while done < len(view):
            got = file.readinto(view[done:])
            if not got:
                raise broken(called, f"it ends in the middle of {name}")
            done += got
        sum_.update(view)
        tensors[name] = numbers.reshape(shape)
    if about["format"] == FORMAT and sum_.hexdigest().encode() != digest:
        raise broken(called, "its check sum is another, so a bit of it has changed")
    return tensors, about


def _description(metadata: dict[str, Any], called: str) -> dict[str, Any]:
    """Return what a model says of itself."""
    written = metadata.get("xpnet") if len(metadata) == 1 else None
    if not isinstance(written, str):
        raise RunError(f"{called}: is not a model that this version of xpnet reads; it names no {FORMAT}")
    about = json_object(written.encode(), f"{called}: its description", RunError)
    if about.get("format") not in (FORMAT, _FIRST_FORMAT):
        raise RunError(
            f"{called}: is not a model that this version of xpnet reads; it names "
            f"{one_line(str(about.get('format')), 60)} for {FORMAT}"
        )
    schema.check(about, _ABOUT[about["format"]], f"{called}: its description", RunError)
    return about


_OF_BOTH = {"config": schema.record({"inputs": schema.anything}), "class_names": schema.items(schema.text)}
_OTHERS = {
    "feature_names": schema.items(schema.text),
    "image_shape": schema.items(schema.whole(1), length=3),
}
_SEEDS = schema.items(schema.whole(0, None))
DESCRIPTION = schema.record({"seeds": _SEEDS, **_OF_BOTH}, _OTHERS, closed=True)
_ABOUT = {
    _FIRST_FORMAT: schema.record(
        {"format": schema.text, **_OF_BOTH}, {"seeds": _SEEDS, "seed": schema.whole(0, None), **_OTHERS}, closed=True
    ),
    FORMAT: schema.record(
        {"format": schema.text, "sha256": schema.text, "seeds": _SEEDS, **_OF_BOTH}, _OTHERS, closed=True
    ),
}


def described(tensors: dict[str, NDArray[Any]], about: Mapping[str, Any], called: str) -> Model:
    """Hold tensors and the description of a network against each other.

    Args:
        tensors: By name, as in a file.
        about: What :meth:`Network.description <xpnet.Network.description>` gave, of the shape :data:`DESCRIPTION`.
        called: What messages call the file.

    Raises:
        RunError: They do not fit.
    """

    def wrong(why: str) -> RunError:
        return RunError(f"{called}: does not describe a network that xpnet can build ({why})")

    hidden = about["config"].get("hidden", ())
    # Every layer has a tensor: a description of a million layers is not worth a look.
    if isinstance(hidden, list) and len(hidden) >= len(tensors):
        raise wrong(f"config.hidden has {len(hidden):,} layers, and there are {len(tensors):,} tensors")
    try:
        config = NetworkConfig(**about["config"])
    except TypeError as error:
        raise wrong(f"config: {str(error).partition('() ')[2]}") from None
    except ConfigError as error:
        raise wrong(f"config: {error}") from None
    first = tensors.get("parameters.W1")
    if first is None or first.dtype.kind != "f" or not first.ndim:
        raise wrong("it has no parameters.W1 of floating numbers")
    replicas = len(first)
    expected = parameter_shapes(config, replicas)
    for name, shape in expected.items():
        found = tensors.get(name)
        if found is None:
            raise wrong(f"it has no {name}")
        if found.shape != shape or found.dtype != first.dtype:
            raise wrong(f"{name} is {found.dtype} {found.shape}, not {first.dtype} {shape}")
        if name.startswith("running.var") and (found < 0).any():
            raise wrong(f"{name} has a variance below 0")
    if others := tensors.keys() - expected.keys() - set(_STANDARDISER):
        raise wrong(f"it has the tensor {one_line(min(others), 60)}, which is none of its network")
    seeds = tuple(about["seeds"]) if "seeds" in about else tuple(about.get("seed", 0) + r for r in range(replicas))
    if "seeds" not in about and "seed" not in about:
        raise wrong("it names no seeds")
    if len(seeds) != replicas:
        raise wrong(f"it has {len(seeds)} seeds for {replicas} networks")
    if isinstance(config.init, tuple) and len(config.init) != replicas:
        raise wrong(f"config.init has {len(config.init)} values for {replicas} networks")
    class_names, feature_names = tuple(about["class_names"]), tuple(about.get("feature_names", ()))
    if len(class_names) > config.classes:
        raise wrong(f"class_names has {len(class_names):,} names for {config.classes:,} classes")
    if feature_names and len(feature_names) != config.inputs:
        raise wrong(f"feature_names has {len(feature_names):,} names for {config.inputs:,} inputs")
    image_shape = about.get("image_shape")
    if image_shape is not None and (math.prod(image_shape) != config.inputs or image_shape[0] not in (1, 3)):
        raise wrong(
            f"images of {' x '.join(map(str, image_shape))} are not {config.inputs:,} inputs in 1 or 3 channels"
        )
    standardiser = _standardiser(tensors, config.inputs, wrong)
    return Model(
        {name: tensors[name] for name in expected},
        config,
        seeds,
        class_names,
        feature_names,
        None if image_shape is None else tuple(image_shape),
        standardiser,
    )


def _standardiser(tensors: Tensors, inputs: int, wrong: Any) -> Standardiser | None:
    found = [tensors[name] for name in _STANDARDISER if name in tensors]
    if not found:
        return None
    if len(found) == 1 or any(tensor.shape != (inputs,) for tensor in found):
        raise wrong(f"{' and '.join(_STANDARDISER)} must both be there, a number for each of {inputs:,} inputs")
    try:
        return Standardiser(*found)
    except DataError as error:
        raise wrong(str(error)) from None


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
