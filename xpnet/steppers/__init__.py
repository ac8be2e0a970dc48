"""How training steps are executed.

A stepper owns its workspace and runs k steps on a :class:`State`: it may fuse, capture or reorder as
it likes, as long as what it does to the state is what the network's gradients say.  One test holds for
every stepper: in float64 and without momentum, ``(W - W_after) / eta`` of a step is the gradient.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

from xpnet.backend import Array
from xpnet.data import on_host
from xpnet.errors import ConfigError
from xpnet.ops import get_reference, load
from xpnet.steppers.plain import PlainStepper
from xpnet.steppers.population import PopulationStepper
from xpnet.steppers.split import SplitStepper, threads_to_split
from xpnet.steppers.state import Hyperparameters, State, Totals
from xpnet.steppers.streaming import StreamingStepper


class Stepper(Protocol):
    """What the training loop needs of a stepper."""

    def run(self, state: State, perm: Array, eta: Array, totals: Totals) -> None:
        """Take k steps, changing `state` in place.

        Args:
            state: Parameters, velocities and running statistics.
            perm: Samples of each step: (k, n), or (k, R, n) where replicas differ.
            eta: Learning rates (k, R), float64, on the device.
            totals: Receives the figures of the k batches; see :class:`Totals`.
        """


def make_stepper(
    network: Any, x: Array, labels: Array, hyper: Hyperparameters, kind: str = "auto", batch: int = 100
) -> Stepper:
    """Return a stepper for a network on the training set `x` (N, d), `labels` (N,).

    Args:
        network: What is trained.
        x: Standardised features in the network's dtype, or :class:`~xpnet.data.StandardisedRows`.
        labels: Classes.
        hyper: What stays the same during training.
        kind: ``"auto"`` for the fastest, or one of those of :class:`~xpnet.TrainConfig`.
        batch: Samples in the largest step.

    Raises:
        ConfigError: `kind` cannot be had for this network here.
    """
    backend = network.backend
    load(backend)
    if backend.name == "gpu":
        make = partial(_on_gpu, network, hyper, kind, batch)
        return StreamingStepper(backend, x, labels, make) if on_host(x) else make(x, labels)
    if kind == "plain":
        return PlainStepper(network, x, labels, hyper)
    if kind in ("fused", "graph", "small"):
        raise ConfigError(f"stepper = {kind}: needs a GPU; on {backend.device} there are plain, split and population")
    if kind == "population" or (kind == "auto" and network.replicas > 1 and backend.name == "cpu"):
        return PopulationStepper(network, x, labels, hyper)
    threads = threads_to_split(network, x, hyper) if kind in ("auto", "split") else 1
    if threads > 1:
        return SplitStepper(network, x, labels, hyper, threads)
    if kind == "split":
        raise ConfigError(
            "stepper = split: is for one network without momentum whose first layer is nearly all of it, on images "
            "kept as bytes, with Numba and several cores"
        )
    return PlainStepper(network, x, labels, hyper)


def _on_gpu(network: Any, hyper: Hyperparameters, kind: str, batch: int, x: Array, labels: Array) -> Stepper:
    if kind == "plain":
        return PlainStepper(network, x, labels, hyper, get_reference(network.backend))
    if kind in ("split", "population"):
        there = "plain, fused, graph and small"
        raise ConfigError(f"stepper = {kind}: is made for the CPU; on {network.backend.device} there are {there}")
    from xpnet.steppers.device import DeviceStepper
    from xpnet.steppers.small import MANY, SmallStepper

    if kind == "small" or (kind == "auto" and network.replicas <= MANY):
        reason = SmallStepper.why_not(network, x, batch, hyper)
        if reason is None:
            return SmallStepper(network, x, labels, hyper)
        if kind == "small":
            raise ConfigError(f"stepper = small: cannot train this network: {reason}; take graph")
    return DeviceStepper(network, x, labels, hyper, capture=kind != "fused")


__all__ = [
    "Hyperparameters",
    "PlainStepper",
    "PopulationStepper",
    "SplitStepper",
    "State",
    "Stepper",
    "Totals",
    "make_stepper",
]
