"""The feature-parallel stepper takes the plain stepper's steps, on every number of threads."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from stepping import check_same, check_step_is_gradient, state_of, take

import xpnet
from xpnet.data import Standardiser
from xpnet.nn.network import Network
from xpnet.ops.blas import numpy_blas
from xpnet.training.steppers import FeatureParallelStepper, Hyperparameters, PlainStepper, StepMetrics, make_stepper
from xpnet.training.steppers.feature_parallel import threads_to_split

pytest.importorskip("numba")
N = 50


def sources(dtype, inputs=700):
    """Return bytes that read as standardised values, these values, labels, and a generator."""
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 256, (N, inputs), dtype=np.uint8)
    standardiser = Standardiser.fit(raw)
    return standardiser.lazily(raw, dtype), standardiser(raw, dtype), rng.integers(0, 4, N), rng


def network(dtype, inputs=700, **settings):
    return Network(xpnet.NetworkConfig(inputs=inputs, **{"hidden": (30, 7), "classes": 4} | settings), dtype=dtype)


def run(kind, x, labels, perm, eta, dtype, *threads, **settings):
    net = network(dtype, **settings)
    state, metrics = state_of(net), StepMetrics.empty(np, len(perm), 1)
    stepper = kind(net, x, labels, Hyperparameters(np.array([0.01])), *threads)
    for t in (0, 2):
        stepper.run(state, perm[t : t + 2], eta[t : t + 2], metrics.part(t, t + 2))
    assert state.step == 4
    return state, metrics


@examples(10, 50)
@given(st.integers(2, 4), *[st.booleans()] * 4, st.integers(2, 9), st.sampled_from(["relu", "leaky-relu", "gelu"]))
def test_a_split_step_is_the_plain_step(threads, as_bytes, single, batch_norm, bias, n, activation):
    dtype = "float32" if single else "float64"
    raw, values, labels, rng = sources(dtype)
    perm, eta = rng.integers(0, N, (4, n)), 0.05 * rng.random((4, 1))
    settings = {"batch_norm": batch_norm, "bias_before_bn": bias and batch_norm, "init_bias": 0.1}
    settings["activation"] = activation
    expected, figures = run(PlainStepper, values, labels, perm, eta, dtype, **settings)
    x = raw if as_bytes else values
    actual, metrics = run(FeatureParallelStepper, x, labels, perm, eta, dtype, threads, **settings)
    # Two samples in a batch are normalised to +-1 however close they are: rounding grows there.
    tolerance = (2e-2 if n < 5 else 1e-3) if single else 1e-8
    check_same(actual, expected, tolerance, tolerance)
    np.testing.assert_allclose(metrics.loss, figures.loss, rtol=tolerance)
    np.testing.assert_allclose(metrics.penalty, figures.penalty, rtol=1e-4 if single else 1e-10)


def test_a_step_is_eta_times_the_gradient_that_is_checked():
    _, values, labels, rng = sources("float64")
    net = network("float64", hidden=(30,))
    stepper = FeatureParallelStepper(net, values, labels, Hyperparameters(np.array([0.1])), 2)
    check_step_is_gradient(stepper, net, rng.integers(0, N, 20), np.array([0.01]), np.array([0.1]))


def test_the_same_seed_gives_the_same_bits():
    raw, _, labels, rng = sources("float32")
    perm, eta = rng.integers(0, N, (4, 10)), np.full((4, 1), 0.1)
    first, second = (run(FeatureParallelStepper, raw, labels, perm, eta, "float32", 3)[0] for _ in range(2))
    check_same(first, second)


@pytest.mark.usefixtures("blas_as_usual")
def test_an_error_in_the_leader_lets_the_workers_go():
    raw, _, labels, rng = sources("float64")
    net = network("float64")
    stepper = FeatureParallelStepper(net, raw, labels, Hyperparameters(np.array([0.0])), 3)

    def broken(*args):
        raise RuntimeError("in the middle of a step")

    stepper.ops = stepper.ops._replace(softmax_cross_entropy=broken)
    before, threads = numpy_blas().threads, threading.active_count()
    with pytest.raises(RuntimeError, match="middle"):
        take(stepper, state_of(net), rng.integers(0, N, (5, 8)), np.ones((5, 1)))
    assert threading.active_count() == threads
    assert numpy_blas().threads == before


def test_a_network_is_split_only_where_it_gains(monkeypatch):
    raw, values, labels, _ = sources("float32", inputs=3072)
    cores = [2]
    monkeypatch.setenv("XPNET_FAST", "1")
    monkeypatch.setattr("xpnet.training.steppers.feature_parallel.blas_threads", lambda: cores[0])

    def threads(x=raw, hidden=(50, 50), replicas=1, inputs=3072):
        config = xpnet.NetworkConfig(inputs=inputs, hidden=hidden, classes=4)
        return threads_to_split(Network(config, replicas=replicas), x)

    assert threads() == threads(x=values) == 2
    assert threads(hidden=(512, 512)) == 1  # its second layer needs both cores
    assert threads(hidden=()) == threads(replicas=2) == 1
    assert threads(inputs=20, x=values[:, :20].copy()) == 1
    cores[0] = 1
    assert threads() == 1
    cores[0] = 2
    monkeypatch.setenv("XPNET_FAST", "0")
    assert threads() == 1
    net = Network(xpnet.NetworkConfig(inputs=3072, classes=4))
    assert type(make_stepper(net, values, labels, Hyperparameters(np.zeros(1)))) is PlainStepper
