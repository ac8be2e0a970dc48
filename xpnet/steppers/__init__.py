"""How training steps are executed.

A stepper owns its workspace and runs k steps on a :class:`State`: it may fuse, capture or reorder as
it likes, as long as what it does to the state is what the network's gradients say.  One test holds for
every stepper: in float64 and without momentum, ``(W - W_after) / eta`` of a step is the gradient.
"""

from __future__ import annotations

from typing import Any, Protocol

from xpnet.backend import Array
from xpnet.steppers.plain import PlainStepper
from xpnet.steppers.population import PopulationStepper
from xpnet.steppers.split import SplitStepper, threads_to_split
from xpnet.steppers.state import Hyperparameters, State, Totals


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


def make_stepper(network: Any, x: Array, labels: Array, hyper: Hyperparameters) -> Stepper:
    """Return the best stepper for a network on the training set `x` (N, d), `labels` (N,).

    `x` is an array of standardised features in the network's dtype, or :class:`~xpnet.data.StandardisedBytes`.
    """
    if network.replicas > 1 and network.backend.name == "cpu":
        return PopulationStepper(network, x, labels, hyper)
    threads = threads_to_split(network, x, hyper)
    if threads > 1:
        return SplitStepper(network, x, labels, hyper, threads)
    return PlainStepper(network, x, labels, hyper)


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
