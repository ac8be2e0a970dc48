"""What training changes, and what it reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xpnet.backend import Array


@dataclass
class State:
    """Everything that a training step changes.

    Attributes:
        parameters: By name, with the leading replica axis.
        velocities: Of the same names and shapes; empty without momentum.
        running: Running statistics by name.
        step: Steps taken so far.
    """

    parameters: dict[str, Array]
    velocities: dict[str, Array]
    running: dict[str, Array]
    step: int = 0

    def select(self, replicas: Any) -> State:
        """Return a state with copies of the given replicas (a list of indices) alone."""

        def chosen(arrays: dict[str, Array]) -> dict[str, Array]:
            return {name: array[replicas] for name, array in arrays.items()}

        return State(chosen(self.parameters), chosen(self.velocities), chosen(self.running), self.step)


@dataclass(frozen=True)
class Hyperparameters:
    """What stays the same during training; each an array (R,) of float64 on the device, or a number.

    Attributes:
        lam: Strength of the L2 penalty.
        rho: Momentum; None for none at all.
        nesterov: Nesterov's form of momentum.
    """

    lam: Array
    rho: Array | None = None
    nesterov: bool = False


@dataclass(frozen=True)
class Totals:
    """Figures of k steps, on the device, as the batches were met: before each step's update.

    Attributes:
        loss: Sum of the samples' losses (k, R), float64.
        correct: Samples classified correctly (k, R), int64.
        penalty: Sum over layers of sum(W**2) (k, R), float64.
    """

    loss: Array
    correct: Array
    penalty: Array

    @classmethod
    def empty(cls, xp: Any, steps: int, replicas: int) -> Totals:
        """Return totals for `steps` steps, all zero."""
        shape = (steps, replicas)
        return cls(xp.zeros(shape, dtype="float64"), xp.zeros(shape, dtype="int64"), xp.zeros(shape, dtype="float64"))

    def part(self, start: int, stop: int) -> Totals:
        """Return a view of the steps from `start` up to `stop`."""
        return Totals(self.loss[start:stop], self.correct[start:stop], self.penalty[start:stop])
