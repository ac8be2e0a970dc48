"""Patience: networks stop when they no longer get better, and may end with the weights of their best epoch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from xpnet.backend import Array
from xpnet.config.training import TrainConfig
from xpnet.nn.network import Network
from xpnet.training.active_replicas import ActiveReplicas
from xpnet.training.history import History, Metrics
from xpnet.training.state import Tensors, TrainState

_EPOCH = "epoch"


class Patience:
    """The best epoch of each of R networks so far, and its weights if the networks are to end with them.

    An epoch is better than another if the network's validation accuracy is higher, or equal with a lower validation
    loss.  Each network is judged by itself.

    Attributes:
        best: Number of each network's best epoch, from 1; 0 before its first (R,).
        kept: Parameters and running statistics of these epochs by name, such as ``parameters.W1`` (R, d, m), on the
            device; empty if networks end with their last weights.
    """

    def __init__(self, network: Network, config: TrainConfig) -> None:
        self._network, self._patience = network, config.patience
        self.best = np.zeros(network.replicas, np.int64)
        self._best_figures = np.full((2, network.replicas), -np.inf)  # accuracy, and loss with its sign changed
        keeps = config.restore == "best"
        self.kept: dict[str, Array] = {n: network.backend.xp.zeros_like(t) for n, t in self._tensors()} if keeps else {}

    @classmethod
    def of(cls, network: Network, config: TrainConfig) -> Patience | None:
        """Return the patience of a training; None if networks train to the end and keep their last weights."""
        return cls(network, config) if config.patience is not None or config.restore == "best" else None

    def _tensors(self) -> list[tuple[str, Array]]:
        groups = {"parameters": self._network.parameters, "running": self._network.running}
        return [(f"{group}.{name}", t) for group, tensors in groups.items() for name, t in tensors.items()]

    def after_epoch(self, history: History, active: ActiveReplicas) -> list[int]:
        """Judge the last epoch of `history`, keep the weights of networks that became better, and return who must stop.

        The trained tensors must have been written back into the network.
        """
        epoch, better = len(history), self._judge(history.epochs[-1].validation, len(history))
        if self.kept and len(better):
            self._copy(dict(self._tensors()), self.kept, better)
        waited = epoch - self.best[active.numbers]
        return [] if self._patience is None else [int(r) for r in active.numbers[waited >= self._patience]]

    def _judge(self, figures: Metrics, epoch: int) -> NDArray[np.int64]:
        """Note the networks for which an epoch is the best so far, and return their numbers."""
        (accuracy, loss), now = self._best_figures, np.stack([figures.accuracies, -figures.losses])
        better = np.flatnonzero((now[0] > accuracy) | ((now[0] == accuracy) & (now[1] > loss)))  # False for NaN
        self.best[better] = epoch
        self._best_figures[:, better] = now[:, better]
        return better

    def _copy(self, source: Mapping[str, Array], target: Mapping[str, Array], replicas: NDArray[np.int64]) -> None:
        places = self._network.backend.asarray(replicas)
        for name in self.kept:
            target[name][places] = source[name][places]

    def standing(self, figures: Metrics, history: History, stopped: Mapping[int, int]) -> Metrics:
        """Return validation figures (R,), those of networks that have stopped taken from the epoch of their weights."""
        if not stopped:
            return figures
        filled = Metrics(*(values.copy() for values in figures.arrays()))
        for replica, epoch in stopped.items():
            of_epoch = history.epochs[(self.best[replica] if self.kept else epoch) - 1].validation
            for values, known in zip(filled.arrays(), of_epoch.arrays(), strict=True):
                values[replica] = known[replica]
        return filled

    def finish(self, active: ActiveReplicas) -> bool:
        """Give networks the weights that they end with, and count those that have stopped among the active ones again.

        Returns whether a network has other weights now, or was trained no further than an earlier epoch.
        """
        ended = sorted({*map(int, active.numbers), *active.stopped})
        with_best = [r for r in ended if self.kept and self.best[r]]
        if not with_best and not active.stopped:
            return False
        active.write_back()
        if with_best:
            self._copy(self.kept, dict(self._tensors()), np.array(with_best, np.int64))
        active.gather(ended)
        return True

    def epochs_of_weights(self, active: ActiveReplicas, epochs: int) -> list[int | None]:
        """Return for each network the epoch whose weights it has; None for networks that diverged or were pruned."""
        ended = {int(r) for r in active.numbers} | active.stopped.keys()
        last = [active.stopped.get(r, epochs) for r in range(len(self.best))]
        found = [int(best) if self.kept and best else end for best, end in zip(self.best, last, strict=True)]
        return [(epoch or None) if r in ended else None for r, epoch in enumerate(found)]

    def saved(self) -> Tensors:
        """Return what a state holds beside the history: the best epochs and their weights, if they are kept."""
        to_numpy = self._network.backend.to_numpy
        if not self.kept:
            return {}
        return {_EPOCH: self.best.copy(), **{name: np.array(to_numpy(tensor)) for name, tensor in self.kept.items()}}

    def restore(self, start: TrainState, history: History) -> None:
        """Continue from a state; without the weights of its best epoch, the best one is sought from here on."""
        if not self.kept:
            for epoch, record in enumerate(history.epochs, start=1):
                self._judge(record.validation, epoch)
        elif start.best:
            self.best = np.array(start.best[_EPOCH])
            for replica in np.flatnonzero(self.best):
                figures = history.epochs[self.best[replica] - 1].validation
                self._best_figures[:, replica] = figures.accuracies[replica], -figures.losses[replica]
            for name, tensor in self.kept.items():
                tensor[...] = self._network.backend.asarray(start.best[name])
