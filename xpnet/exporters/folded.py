"""A network as few arrays: transform, batch normalisation and members folded into weights, biases and tables.

:func:`fold` makes the arrays that every format writes; docs/exporting.md describes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.config.fields import shown
from xpnet.data.standardise import Standardiser
from xpnet.errors import ConfigError, RunError
from xpnet.exporters.columns import TableArrays, table_arrays
from xpnet.nn.network import Network
from xpnet.utils.plural import counted

FORMAT = "xpnet-arrays-1"
ACTIVATIONS = ("relu", "leaky-relu", "gelu", "silu", "tanh", "sigmoid", "identity")
# A mean that is so many deviations away from 0 is subtracted before the first product: within it, the product of the
# mean would take digits of float32 from that of the difference.  Components of little variance, which are multiplied by
# large factors, have none to give.
_FAR = 4.0
# From so many deviations on, float32 itself holds only the first three digits of the difference.
_TOO_FAR = 2.0**14

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class FoldedModel:
    """R networks that predict together, as arrays in float32.

    Inputs x (n, d) become columns (n, k) if there is a table, then (x - centre) projection, then pass the layers
    x W + b with the activation between them.  The softmax of the last one gives each network's probabilities, and the
    sum of these times `weights` the result.

    Attributes:
        features: Number of raw features d.
        activation: Name of the activation.
        layers: W (R, d, m) and b (R, 1, m) of each layer.
        weights: Weight of each network (R,), whose sum is 1.
        class_names: A name for each class.
        centre: Subtracted from the columns (k,); None if that is not needed.
        projection: Multiplies the columns (k, p); None if it is folded into the first layer, or there is none.
        table: How raw features become columns; None if they are the columns.
        feature_names: Names of the raw features; empty if they have none.
        image_shape: (channels, height, width) of the pictures; None for other data.
        notes: Sentences on what the user should know of the export.
    """

    features: int
    activation: str
    layers: tuple[tuple[Floats, Floats], ...]
    weights: Floats
    class_names: tuple[str, ...]
    centre: Floats | None = None
    projection: Floats | None = None
    table: TableArrays | None = None
    feature_names: tuple[str, ...] = ()
    image_shape: tuple[int, int, int] | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def networks(self) -> int:
        """Number of networks R."""
        return len(self.weights)

    @property
    def sizes(self) -> list[int]:
        """Numbers that go into the first layer and come out of each layer."""
        return [int(self.layers[0][0].shape[1]), *(int(W.shape[2]) for W, _ in self.layers)]

    def steps(self) -> dict[str, NDArray[Any]]:
        """Return the arrays before the first layer, by name."""
        own = {"centre": self.centre, "projection": self.projection}
        arrays = {} if self.table is None else dict(self.table.arrays)
        return arrays | {name: array for name, array in own.items() if array is not None}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays of numbers and texts, by the names that files give them."""
        layers: dict[str, NDArray[Any]] = {}
        for number, (W, b) in enumerate(self.layers, start=1):
            layers |= {f"W{number}": W, f"b{number}": b}
        about: dict[str, Any] = {"format": FORMAT, "activation": self.activation, "classes": list(self.class_names)}
        about |= {"feature_names": list(self.feature_names)} if self.feature_names else {}
        about |= {"image_shape": self.image_shape} if self.image_shape else {}
        names = {} if self.table is None else {f"categories_{j}": list(n) for j, n in self.table.categories.items()}
        texts = {name: np.array(value) for name, value in (about | names).items()}
        return {**self.steps(), **layers, "weights": self.weights, **texts}


def fold(network: Network, weights: Any = None, class_names: Any = None) -> FoldedModel:
    """Return networks as arrays.

    Args:
        network: The networks, with or without a transform.
        weights: Weight of each network (R,) in the mean of the probabilities, at least 0; equal weights if not given.
            Networks that have diverged have none.
        class_names: Names of the classes; those of the network, or numbers, if not given.

    Raises:
        ConfigError: The activation is unknown here, or float32 cannot hold the folded numbers.
        RunError: All networks have diverged.
    """
    config, notes = network.config, []
    if config.activation not in ACTIVATIONS:
        raise ConfigError(f"activation = {shown(config.activation)}: cannot be exported yet; keep the model of xpnet")
    shares = _shares(network, weights)
    kept = np.flatnonzero(shares).tolist()
    if len(kept) < network.replicas:
        lost = network.replicas - len(kept)
        notes.append(f"left out {lost} of {counted(network.replicas, 'network')}: diverged, or without a weight")
    if len(kept) > 1:
        notes.append(f"mean probabilities of {len(kept)} networks")
    if network.dtype == np.float64:
        notes.append("the network computes in float64, and the exported model in float32")
    layers = _layers(network, kept)
    first: dict[str, Any] = {}
    if network.transform is not None:
        with np.errstate(over="ignore", invalid="ignore"):  # what is beyond float32 is refused below
            first, more = _with_transform(network, layers)
        notes += more
    names = tuple(class_names if class_names is not None else network.class_names)
    names += tuple(str(c) for c in range(len(names), config.classes))
    return FoldedModel(
        features=network.features,
        activation=config.activation,
        layers=tuple((_float32(W, "weights"), _float32(b, "biases")) for W, b in layers),
        weights=shares[kept].astype(np.float32),
        class_names=names,
        feature_names=network.feature_names,
        image_shape=network.image_shape,
        notes=tuple(notes),
        **first,
    )


def _shares(network: Network, weights: Any) -> NDArray[np.float64]:
    """Return the weight of each network (R,), 0 for those that have diverged."""
    to_numpy = network.backend.to_numpy
    finite = np.ones(network.replicas, bool)
    for tensor in (*network.parameters.values(), *network.running.values()):
        finite &= np.isfinite(to_numpy(tensor)).all(axis=(1, 2))
    if not finite.any():
        raise RunError("the network has diverged in training; there is nothing to export")
    shares = finite * (np.ones(network.replicas) if weights is None else np.asarray(weights, np.float64))
    return np.asarray(shares / shares.sum())


def _layers(network: Network, kept: list[int]) -> list[tuple[Floats, Floats]]:
    """Return W (R, d, m) and b (R, 1, m) of each layer, in float64, with batch normalisation folded in.

    gamma (x W + b - mean) / sqrt(var + eps) + beta = x (W scale) + (b - mean) scale + beta, with scale = gamma /
    sqrt(var + eps).
    """
    tensors = {**network.parameters, **network.running}

    def exact(name: str | None) -> Floats:
        return np.asarray(network.backend.to_numpy(tensors[name or ""])[kept], np.float64)

    layers = []
    for layer in network.layers:
        W = exact(layer.W)
        b = np.zeros((len(kept), 1, W.shape[2])) if layer.b is None else exact(layer.b)
        if layer.gamma is not None:
            scale = exact(layer.gamma) / np.sqrt(exact(layer.var) + network.config.bn_eps)
            W, b = W * scale, (b - exact(layer.mean)) * scale + exact(layer.beta)
        layers.append((W, b))
    return layers


def _with_transform(network: Network, layers: list[tuple[Floats, Floats]]) -> tuple[dict[str, Any], list[str]]:
    """Fold the transform into the first of the layers, in place; return what stays before it, and notes."""
    transform = network.transform
    assert transform is not None
    notes: list[str] = []
    standardiser, table = transform.plain_standardiser(), None
    order: Any = slice(None)
    if transform.encoder is not None:
        table, order = table_arrays(transform.encoder, network.feature_names)
        notes += table.notes
    names = transform.encoder.output_names(network.feature_names) if transform.encoder else network.feature_names
    notes += _far_notes(standardiser, names)
    mean, std = standardiser.mean[order], standardiser.std[order]
    far = np.abs(mean) > (_FAR if transform.projection is None else 0.0) * std
    centre = np.where(far, mean, 0.0).astype(np.float32)
    W, b = layers[0]
    R, p, m = W.shape
    rest, projection = (mean - centre)[None], None
    # A projection that networks share is smaller than one folded into wide first layers, or into those of each network.
    if transform.projection is not None and len(mean) * p + R * p * m < R * len(mean) * m:
        matrix = transform.unfolded(np.eye(p)[None])[0][order] / std[:, None]
        layers[0] = W, b - (rest @ matrix) @ W
        projection = _float32(matrix, "components")
    else:
        W = transform.unfolded(W)[:, order] / std[:, None]
        layers[0] = W, b - rest @ W
    return {"centre": centre if far.any() else None, "projection": projection, "table": table}, notes


def _far_notes(standardiser: Standardiser, names: tuple[str, ...]) -> list[str]:
    """Return a sentence on features whose differences float32 hardly holds."""
    far = np.flatnonzero(np.abs(standardiser.mean) > _TOO_FAR * standardiser.std)
    if not len(far):
        return []
    j = int(far[0])
    sentence = (
        f"warning: feature {names[j] if names else j} lies around {standardiser.mean[j]:g} and varies by "
        f"{standardiser.std[j]:g}, which float32, the type of x, hardly holds; subtract its mean before training"
    )
    return [sentence]


def _float32(values: Floats, what: str) -> Floats:
    """Return values in float32.

    Raises:
        ConfigError: They are too large for it.
    """
    with np.errstate(over="ignore"):
        small = np.ascontiguousarray(values, np.float32)
    if not np.isfinite(small).all():
        raise ConfigError(
            f"network: its {what} are beyond float32 once the scale of the features is folded in; rescale the "
            "features, and train again"
        )
    return small
