"""What an ensemble's members differ in, which epoch each of them keeps, and what weight each of them has."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.config.training import TrainConfig
from xpnet.nn.network import Network
from xpnet.training.callback import Callback, SavePoint
from xpnet.training.history import EpochRecord

# Factors between which `diversity` draws the settings of each member, around those that are given.
_SPREADS = {"eta_max": 2.0, "eta": 2.0, "lam": 4.0, "dropout": 2.0, "input_dropout": 2.0}
# Between which it draws dropout if none is given, and the largest that follows from a given one.
_LOW_DROPOUT, _HIGH_DROPOUT, _MOST_DROPOUT = 0.01, 0.3, 0.9
# Rounds of the greedy selection: members, with repetition, in the mean.
_ROUNDS = 50


def diverse(
    config: TrainConfig, members: int, rng: np.random.RandomState, *, drops: bool
) -> dict[str, tuple[float, ...]]:
    """Return learning rates, penalties and dropout of each member, drawn log-uniformly.

    Args:
        config: The settings around which they are drawn.
        members: Number of members.
        rng: Draws them.
        drops: Whether there are hidden layers, whose outputs may be dropped.
    """
    drawn = {}
    for name, spread in _SPREADS.items():
        places = rng.uniform(-1, 1, members)
        value, factors = getattr(config, name), spread**places
        if np.any(value):
            drawn[name] = np.minimum(value * factors, _MOST_DROPOUT) if "dropout" in name else value * factors
        elif name == "dropout" and drops:
            drawn[name] = _LOW_DROPOUT * (_HIGH_DROPOUT / _LOW_DROPOUT) ** ((places + 1) / 2)
    return {name: tuple(values.tolist()) for name, values in drawn.items()}


class BestEpoch(Callback):
    """Stops a training when no network improves, and keeps each network as it was in its best epoch.

    The best epoch has the lowest validation loss.  `patience` and `restore` of :class:`~xpnet.TrainConfig` do not take
    its place, since they do other things: they compare accuracies first, of which small validation sets have few
    values, and which say nothing of how good probabilities are; and they stop each network by itself, so that the means
    over the members of an epoch would be those of fewer members.

    Args:
        patience: Epochs without improvement of any network after which training stops; None trains to the end.
    """

    def __init__(self, patience: int | None) -> None:
        self._patience, self._waited = patience, 0
        self._losses: NDArray[np.float64] | None = None
        self._best: NDArray[np.float64] | None = None
        self._tensors: dict[str, Any] = {}

    def on_epoch_end(self, record: EpochRecord) -> None:
        """Note the losses; the tensors come with :meth:`on_checkpoint`."""
        self._losses = record.validation.losses

    def on_checkpoint(self, point: SavePoint) -> None:
        """Copy the tensors of the networks that have improved."""
        losses, tensors = self._losses, _tensors(point.network)
        if losses is None:
            return
        if self._best is None:
            self._best = np.full(len(losses), np.inf)
            self._tensors = {name: tensor.copy() for name, tensor in tensors.items()}
        better = losses < self._best
        self._best[better] = losses[better]
        for name, tensor in tensors.items():
            for r in np.flatnonzero(better):
                self._tensors[name][r] = tensor[r]
        self._waited = 0 if better.any() else self._waited + 1
        self._losses = None  # it is called again if training stops within an epoch

    def should_stop(self) -> bool:
        """Stop after `patience` epochs without improvement."""
        return self._patience is not None and self._waited >= self._patience

    def restore(self, network: Network) -> None:
        """Bring every network back to its best epoch."""
        for name, tensor in _tensors(network).items():
            if name in self._tensors:
                tensor[...] = self._tensors[name]


def _tensors(network: Network) -> dict[str, Any]:
    return {**network.parameters, **network.running}


def greedy_weights(log_probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return a weight for each member, by greedy selection with replacement (Caruana et al., 2004).

    Starting with the best member, each round adds the member, again perhaps, with which the mean of probabilities has
    the lowest log-loss; the weights are the counts of the round with the lowest.

    Args:
        log_probabilities: Of every member, row and class (R, n, c).
        labels: Classes of the rows (n,).
    """
    right = np.exp(log_probabilities[:, np.arange(len(labels)), labels])  # (R, n): probability of the right class
    right = np.where(np.isfinite(right), right, 0.0)
    counts, total = np.zeros(len(right), np.int64), np.zeros(right.shape[1])
    best, chosen = np.inf, counts
    for size in range(1, _ROUNDS + 1):
        with np.errstate(divide="ignore"):
            losses = -np.log((total + right) / size).mean(axis=1)
        member = int(np.argmin(losses))
        counts = counts + (np.arange(len(right)) == member)
        total += right[member]
        if losses[member] < best:
            best, chosen = float(losses[member]), counts
    return np.asarray(chosen / chosen.sum())
