"""Callbacks: methods that a training calls, and the objects that it passes to them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from xpnet.config.length import Length
from xpnet.nn.network import Network
from xpnet.training.history import EpochRecord, Metrics
from xpnet.training.result import TrainResult
from xpnet.training.state import Chunk, TrainState


@dataclass(frozen=True)
class TrainPlan:
    """The extent of a training, before its first step.

    Attributes:
        length: Steps, epochs and steps per epoch.
        chunks: Groups of networks that train together, each as (first, last + 1): one chunk, or several, trained one
            after another, if the population does not fit into memory.
        records: Epochs of an earlier training that this one continues; empty for several chunks.
    """

    length: Length
    chunks: tuple[Chunk, ...]
    records: tuple[EpochRecord, ...] = ()


@dataclass(frozen=True)
class PruningPoint:
    """The state of a population at a step after which a callback may prune it.

    Attributes:
        step: Steps taken.
        replicas: Numbers of the networks that are still in training.
        chunk: The networks that train together, as (first, last + 1).
        validation: Validation figures of all networks; NaN for networks that are no longer trained.
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
    """Base class of callbacks for :func:`xpnet.train` and similar functions; every method does nothing by default.

    Several callbacks are called in the given order.  An exception ends the training with its own traceback; earlier
    checkpoints stay complete.

    Attributes:
        prune_at: Steps after which :meth:`on_prune` is called.  At each of them the validation set is evaluated.
    """

    prune_at: Collection[int] = ()

    def on_train_begin(self, plan: TrainPlan) -> None:
        """Called once, before the first step."""

    def on_steps(self, steps: int) -> None:
        """Called every few tenths of a second with the number of steps just taken."""

    def should_stop(self) -> bool:
        """Called after :meth:`on_steps`; training ends if a callback returns True."""
        return False

    def on_prune(self, point: PruningPoint) -> Iterable[int]:  # noqa: ARG002 - for subclasses
        """Called after the steps `prune_at`, except the training's last step; returns the networks to stop training."""
        return ()

    def on_epoch_end(self, record: EpochRecord) -> None:
        """Called after every epoch; for a population in several chunks, once all chunks are trained."""

    def on_checkpoint(self, point: SavePoint) -> None:
        """Called after every epoch of every chunk, and when training stops within an epoch."""

    def on_chunk_split(self, plan: TrainPlan) -> Mapping[Chunk, TrainState] | None:  # noqa: ARG002
        """Called when memory ran out and a chunk was cut in halves; may return states from which chunks continue."""
        return None

    def on_train_end(self, result: TrainResult) -> None:
        """Called with the result of :func:`xpnet.train`, unless an exception ended the training."""


def callbacks_of(value: Any) -> tuple[Callback, ...]:
    """Check for a sequence of callbacks."""
    if isinstance(value, (list, tuple)) and all(isinstance(item, Callback) for item in value):
        return tuple(value)
    raise ValueError("a sequence of instances of xpnet.Callback")
