"""AdamW, factors of the rate, dropout, an activation and label smoothing in the same steps, by every stepper."""

from __future__ import annotations

import emulator
import numpy as np
import pytest
from examples import every
from optimisers import ByDefinition
from resumed import check_resumed
from stepping import check_same, state_of
from strict import gpu_backend

import xpnet
from xpnet.nn.dropout import Dropout
from xpnet.training.steppers import Hyperparameters, StepMetrics, make_stepper

CPU = xpnet.get_backend("cpu")
TOGETHER = {
    "optimiser": "adamw",
    "weight_decay": 0.3,
    "lam": 0.01,
    "lr_first": 0.5,
    "lr_bn": 2.0,
    "dropout": 0.4,
    "input_dropout": 0.1,
    "label_smoothing": 0.2,
}
SEED, STEPS, BATCH, RATE = 3, 5, 20, 0.02


def problem(backend):
    """Return a network with GELU, samples and labels."""
    rng = np.random.default_rng(0)
    config = xpnet.NetworkConfig(inputs=12, hidden=(70, 66), classes=4, init_bias=0.2, activation="gelu")
    network = xpnet.Network(config, backend=backend, dtype="float64")
    return network, backend.asarray(rng.standard_normal((60, 12))), backend.asarray(rng.integers(0, 4, 60))


def steps_of(backend, kind):
    """Return the state after some steps, and their metrics."""
    network, x, labels = problem(backend)
    config, to = xpnet.TrainConfig(**TOGETHER), backend.asarray
    perm = np.random.default_rng(1).integers(0, 60, (STEPS, BATCH))
    hyper = Hyperparameters.of(config, 1, to).with_dropout(config, (SEED,))
    stepper = make_stepper(network, x, labels, hyper, kind, batch=BATCH)
    state, metrics = state_of(network, moments=2), StepMetrics.empty(backend.xp, STEPS, 1)
    for a, b in ((0, 3), (3, STEPS)):  # neither masks nor moments depend on where a call ends
        stepper.run(state, to(perm[a:b]), to(np.full((b - a, 1), RATE)), metrics.part(a, b))
    for group in ("parameters", "velocities", "running", "second_moments"):
        setattr(state, group, {name: backend.to_numpy(p) for name, p in getattr(state, group).items()})
    return state, [backend.to_numpy(values) for values in metrics.arrays()], perm


def gpu(monkeypatch):
    if emulator.compiler() is None:
        pytest.skip("there is no C++ compiler")
    return gpu_backend(monkeypatch)


def test_plain_steps_are_those_of_the_definitions():
    state, _, perm = steps_of(CPU, "plain")
    network, x, labels = problem(CPU)
    config = xpnet.TrainConfig(**TOGETHER)
    update = ByDefinition(config, network.parameters)
    for step, rows in enumerate(perm):
        dropout = Dropout(hidden=config.dropout, inputs=config.input_dropout, seeds=(SEED,), step=step)
        lam, smoothing = np.full(1, config.lam), np.full(1, config.label_smoothing)
        _, gradients = network.cost_and_gradients(x[rows], labels[rows], lam, smoothing, dropout=dropout)
        update(network.parameters, gradients, RATE)
    for name, tensor in network.parameters.items():
        np.testing.assert_allclose(state.parameters[name], tensor, rtol=1e-9, atol=1e-11, err_msg=name)


@pytest.mark.parametrize("kind", ["numpy", "population", "units", "graph", "fused", "plain on a GPU"])
def test_steps_of_every_stepper_are_the_plain_ones(monkeypatch, kind):
    expected, figures, _ = steps_of(CPU, "plain")
    backend = CPU
    if kind in ("graph", "fused", "plain on a GPU"):
        backend = gpu(monkeypatch)
    elif kind == "numpy":
        monkeypatch.setenv("XPNET_FAST", "0")
    else:
        pytest.importorskip("numba")
        monkeypatch.setattr("xpnet.training.steppers.threads_for_units", lambda *_: 2)
    found, metrics, _ = steps_of(backend, kind.split()[0].replace("numpy", "plain"))
    check_same(found, expected, rtol=1e-8, atol=1e-10)
    for actual, values in zip(metrics, figures, strict=True):
        np.testing.assert_allclose(actual, values, rtol=1e-9)


@pytest.mark.parametrize("kind", every(2, ["population", "plain", "units", "fused", "graph"]))
def test_training_that_is_stopped_within_an_epoch_goes_on_with_the_same_bits(blobs, monkeypatch, kind):
    backend = gpu(monkeypatch) if kind in ("graph", "fused") else CPU
    if kind == "population":
        pytest.importorskip("numba")
    replicas = 1 if kind == "units" else 2
    if kind == "units":
        pytest.importorskip("numba")
        monkeypatch.setattr("xpnet.training.steppers.threads_for_units", lambda *_: 2)
    lists = {} if replicas == 1 else {"dropout": (0.2, 0.5), "weight_decay": (0.0, 0.3), "label_smoothing": (0.0, 0.2)}
    config = xpnet.TrainConfig(
        **TOGETHER | lists, schedule="cosine-restarts", n_s=4, cycles=2, batch_size=40, stepper=kind
    )
    hidden = (70, 66) if kind == "units" else (8, 5)
    check_resumed(backend, blobs, hidden, "float32", config, [7], replicas=replicas, activation="gelu")
