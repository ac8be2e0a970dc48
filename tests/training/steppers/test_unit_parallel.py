"""The unit-parallel stepper takes the plain stepper's steps, on every number of threads."""

from __future__ import annotations

import threading
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from optimisers import CASES, hyper_of
from stepping import check_same, check_step_is_gradient, state_of, take

import xpnet
from xpnet.data import Transform
from xpnet.data.views import Augmentation
from xpnet.errors import ConfigError
from xpnet.nn.network import Network
from xpnet.ops.blas import numpy_blas
from xpnet.training.steppers import Hyperparameters, PlainStepper, StepMetrics, UnitParallelStepper, make_stepper
from xpnet.training.steppers.unit_shares import edges_of, threads_for_units

pytest.importorskip("numba")
N, SHAPE = 40, (1, 8, 8)


def pictures(dtype):
    """Return pictures that are read in views, their inputs as they are, labels, and a generator."""
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 256, (N, 64), dtype=np.uint8)
    transform = Transform.fit(raw, SHAPE, 2, 12)
    return transform.lazily(raw, dtype, SHAPE), transform(raw, dtype), rng.integers(0, 4, N), rng


def network(dtype, **settings):
    return Network(xpnet.NetworkConfig(**{"inputs": 12, "hidden": (70, 50), "classes": 4} | settings), dtype=dtype)


def run(kind, x, labels, perm, eta, hyper, dtype, *threads, **settings):
    net = network(dtype, **settings)
    state = state_of(net, moments=hyper.moments)
    metrics, stepper = StepMetrics.empty(np, len(perm), 1), kind(net, x, labels, hyper, *threads)
    for t in (0, 2):
        stepper.run(state, perm[t : t + 2], eta[t : t + 2], metrics.part(t, t + 2))
    assert state.step == 4
    return state, metrics


@examples(12, 80)
@given(
    threads=st.integers(2, 4),
    single=st.booleans(),
    optimiser=st.sampled_from([None, "momentum", "Nesterov", *CASES]),
    smoothing=st.booleans(),
    weighted=st.booleans(),
    views=st.booleans(),
    hidden=st.sampled_from([(70,), (70, 50), (64, 33, 80)]),
    norm=st.sampled_from([(True, False), (True, True), (False, False)]),
    n=st.integers(5, 12),
    activation=st.sampled_from(["relu", "leaky-relu", "gelu"]),
)
def test_a_step_of_shared_units_is_the_plain_step(
    threads, single, optimiser, smoothing, weighted, views, hidden, norm, n, activation
):
    single = single and optimiser != "lion"  # rounding would decide on the direction of small gradients
    dtype = "float32" if single else "float64"
    seen, values, labels, rng = pictures(dtype)
    perm, eta = rng.integers(0, N, (4, n)), 0.05 * rng.random((4, 1))
    if views:
        perm = Augmentation("random", 3, 2, 8, 8).rows(perm.reshape(-1), 5, 1).reshape(perm.shape)
    rho = None if optimiser is None else np.array([0.9])
    hyper = Hyperparameters(np.array([0.01]), rho, optimiser == "Nesterov")
    hyper = hyper_of(optimiser) if optimiser in CASES else hyper
    weights = rng.random(N) if weighted else None
    hyper = replace(hyper, smoothing=np.array([0.2]) if smoothing else None, weights=weights)
    # Rounding would decide on the direction of a gradient that is 0.
    biased = norm[1] and optimiser != "lion" and not (single and optimiser in CASES)
    settings = {"hidden": hidden, "batch_norm": norm[0], "bias_before_bn": biased, "init_bias": 0.1}
    settings["activation"] = activation
    x = seen if views else values
    expected, figures = run(PlainStepper, x, labels, perm, eta, hyper, dtype, **settings)
    actual, metrics = run(UnitParallelStepper, x, labels, perm, eta, hyper, dtype, threads, **settings)
    tolerance = 1e-3 if single else 1e-9
    check_same(actual, expected, tolerance, tolerance)
    np.testing.assert_allclose(metrics.loss, figures.loss, rtol=tolerance)
    np.testing.assert_allclose(metrics.penalty, figures.penalty, rtol=1e-4 if single else 1e-10)
    assert (metrics.correct == figures.correct).all() or single


def test_a_step_is_eta_times_the_gradient_that_is_checked():
    _, values, labels, rng = pictures("float64")
    net = network("float64")
    stepper = UnitParallelStepper(net, values, labels, Hyperparameters(np.array([0.1])), 2)
    check_step_is_gradient(stepper, net, rng.integers(0, N, 20), np.array([0.01]), np.array([0.1]))


def test_the_same_seed_gives_the_same_bits():
    seen, _, labels, rng = pictures("float32")
    perm, eta = rng.integers(0, N, (4, 10)), np.full((4, 1), 0.1)
    hyper = Hyperparameters(np.array([0.01]), np.array([0.9]), True)
    first, second = (run(UnitParallelStepper, seen, labels, perm, eta, hyper, "float32", 3)[0] for _ in range(2))
    check_same(first, second)


@pytest.mark.usefixtures("blas_as_usual")
@pytest.mark.parametrize(("operation", "threads"), [("softmax_cross_entropy", 3), ("batch_norm_activation", 2)])
def test_an_error_in_a_thread_is_raised_and_no_thread_stays(operation, threads):
    _, values, labels, rng = pictures("float64")
    net = network("float64")
    stepper = UnitParallelStepper(net, values, labels, Hyperparameters(np.array([0.0])), threads)

    def broken(*args):
        raise RuntimeError("in the middle of a step")

    stepper.ops = stepper.ops._replace(**{operation: broken})
    before, count = numpy_blas().threads, threading.active_count()
    with pytest.raises(RuntimeError, match="middle"):
        take(stepper, state_of(net), rng.integers(0, N, (5, 8)), np.ones((5, 1)))
    assert threading.active_count() == count
    assert numpy_blas().threads == before


@pytest.mark.usefixtures("blas_as_usual")
def test_threads_that_have_started_return_if_another_one_cannot_start(monkeypatch):
    _, values, labels, rng = pictures("float64")
    net = network("float64")
    stepper = UnitParallelStepper(net, values, labels, Hyperparameters(np.array([0.0])), 3)
    start, started, before = threading.Thread.start, [], numpy_blas().threads

    def refused_twice(self):
        if started:
            raise RuntimeError("can't start new thread")
        started.append(self)
        start(self)

    monkeypatch.setattr(threading.Thread, "start", refused_twice)
    with pytest.raises(RuntimeError, match="new thread"):
        take(stepper, state_of(net), rng.integers(0, N, (5, 8)), np.ones((5, 1)))
    started[0].join(timeout=60)
    assert not started[0].is_alive()
    assert numpy_blas().threads == before


@pytest.mark.parametrize(("units", "threads"), [(64, 2), (65, 2), (1024, 3), (130, 4), (64, 1)])
def test_edges_cover_all_units_in_multiples_of_16(units, threads):
    edges = edges_of(units, threads)
    assert [edges[0][0], edges[-1][1]] == [0, units]
    assert len(edges) == threads
    for (_, stop), (start, _) in pairwise(edges):
        assert stop == start
        assert start % 16 == 0


def test_units_are_shared_only_where_it_gains(monkeypatch):
    cores = [2]
    monkeypatch.setenv("XPNET_FAST", "1")
    monkeypatch.setattr("xpnet.training.steppers.unit_shares.blas_threads", lambda: cores[0])

    def threads(hidden=(1024, 512), replicas=1, inputs=300, batch=500):
        config = xpnet.NetworkConfig(inputs=inputs, hidden=hidden, classes=10)
        return threads_for_units(Network(config, replicas=replicas), batch)

    assert threads() == 2
    assert threads(hidden=(50, 50)) == threads(hidden=()) == threads(replicas=2) == threads(batch=1) == 1
    cores[0] = 1
    assert threads() == 1
    cores[0] = 2
    monkeypatch.setenv("XPNET_FAST", "0")
    assert threads() == 1
    _, values, labels, _ = pictures("float32")
    with pytest.raises(ConfigError, match="stepper = units: is for one network with hidden layers of 128 units"):
        make_stepper(network("float32"), values, labels, Hyperparameters(np.zeros(1)), "units")


def test_units_are_shared_by_default_where_it_was_measured_to_be_faster(monkeypatch):
    monkeypatch.setenv("XPNET_FAST", "1")
    monkeypatch.setattr("xpnet.training.steppers.unit_shares.blas_threads", lambda: 2)
    rng = np.random.default_rng(0)

    def kind(inputs=300, batch=500, rho=0.9):
        net = Network(xpnet.NetworkConfig(inputs=inputs, hidden=(256, 128), classes=4))
        x, labels = np.zeros((4, inputs), np.float32), rng.integers(0, 4, 4)
        hyper = Hyperparameters(np.zeros(1), None if rho is None else np.array([rho]))
        return type(make_stepper(net, x, labels, hyper, batch=batch))

    assert kind() is UnitParallelStepper
    assert kind(batch=250) is kind(inputs=3072) is kind(rho=None) is PlainStepper
