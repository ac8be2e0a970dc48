"""How a step moves parameters: which operation, by which numbers, for each of three groups of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from xpnet.backend import Array
from xpnet.ops.moments import NUMBERS
from xpnet.training.steppers.stepper_state import Hyperparameters

if TYPE_CHECKING:
    from xpnet.ops import Ops

# The groups: the first layer's weights, other weights, and tensors of units (biases, gamma, beta).
FIRST, WEIGHTS, UNITS = range(3)


class Rates(NamedTuple):
    """The numbers of one step that depend on its learning rates, on the device."""

    scale: Array  # (R, 1, 1) eta / n, or 1 / n with moments, which multiplies the gradient of the loss
    keep: Array  # (R, 1, 1) 1 - 2 eta lambda
    shrink: Array  # (R, 1, 1) 2 eta lambda
    squares: Array  # (R,) float64: receives sum(W**2) before the update
    alpha: Array  # of the running statistics; 0 at the first step
    numbers: Any = None  # those of UpdateRule.numbers


class UpdateRule:
    """The update of SGD, SGD with momentum, AdamW or Lion, with a factor of the learning rate for each group.

    With SGD, the gradients that the rule gets are multiplied by eta; with AdamW and Lion they are those of the loss.

    Attributes:
        by_product: Whether a large W is updated by the product that gives its gradient.
        scaled: Whether the gradients include eta.
        first_apart: Whether the first layer's weights have numbers of their own.
        units_apart: Whether biases, gamma and beta decay, by numbers of their own.
    """

    def __init__(self, xp: Any, dtype: Any, hyper: Hyperparameters) -> None:
        self._xp, self._dtype, self._hyper = xp, dtype, hyper
        self.scaled = hyper.optimiser == "sgd"
        self.by_product = hyper.moments == 0
        self._rho = None if hyper.rho is None else self._column(xp.asarray(hyper.rho))
        first, units = (
            None if f is None or not self.scaled else self._column(xp.asarray(f))
            for f in (hyper.factor_first, hyper.factor_units)
        )
        self._factors = None if first is None and units is None else (first, None, units)
        self.first_apart = hyper.factor_first is not None
        self.units_apart = hyper.decay_units is not None

    def _column(self, values: Array) -> Array:
        """Return (R,) as (R, 1, 1) in the network's dtype."""
        return values[..., None, None].astype(self._dtype)

    def rates(self, eta: Array) -> Array:
        """Return what multiplies the gradient of the loss: `eta`, or 1 with moments that follow it."""
        return eta if self.scaled else self._xp.ones_like(eta)

    def shape(self, replicas: int) -> tuple[int, ...] | None:
        """Return the shape of a step's :meth:`numbers`; None without any."""
        if not self.scaled:
            return (3, len(NUMBERS), replicas)
        return (4, replicas) if self.units_apart else (2, replicas) if self.first_apart else None

    def numbers(self, step: int, eta: Array) -> Array | None:
        """Return the numbers of the k steps after `step` with the rates `eta` (k, R), in float64.

        They are (k, 3, 9, R) for AdamW and Lion: those of :mod:`xpnet.ops.moments` for each group; (k, 2, R) for SGD
        with a factor for the first layer: its `keep` and `shrink`; (k, 4, R) with a decay of units: theirs too; else
        None.
        """
        xp, hyper = self._xp, self._hyper
        if self.scaled:
            if self.shape(1) is None:
                return None
            shrink = 2 * eta * hyper.lam * (1.0 if hyper.factor_first is None else hyper.factor_first)
            both = [1 - shrink, shrink]
            if self.units_apart:
                shrink = eta * hyper.decay_units * (1.0 if hyper.factor_units is None else hyper.factor_units)
                both += [1 - shrink, shrink]
            return xp.stack(both, axis=1)
        t = xp.arange(step + 1, step + len(eta) + 1, dtype="float64")[:, None]
        one = xp.ones_like(eta)
        root, rate = one, eta
        if hyper.optimiser == "adamw":
            root, rate = (1 - hyper.beta2**t) ** -0.5, eta / (1 - hyper.beta1**t)
        betas = [one * value for value in (hyper.beta1, 1 - hyper.beta1, hyper.beta2, 1 - hyper.beta2)]
        rest = [*betas, root * one, 0 * one if hyper.adam_eps is None else one * hyper.adam_eps]
        groups = []
        for group, factor in enumerate((hyper.factor_first, None, hyper.factor_units)):
            times = 1.0 if factor is None else factor
            decay = hyper.weight_decay if group != UNITS else hyper.decay_units
            keep = one if decay is None else one - eta * times * decay
            shrink = one * 2 * hyper.lam if group != UNITS else 0 * one
            groups.append(xp.stack([rate * times, keep, shrink, *rest], axis=1))
        return xp.stack(groups, axis=1)

    def __call__(
        self, ops: Ops, group: int, p: Array, moments: Sequence[Array], steps: list[Array], rates: Rates, out: Any
    ) -> Any:
        """Update parameters and their moments in place; return the operation's buffers.

        Args:
            ops: The operations.
            group: :data:`FIRST`, :data:`WEIGHTS` or :data:`UNITS`.
            p: The parameters, as the operations take them.
            moments: As many tensors as the optimiser has moments.
            steps: Gradients that side by side make up that of `p`; they may be changed.
            rates: The numbers of the step.
            out: The buffers of the last call for the same parameters, or None.
        """
        keep = shrink = squares = None
        if group != UNITS:
            squares = rates.squares
            keep, shrink = (rates.keep, rates.shrink) if self._factors is None else self.penalty(group, rates)
        elif self.units_apart and self.scaled:
            keep, shrink = rates.numbers[2][:, None, None], rates.numbers[3][:, None, None]
        if not self.scaled:
            descend = ops.descend_adamw if self._hyper.optimiser == "adamw" else ops.descend_lion
            return descend(p, *moments, steps, rates.numbers[group], squares, out)
        if self._factors is not None:
            self.scale(ops, group, *steps)
        if self._rho is None:
            return ops.descend(p, steps, keep, squares, out)
        nesterov = self._hyper.nesterov
        return ops.descend_with_momentum(p, moments[0], steps, shrink, self._rho, nesterov, squares, out)

    def scale(self, ops: Ops, group: int, *gradients: Array) -> None:
        """Multiply gradients by the factor of the group, in place; with moments, the factor is part of the rate."""
        factor = None if self._factors is None else self._factors[group]
        if factor is not None:
            for gradient in gradients:
                ops.scale_gradient(gradient, factor)

    def penalty(self, group: int, rates: Rates) -> tuple[Array, Array]:
        """Return `keep` and `shrink` (R, 1, 1) of a group of weights with SGD."""
        if self.scaled and group == FIRST and self.first_apart:
            return rates.numbers[0][:, None, None], rates.numbers[1][:, None, None]
        return rates.keep, rates.shrink
