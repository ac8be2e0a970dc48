"""The state that training steps change, their hyperparameters, and the metrics that they report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.backend import Array
from xpnet.config.optimisers import OPTIMISERS
from xpnet.config.training import TrainConfig
from xpnet.nn.dropout import Dropout
from xpnet.nn.flat_parameters import FlatParameters, parameter_kind

if TYPE_CHECKING:
    from xpnet.nn.network import Network


GROUPS = ("parameters", "velocities", "running", "second_moments")


@dataclass
class State:
    """Everything that a training step changes.

    Attributes:
        parameters: Parameters by name, with the leading replica axis.
        velocities: Velocities with the same names and shapes, or the first moments of AdamW and Lion; empty if the
            optimiser has none.
        running: Running statistics by name.
        step: Steps taken so far.
        second_moments: The second moments of AdamW; empty with other optimisers.
    """

    parameters: Any
    velocities: Any
    running: Any
    step: int = 0
    second_moments: Any = field(default_factory=dict)

    @classmethod
    def of(cls, network: Network, moments: int) -> State:
        """Return the state of a network before its first step, with as many moments, all zero."""
        zeros = network.backend.xp.zeros_like
        first, second = (
            {name: zeros(p) for name, p in network.parameters.items()} if moments > number else {}
            for number in range(2)
        )
        return cls(network.parameters, first, network.running, second_moments=second)

    @property
    def moments(self) -> list[Any]:
        """The groups of tensors that the optimiser keeps for the parameters."""
        return [group for group in (self.velocities, self.second_moments) if group]

    def pack(self, xp: Any) -> None:
        """Move small tensors side by side in memory, if they are not yet; the dictionaries then hold views."""
        for group in GROUPS:
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

        return self._each(chosen)

    def part(self, start: int, stop: int) -> State:
        """Return the replicas from `start` up to `stop` of a packed state, as views of the same memory."""
        return self._each(lambda tensors: tensors.part(start, stop))

    def _each(self, function: Callable[[Any], Any]) -> State:
        return replace(self, **{group: function(getattr(self, group)) for group in GROUPS})


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
        optimiser: ``"sgd"``, ``"adamw"`` or ``"lion"``.
        beta1, beta2, adam_eps, weight_decay: Settings of AdamW and Lion; None with SGD.
        factor_first, factor_units: Factors of the learning rate for the first layer's weights, and for biases, gamma
            and beta; None for 1.
        decay_units: Decay of biases, gamma and beta; None for 0.
        rounded: Whether products round their factors to bfloat16; see :mod:`xpnet.ops.bfloat16_ops`.
    """

    lam: Array
    rho: Array | None = None
    nesterov: bool = False
    smoothing: Array | None = None
    orders: tuple[int, ...] | None = None
    masks: Dropout | None = None
    weights: Array | None = None
    optimiser: str = "sgd"
    beta1: Any = None
    beta2: Any = None
    adam_eps: Array | None = None
    weight_decay: Array | None = None
    factor_first: Array | None = None
    factor_units: Array | None = None
    decay_units: Array | None = None
    rounded: bool = False

    @classmethod
    def of(
        cls,
        config: TrainConfig,
        replicas: int,
        asarray: Callable[[Any], Array],
        numbers: Any = slice(None),
        orders: tuple[int, ...] | None = None,
        weights: Array | None = None,
    ) -> Hyperparameters:
        """Return the settings of a training of `replicas` networks, for those with the given `numbers`.

        Args:
            config: The settings of the training.
            replicas: Number of all its networks, R.
            asarray: Returns a NumPy array on the device.
            numbers: Numbers of the networks that the stepper trains.
            orders: See above.
            weights: See above.
        """

        def array(name: str, usual: float | None) -> Array | None:
            values = np.broadcast_to(np.asarray(getattr(config, name), float), (replicas,))
            return None if usual is not None and (values == usual).all() else asarray(values[numbers].copy())

        moments: dict[str, Any] = {}
        if config.optimiser != "sgd":
            moments = {name: array(name, None) for name in OPTIMISERS[config.optimiser]}
        return cls(
            lam=array("lam", None),
            rho=array("momentum", 0.0),
            nesterov=config.nesterov,
            smoothing=array("label_smoothing", 0.0),
            orders=orders,
            weights=weights,
            optimiser=config.optimiser,
            factor_first=array("lr_first", 1.0),
            factor_units=array("lr_bn", 1.0),
            decay_units=array("decay_bn", 0.0),
            **moments,
        )

    @property
    def moments(self) -> int:
        """How many tensors of its own the optimiser keeps for each parameter."""
        return {"adamw": 2, "lion": 1}.get(self.optimiser, int(self.rho is not None))

    def with_dropout(self, config: TrainConfig, seeds: Sequence[int], replicas: Any = slice(None)) -> Hyperparameters:
        """Return these settings of `replicas` (A,), which have the orders of samples `seeds` (A,), with dropout.

        `replicas` are their numbers among those for which `config` has its values; all by default.
        """
        dropout = Dropout(hidden=config.dropout, inputs=config.input_dropout).select(replicas)
        return replace(self, masks=replace(dropout, seeds=tuple(seeds))) if dropout else self

    def part(self, start: int, stop: int) -> Hyperparameters:
        """Return the settings of the replicas from `start` up to `stop`."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("orders", "weights")}
        cut = {name: value[start:stop] for name, value in values.items() if getattr(value, "ndim", 0)}
        masks = None if self.masks is None else self.masks.select(slice(start, stop))
        return replace(self, orders=None, masks=masks, **cut)


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
