"""Checks that every stepper must pass."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.training.steppers import State, StepMetrics


def state_of(net: Any, *, momentum: bool = False, moments: int = 0) -> State:
    """Return the state of a network before its first step."""
    return State.of(net, max(moments, int(momentum)))


def take(stepper: Any, state: State, perm: Any, eta: Any) -> StepMetrics:
    """Take the steps of `perm` at the rates `eta` (k, R); return their metrics."""
    metrics = StepMetrics.empty(np, len(perm), eta.shape[1])
    stepper.run(state, perm, eta, metrics)
    return metrics


def check_step_is_gradient(
    stepper: Any,
    net: Any,
    rows: Any,
    eta: Any,
    lam: Any,
    smoothing: Any = None,
    weights: Any = None,
    dropout: Any = None,
) -> None:
    """Take one step on the samples `rows` at the rates `eta` (R,): (W - W_after) / eta must be the gradient."""
    to, back = net.backend.asarray, net.backend.to_numpy
    x, labels = stepper.x[to(rows)], stepper.labels[to(rows)]
    of_rows = None if weights is None else to(weights[rows])
    alpha = 0.0 if smoothing is None else to(smoothing)
    cost, gradients = net.cost_and_gradients(x, labels, to(lam), alpha, of_rows, dropout=dropout)
    before = {name: back(p).copy() for name, p in net.parameters.items()}
    state, metrics = state_of(net), StepMetrics.empty(net.backend.xp, 1, len(eta))
    stepper.run(state, to(rows[None]), to(eta[None]), metrics)
    for name, gradient in gradients.items():
        moved = (before[name] - back(state.parameters[name])) / eta[:, None, None]
        np.testing.assert_allclose(moved, back(gradient), rtol=1e-9, atol=1e-11, err_msg=name)
    found = back(metrics.loss)[0] / rows.shape[-1] + lam * back(metrics.penalty)[0]
    np.testing.assert_allclose(found, back(cost), rtol=1e-12)


def check_same(actual: State, expected: State, rtol: float = 0, atol: float = 0, keep: Any = slice(None)) -> None:
    """Compare all tensors of two states, those of some replicas of the second."""
    for group in ("parameters", "velocities", "running", "second_moments"):
        for name, tensor in getattr(expected, group).items():
            found = getattr(actual, group)[name]
            np.testing.assert_allclose(found, tensor[keep], rtol=rtol, atol=atol, err_msg=name)
