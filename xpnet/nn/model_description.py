"""What networks in files are: their description, and the check that tensors fit it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from xpnet.config.definitions import NetworkConfig
from xpnet.data import Transform
from xpnet.data.encoder import DESCRIPTION as ENCODER
from xpnet.data.encoder import PREFIX
from xpnet.errors import ConfigError, RunError, one_line
from xpnet.nn.layers import parameter_shapes
from xpnet.utils import schema

TRANSFORM = ("standardise.", PREFIX)  # of the names of a transform's tensors
Tensors = Mapping[str, NDArray[Any]]

OPTIONAL = {
    "feature_names": schema.items(schema.text),
    "image_shape": schema.items(schema.whole(1), length=3),
    "pool": schema.whole(2, 64),
    "encoder": ENCODER,
}
SEEDS = schema.items(schema.whole(0, None))
REQUIRED = {"config": schema.record({"inputs": schema.anything}), "class_names": schema.items(schema.text)}
# Settings that earlier versions lack.  They are left out of files where they have their defaults, so that earlier
# versions can read these.
_LATER = ("activation",)
DESCRIPTION = schema.record({"seeds": SEEDS, **REQUIRED}, OPTIONAL, closed=True)


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
    transform: Transform | None,
) -> dict[str, Any]:
    """Return the description of networks, all that a file holds beside their tensors, in types that JSON has."""
    settings = dataclasses.asdict(config)
    for field in dataclasses.fields(config):
        if field.name in _LATER and settings[field.name] == field.default:
            del settings[field.name]
    described: dict[str, Any] = {
        "config": settings,
        "seeds": list(seeds),
        "class_names": list(class_names),
    }
    # Keys that do not apply are left out, so that equal models are equal files.
    if image_shape is not None:
        described["image_shape"] = list(image_shape)
    if feature_names:
        described["feature_names"] = list(feature_names)
    if transform is not None and transform.pool > 1:
        described["pool"] = transform.pool
    if transform is not None and transform.encoder is not None:
        described["encoder"] = transform.encoder.description()
    return described


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
    transform = _transform(tensors, config.inputs, image_shape, about)
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


def _transform(tensors: Tensors, inputs: int, image_shape: Any, about: Mapping[str, Any]) -> Transform | None:
    pool = about.get("pool", 1)
    own = {name: tensor for name, tensor in tensors.items() if name.startswith(TRANSFORM)}
    transform = Transform.of(own, image_shape, pool, about.get("encoder"))
    if transform is None and pool > 1:
        raise ValueError(f"it pools {pool} x {pool} pixels, and has no standardise.mean")
    if transform is not None and transform.inputs != inputs:
        raise ValueError(f"its transform gives {transform.inputs:,} inputs, and its network takes {inputs:,}")
    return transform
