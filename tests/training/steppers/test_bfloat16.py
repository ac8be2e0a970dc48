"""Training with rounded products: which steppers take it, and that they train alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from calls import Calls
from stepping import check_same, state_of, take

import xpnet
from xpnet.errors import ConfigError
from xpnet.nn.network import Network
from xpnet.ops import rounds_products
from xpnet.training.steppers import (
    Hyperparameters,
    PlainStepper,
    ReplicaParallelStepper,
    UnitParallelStepper,
    check_known,
    make_stepper,
)

pytest.importorskip("numba")
from xpnet.ops import numba_bfloat16

can_round = pytest.mark.skipif(
    not rounds_products(xpnet.get_backend("cpu"), "float32"), reason="needs a processor with AVX-512 BF16, and Numba"
)
N, STEPS, BATCH = 60, 4, 13
ROUNDED = Hyperparameters(np.array([0.01]), np.array([0.9]), nesterov=True, rounded=True)


def problem(replicas=1, **settings):
    rng = np.random.default_rng(0)
    config = xpnet.NetworkConfig(**{"inputs": 40, "hidden": (70, 64), "classes": 4} | settings)
    net = Network(config, dtype="float32", seed=tuple(range(replicas)))
    x, labels = rng.standard_normal((N, 40), np.float32), rng.integers(0, 4, N)
    return net, x, labels, rng.integers(0, N, (STEPS, BATCH)), 0.05 * np.ones((STEPS, replicas))


def blobs(samples):
    """Return points around four centres; a fifth of them is for the test."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, samples)
    x = rng.standard_normal((4, 40))[labels] + 1.5 * rng.standard_normal((samples, 40))
    return xpnet.data_from_arrays(x.astype(np.float32), labels)


def train(kind, hyper, *threads, replicas=1, **settings):
    net, x, labels, perm, eta = problem(replicas, **settings)
    state = state_of(net, moments=hyper.moments)
    metrics = take(kind(net, x, labels, hyper, *threads), state, perm, eta)
    return state, metrics


@can_round
@pytest.mark.parametrize("settings", [{}, {"batch_norm": False}, {"hidden": (130, 96, 97)}])
@pytest.mark.parametrize("hyper", [ROUNDED, replace(ROUNDED, rho=None, nesterov=False)], ids=["momentum", "plain"])
def test_threads_that_share_units_take_the_plain_stepper_s_rounded_steps(settings, hyper):
    expected, figures = train(PlainStepper, hyper, **settings)
    exact, _ = train(PlainStepper, replace(hyper, rounded=False), **settings)
    for threads in (2, 3):
        state, metrics = train(UnitParallelStepper, hyper, threads, **settings)
        # Sums over samples differ in their last bits, and a bfloat16 number may then be rounded to its neighbour.
        check_same(state, expected, rtol=3e-3, atol=3e-4)
        np.testing.assert_allclose(metrics.loss, figures.loss, rtol=1e-3)
    moved = abs(expected.parameters["W1"] - exact.parameters["W1"])
    assert 0 < moved.max() < 0.02


@can_round
def test_same_seed_gives_the_same_bits():
    for kind, threads in ((UnitParallelStepper, (2,)), (PlainStepper, ())):
        check_same(train(kind, ROUNDED, *threads)[0], train(kind, ROUNDED, *threads)[0])


@can_round
def test_network_of_a_population_has_the_bits_it_has_alone():
    many = Hyperparameters(np.array([0.01, 0.1, 0.02]), np.full(3, 0.9), nesterov=True, rounded=True)
    state, _ = train(ReplicaParallelStepper, many, replicas=3)
    alone, _ = train(PlainStepper, replace(many.part(0, 1), rounded=True))
    for name, values in alone.parameters.items():
        np.testing.assert_array_equal(state.parameters[name][:1], values, err_msg=name)


@can_round
def test_auto_leaves_steppers_that_do_not_round():
    net, x, labels, _, _ = problem()
    config = xpnet.TrainConfig(bf16=True, momentum=0.9, batch_size=BATCH)
    hyper = Hyperparameters.of(config, 1, np.asarray)
    assert type(make_stepper(net, x, labels, hyper, "auto", BATCH, replace(config, bf16=False))) is not PlainStepper
    chosen = make_stepper(net, x, labels, hyper, "auto", BATCH, config)
    assert isinstance(chosen, PlainStepper)
    assert chosen.hyper.rounded
    with pytest.raises(ConfigError, match=r"stepper = compiled: does not know the setting bf16 = true; take auto"):
        make_stepper(net, x, labels, hyper, "compiled", BATCH, config)
    assert check_known(net, replace(hyper, rounded=True), "auto", config) == {"plain", "population", "units"}


@pytest.mark.parametrize("why", ["processor", "float64"])
def test_bf16_trains_as_usual_where_it_cannot_be_had(monkeypatch, why):
    if why == "processor":
        monkeypatch.setattr(numba_bfloat16, "processor_has_bfloat16", lambda: False)
    dtype = "float64" if why == "float64" else "float32"
    data = blobs(250)
    results = []
    for bf16 in (False, True):
        net = Network(xpnet.NetworkConfig(inputs=data.inputs, hidden=(40, 33), classes=data.classes), dtype=dtype)
        xpnet.train(net, data, xpnet.TrainConfig(epochs=1, bf16=bf16, stepper="plain"))
        results.append(net.parameters)
    for name, values in results[0].items():
        np.testing.assert_array_equal(results[1][name], values, err_msg=name)


@can_round
def test_training_with_bf16_reaches_what_float32_reaches():
    data = blobs(1300)
    loss = {}
    for bf16 in (False, True):
        net = Network(xpnet.NetworkConfig(inputs=data.inputs, hidden=(64, 64), classes=data.classes))
        result = xpnet.train(net, data, xpnet.TrainConfig(epochs=4, momentum=0.9, bf16=bf16, stepper="plain"))
        loss[bf16] = result.history.epochs[-1].train.loss
    assert loss[True] != loss[False]
    assert loss[True] == pytest.approx(loss[False], rel=0.05)


@can_round
@pytest.mark.parametrize("replicas", [1, 2])
def test_rounded_training_stopped_anywhere_goes_on_to_the_same_bits(monkeypatch, replicas):
    monkeypatch.setattr("xpnet.training.steppers.threads_for_units", lambda *_: 2)
    monkeypatch.setattr("xpnet.training.trainer._SECONDS_A_CALL", 0)  # one step a call: exact moments
    data = blobs(250)
    kind = "units" if replicas == 1 else "population"
    config = xpnet.TrainConfig(epochs=3, momentum=0.9, batch_size=40, bf16=True, stepper=kind)

    def run(start=None, stop=None):
        net = Network(
            xpnet.NetworkConfig(inputs=data.inputs, hidden=(64, 96), classes=data.classes), seed=range(replicas)
        )
        taken, states = [], []
        calls = Calls(
            on_steps=taken.append,
            should_stop=lambda: stop is not None and sum(taken) >= stop,
            on_checkpoint=lambda point: states.append(point.state()),
        )
        xpnet.train(net, data, config, start=start, callbacks=[calls])
        return net, states[-1]

    complete, _ = run()
    for stop in (1, 7, 12):
        _, state = run(stop=stop)
        assert stop <= state.step < 15
        for name, values in run(start=state)[0].parameters.items():
            np.testing.assert_array_equal(values, complete.parameters[name], err_msg=name)
