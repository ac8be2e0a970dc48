"""A step of the plain stepper is a step along the gradient that the gradient check checks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from stepping import check_same, check_step_is_gradient, state_of, take

import xpnet
from xpnet.nn.network import Network
from xpnet.training.steppers import Hyperparameters, PlainStepper, State, StepMetrics


def network(inputs, hidden, classes, *, dtype="float64", seed=0, replicas=1, **settings):
    config = xpnet.NetworkConfig(inputs=inputs, hidden=hidden, classes=classes, **settings)
    return Network(config, dtype=dtype, seed=seed, replicas=replicas)


def stepper_for(
    net, x, labels, lam=0.0, rho=None, nesterov=False, smoothing=None, weights=None
) -> tuple[PlainStepper, State]:
    lam = np.broadcast_to(np.asarray(lam, float), (net.replicas,))
    hyper = Hyperparameters(
        lam, None if rho is None else np.full(net.replicas, rho), nesterov, smoothing, weights=weights
    )
    return PlainStepper(net, x, labels, hyper), state_of(net, momentum=rho is not None)


@pytest.fixture
def samples():
    rng = np.random.default_rng(0)
    return rng.standard_normal((12, 3)), rng.integers(0, 2, 12)


@examples(20)
@given(
    hidden=st.lists(st.integers(1, 6), max_size=3).map(tuple),
    batch_norm=st.booleans(),
    bias=st.booleans(),
    replicas=st.integers(1, 3),
    independent=st.booleans(),
    smoothed=st.booleans(),
    weighted=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_a_step_is_eta_times_the_gradient(hidden, batch_norm, bias, replicas, independent, smoothed, weighted, seed):
    settings = {"batch_norm": batch_norm, "bias_before_bn": bias, "init_bias": 0.3}
    net, rng = network(4, hidden, 3, seed=seed, replicas=replicas, **settings), np.random.default_rng(seed)
    x, labels = rng.standard_normal((20, 4)), rng.integers(0, 3, 20)
    rows = rng.integers(0, 20, (replicas, 8) if independent else 8)
    lam, eta = rng.random(replicas), 0.01 * (1 + rng.random(replicas))
    smoothing = rng.choice([0, 0.1, 0.9], replicas) if smoothed else None
    weights = rng.choice([0, 0.5, 2.0], 20) if weighted else None
    stepper, _ = stepper_for(net, x, labels, lam, smoothing=smoothing, weights=weights)
    check_step_is_gradient(stepper, net, rows, eta, lam, smoothing, weights)


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_is_that_of_the_textbook(nesterov):
    rng = np.random.default_rng(1)
    x, labels = rng.standard_normal((30, 4)), rng.integers(0, 3, 30)
    perm, eta, lam, rho = rng.permutation(30).reshape(3, 10), np.array([[0.1], [0.2], [0.05]]), 0.03, 0.8
    net, other = network(4, (5,), 3), network(4, (5,), 3)
    v = {name: np.zeros_like(p) for name, p in other.parameters.items()}
    for rows, rate in zip(perm, eta[:, 0], strict=True):
        _, gradients = other.cost_and_gradients(x[rows], labels[rows], lam)
        for name, g in gradients.items():
            v[name] = rho * v[name] - rate * g
            other.parameters[name] += rho * v[name] - rate * g if nesterov else v[name]
    stepper, state = stepper_for(net, x, labels, lam, rho, nesterov)
    take(stepper, state, perm, eta)
    check_same(state, State(other.parameters, v, {}), 1e-12, 1e-14)
    assert state.step == 3


def test_running_statistics_start_from_the_first_batch_and_average_from_there(samples):
    (x, labels), net = samples, network(3, (2,), 2, bn_alpha=0.75)
    stepper, state = stepper_for(net, x, labels)
    expected = None
    for start in (0, 6):
        # eta = 0: the weights stay, so the statistics can be computed here.
        take(stepper, state, np.arange(start, start + 6)[None], np.zeros((1, 1)))
        s = x[start : start + 6] @ net.parameters["W1"][0]
        batch = np.stack([s.mean(0), s.var(0)])
        expected = batch if expected is None else 0.75 * expected + 0.25 * batch
        found = np.stack([state.running[name][0, 0] for name in ("mean1", "var1")])
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_metrics_are_those_of_the_batches_before_their_updates(samples):
    (x, labels), net = samples, network(3, (4,), 3, replicas=2)
    stepper, state = stepper_for(net, x, labels, 0.1)
    for rows in np.random.default_rng(0).permutation(12).reshape(3, 4):
        cost, _ = net.cost_and_gradients(x[rows], labels[rows], 0.1)
        metrics = take(stepper, state, rows[None], np.full((1, 2), 0.1))
        np.testing.assert_allclose(metrics.loss[0] / 4 + 0.1 * metrics.penalty[0], cost, rtol=1e-12)
        assert metrics.correct.max() <= 4
        assert metrics.correct.dtype == np.int64


def test_steps_of_one_call_and_of_many_are_the_same_bits():
    rng = np.random.default_rng(3)
    x, labels = rng.standard_normal((40, 5)).astype(np.float32), rng.integers(0, 3, 40)
    perm, eta = rng.permutation(40).reshape(8, 5), rng.random((8, 1))
    states = []
    for cuts in ([0, 8], [0, 1, 3, 8]):
        stepper, state = stepper_for(network(5, (4, 3), 3, dtype="float32"), x, labels, 0.01, 0.9)
        for a, b in pairwise(cuts):
            take(stepper, state, perm[a:b], eta[a:b])
        states.append(state)
    check_same(*states)


def test_select_keeps_the_chosen_replicas_and_copies():
    net = network(3, (2,), 10, replicas=4)
    state = State(net.parameters, {"W1": np.ones((4, 3, 2))}, net.running, step=5)
    chosen = state.select([2, 0])
    check_same(chosen, state, keep=[2, 0])
    assert chosen.step == 5
    assert not np.shares_memory(chosen.parameters["W1"], net.parameters["W1"])


@pytest.mark.parametrize("batch_norm", [True, False])
def test_very_wide_layers_train_all_their_parameters(samples, batch_norm):
    (x, labels), net = samples, network(3, (20_000,), 3, batch_norm=batch_norm)
    before = {name: p.copy() for name, p in (*net.parameters.items(), *net.running.items())}
    stepper, state = stepper_for(net, x, labels)
    take(stepper, state, np.arange(12)[None], np.array([[0.1]]))
    for name, p in (*state.parameters.items(), *state.running.items()):
        assert not np.array_equal(p, before[name]), name


def test_metrics_start_at_zero_and_columns_are_views():
    metrics = StepMetrics.empty(np, 2, 3)
    metrics.columns(1, 2).loss[...] = 1
    assert metrics.part(1, 2).loss.tolist() == [[0, 1, 0]]
