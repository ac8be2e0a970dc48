"""What trains is what is checked: a step of the stepper is a step along the gradient."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xpnet
from xpnet.nn.network import Network
from xpnet.training.steppers import Hyperparameters, PlainStepper, State, StepMetrics


def stepper_for(net: Network, x, labels, lam=0.0, rho=None, nesterov=False) -> tuple[PlainStepper, State]:
    R = net.replicas
    hyper = Hyperparameters(
        np.broadcast_to(np.asarray(lam, float), (R,)), None if rho is None else np.full(R, rho), nesterov
    )
    velocities = {n: np.zeros_like(p) for n, p in net.parameters.items()} if rho is not None else {}
    return PlainStepper(net, x, labels, hyper), State(net.parameters, velocities, net.running)


@settings(max_examples=40, deadline=None)
@given(
    hidden=st.lists(st.integers(1, 6), max_size=3),
    batch_norm=st.booleans(),
    bias=st.booleans(),
    replicas=st.integers(1, 3),
    independent=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_a_step_is_eta_times_the_gradient(hidden, batch_norm, bias, replicas, independent, seed):
    config = xpnet.NetworkConfig(
        inputs=4, hidden=tuple(hidden), classes=3, batch_norm=batch_norm, bias_before_bn=bias, init_bias=0.3
    )
    net = Network(config, dtype="float64", seed=seed, replicas=replicas)
    rng = np.random.default_rng(seed)
    x, labels = rng.standard_normal((20, 4)), rng.integers(0, 3, 20)
    rows = rng.integers(0, 20, (1, replicas, 8) if independent else (1, 8))
    lam, eta = rng.random(replicas), 0.01 * (1 + rng.random((1, replicas)))
    stepper, state = stepper_for(net, x, labels, lam)
    cost, gradients = net.cost_and_gradients(x[rows[0]], labels[rows[0]], lam)
    before = {name: p.copy() for name, p in net.parameters.items()}
    totals = StepMetrics.empty(np, 1, replicas)
    stepper.run(state, rows, eta, totals)
    for name, gradient in gradients.items():
        moved = (before[name] - state.parameters[name]) / eta[0][:, None, None]
        np.testing.assert_allclose(moved, gradient, rtol=1e-9, atol=1e-11, err_msg=name)
    np.testing.assert_allclose(totals.loss[0] / 8 + lam * totals.penalty[0], cost, rtol=1e-12)
    assert state.step == 1


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_is_that_of_the_textbook(nesterov):
    config = xpnet.NetworkConfig(inputs=4, hidden=(5,), classes=3)
    rng = np.random.default_rng(1)
    x, labels = rng.standard_normal((30, 4)), rng.integers(0, 3, 30)
    perm, eta, lam, rho = rng.permutation(30).reshape(3, 10), np.array([[0.1], [0.2], [0.05]]), 0.03, 0.8
    net = Network(config, dtype="float64")
    stepper, state = stepper_for(net, x, labels, lam, rho, nesterov)
    other = Network(config, dtype="float64")
    v = {name: np.zeros_like(p) for name, p in other.parameters.items()}
    for rows, rate in zip(perm, eta[:, 0], strict=True):
        _, gradients = other.cost_and_gradients(x[rows], labels[rows], lam)
        for name, g in gradients.items():
            v[name] = rho * v[name] - rate * g
            other.parameters[name] += rho * v[name] - rate * g if nesterov else v[name]
    stepper.run(state, perm, eta, StepMetrics.empty(np, 3, 1))
    for name, p in other.parameters.items():
        np.testing.assert_allclose(state.parameters[name], p, rtol=1e-12, atol=1e-14, err_msg=name)
        np.testing.assert_allclose(state.velocities[name], v[name], rtol=1e-12, atol=1e-14, err_msg=name)


def test_running_statistics_start_from_the_first_batch_and_average_from_there():
    net = Network(xpnet.NetworkConfig(inputs=3, hidden=(2,), classes=2, bn_alpha=0.75), dtype="float64")
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((12, 3)), rng.integers(0, 2, 12)
    W = net.parameters["W1"][0].copy()
    stepper, state = stepper_for(net, x, labels)
    none = np.zeros((1, 1))  # eta = 0: the weights stay, so the statistics can be computed here
    stepper.run(state, np.arange(6)[None], none, StepMetrics.empty(np, 1, 1))
    first = x[:6] @ W
    np.testing.assert_allclose(state.running["mean1"][0, 0], first.mean(0), rtol=1e-12)
    np.testing.assert_allclose(state.running["var1"][0, 0], first.var(0), rtol=1e-12)
    stepper.run(state, np.arange(6, 12)[None], none, StepMetrics.empty(np, 1, 1))
    second = x[6:] @ W
    np.testing.assert_allclose(state.running["mean1"][0, 0], 0.75 * first.mean(0) + 0.25 * second.mean(0), rtol=1e-12)
    np.testing.assert_allclose(state.running["var1"][0, 0], 0.75 * first.var(0) + 0.25 * second.var(0), rtol=1e-12)


def test_totals_are_those_of_the_batches_before_their_updates():
    net = Network(xpnet.NetworkConfig(inputs=3, hidden=(4,), classes=3), dtype="float64", replicas=2)
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((12, 3)), rng.integers(0, 3, 12)
    stepper, state = stepper_for(net, x, labels, 0.1)
    totals = StepMetrics.empty(np, 3, 2)
    perm = rng.permutation(12).reshape(3, 4)
    for t in range(3):
        cost, _ = net.cost_and_gradients(x[perm[t]], labels[perm[t]], 0.1)
        stepper.run(state, perm[t : t + 1], np.full((1, 2), 0.1), totals.part(t, t + 1))
        np.testing.assert_allclose(totals.loss[t] / 4 + 0.1 * totals.penalty[t], cost, rtol=1e-12)
    assert totals.correct.max() <= 4
    assert totals.correct.dtype == np.int64


def test_steps_of_one_call_and_of_many_are_the_same_bits():
    rng = np.random.default_rng(3)
    x, labels = rng.standard_normal((40, 5)).astype(np.float32), rng.integers(0, 3, 40)
    perm, eta = rng.permutation(40).reshape(8, 5), rng.random((8, 1))
    states = []
    for cuts in ([0, 8], [0, 1, 3, 8]):
        net = Network(xpnet.NetworkConfig(inputs=5, hidden=(4, 3), classes=3))
        stepper, state = stepper_for(net, x, labels, 0.01, 0.9)
        for a, b in pairwise(cuts):
            stepper.run(state, perm[a:b], eta[a:b], StepMetrics.empty(np, b - a, 1))
        states.append(state)
    for name, p in states[0].parameters.items():
        np.testing.assert_array_equal(p, states[1].parameters[name])
    for name, p in states[0].running.items():
        np.testing.assert_array_equal(p, states[1].running[name])


def test_select_keeps_the_chosen_replicas_and_copies():
    net = Network(xpnet.NetworkConfig(inputs=3, hidden=(2,)), replicas=4)
    state = State(net.parameters, {"W1": np.ones((4, 3, 2))}, net.running, step=5)
    chosen = state.select([2, 0])
    np.testing.assert_array_equal(chosen.parameters["W1"], net.parameters["W1"][[2, 0]])
    assert chosen.velocities["W1"].shape == (2, 3, 2)
    assert chosen.step == 5
    assert not np.shares_memory(chosen.parameters["W1"], net.parameters["W1"])


@pytest.mark.parametrize("batch_norm", [True, False])
def test_very_wide_layers_train_all_their_parameters(batch_norm):
    net = Network(xpnet.NetworkConfig(inputs=2, hidden=(20_000,), classes=3, batch_norm=batch_norm), dtype="float64")
    before = {name: p.copy() for name, p in (*net.parameters.items(), *net.running.items())}
    rng = np.random.default_rng(0)
    stepper, state = stepper_for(net, rng.standard_normal((20, 2)), rng.integers(0, 3, 20))
    stepper.run(state, np.arange(20)[None], np.array([[0.1]]), StepMetrics.empty(np, 1, 1))
    for name, p in (*state.parameters.items(), *state.running.items()):
        assert not np.array_equal(p, before[name]), name
