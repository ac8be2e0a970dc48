"""Updates of a thread's own columns of W, by compiled loops over the rows of the whole W."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.backend import Array
from xpnet.training.steppers.stepper_state import Hyperparameters
from xpnet.training.steppers.update_rule import Rates, UpdateRule

if TYPE_CHECKING:
    from xpnet.ops import Ops


class ColumnRule:
    """The update rule of an optimiser with moments, on some columns of W, of one network."""

    def __init__(self, rule: UpdateRule, hyper: Hyperparameters, dtype: Any) -> None:
        from xpnet.ops import numba_kernels, numba_moments

        self._rule, self._hyper = rule, hyper
        self._momentum = numba_kernels.momentum
        self._of_moments = numba_moments.adamw if hyper.optimiser == "adamw" else numba_moments.lion
        self._rho = None if hyper.rho is None else np.asarray(hyper.rho, dtype).reshape(1)

    def __call__(self, ops: Ops, group: int, start: int, tensors: list[Array], step: Array, rates: Rates) -> None:
        """Update m columns of W and its moments, `tensors`, from `start` on, by `step` (1, d, m)."""
        if not self._rule.scaled:
            self._of_moments(*tensors, step, start, rates.numbers[group], rates.squares)
            return
        self._rule.scale(ops, group, step)
        shrink = self._rule.penalty(group, rates)[1]
        W, velocity = tensors
        self._momentum(W, velocity, step, start, shrink[0, 0], self._rho, self._hyper.nesterov, rates.squares)
