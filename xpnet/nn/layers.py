"""The layers of an architecture: names and shapes of their tensors."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from xpnet.config.definitions import NetworkConfig


class Layer(NamedTuple):
    """The names of one layer's parameters and statistics; None where it has none."""

    W: str
    b: str | None
    gamma: str | None
    beta: str | None
    mean: str | None
    var: str | None


def layers_of(config: NetworkConfig) -> tuple[Layer, ...]:
    """Return the layers of a network; the last one gives the logits."""
    count = len(config.hidden) + 1
    layers = []
    for number in range(1, count + 1):
        normalised = config.batch_norm and number < count
        names = ("gamma", "beta", "mean", "var")
        gamma, beta, mean, var = (f"{name}{number}" if normalised else None for name in names)
        bias = f"b{number}" if config.bias_before_bn or not normalised else None
        layers.append(Layer(f"W{number}", bias, gamma, beta, mean, var))
    return tuple(layers)


def parameter_shapes(config: NetworkConfig, replicas: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of a network, under ``parameters.NAME`` or ``running.NAME``."""
    sizes = (config.inputs, *config.hidden, config.classes)
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, (d, m) in zip(layers_of(config), pairwise(sizes), strict=True):
        shapes[f"parameters.{layer.W}"] = (replicas, d, m)
        shapes |= {f"parameters.{name}": (replicas, 1, m) for name in layer[1:4] if name is not None}
        shapes |= {f"running.{name}": (replicas, 1, m) for name in layer[4:] if name is not None}
    return shapes
