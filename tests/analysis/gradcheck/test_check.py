"""Every parameter of small networks, for every option that changes the computation."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from gradcheck_cases import network, samples

import xpnet
from xpnet.analysis.gradcheck import check_network
from xpnet.ops.activations import ACTIVATIONS
from xpnet.training.steppers import Hyperparameters, State, StepMetrics, make_stepper

NETWORKS = {
    "linear": {"hidden": ()},
    "plain": {"batch_norm": False},
    "BN": {},
    "BN and biases before it": {"bias_before_bn": True},
    "one unit": {"hidden": (1, 3)},
    "deep": {"hidden": (6, 5, 5, 4)},
    "deep, plain": {"hidden": (6, 5, 5, 4), "batch_norm": False},
    "xavier, drawn biases": {"init": "xavier", "init_bias": 0.1, "batch_norm": False},
    "sigma": {"init": 0.01},
    "large bn_eps": {"bn_eps": 0.1},
    **{name: {"activation": name} for name in ACTIVATIONS if name != "relu"},
    **{f"{name}, plain": {"activation": name, "batch_norm": False} for name in ACTIVATIONS if name != "relu"},
}


@pytest.mark.parametrize(("seed", "lam"), [(0, 0.0), (1, 0.1)])
@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
def test_every_gradient(options: dict[str, Any], lam: float, seed: int):
    x, labels = samples(seed=seed)
    report = check_network(network(seed=seed, **options), x, labels, lam, coverage="all")
    assert report.passed, report.reason
    assert report.checked + report.kinks == report.of
    for tensor in report.parameters:
        good = tensor.max_relative_error <= 1e-5 or tensor.max_absolute_error <= 1e-9
        assert good, tensor


def test_right_gradients_of_odd_networks_pass(pytestconfig: pytest.Config):
    # Few samples, units of no variance, large and tiny weights.
    rng = np.random.default_rng(0)
    for seed in range(150 if pytestconfig.getoption("--thorough") else 50):
        batch_norm = bool(rng.random() < 0.7)
        net = network(
            tuple(int(m) for m in rng.integers(1, 8, rng.integers(0, 6))),
            seed=seed,
            batch_norm=batch_norm,
            bias_before_bn=batch_norm and bool(rng.random() < 0.5),
            init=["he", "xavier", 0.01, 1e-3, 1.0][rng.integers(5)],
            bn_eps=[1e-3, 1e-5, 1e-8][rng.integers(3)],
        )
        x, labels = samples(int(rng.integers(2, 40)), seed=seed)
        report = check_network(net, x, labels, [0.0, 0.3][seed % 2], threads=1)
        assert report.passed, (net.config, len(x), report.reason)


def test_round_off_that_bn_magnifies_is_no_error():
    net = network((1, 7), seed=567, init=1.0, bias_before_bn=True)
    x, labels = samples(3, seed=567)
    assert check_network(net, x, labels, 0.3).passed


def test_every_setting_of_a_network_is_checked():
    # A setting that is added may change the computation; then it belongs above.
    known = {"inputs", "hidden", "classes", "batch_norm", "bn_alpha", "bn_eps", "bias_before_bn", "init", "init_bias"}
    assert {field.name for field in dataclasses.fields(xpnet.NetworkConfig)} == known | {"activation"}


@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
def test_what_trains_is_what_is_checked(options: dict[str, Any]):
    # The change of a step of training, divided by eta, is held against the differences.
    net = network(**options)
    x, labels = samples()
    eta, lam = 0.5, 0.1
    state = State({name: p.copy() for name, p in net.parameters.items()}, {}, dict(net.running))
    stepper = make_stepper(net, x, labels, Hyperparameters(lam=np.array([lam])))
    stepper.run(state, np.arange(len(x))[None], np.array([[eta]]), StepMetrics.empty(np, 1, 1))
    stepped = {name: (p - state.parameters[name]) / eta for name, p in net.parameters.items()}
    report = check_network(net, x, labels, lam, gradients=stepped)
    assert report.passed, report.reason
