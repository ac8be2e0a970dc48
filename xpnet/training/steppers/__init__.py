"""How training steps are executed.

A stepper owns its workspace and runs k steps on a :class:`State`.  It may fuse, capture or reorder operations, as long
as the state changes by the network's gradients.  One test holds for every stepper: in float64 and without momentum,
``(W - W_after) / eta`` of a step is the gradient.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from xpnet.backend import Array
from xpnet.config.supported import unknown
from xpnet.config.training import TrainConfig
from xpnet.data import on_host
from xpnet.errors import ConfigError
from xpnet.ops import get_reference, load, rounds_products
from xpnet.training.steppers.compiled import CompiledStepper, can_compile, compiling_pays
from xpnet.training.steppers.feature_parallel import FeatureParallelStepper, threads_to_split
from xpnet.training.steppers.plain import PlainStepper
from xpnet.training.steppers.replica_parallel import ReplicaParallelStepper
from xpnet.training.steppers.stepper_state import Hyperparameters, State, StepMetrics
from xpnet.training.steppers.streaming import StreamingStepper
from xpnet.training.steppers.unit_parallel import UnitParallelStepper
from xpnet.training.steppers.unit_shares import threads_for_units, units_pay


class Stepper(Protocol):
    """The interface that the training loop needs of a stepper."""

    def run(self, state: State, perm: Array, eta: Array, metrics: StepMetrics) -> None:
        """Take k steps, changing `state` in place.

        Args:
            state: Parameters, velocities and running statistics.
            perm: Samples of each step: (k, n), or (k, R, n) if replicas have different orders.
            eta: Learning rates (k, R), float64, on the device.
            metrics: Receives the figures of the k batches; see :class:`StepMetrics`.
        """


_BY_DEVICE = {
    "gpu": ("small", "graph", "multi", "multi-bf16", "persistent", "fused", "plain"),
    "cpu": ("compiled", "population", "split", "units", "plain"),
}


def check_known(network: Any, hyper: Hyperparameters, kind: str, training: TrainConfig | None = None) -> set[str]:
    """Return the steppers of the network's device that support all settings; see :mod:`xpnet.config.supported`.

    Raises:
        ConfigError: The requested stepper, or every stepper, lacks a setting.
    """
    settings = [network.config, *([] if training is None else [training]), hyper]
    wrong = {name: unknown(name, *settings) for name in _BY_DEVICE["gpu" if network.backend.name == "gpu" else "cpu"]}
    known = {name for name, setting in wrong.items() if setting is None}
    if not known:
        raise ConfigError(f"{wrong['plain']}: is a setting that no stepper on {network.backend.device} knows yet")
    if kind in wrong and kind not in known:
        *able, last = ["auto", *(name for name in wrong if name in known)]
        raise ConfigError(
            f"stepper = {kind}: does not know the setting {wrong[kind]}; take {', '.join(able)} or {last}"
        )
    return known


def make_stepper(
    network: Any,
    x: Array,
    labels: Array,
    hyper: Hyperparameters,
    kind: str = "auto",
    batch: int = 100,
    training: TrainConfig | None = None,
) -> Stepper:
    """Return a stepper for a network on the training set `x` (N, d), `labels` (N,).

    Args:
        network: The networks to train.
        x: Standardised features in the network's dtype, or :class:`~xpnet.data.StandardisedRows`.
        labels: Classes.
        hyper: Settings that stay the same during training.
        kind: ``"auto"`` for the fastest, or another value of :class:`~xpnet.TrainConfig`'s `stepper`.
        batch: Samples in the largest step.
        training: The settings of the training, if there is one.

    Raises:
        ConfigError: The stepper `kind` is not available for this network and device.
    """
    backend = network.backend
    if training is not None and training.bf16:
        hyper = replace(hyper, rounded=rounds_products(backend, network.dtype))
    known = check_known(network, hyper, kind, training)
    load(backend)
    if backend.name == "gpu":
        make = partial(_on_gpu, network, hyper, kind, batch, known)
        # A block's weights are read where they are, and so have the type of the network.
        weights = None if hyper.weights is None else hyper.weights.astype(network.dtype, copy=False)
        return StreamingStepper(backend, x, labels, make, weights) if on_host(x) else make(x, labels, weights)
    if kind == "plain":
        return PlainStepper(network, x, labels, hyper)
    if kind in _BY_DEVICE["gpu"]:
        raise ConfigError(
            f"stepper = {kind}: needs a GPU; on {backend.device} there are plain, split, units, compiled and population"
        )
    compiles = kind in ("auto", "compiled") and "compiled" in known and can_compile(network)
    if kind == "compiled" and not compiles:
        raise ConfigError("stepper = compiled: needs Numba, and a BLAS library that compiled code can call; take plain")
    if compiles and (kind == "compiled" or compiling_pays(network, hyper, batch)):
        return CompiledStepper(network, x, labels, hyper)
    several = network.replicas > 1 and backend.name == "cpu" and "population" in known
    if kind == "population" or (kind == "auto" and several):
        return ReplicaParallelStepper(network, x, labels, hyper)
    threads = threads_to_split(network, x) if kind in ("auto", "split") and "split" in known else 1
    if threads > 1:
        return FeatureParallelStepper(network, x, labels, hyper, threads)
    pays = kind == "units" or (kind == "auto" and units_pay(network, hyper, batch))
    units = threads_for_units(network, batch) if pays and "units" in known else 1
    if units > 1:
        return UnitParallelStepper(network, x, labels, hyper, units)
    if kind == "units":
        raise ConfigError(
            "stepper = units: is for one network with hidden layers of 128 units and more, with Numba and several cores"
        )
    if kind == "split":
        raise ConfigError(
            "stepper = split: is for one network without momentum whose first layer is nearly all of it, on images "
            "kept as bytes, with Numba and several cores"
        )
    return PlainStepper(network, x, labels, hyper)


def _on_gpu(
    network: Any,
    hyper: Hyperparameters,
    kind: str,
    batch: int,
    known: set[str],
    x: Array,
    labels: Array,
    weights: Array | None,
) -> Stepper:
    hyper = replace(hyper, weights=weights)
    if kind in ("split", "units", "compiled", "population"):
        able = "plain, fused, graph, small, multi, multi-bf16 and persistent"
        raise ConfigError(f"stepper = {kind}: is made for the CPU; on {network.backend.device} there are {able}")
    from xpnet.training.steppers.cuda_graph import GraphStepper
    from xpnet.training.steppers.cuda_multi import MultiBf16Stepper, MultiStepper
    from xpnet.training.steppers.cuda_persistent import PersistentStepper
    from xpnet.training.steppers.cuda_plan import Variant
    from xpnet.training.steppers.cuda_small import MANY, SmallStepper

    by_name: dict[str, Any] = {"multi": MultiStepper, "multi-bf16": MultiBf16Stepper, "persistent": PersistentStepper}
    if kind in by_name:
        reason = by_name[kind].why_not(network, x, batch, Variant.of(hyper))
        if reason is None:
            stepper: Stepper = by_name[kind](network, x, labels, hyper)
            return stepper
        raise ConfigError(f"stepper = {kind}: cannot train this network: {reason}; take graph")
    if kind == "small" or (kind == "auto" and "small" in known and network.replicas <= MANY):
        reason = SmallStepper.why_not(network, x, batch, Variant.of(hyper))
        if reason is None:
            return SmallStepper(network, x, labels, hyper)
        if kind == "small":
            raise ConfigError(f"stepper = small: cannot train this network: {reason}; take graph")
    if kind == "plain" or (kind == "auto" and "graph" not in known):
        return PlainStepper(network, x, labels, hyper, get_reference(network.backend, network.config))
    return GraphStepper(network, x, labels, hyper, capture=kind != "fused")


__all__ = [
    "CompiledStepper",
    "FeatureParallelStepper",
    "Hyperparameters",
    "PlainStepper",
    "ReplicaParallelStepper",
    "State",
    "StepMetrics",
    "Stepper",
    "UnitParallelStepper",
    "check_known",
    "make_stepper",
]
