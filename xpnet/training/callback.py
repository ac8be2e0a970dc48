"""Callbacks: methods that a training calls on its way, and the objects that it passes to them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from xpnet.config.definitions import Length
from xpnet.nn.network import Network
from xpnet.training.history import EpochRecord, Metrics
from xpnet.training.result import TrainResult
from xpnet.training.state import Chunk, TrainState


@dataclass(frozen=True)
class TrainPlan:
    """The extent of a training, before its first step.

    Attributes:
        length: Steps, epochs and steps per epoch.
        chunks: The networks that train together, each as (first, last + 1): one chunk, or several that are trained one
            after another where memory does not hold the population.
        records: Epochs that an earlier training has finished, if this one goes on from it; empty for several chunks.
    """

    length: Length
    chunks: tuple[Chunk, ...]
    records: tuple[EpochRecord, ...] = ()


@dataclass(frozen=True)
class PruningPoint:
    """The state of a population at a step after which a callback may prune it.

    Attributes:
        step: Steps taken.
        replicas: Numbers of the networks that are still trained.
        chunk: The networks that train together, as (first, last + 1).
        validation: Figures of all networks; NaN for those that are not trained any more.
    """

    step: int
    replicas: tuple[int, ...]
    chunk: Chunk
    validation: Metrics


@dataclass(frozen=True, eq=False)
class SavePoint:
    """A point at which a training can be saved.

    Attributes:
        network: The networks that train together.
        chunk: Their numbers in the population, as (first, last + 1).
        epochs: Epochs that are finished.
        step: Steps taken.
        ends: Whether training ends here, because it was stopped or at its last step.
        state: Function that returns the resumable state; it copies all tensors to the host.
    """

    network: Network
    chunk: Chunk
    epochs: int
    step: int
    ends: bool
    state: Callable[[], TrainState]


class Callback:
    """Base class of callbacks for :func:`xpnet.train` and its relatives; every method does nothing by default.

    Methods of several callbacks are called in the order in which the callbacks are given.  An exception ends the
    training with its own traceback; checkpoints that were written before stay complete.

    Attributes:
        prune_at: Steps after which :meth:`on_prune` is called.  At each of them the validation set is evaluated.
    """

    prune_at: Collection[int] = ()

    def on_train_begin(self, plan: TrainPlan) -> None:
        """Called once, before the first step."""

    def on_steps(self, steps: int) -> None:
        """Called every few hundredths of a second with the number of steps just taken."""

    def should_stop(self) -> bool:
        """Asked after :meth:`on_steps`; training ends if a callback returns True."""
        return False

    def on_prune(self, point: PruningPoint) -> Iterable[int]:  # noqa: ARG002 - for subclasses
        """Called after the steps of `prune_at` but the last one; returns the networks that are not trained further."""
        return ()

    def on_epoch_end(self, record: EpochRecord) -> None:
        """Called after every epoch; for a population in several chunks, once all chunks are trained."""

    def on_checkpoint(self, point: SavePoint) -> None:
        """Called after every epoch of every chunk, and where training stops within an epoch."""

    def on_chunk_split(self, plan: TrainPlan) -> Mapping[Chunk, TrainState] | None:  # noqa: ARG002
        """Called when memory ran out and a chunk was cut in halves; may return the states from which chunks go on."""
        return None

    def on_train_end(self, result: TrainResult) -> None:
        """Called with the result of :func:`xpnet.train`, unless an exception ended the training."""


def callbacks_of(value: Any) -> tuple[Callback, ...]:
    """Check for a sequence of callbacks."""
    if isinstance(value, (list, tuple)) and all(isinstance(item, Callback) for item in value):
        return tuple(value)
    raise ValueError("a sequence of instances of xpnet.Callback")
