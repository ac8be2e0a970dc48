"""A population is R networks: no replica feels who is trained beside it."""

from __future__ import annotations

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from optimisers import CASES, hyper_of
from stepping import check_same, check_step_is_gradient, state_of, take

import xpnet
from xpnet.nn.network import Network
from xpnet.ops.blas import numpy_blas, one_blas_thread
from xpnet.training.steppers import Hyperparameters, PlainStepper, ReplicaParallelStepper, StepMetrics, make_stepper
from xpnet.training.steppers.replica_parallel import cut_into_parts, groups_of_one_order

N = 60


def problem(dtype="float64"):
    rng = np.random.default_rng(0)
    return rng.standard_normal((N, 400)).astype(dtype), rng.integers(0, 4, N), rng


def population(R, dtype="float64", momentum=False):
    net = Network(xpnet.NetworkConfig(inputs=400, hidden=(50, 6), classes=4), dtype=dtype, replicas=R)
    return net, state_of(net, momentum=momentum)


def hyper(R, momentum=False):
    return Hyperparameters(np.linspace(0.001, 0.1, R), np.linspace(0.1, 0.9, R) if momentum else None)


@examples(12, 60)
@given(
    st.integers(2, 6), st.sampled_from(["shared", "independent", "pairs"]), st.booleans(), st.booleans(), st.booleans()
)
def test_a_population_takes_the_steps_of_the_plain_stepper(R, order, momentum, single, same_lam):
    dtype = "float32" if single else "float64"
    x, labels, rng = problem(dtype)
    perm = rng.integers(0, N, (4, 8) if order == "shared" else (4, R, 8))
    if order == "pairs":
        perm = perm[:, np.arange(R) // 2]
    eta = 0.01 * (1 + rng.random((4, 1 if same_lam else R))) * np.ones((4, R))
    h = Hyperparameters(np.full(R, 0.01), hyper(R, momentum).rho) if same_lam else hyper(R, momentum)
    states, found = [], []
    for kind in (PlainStepper, ReplicaParallelStepper):
        net, state = population(R, dtype, momentum)
        metrics, stepper = StepMetrics.empty(np, 4, R), kind(net, x, labels, h)
        for t in (0, 2):
            stepper.run(state, perm[t : t + 2], eta[t : t + 2], metrics.part(t, t + 2))
        assert state.step == 4
        assert net.parameters["W1"].flags.c_contiguous
        states.append(state)
        found.append(metrics)
    tolerance = 2e-4 if single else 1e-10
    check_same(states[1], states[0], tolerance, tolerance)
    np.testing.assert_allclose(found[1].loss, found[0].loss, rtol=tolerance)
    np.testing.assert_allclose(found[1].penalty, found[0].penalty, rtol=tolerance)


@pytest.mark.parametrize("order", ["shared", "independent"])
@pytest.mark.parametrize("smoothing", [None, [0.0, 0.1, 0.5, 0.0, 0.2]])
def test_a_step_of_a_population_is_eta_times_the_gradient(order, smoothing):
    x, labels, rng = problem()
    net, _ = population(5)
    rows, eta, lam = rng.integers(0, N, 8 if order == "shared" else (5, 8)), 0.01 * (1 + rng.random(5)), rng.random(5)
    alpha = None if smoothing is None else np.array(smoothing)
    weights = None if smoothing is None else rng.random(N)
    stepper = ReplicaParallelStepper(net, x, labels, Hyperparameters(lam, smoothing=alpha, weights=weights))
    check_step_is_gradient(stepper, net, rows, eta, lam, alpha, weights)


@pytest.mark.parametrize("order", ["shared", "independent"])
@pytest.mark.parametrize("momentum", [False, True])
@pytest.mark.parametrize("keep", [[0, 1, 2, 4, 6], [5, 1], [3]])
def test_dropping_replicas_changes_no_bit_of_the_rest(order, momentum, keep):
    R = 7
    x, labels, rng = problem()
    perm = rng.integers(0, N, (6, 8) if order == "shared" else (6, R, 8))
    eta, h = rng.random((6, R)) * 0.05, hyper(R, momentum)
    net, state = population(R, momentum=momentum)
    take(make_stepper(net, x, labels, h), state, perm[:3], eta[:3])
    chosen = state.select(keep)
    fewer = Hyperparameters(h.lam[keep], None if h.rho is None else h.rho[keep])
    rows = perm[3:] if perm.ndim == 2 else perm[3:, keep]
    rest = take(make_stepper(net, x, labels, fewer), chosen, rows, eta[3:, keep])
    all_of_them = take(make_stepper(net, x, labels, h), state, perm[3:], eta[3:])
    check_same(chosen, state, keep=keep)
    np.testing.assert_array_equal(rest.loss, all_of_them.loss[:, keep])
    np.testing.assert_array_equal(rest.penalty, all_of_them.penalty[:, keep])


@examples(8, 40)
@given(st.integers(2, 5), st.sampled_from(["shared", "independent", "pairs"]), st.sampled_from([*CASES]), st.booleans())
def test_a_population_takes_the_steps_of_the_plain_stepper_with_any_optimiser(R, order, optimiser, single):
    dtype = "float32" if single and optimiser != "lion" else "float64"
    x, labels, rng = problem(dtype)
    perm = rng.integers(0, N, (4, 8) if order == "shared" else (4, R, 8))
    if order == "pairs":
        perm = perm[:, np.arange(R) // 2]
    eta, h, states = 0.01 * (1 + rng.random((4, R))), hyper_of(optimiser, R), []
    for kind in (PlainStepper, ReplicaParallelStepper):
        net = population(R, dtype)[0]
        state = state_of(net, moments=h.moments)
        take(kind(net, x, labels, h), state, perm, eta)
        states.append(state)
    tolerance = 2e-3 if dtype == "float32" else 1e-10
    check_same(states[1], states[0], tolerance, tolerance)


def test_a_replica_that_overflows_leaves_the_others_alone():
    x, labels, rng = problem()
    perm, eta = rng.integers(0, N, (8, 8)), np.full((8, 3), 0.01)
    wild = eta.copy()
    wild[:, 1] = 1e200
    results = []
    for rates in (eta, wild):
        net, state = population(3)
        with np.errstate(all="ignore"):
            take(make_stepper(net, x, labels, hyper(3)), state, perm, rates)
        results.append(state)
    assert not np.isfinite(results[1].parameters["W1"][1]).all()
    check_same(results[1].select([0, 2]), results[0], keep=[0, 2])


@pytest.mark.usefixtures("blas_as_usual")
def test_an_error_in_a_part_reaches_the_caller_and_gives_the_threads_back():
    x, labels, _ = problem()
    net, state = population(4)
    before = numpy_blas().threads
    too_short = StepMetrics.empty(np, 1, 4)
    with pytest.raises(IndexError):
        make_stepper(net, x, labels, hyper(4)).run(state, np.zeros((2, 8), int), np.ones((2, 4)), too_short)
    assert numpy_blas().threads == before


def test_parts_meet_the_groups_and_cover_every_replica_once():
    rng = np.random.default_rng(0)
    perm = rng.integers(0, 50, (3, 3, 8))[:, [0, 0, 1, 2, 2, 2]]
    groups = groups_of_one_order(perm, 6)
    assert groups == [(0, 2), (2, 3), (3, 6)]
    assert groups_of_one_order(perm[:, 0], 6) == [(0, 6)]
    for threads in (1, 2, 3, 4):
        for groups_ in (groups, [(0, 6)], [(i, i + 1) for i in range(6)], [(0, 5), (5, 10)]):
            parts, used = cut_into_parts(groups_, threads)
            assert [r for a, b in parts for r in range(a, b)] == list(range(groups_[-1][1]))
            assert 1 <= used <= threads
    assert cut_into_parts([(0, 50)], 2) == ([(0, 25), (25, 50)], 2)
    assert cut_into_parts([(0, 5), (5, 10)], 2) == ([(0, 5), (5, 10)], 2)
    assert cut_into_parts([(0, 3)], 2) == ([(0, 1), (1, 3)], 2)
    # Five replicas for four cores: three of them would wait for half of the time.
    assert cut_into_parts([(0, 5)], 4) == ([(0, 5)], 1)


@pytest.mark.usefixtures("blas_as_usual")
def test_one_blas_thread_holds_for_the_block_alone():
    blas = numpy_blas()
    before = blas.threads
    with one_blas_thread():
        assert blas.threads == 1
    assert blas.threads == before
