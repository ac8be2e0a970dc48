"""Small networks in a compiled loop: the same steps as one operation after another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from stepping import check_same, check_step_is_gradient, state_of, take

import xpnet
from xpnet.data import StandardisedRows
from xpnet.errors import ConfigError
from xpnet.nn.dropout import Dropout
from xpnet.nn.network import Network
from xpnet.training.steppers import (
    CompiledStepper,
    Hyperparameters,
    PlainStepper,
    ReplicaParallelStepper,
    make_stepper,
)

pytest.importorskip("numba")
N, D, CLASSES = 50, 12, 4


@pytest.fixture(autouse=True)
def _compiled_loops(monkeypatch):
    monkeypatch.setenv("XPNET_FAST", "1")


def problem(dtype="float64"):
    rng = np.random.default_rng(0)
    return rng.standard_normal((N, D)).astype(dtype), rng.integers(0, CLASSES, N), rng


def network(R=1, dtype="float64", hidden=(9, 5), **settings):
    config = xpnet.NetworkConfig(inputs=D, hidden=hidden, classes=CLASSES, **settings)
    return Network(config, dtype=dtype, replicas=R)


@examples(12, 80)
@given(
    replicas=st.sampled_from([1, 2, 5]),
    order=st.sampled_from(["shared", "independent", "pairs"]),
    hidden=st.sampled_from([(), (7,), (9, 5), (70, 3)]),
    settings=st.sampled_from([{}, {"batch_norm": False}, {"bias_before_bn": True}]),
    momentum=st.sampled_from([None, "momentum", "nesterov"]),
    smoothing=st.booleans(),
    weighted=st.booleans(),
    dropout=st.sampled_from([None, "shared", "by replica"]),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_a_compiled_step_is_the_plain_step(
    replicas, order, hidden, settings, momentum, smoothing, weighted, dropout, dtype
):
    x, labels, rng = problem(dtype)
    perm = rng.integers(0, N, (6, 8) if order == "shared" or replicas == 1 else (6, replicas, 8))
    if order == "pairs" and perm.ndim == 3:
        perm = perm[:, np.arange(replicas) // 2]
    eta = 0.02 * (1 + rng.random((6, replicas)))
    hyper = Hyperparameters(
        np.linspace(0.001, 0.1, replicas),
        None if momentum is None else np.linspace(0.3, 0.9, replicas),
        nesterov=momentum == "nesterov",
        smoothing=np.linspace(0.0, 0.2, replicas) if smoothing else None,
        weights=rng.random(N) if weighted else None,
    )
    if dropout is not None and hidden:
        hidden_share = (0.1, 0.3, 0.0, 0.5, 0.2)[:replicas] if dropout == "by replica" else 0.3
        seeds = tuple(range(replicas)) if dropout == "by replica" else (3,) * replicas
        hyper = replace(hyper, masks=Dropout(hidden=hidden_share, inputs=0.2, seeds=seeds))
    states, found = [], []
    for kind in (PlainStepper, CompiledStepper):
        net = network(replicas, dtype, hidden, **settings)
        state = state_of(net, momentum=momentum is not None)
        stepper = kind(net, x, labels, hyper)
        found.append([take(stepper, state, perm[t : t + 3], eta[t : t + 3]) for t in (0, 3)])
        states.append(state)
    tolerance = 2e-4 if dtype == "float32" else 1e-12
    assert states[1].step == 6
    check_same(states[1], states[0], tolerance, tolerance)
    for plain, compiled in zip(*found, strict=True):
        np.testing.assert_allclose(compiled.loss, plain.loss, rtol=tolerance)
        np.testing.assert_allclose(compiled.penalty, plain.penalty, rtol=tolerance)
        np.testing.assert_array_equal(compiled.correct, plain.correct)


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("smoothing", [None, [0.0, 0.1, 0.5]])
def test_a_compiled_step_is_eta_times_the_gradient_that_is_checked(batch_norm, smoothing):
    x, labels, rng = problem()
    net = network(3, batch_norm=batch_norm)
    rows, eta, lam = rng.integers(0, N, (3, 8)), 0.01 * (1 + rng.random(3)), rng.random(3)
    alpha = None if smoothing is None else np.array(smoothing)
    weights = None if smoothing is None else rng.random(N)
    stepper = CompiledStepper(net, x, labels, Hyperparameters(lam, smoothing=alpha, weights=weights))
    check_step_is_gradient(stepper, net, rows, eta, lam, alpha, weights)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shared", [True, False])
def test_a_network_of_a_population_has_the_bits_it_has_alone(dtype, shared):
    x, labels, rng = problem(dtype)
    perm = rng.integers(0, N, (5, 8) if shared else (5, 3, 8))
    eta, lam, rho = rng.random((5, 3)) * 0.05, rng.random(3) * 0.01, np.full(3, 0.9)
    net = network(3, dtype)
    together = state_of(net, momentum=True)
    alone = together.select([1])
    whole = take(CompiledStepper(net, x, labels, Hyperparameters(lam, rho)), together, perm, eta)
    stepper = CompiledStepper(network(1, dtype), x, labels, Hyperparameters(lam[1:2], rho[1:2]))
    one = take(stepper, alone, perm if shared else perm[:, 1], eta[:, 1:2])
    check_same(alone, together, keep=[1])
    np.testing.assert_array_equal(one.loss[:, 0], whole.loss[:, 1])


def test_batches_of_bytes_larger_than_a_block_are_gathered_in_blocks(monkeypatch):
    rng = np.random.default_rng(1)
    table, labels = rng.integers(0, 256, (N, D), dtype=np.uint8), rng.integers(0, CLASSES, N)
    x = StandardisedRows(table, np.full(D, 127.0, np.float32), np.zeros(D, np.float32), np.full(D, 0.01, np.float32))
    perm, eta, hyper = rng.integers(0, N, (7, 8)), np.full((7, 1), 0.05), Hyperparameters(np.full(1, 0.01))
    monkeypatch.setattr("xpnet.training.steppers.compiled._BATCHES", 2 * 8 * D * 4)
    states = []
    for kind in (PlainStepper, CompiledStepper):
        net = network(dtype="float32")
        states.append(state_of(net))
        take(kind(net, x, labels, hyper), states[-1], perm, eta)
    check_same(states[1], states[0], 1e-5, 1e-6)


def test_compiled_steps_are_taken_by_default_where_they_were_measured_to_be_faster(monkeypatch):
    monkeypatch.setattr("xpnet.training.steppers.threads_for_units", lambda *_: 1)

    def kind(replicas=1, hidden=(64, 64), batch=32, rho=0.9, inputs=64, **settings):
        config = xpnet.NetworkConfig(inputs=inputs, hidden=hidden, classes=CLASSES, **settings)
        x, labels = np.zeros((4, inputs), np.float32), np.zeros(4, np.int64)
        hyper = Hyperparameters(np.zeros(replicas), None if rho is None else np.full(replicas, rho))
        return type(make_stepper(Network(config, replicas=replicas), x, labels, hyper, batch=batch))

    assert kind() is kind(replicas=20) is kind(replicas=20, batch=2000) is CompiledStepper
    assert kind(batch=2000) is kind(activation="gelu") is PlainStepper
    assert kind(replicas=20, hidden=(512, 256)) is ReplicaParallelStepper
    assert kind(replicas=5, inputs=600) is CompiledStepper
    assert kind(replicas=5, inputs=600, rho=None) is ReplicaParallelStepper
    monkeypatch.setenv("XPNET_FAST", "0")
    assert kind() is PlainStepper


def test_a_compiled_loop_without_numba_is_refused_in_a_sentence(monkeypatch):
    monkeypatch.setenv("XPNET_FAST", "0")
    x, labels, _ = problem("float32")
    with pytest.raises(ConfigError, match="stepper = compiled: needs Numba"):
        make_stepper(network(dtype="float32"), x, labels, Hyperparameters(np.zeros(1)), "compiled")


def test_settings_that_the_compiled_loop_does_not_compute_are_refused_by_name():
    x, labels, _ = problem("float32")
    hyper = Hyperparameters(np.zeros(1), factor_first=np.full(1, 2.0))
    with pytest.raises(ConfigError, match="stepper = compiled: does not know the setting lr_first"):
        make_stepper(network(dtype="float32"), x, labels, hyper, "compiled")


@pytest.mark.parametrize(
    ("settings", "hyper", "more", "less"),
    [
        ({}, {}, {"descend"}, set()),
        ({}, {"rho": np.full(1, 0.9)}, {"momentum"}, set()),
        ({"batch_norm": False}, {}, {"descend", "relu_forward", "relu_backward"}, {"norm_forward", "norm_backward"}),
        ({}, {"smoothing": np.full(1, 0.1), "weights": np.ones(N)}, {"descend", "smooth", "weigh"}, set()),
        ({}, {"masks": Dropout(inputs=0.1)}, {"descend", "drop"}, set()),
        ({}, {"masks": Dropout(hidden=0.1)}, {"descend", "drop", "drop_gradient"}, set()),
        ({"hidden": ()}, {}, {"descend"}, {"norm_forward", "norm_backward"}),
    ],
)
def test_compiled_steps_compile_the_parts_that_they_have_alone(monkeypatch, settings, hyper, more, less):
    used = set()
    monkeypatch.setattr(
        "xpnet.training.steppers.compiled_program.address_of", lambda part, dtype: used.add(part.__name__) or 0
    )
    x, labels, _ = problem()
    stepper = CompiledStepper(network(**settings), x, labels, Hyperparameters(np.zeros(1), **hyper))
    stepper._program(8)
    assert used == {"affine", "norm_forward", "entropy", "tally", "gradients", "norm_backward"} - less | more
