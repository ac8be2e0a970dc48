"""The problem of a gradient check: a network's cost in float64 on the CPU, its samples, and the entries to check."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.backend import get_backend
from xpnet.config.definitions import NetworkConfig
from xpnet.config.fields import argument, real
from xpnet.data import Dataset
from xpnet.errors import ArrayError, ConfigError
from xpnet.nn.backprop import Tape, forward
from xpnet.nn.dropout import Dropout, Masks
from xpnet.nn.input_checks import settings_of_cost
from xpnet.nn.layers import Layer
from xpnet.nn.network import Network
from xpnet.ops import Ops, get_reference
from xpnet.ops.activations import ACTIVATIONS
from xpnet.utils.rng import Purpose, generator

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Indices = NDArray[np.int64]

# Larger networks are checked by a sample of this size, and along the random direction.
_ALL_UP_TO, _DEFAULT_SAMPLE = 2_000_000, 10_000


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
        smoothing: Label smoothing.
        dropout: What is dropped, which stays the same whatever the parameters.
        masks: The masks of `dropout`; None if nothing is dropped.
        ops: The reference operations: fast operations must not judge themselves.
        weights: Weight of each sample's loss (n,); None for 1.
    """

    config: NetworkConfig
    layers: tuple[Layer, ...]
    parameters: dict[str, Floats]
    x: Floats
    labels: Indices
    lam: float
    smoothing: float
    dropout: Dropout
    masks: Masks | None
    ops: Ops
    weights: Floats | None = None

    @classmethod
    def of(
        cls,
        network: Network,
        x: Any,
        labels: Any,
        lam: float,
        smoothing: float = 0.0,
        dropout: Dropout = Dropout(),  # noqa: B008 - it is frozen
        weights: Any = None,
    ) -> Problem:
        """Return the problem of a `network` of one replica, on any device and in any precision.

        Raises:
            ConfigError: The network has several replicas, `lam` is not a finite number of at least 0, or `smoothing` is
                not from 0 to below 1, or dropout has no effect.
            ArrayError: `x`, `labels` or `weights` do not fit the network.
        """
        if network.replicas != 1:
            raise ConfigError(f"replicas = {network.replicas}: a gradient check takes a network of one replica")
        lam, smoothing = argument("lambda", lam, real(0)), argument("label_smoothing", smoothing, real(0, below=1))
        x, labels = network.backend.asarray(x), network.backend.asarray(labels)
        if x.ndim != 2 or x.dtype.kind not in "biuf":
            wanted = f"real numbers of the shape (n, {network.config.inputs})"
            raise ArrayError(f"x: is {x.dtype} of the shape {x.shape}; a gradient check of this network takes {wanted}")
        # The network and the checker must compute the same function: features are rounded as the network rounds them.
        x, labels = network.checked(x.astype(network.dtype), labels, needed=True)
        if weights is not None:
            weights = on_host(network, settings_of_cost(network, x, 0.0, 0.0, weights)[2]).astype(np.float64)
        x, labels = on_host(network, x).astype(np.float64), on_host(network, labels).astype(np.int64)
        if not np.isfinite(x).all():
            raise ArrayError("x: has values that are not finite")
        parameters = {name: np.array(on_host(network, p), np.float64) for name, p in network.parameters.items()}
        cpu = get_backend("cpu")
        settings = lam, smoothing, dropout, dropout.masks_for(network.config, cpu, np.dtype("float64"), 1)
        reference = get_reference(cpu, network.config)
        return cls(network.config, network.layers, parameters, x, labels, *settings, reference, weights)

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(p.size for p in self.parameters.values())

    @cached_property
    def owners(self) -> dict[str, tuple[int, str]]:
        """The layer (from 0) and the kind (W, b, gamma or beta) of each parameter, from the input to the output."""
        return {
            name: (number, kind)
            for number, layer in enumerate(self.layers)
            for kind, name in zip(("W", "b", "gamma", "beta"), layer, strict=False)
            if name is not None
        }

    def zero_by_construction(self, name: str) -> bool:
        """Return whether a parameter is a bias before BN, which subtracts it again with the mean."""
        number, kind = self.owners[name]
        return kind == "b" and self.layers[number].gamma is not None

    def penalty_slope(self, name: str, p: Floats) -> Floats:
        """Return the derivative of the penalty with respect to the entries `p` of a parameter."""
        return 2 * self.lam * p if self.owners[name][1] == "W" else np.zeros(len(p))

    @property
    def kinked(self) -> bool:
        """Whether the activation has a kink at 0, as ReLU has."""
        return ACTIVATIONS[self.config.activation].kinked

    def evaluate(self, parameters: dict[str, Floats]) -> tuple[Floats, list[Flags]]:
        """Return the weighted loss of each sample (n,), and which units are on the right of a kink, by layer (n, m).

        The forward pass is complete and in training mode: BN uses the statistics of these samples.
        """
        tape = Tape()
        s = forward(self.ops, self.layers, parameters, self.config.bn_eps, self.x, tape, self.masks)
        outputs = [record.activation.y for record in tape.layers[:-1]] if self.kinked else []
        loss = losses(s[0].T, self.labels, self.smoothing)
        return loss if self.weights is None else loss * self.weights, [y[0] > 0 for y in outputs]

    def penalty(self, parameters: dict[str, Floats]) -> float:
        """Return lam * sum over layers of sum(W**2)."""
        return self.lam * float(self.ops.penalty([parameters[layer.W] for layer in self.layers])[0])


def network_of(network: Network | NetworkConfig, seed: int) -> Network:
    """Return `network`, or a new one with these settings in float64 on the CPU."""
    if isinstance(network, Network):
        return network
    return Network(network, backend=get_backend("cpu"), dtype="float64", seed=seed)


def on_host(network: Network, values: Any) -> Any:
    """Return `values`, an array on the network's device or anything that NumPy accepts, on the host."""
    return network.backend.to_numpy(values) if isinstance(values, network.backend.xp.ndarray) else values


def own_gradients(network: Network, problem: Problem) -> tuple[float, bool, dict[str, Floats]]:
    """Return the network's own cost, whether its running statistics are unchanged, and its gradients (flat)."""
    before = {name: np.array(on_host(network, value)) for name, value in network.running.items()}
    x = network.backend.asarray(problem.x, dtype=network.dtype)
    labels = network.backend.asarray(problem.labels)
    given: dict[str, Any] = {} if problem.masks is None else {"dropout": problem.dropout}
    given |= {} if problem.weights is None else {"sample_weight": problem.weights}
    cost, gradients = network.cost_and_gradients(x, labels, problem.lam, problem.smoothing, **given)
    kept = all(np.array_equal(before[name], on_host(network, value)) for name, value in network.running.items())
    return float(on_host(network, cost)[0]), kept, flat_gradients(gradients, problem, network)


def flat_gradients(gradients: Mapping[str, Any], problem: Problem, network: Network) -> dict[str, Floats]:
    """Return gradients as flat float64 arrays, checked for names and shapes.

    Raises:
        ArrayError: A gradient is missing, or its shape is not that of its parameter.
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


def losses(s: Floats, labels: Indices, smoothing: float = 0.0, shift: Floats | None = None) -> Floats:
    """Return log(sum exp(s)) - s[label] for logits with the classes first: (c, n, ...) to (n, ...).

    With `smoothing`, it is log(sum exp(s)) - sum over classes of s times the smoothed label.  The reference operation
    also computes gradients and hits, which are not needed here.
    `shift` (n, ...) is about the largest logit; it is found if not given.
    """
    shifted = s - (s.max(axis=0) if shift is None else shift)
    label_logits = shifted[labels, np.arange(len(labels))]
    if smoothing:
        label_logits = (1 - smoothing) * label_logits + smoothing * shifted.mean(axis=0)
    result: Floats = np.log(np.exp(shifted, out=shifted).sum(axis=0))
    result -= label_logits
    return result


def checked_samples(data: Dataset, samples: int, choose: str, seed: int, network: Network) -> tuple[Any, Any]:
    """Return standardised features (n, d), float64, and labels (n,) of n `samples` of the training set.

    They are those of :func:`checked_rows`.  The network takes the first d of the features.

    Raises:
        ConfigError: See :func:`checked_rows`.
    """
    rows = checked_rows(data, samples, choose, seed, network)
    x = data.transform(data.train.x[rows], "float64")[:, : network.config.inputs]
    return np.ascontiguousarray(x), data.train.labels[rows]


def checked_rows(data: Dataset, samples: int, choose: str, seed: int, network: Network) -> Indices:
    """Return the numbers of n `samples` of the training set: the ``"first"``, or a ``"random"`` choice by `seed`.

    Raises:
        ConfigError: The training set has fewer samples, or a network with batch normalisation would get a single one.
    """
    count = len(data.train)
    if not 1 <= samples <= count:
        raise ConfigError(f"samples = {samples}: must be from 1 to {count:,}, which the training set has")
    if samples == 1 and network.config.batch_norm and network.config.hidden:
        raise ConfigError("samples = 1: batch normalisation of one sample gives nothing but beta; take at least 2")
    return choose_rows(count, samples, seed) if choose == "random" else np.arange(samples)


def choose_rows(count: int, samples: int, seed: int) -> Indices:
    """Return `samples` of `count` rows in random order."""
    return generator(seed, Purpose.CHECK_ROWS).permutation(count)[:samples]


def parse_coverage(coverage: Any, size: int) -> int:
    """Return how many of `size` entries to check.

    Args:
        coverage: ``"all"``; a fraction, which is a float or a text with a point such as ``"0.1"``; a
            count, which is an int or a text of digits; None takes all entries of up to 2 million, else a sample of
            10,000.
        size: Parameters of the network.

    Raises:
        ConfigError: `coverage` is not one of these.
    """
    if coverage is None:
        return size if size <= _ALL_UP_TO else _DEFAULT_SAMPLE
    number = coverage
    if isinstance(coverage, str):
        if coverage == "all":
            return size
        with contextlib.suppress(ValueError):
            number = int(coverage) if coverage.strip().isdigit() else float(coverage)
    is_count = isinstance(number, (int, np.integer)) and not isinstance(number, bool)
    if is_count and number >= 1:
        return min(int(number), size)
    if not isinstance(number, (float, np.floating)) or not 0 < number <= 1:
        wanted = "must be all, a fraction above 0 and up to 1 such as 0.1, or a whole number of at least 1"
        raise ConfigError(f"coverage = {coverage}: {wanted}")
    return math.ceil(float(number) * size)


def choose(sizes: dict[str, int], count: int, seed: int) -> dict[str, Indices]:
    """Return the sorted flat indices to check in each tensor, about `count` in total.

    Tensors get equal shares: small tensors are checked in full and leave the rest to larger ones.  Every tensor gets at
    least one entry.
    """
    shares: dict[str, int] = {}
    left = count
    for position, name in enumerate(sorted(sizes, key=sizes.__getitem__)):
        shares[name] = min(sizes[name], max(1, left // (len(sizes) - position)))
        left -= shares[name]
    chosen = {}
    for number, (name, size) in enumerate(sizes.items()):
        draw = generator(seed, Purpose.CHECK_ENTRIES, number)
        complete = shares[name] == size
        chosen[name] = np.arange(size) if complete else np.sort(draw.choice(size, shares[name], replace=False))
    return chosen
