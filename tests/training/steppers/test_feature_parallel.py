"""The split stepper takes the plain stepper's steps, on every number of threads."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xpnet
from xpnet.data import Standardiser
from xpnet.nn.network import Network
from xpnet.ops.blas import numpy_blas
from xpnet.training.steppers import (
    FeatureParallelStepper,
    Hyperparameters,
    PlainStepper,
    State,
    StepMetrics,
    make_stepper,
)
from xpnet.training.steppers.feature_parallel import threads_to_split

pytest.importorskip("numba")
N = 50


def sources(dtype, inputs=700, seed=0):
    """Return bytes that read as standardised values, and these values."""
    rng = np.random.default_rng(seed)
    raw = rng.integers(0, 256, (N, inputs), dtype=np.uint8)
    standardiser = Standardiser.fit(raw)
    return standardiser.lazily(raw, dtype), standardiser(raw, dtype), rng.integers(0, 4, N), rng


def run(kind, x, labels, perm, eta, dtype, batch_norm=True, threads=None, lam=0.01, **settings_):
    config = xpnet.NetworkConfig(inputs=x.shape[1], hidden=(30, 7), classes=4, batch_norm=batch_norm, **settings_)
    net = Network(config, dtype=dtype)
    state, totals = State(net.parameters, {}, net.running), StepMetrics.empty(np, len(perm), 1)
    args = (net, x, labels, Hyperparameters(np.array([lam])))
    stepper = kind(*args) if threads is None else kind(*args, threads)
    for t in (0, 2):
        stepper.run(state, perm[t : t + 2], eta[t : t + 2], totals.part(t, t + 2))
    return state, totals


@settings(max_examples=20, deadline=None)
@given(
    threads=st.integers(2, 4),
    as_bytes=st.booleans(),
    single=st.booleans(),
    batch_norm=st.booleans(),
    bias=st.booleans(),
    n=st.integers(2, 9),
)
def test_a_split_step_is_the_plain_step(threads, as_bytes, single, batch_norm, bias, n):
    dtype = "float32" if single else "float64"
    raw, values, labels, rng = sources(dtype)
    perm, eta = rng.integers(0, N, (4, n)), 0.05 * rng.random((4, 1))
    more = {"bias_before_bn": bias and batch_norm, "init_bias": 0.1}
    expected, figures = run(PlainStepper, values, labels, perm, eta, dtype, batch_norm, **more)
    x = raw if as_bytes else values
    actual, totals = run(FeatureParallelStepper, x, labels, perm, eta, dtype, batch_norm, threads, **more)
    # Two samples in a batch are normalised to +-1 however close they are: rounding grows there.
    tolerance = (2e-2 if n < 5 else 1e-3) if single else 1e-8
    assert actual.step == 4
    for group in ("parameters", "running"):
        for name, tensor in getattr(expected, group).items():
            np.testing.assert_allclose(
                getattr(actual, group)[name], tensor, rtol=tolerance, atol=tolerance, err_msg=name
            )
    np.testing.assert_allclose(totals.loss, figures.loss, rtol=tolerance)
    np.testing.assert_allclose(totals.penalty, figures.penalty, rtol=1e-4 if single else 1e-10)


def test_a_step_is_eta_times_the_gradient_that_is_checked():
    _, values, labels, rng = sources("float64")
    net = Network(xpnet.NetworkConfig(inputs=700, hidden=(30,), classes=4), dtype="float64")
    rows, eta, lam = rng.integers(0, N, (1, 20)), np.array([[0.01]]), 0.1
    _, gradients = net.cost_and_gradients(values[rows[0]], labels[rows[0]], lam)
    before = {name: p.copy() for name, p in net.parameters.items()}
    stepper = FeatureParallelStepper(net, values, labels, Hyperparameters(np.array([lam])), 2)
    stepper.run(State(net.parameters, {}, net.running), rows, eta, StepMetrics.empty(np, 1, 1))
    for name, gradient in gradients.items():
        moved = (before[name] - net.parameters[name]) / eta[0]
        np.testing.assert_allclose(moved, gradient, rtol=1e-8, atol=1e-10, err_msg=name)


def test_the_same_seed_gives_the_same_bits():
    raw, _, labels, rng = sources("float32")
    perm, eta = rng.integers(0, N, (4, 10)), np.full((4, 1), 0.1)
    first, second = (run(FeatureParallelStepper, raw, labels, perm, eta, "float32", threads=3)[0] for _ in range(2))
    for name, p in first.parameters.items():
        np.testing.assert_array_equal(second.parameters[name], p)


def test_an_error_in_the_leader_lets_the_workers_go():
    raw, _, labels, rng = sources("float64")
    net = Network(xpnet.NetworkConfig(inputs=700, hidden=(30, 7), classes=4), dtype="float64")
    stepper = FeatureParallelStepper(net, raw, labels, Hyperparameters(np.array([0.0])), 3)

    def broken(*args):
        raise RuntimeError("in the middle of a step")

    stepper.ops = stepper.ops._replace(softmax_cross_entropy=broken)
    before, threads = numpy_blas().threads, threading.active_count()
    with pytest.raises(RuntimeError, match="middle"):
        stepper.run(
            State(net.parameters, {}, net.running),
            rng.integers(0, N, (5, 8)),
            np.ones((5, 1)),
            StepMetrics.empty(np, 5, 1),
        )
    assert threading.active_count() == threads
    assert numpy_blas().threads == before


def test_a_network_is_split_only_where_it_gains(monkeypatch):
    raw, values, labels, _ = sources("float32", inputs=3072)

    def threads(x=raw, hidden=(50, 50), replicas=1, inputs=3072):
        net = Network(xpnet.NetworkConfig(inputs=inputs, hidden=hidden, classes=4), replicas=replicas)
        return threads_to_split(net, x)

    monkeypatch.setenv("XPNET_FAST", "1")
    monkeypatch.setattr("xpnet.training.steppers.feature_parallel.blas_threads", lambda: 2)
    assert threads() == threads(x=values) == 2
    assert threads(hidden=(512, 512)) == 1  # its second layer needs both cores
    assert threads(hidden=()) == threads(replicas=2) == 1
    assert threads(inputs=20, x=values[:, :20].copy()) == 1
    monkeypatch.setattr("xpnet.training.steppers.feature_parallel.blas_threads", lambda: 1)
    assert threads() == 1
    monkeypatch.setattr("xpnet.training.steppers.feature_parallel.blas_threads", lambda: 2)
    monkeypatch.setenv("XPNET_FAST", "0")
    assert threads() == 1
    net = Network(xpnet.NetworkConfig(inputs=3072, classes=4))
    assert type(make_stepper(net, values, labels, Hyperparameters(np.zeros(1)))) is PlainStepper
