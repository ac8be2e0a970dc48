"""Resumable training state, as NumPy arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from xpnet.training.history import OF_NETWORKS
from xpnet.training.result import Divergence

Tensors = Mapping[str, NDArray[Any]]
# Networks of a population that train together, as (first, last + 1).
Chunk = tuple[int, int]


@dataclass(frozen=True, eq=False)
class TrainState:
    """Everything that a training needs to continue to the same result, bit for bit.

    Random numbers need no state: the order of an epoch is a function of its seed and number.

    Attributes:
        step: Steps taken.
        parameters: By name, (R, ...).
        running: Running statistics by name, (R, 1, m).
        velocities: Velocities by name, (R, ...), zero for networks no longer trained; the first moments of AdamW and
            Lion; empty without momentum.
        alive: Numbers of the networks still in training.
        diverged: Networks that diverged, with step, rate and loss.
        dropped: Networks that were pruned, with the number of steps taken.
        step_metrics: Losses, hits and penalties (k, R) of the first k steps of an unfinished epoch.
        history: Columns of the finished epochs; see :meth:`xpnet.training.history.History.columns`.
        seconds_evaluation: Wall time of all full passes so far.
        seconds_of_epoch: Wall time of the steps of the unfinished epoch.
        validated: Whether the last validation figures are valid for the data and settings of the continued training.
        transform: Arrays of the transform of the inputs, by the names in files; empty if it is not known.
        second_moments: Those of AdamW, as `velocities`; empty with other optimisers.
        stopped: Networks that stopped because they no longer got better, with the number of epochs trained.
        best: ``epoch``, the number of each network's best epoch (R,), and its tensors (R, ...), such as
            ``parameters.W1``; empty unless networks end with them.
    """

    step: int
    parameters: Tensors
    running: Tensors
    velocities: Tensors
    alive: tuple[int, ...]
    diverged: Mapping[int, Divergence]
    dropped: Mapping[int, int]
    step_metrics: tuple[NDArray[Any], ...]
    history: Tensors
    seconds_evaluation: float
    seconds_of_epoch: float
    validated: bool = True
    transform: Tensors = field(default_factory=dict)
    second_moments: Tensors = field(default_factory=dict)
    stopped: Mapping[int, int] = field(default_factory=dict)
    best: Tensors = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        """Epochs that are finished."""
        return len(self.history["step"])

    def part(self, start: int, stop: int) -> TrainState:
        """Return the state of the networks from `start` up to `stop`, which can be trained without the others.

        It gets a proportional share of the wall times.
        """
        share = (stop - start) / len(next(iter(self.parameters.values())))

        def rows(tensors: Tensors) -> Tensors:
            return {name: tensor[start:stop] for name, tensor in tensors.items()}

        def renumbered(places: Mapping[int, Any]) -> dict[int, Any]:
            return {r - start: value for r, value in places.items() if start <= r < stop}

        history = {name: self.history[name][:, start:stop] for name in OF_NETWORKS}
        return dataclasses.replace(
            self,
            parameters=rows(self.parameters),
            running=rows(self.running),
            velocities=rows(self.velocities),
            second_moments=rows(self.second_moments),
            alive=tuple(r - start for r in self.alive if start <= r < stop),
            diverged=renumbered(self.diverged),
            dropped=renumbered(self.dropped),
            stopped=renumbered(self.stopped),
            best=rows(self.best),
            step_metrics=tuple(values[:, start:stop] for values in self.step_metrics),
            history={**self.history, **history, "seconds": self.history["seconds"] * share},
            seconds_evaluation=self.seconds_evaluation * share,
            seconds_of_epoch=self.seconds_of_epoch * share,
        )


def check_compatible(state: TrainState, shapes: Mapping[str, tuple[int, ...]], dtype: str) -> str:
    """Return why networks with these shapes and dtype cannot continue from a valid state; an empty string if they can.

    `shapes` are those of :func:`xpnet.nn.layers.parameter_shapes`.
    """
    tensors = {f"parameters.{name}": tensor for name, tensor in state.parameters.items()}
    tensors |= {f"running.{name}": tensor for name, tensor in state.running.items()}
    for name in sorted(shapes.keys() | tensors.keys()):
        shape = tensors[name].shape if name in tensors else None
        if shape != shapes.get(name):
            return f"{name} has the shape {shape}, not {shapes.get(name)}"
        if str(tensors[name].dtype) != dtype:
            return f"{name} is {tensors[name].dtype}, not {dtype}"
    replicas = len(next(iter(tensors.values())))
    numbers = [*state.alive, *state.diverged, *state.dropped, *state.stopped]
    if sorted(set(numbers)) != list(range(replicas)) or list(state.alive) != sorted(set(state.alive)):
        return f"its networks are {numbers}, not {replicas} each of which trains, has diverged, stopped or was dropped"
    return ""
