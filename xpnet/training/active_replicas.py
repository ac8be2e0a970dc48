"""The replicas of a population that are still trained, and their tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.backend import Array
from xpnet.nn.network import Network
from xpnet.training.history import Metrics
from xpnet.training.result import Divergence
from xpnet.training.state import TrainState
from xpnet.training.steppers import State, StepMetrics, Stepper


class ActiveReplicas:
    """The replicas that have neither diverged nor been pruned.

    While all R replicas are active, they are trained in place.  Later the active ones are trained on copies of their
    tensors, so that the others cost no time; :meth:`write_back` copies the trained tensors into `network`.

    Attributes:
        network: All R replicas.
        living: The active replicas, as a network on the tensors of `state`.
        state: All that a step changes: parameters, moments and running statistics of the active replicas.
        numbers: Numbers of the active replicas, ascending (A,).
        diverged: Replicas that diverged, each with step, rate and loss.
        dropped: Pruned replicas, each with the number of its steps.
        stopped: Replicas that stopped because they no longer got better, each with the number of its epochs.
    """

    def __init__(self, network: Network, *, moments: int) -> None:
        self.network = self.living = network
        self.state = State.of(network, moments)
        self.numbers: NDArray[np.int64] = np.arange(network.replicas)
        self.diverged: dict[int, Divergence] = {}
        self.dropped: dict[int, int] = {}
        self.stopped: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def all_active(self) -> bool:
        """Whether every replica is active."""
        return len(self.numbers) == self.network.replicas

    def keep(self, places: NDArray[np.int64]) -> None:
        """Keep only some active replicas, by their positions in `numbers`, and copy their tensors."""
        self.write_back()
        self.state = self.state.select(self.network.backend.asarray(places))
        self.numbers = self.numbers[places]
        self.living = self.network.sharing([*map(int, self.numbers)], self.state.parameters, self.state.running)

    def drop(self, replicas: list[int]) -> None:
        """Remove pruned replicas from the training; their tensors do not change."""
        self.dropped |= dict.fromkeys(replicas, self.state.step)
        self._keep_others(replicas)

    def stop(self, replicas: list[int], epoch: int) -> None:
        """Train replicas no further than the end of `epoch`; their tensors do not change until :meth:`gather`."""
        self.stopped |= dict.fromkeys(replicas, epoch)
        self._keep_others(replicas)

    def gather(self, replicas: list[int]) -> None:
        """Make `replicas` the active ones, with the tensors that `network` has for them, after the last step."""
        network, places = self.network, self.network.backend.asarray(np.array(replicas, np.int64))
        self.numbers = np.array(replicas, np.int64)
        whole = State(network.parameters, {}, network.running, self.state.step)
        self.state = whole if self.all_active else whole.select(places)
        self.living = network
        if not self.all_active:
            self.living = network.sharing(replicas, self.state.parameters, self.state.running)

    def leave_out(self, diverged: Mapping[int, Divergence]) -> None:
        """Remove diverged replicas from the training, and set their tensors to NaN.

        Their values have no meaning, and depend on when the divergence was noticed.
        """
        self.diverged |= diverged
        self._keep_others(sorted(diverged))
        lost = self.network.backend.asarray(np.array(sorted(diverged), np.int64))
        for tensors in (self.network.parameters, self.network.running):
            for tensor in tensors.values():
                tensor[lost] = np.nan

    def _keep_others(self, replicas: list[int]) -> None:
        places = np.flatnonzero(~np.isin(self.numbers, replicas))
        if len(places):
            self.keep(places)
        else:
            self.numbers = self.numbers[:0]

    def write_back(self) -> None:
        """Copy the tensors of the active replicas into `network`, if they are trained on copies."""
        if self.all_active or not len(self):
            return
        numbers = self.network.backend.asarray(self.numbers)
        state = self.state
        for home, trained in ((self.network.parameters, state.parameters), (self.network.running, state.running)):
            for name, tensor in trained.items():
                home[name][numbers] = tensor

    def only_active(self, metrics: Metrics) -> Metrics:
        """Return figures (R,) with NaN for inactive replicas."""
        if self.all_active:
            return metrics
        factor = np.where(np.isin(np.arange(self.network.replicas), self.numbers), 1.0, np.nan)
        return Metrics(*(values * factor for values in metrics.arrays()))

    def take_steps(self, stepper: Stepper, batches: Array, eta: Array, metrics: StepMetrics) -> None:
        """Take the steps of batches (k, n) or (k, R, n) with rates (k, A); write the figures of the active replicas."""
        if self.all_active:
            stepper.run(self.state, batches, eta, metrics)
            return
        xp, asarray = self.network.backend.xp, self.network.backend.asarray
        if batches.ndim == 3:
            on_host = isinstance(batches, np.ndarray)
            batches = batches[:, self.numbers if on_host else asarray(self.numbers)]
            if len(self) == 1:  # steppers of one network know batches (k, n) alone
                batches = (np if on_host else xp).ascontiguousarray(batches[:, 0])
        some = StepMetrics.empty(xp, int(batches.shape[0]), len(self))
        stepper.run(self.state, batches, eta, some)
        for values, of_active in zip(metrics.arrays(), some.arrays(), strict=True):
            values[:, asarray(self.numbers)] = of_active

    def saved(self) -> dict[str, Any]:
        """Return copies of the attributes of :class:`TrainState` that :meth:`restore` needs."""
        self.write_back()
        network, to_numpy = self.network, self.network.backend.to_numpy

        def of_all(tensors: Mapping[str, Array]) -> dict[str, NDArray[Any]]:
            saved = {}
            for name, tensor in tensors.items():
                saved[name] = np.zeros((network.replicas, *tensor.shape[1:]), network.dtype)
                if len(self):
                    saved[name][self.numbers] = to_numpy(tensor)
            return saved

        return {
            "step": self.state.step,
            "parameters": {name: np.array(to_numpy(tensor)) for name, tensor in network.parameters.items()},
            "running": {name: np.array(to_numpy(tensor)) for name, tensor in network.running.items()},
            "velocities": of_all(self.state.velocities),
            "second_moments": of_all(self.state.second_moments),
            "alive": tuple(map(int, self.numbers)),
            "diverged": dict(self.diverged),
            "dropped": dict(self.dropped),
            "stopped": dict(self.stopped),
        }

    def restore(self, start: TrainState) -> None:
        """Set the tensors and the active replicas to those of a state."""
        for home, tensors in (
            (self.network.parameters, start.parameters),
            (self.network.running, start.running),
            (self.state.velocities, start.velocities),
            (self.state.second_moments, start.second_moments),
        ):
            for name in home.keys() & tensors.keys():  # a training without momentum drops velocities
                home[name][...] = self.network.backend.asarray(tensors[name])
        self.state.step = start.step
        self.diverged, self.dropped, self.stopped = dict(start.diverged), dict(start.dropped), dict(start.stopped)
        alive = np.asarray(start.alive, np.int64)
        if 0 < len(alive) < self.network.replicas:
            self.keep(alive)
        self.numbers = alive
