"""A pause at the end of an epoch, from which a population goes on without some of its networks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from xpnet.sklearn.best_epochs import BestEpochs
from xpnet.training.callback import Callback, SavePoint, TrainPlan
from xpnet.training.state import Chunk, TrainState


class Pause(Callback):
    """Stops a training after a share of its epochs, at least one, and keeps its state.

    A population that memory cuts into chunks trains to its end, since a stop would leave out the later chunks.

    Args:
        share: Share of the epochs; 1 trains to the end.
        step: Steps that were taken before.
    """

    def __init__(self, share: float, step: int = 0) -> None:
        self._share, self._step = share, step
        self._at: int | None = None
        self.states: dict[Chunk, TrainState] = {}

    def on_train_begin(self, plan: TrainPlan) -> None:
        """Determine the step at which to stop."""
        length = plan.length
        at = max(1, round(self._share * length.epochs)) * length.steps_per_epoch
        self._at = at if at < length.steps and len(plan.chunks) == 1 else None
        self.prune_at = () if self._at is None else (self._at,)  # ends a call of the stepper there

    def on_chunk_split(self, plan: TrainPlan) -> None:  # noqa: ARG002 - has the signature of a callback
        """Train to the end."""
        self._at = None

    def on_steps(self, steps: int) -> None:
        """Count steps."""
        self._step += steps

    def should_stop(self) -> bool:
        """Stop at the step."""
        return self._at is not None and self._step >= self._at

    def on_checkpoint(self, point: SavePoint) -> None:
        """Keep the state with which the training stops there."""
        if point.ends and self.should_stop():
            self.states[point.chunk] = point.state()


@dataclass(frozen=True)
class Paused:
    """A population that was paused.

    Attributes:
        states: Its state, by its only chunk.
        best: The best epochs of its networks so far, if they are kept.
    """

    states: Mapping[Chunk, TrainState]
    best: BestEpochs | None

    @property
    def step(self) -> int:
        """Steps taken."""
        return next(iter(self.states.values())).step

    def without(self, replicas: Iterable[int]) -> dict[Chunk, TrainState]:
        """Return the state from which it goes on without `replicas`, and without those that patience ends here."""
        ((chunk, state),) = self.states.items()
        late = [] if self.best is None else self.best.late(state.alive)
        gone = set(state.alive) & {*replicas, *late}
        alive = tuple(r for r in state.alive if r not in gone)
        return {
            chunk: dataclasses.replace(state, alive=alive, dropped={**state.dropped, **dict.fromkeys(gone, state.step)})
        }
