"""A training in its middle, on the host."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from xpnet.results import Divergence

Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Everything from which a training goes on to the same end, to the last bit.

    Random numbers need no state: the order of an epoch is a function of its seed and number.

    Attributes:
        step: Steps taken.
        parameters: By name, (R, ...).
        running: Running statistics by name, (R, 1, m).
        velocities: As the parameters, zero for networks that are not trained any more; empty without momentum.
        alive: Numbers of the networks that are trained.
        diverged: Where others diverged.
        dropped: Steps that others had taken when they were dropped.
        totals: Losses, hits and penalties (k, R) of the k steps that were taken of an unfinished epoch.
        history: What is recorded of the finished epochs; see :meth:`xpnet.history.History.columns`.
        seconds_evaluation: Wall time of all full passes so far.
        seconds_of_epoch: Wall time of the steps of the unfinished epoch.
    """

    step: int
    parameters: Tensors
    running: Tensors
    velocities: Tensors
    alive: tuple[int, ...]
    diverged: Mapping[int, Divergence]
    dropped: Mapping[int, int]
    totals: tuple[NDArray[Any], ...]
    history: Tensors
    seconds_evaluation: float
    seconds_of_epoch: float

    @property
    def epochs(self) -> int:
        """Epochs that are finished."""
        return len(self.history["step"])


@dataclass(frozen=True, eq=False)
class Standing:
    """How a training stands at a moment at which it may be saved; called, it returns the snapshot.

    Attributes:
        epochs: Epochs that are finished.
        step: Steps taken.
        ends: Whether training ends here, stopped or at its last step.
        take: Returns the snapshot.
    """

    epochs: int
    step: int
    ends: bool
    take: Callable[[], Snapshot]

    def __call__(self) -> Snapshot:
        """Return everything from which the training goes on."""
        return self.take()
