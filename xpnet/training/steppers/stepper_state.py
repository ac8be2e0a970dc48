"""The state that training steps change, their hyperparameters, and the metrics that they report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from xpnet.backend import Array
from xpnet.config.training import TrainConfig
from xpnet.nn.dropout import Dropout
from xpnet.nn.flat_parameters import FlatParameters, parameter_kind


@dataclass
class State:
    """Everything that a training step changes.

    Attributes:
        parameters: Parameters by name, with the leading replica axis.
        velocities: Velocities with the same names and shapes; empty without momentum.
        running: Running statistics by name.
        step: Steps taken so far.
    """

    parameters: Any
    velocities: Any
    running: Any
    step: int = 0

    def pack(self, xp: Any) -> None:
        """Move small tensors side by side in memory, if they are not yet; the dictionaries then hold views."""
        for group in ("parameters", "velocities", "running"):
            tensors = getattr(self, group)
            if not isinstance(tensors, FlatParameters):
                kinds = {} if group == "running" else {"kind": parameter_kind}
                packed = FlatParameters(xp, tensors, **kinds)
                tensors.update(packed)
                setattr(self, group, packed)

    def select(self, replicas: Any) -> State:
        """Return a state with copies of only the given replicas (a list of indices)."""

        def chosen(tensors: Any) -> Any:
            if isinstance(tensors, FlatParameters):
                return tensors.select(replicas)
            return {name: array[replicas] for name, array in tensors.items()}

        return State(chosen(self.parameters), chosen(self.velocities), chosen(self.running), self.step)

    def part(self, start: int, stop: int) -> State:
        """Return the replicas from `start` up to `stop` of a packed state, as views of the same memory."""
        return State(
            self.parameters.part(start, stop),
            self.velocities.part(start, stop),
            self.running.part(start, stop),
            self.step,
        )


@dataclass(frozen=True)
class Hyperparameters:
    """Settings that stay the same during training; each is an array (R,) of float64 on the device, or a number.

    Attributes:
        lam: Strength of the L2 penalty.
        rho: Momentum; None for training without momentum.
        nesterov: Nesterov's form of momentum.
        smoothing: Label smoothing; None for training without it.
        orders: A number for each replica's order of samples, if known: replicas with equal numbers see the same
            batches. None means that the batches of each call are compared.
        masks: What dropout depends on, with a seed for each replica; the step is that of the state. None without it.
        weights: Weight of each training sample in the loss (N,); None for 1.
    """

    lam: Array
    rho: Array | None = None
    nesterov: bool = False
    smoothing: Array | None = None
    orders: tuple[int, ...] | None = None
    masks: Dropout | None = None
    weights: Array | None = None

    def with_dropout(self, config: TrainConfig, seeds: Sequence[int], replicas: Any = slice(None)) -> Hyperparameters:
        """Return these settings of `replicas` (A,), which have the orders of samples `seeds` (A,), with dropout.

        `replicas` are their numbers among those for which `config` has its values; all by default.
        """
        dropout = Dropout(hidden=config.dropout, inputs=config.input_dropout).select(replicas)
        return replace(self, masks=replace(dropout, seeds=tuple(seeds))) if dropout else self

    def part(self, start: int, stop: int) -> Hyperparameters:
        """Return the settings of the replicas from `start` up to `stop`."""

        def cut(values: Array) -> Array:
            return values[start:stop] if getattr(values, "ndim", 0) else values

        rho, smoothing = (None if values is None else cut(values) for values in (self.rho, self.smoothing))
        masks = None if self.masks is None else self.masks.select(slice(start, stop))
        return replace(self, lam=cut(self.lam), rho=rho, smoothing=smoothing, orders=None, masks=masks)


@dataclass(frozen=True)
class StepMetrics:
    """Figures of k steps, on the device, computed before each step's update.

    Attributes:
        loss: Sum of the samples' losses (k, R), float64.
        correct: Samples classified correctly (k, R), int64.
        penalty: Sum over layers of sum(W**2) (k, R), float64.
    """

    loss: Array
    correct: Array
    penalty: Array

    @classmethod
    def empty(cls, xp: Any, steps: int, replicas: int) -> StepMetrics:
        """Return the metrics of `steps` steps, all zero."""
        shape = (steps, replicas)
        return cls(xp.zeros(shape, dtype="float64"), xp.zeros(shape, dtype="int64"), xp.zeros(shape, dtype="float64"))

    def part(self, start: int, stop: int) -> StepMetrics:
        """Return a view of the steps from `start` up to `stop`."""
        return StepMetrics(self.loss[start:stop], self.correct[start:stop], self.penalty[start:stop])

    def arrays(self) -> tuple[Array, Array, Array]:
        """Return the three arrays."""
        return self.loss, self.correct, self.penalty

    def columns(self, start: int, stop: int) -> StepMetrics:
        """Return a view of the replicas from `start` up to `stop`."""
        return StepMetrics(self.loss[:, start:stop], self.correct[:, start:stop], self.penalty[:, start:stop])
