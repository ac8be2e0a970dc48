"""What is checked: a network and its samples, brought to float64 on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.backend import get_backend
from xpnet.config.definitions import NetworkConfig
from xpnet.config.fields import argument, real
from xpnet.errors import ArrayError, ConfigError
from xpnet.nn.backprop import Tape, forward
from xpnet.nn.layers import Layer
from xpnet.nn.network import Network
from xpnet.ops import Ops, get_reference

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Problem:
    """A network's cost as a function of its parameters, in float64 on the CPU.

    Attributes:
        config: The architecture.
        layers: Names of each layer's parameters.
        parameters: Each parameter with a replica axis of 1: W (1, d, m); b, gamma, beta (1, 1, m).
        x: Features (n, d).
        labels: Classes (n,).
        lam: Strength of the L2 penalty.
        ops: The reference operations: what is fast is never its own judge.
    """

    config: NetworkConfig
    layers: tuple[Layer, ...]
    parameters: dict[str, Floats]
    x: Floats
    labels: Indices
    lam: float
    ops: Ops

    @classmethod
    def of(cls, network: Network, x: Any, labels: Any, lam: float) -> Problem:
        """Return the problem that `network` (one replica, any device and precision) poses.

        Raises:
            ConfigError: The network has several replicas, or `lam` is not a finite number of at least 0.
            ArrayError: `x` or `labels` do not fit the network.
        """
        if network.replicas != 1:
            raise ConfigError(f"replicas = {network.replicas}: a gradient check takes a network of one replica")
        lam = argument("lambda", lam, real(0))
        x, labels = (get_backend("cpu").asarray(on_host(network, values)) for values in (x, labels))
        d = network.config.inputs
        if x.ndim != 2 or x.shape[1] != d or x.shape[0] == 0:
            raise ArrayError(f"x: has shape {x.shape}; a gradient check of this network takes (n, {d})")
        if x.dtype.kind not in "biuf":
            raise ArrayError(f"x: is {x.dtype}; it must be of real numbers")
        # Both sides must see one function: the features are rounded as the network rounds them.
        x = x.astype(network.dtype).astype(np.float64)
        if not np.isfinite(x).all():
            raise ArrayError("x: has values that are not finite")
        if labels.dtype.kind not in "iu" or labels.shape != (len(x),):
            raise ArrayError(f"labels: are {labels.dtype} {labels.shape}; they must be whole numbers ({len(x)},)")
        if labels.min() < 0 or labels.max() >= network.config.classes:
            raise ArrayError(
                f"labels: range from {labels.min()} to {labels.max()}; "
                f"this network has classes 0 to {network.config.classes - 1}"
            )
        to_numpy = network.backend.to_numpy
        parameters = {name: np.array(to_numpy(p), np.float64) for name, p in network.parameters.items()}
        reference = get_reference(get_backend("cpu"))
        return cls(network.config, network.layers, parameters, x, labels.astype(np.int64), lam, reference)

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(p.size for p in self.parameters.values())

    def owner(self, name: str) -> tuple[int, str]:
        """Return the layer (from 0) and the kind (W, b, gamma or beta) of the parameter `name`."""
        for number, layer in enumerate(self.layers):
            for kind, owned in zip(("W", "b", "gamma", "beta"), layer, strict=False):
                if owned == name:
                    return number, kind
        raise KeyError(name)

    def owner_key(self, name: str) -> tuple[int, int]:
        """Return a key that grows from the input to the output: layer, then W, b, gamma, beta."""
        number, kind = self.owner(name)
        return number, ("W", "b", "gamma", "beta").index(kind)

    def zero_by_construction(self, name: str) -> bool:
        """Tell whether a parameter is a bias in front of BN, which subtracts it again with the mean."""
        number, kind = self.owner(name)
        return kind == "b" and self.layers[number].gamma is not None

    def evaluate(self, parameters: dict[str, Floats]) -> tuple[Floats, list[Flags]]:
        """Return the loss of each sample (n,), and which ReLU inputs are positive, by hidden layer (n, m).

        A whole forward pass in training mode: BN normalises with the statistics of these samples,
        and running statistics take no part.
        """
        tape = Tape()
        s = forward(self.ops, self.layers, parameters, self.config.bn_eps, self.x, tape)
        active = []
        for layer, record in zip(self.layers[:-1], tape.layers, strict=False):
            y = record.activation if layer.gamma is None else record.activation.y
            active.append(y[0] > 0)
        return losses(s[0].T, self.labels), active

    def penalty(self, parameters: dict[str, Floats]) -> float:
        """Return lam * sum over layers of sum(W**2)."""
        weights = [parameters[layer.W] for layer in self.layers]
        return self.lam * float(self.ops.penalty(weights)[0])


def on_host(network: Network, values: Any) -> Any:
    """Return `values`, an array of the network's device or anything that NumPy understands, for NumPy."""
    return network.backend.to_numpy(values) if isinstance(values, network.backend.xp.ndarray) else values


def own_gradients(network: Network, problem: Problem) -> tuple[float, bool, dict[str, Floats]]:
    """Return the network's own cost, whether running statistics were left alone, and its gradients (flat)."""
    before = {name: np.array(on_host(network, value)) for name, value in network.running.items()}
    cost, gradients = network.cost_and_gradients(
        network.backend.asarray(problem.x, dtype=network.dtype), network.backend.asarray(problem.labels), problem.lam
    )
    kept = all(np.array_equal(before[name], on_host(network, value)) for name, value in network.running.items())
    return float(on_host(network, cost)[0]), kept, flat_gradients(gradients, problem, network)


def flat_gradients(gradients: Mapping[str, Any], problem: Problem, network: Network) -> dict[str, Floats]:
    """Return gradients as flat float64 arrays, checked for names and shapes.

    Raises:
        ArrayError: One is missing, or of another shape than its parameter.
    """
    flat = {}
    for name, p in problem.parameters.items():
        if name not in gradients:
            raise ArrayError(f"gradients: have no {name}; the network has {', '.join(problem.parameters)}")
        gradient = np.asarray(on_host(network, gradients[name]), np.float64)
        if gradient.shape not in (p.shape, p.shape[1:]):
            raise ArrayError(f"gradients: {name} has shape {gradient.shape}; the parameter has {p.shape}")
        flat[name] = gradient.reshape(-1)
    return flat


def losses(s: Floats, labels: Indices, shift: Floats | None = None) -> Floats:
    """Return log(sum exp(s)) - s[label] for logits with the classes first: (c, n, ...) to (n, ...).

    The reference operation computes gradients and hits beside the losses, which nobody needs here.
    `shift` (n, ...) is about the largest score; it is found if not given.
    """
    shifted = s - (s.max(axis=0) if shift is None else shift)
    picked = shifted[labels, np.arange(len(labels))]
    result: Floats = np.log(np.exp(shifted, out=shifted).sum(axis=0))
    result -= picked
    return result


Evaluate = Callable[[str, Indices, Floats, Floats], tuple[Floats, Flags]]
"""Slopes of the mean loss between two offsets of single entries, and which of them met a kink."""


def naive_slopes(problem: Problem, name: str, flat: Indices, plus: Floats, minus: Floats) -> tuple[Floats, Flags]:
    """Return slopes of the mean loss by whole forward passes: slow, and beyond doubt.

    The losses of the samples are differenced and the differences averaged: a mean of losses near 2
    would have lost the digits that its difference needs.

    Args:
        problem: The network and its samples.
        name: The tensor.
        flat: Flat indices of its entries (k,).
        plus: Offset of each entry on one side (k,).
        minus: Offset on the other (k,).

    Returns:
        (J(p + plus) - J(p + minus)) / (plus - minus), and whether the sign of any ReLU input differs
        between the two sides (k,).
    """
    slopes, kinked = np.empty(len(flat)), np.zeros(len(flat), bool)
    moved = dict(problem.parameters)
    for number, index in enumerate(flat):
        sides, values = [], []
        for offset in (plus[number], minus[number]):
            p = problem.parameters[name].copy()
            p.flat[index] += offset
            moved[name] = p
            sides.append(problem.evaluate(moved))
            values.append(p.flat[index])
        (losses_plus, active_plus), (losses_minus, active_minus) = sides
        # The difference of what the entry became, which is rounded, and not of what was asked for.
        slopes[number] = np.mean(losses_plus - losses_minus) / (values[0] - values[1])
        kinked[number] = any((a != b).any() for a, b in zip(active_plus, active_minus, strict=True))
    return slopes, kinked
