"""AdamW, Lion, and factors of the learning rate: their steps, trainings of populations, settings and errors."""

from __future__ import annotations

import re

import numpy as np
import pytest
from calls import Calls
from optimisers import CASES, ByDefinition, hyper_of, settings_of
from stepping import take
from training_cases import network, population

import xpnet
from xpnet.config.settings import Settings
from xpnet.errors import ConfigError
from xpnet.nn.network import Network
from xpnet.training.chunks import bytes_of_a_replica
from xpnet.training.steppers import PlainStepper, ReplicaParallelStepper, State, make_stepper

LION = {"optimiser": "lion", "eta_max": 0.01, "eta_min": 1e-4}
ADAMW = {"optimiser": "adamw", "eta_max": 0.02, "weight_decay": 0.1}


def samples(inputs=5, n=40):
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, inputs)), rng.integers(0, 3, n)


def small(replicas=1, **settings):
    config = xpnet.NetworkConfig(**{"inputs": 5, "hidden": (7, 4), "classes": 3, "init_bias": 0.2} | settings)
    return Network(config, dtype="float64", replicas=replicas)


def copied(net, r):
    return {name: p[r : r + 1].copy() for name, p in net.parameters.items()}


# -- steps ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ["plain", "population", "large weights"])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_steps_are_those_of_the_papers(monkeypatch, case, kind, batch_norm):
    if kind == "large weights":  # W1 has a memory of its own
        monkeypatch.setattr("xpnet.nn.flat_parameters.LARGE", 30)
    x, labels = samples()
    net, single, replicas = small(3, batch_norm=batch_norm), small(batch_norm=batch_norm), 3
    starts = [copied(net, r) for r in range(replicas)]
    rng = np.random.default_rng(1)
    perm, eta = rng.integers(0, 40, (6, 9)), 0.05 * rng.random((6, replicas))
    stepper = (ReplicaParallelStepper if kind == "population" else PlainStepper)(
        net, x, labels, hyper_of(case, replicas)
    )
    state = State.of(net, stepper.hyper.moments)
    for part in (slice(0, 1), slice(1, 6)):
        take(stepper, state, perm[part], eta[part])
    for r in range(replicas):
        p = starts[r]
        values = settings_of(case, replicas).items()
        config = xpnet.TrainConfig(**{name: v[r] if isinstance(v, tuple) else v for name, v in values})
        update = ByDefinition(config, p)
        for rows, rate in zip(perm, eta[:, r], strict=True):
            for name, tensor in p.items():
                single.parameters[name] = tensor
            _, gradients = single.cost_and_gradients(x[rows], labels[rows], config.lam)
            update(p, gradients, rate)
        for name, expected in p.items():
            found = state.parameters[name][r : r + 1]
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("lam", [0.0, 0.03])
def test_adamw_is_that_of_torch(lam):
    torch = pytest.importorskip("torch")
    x, labels = samples()
    net = small(batch_norm=False)
    mine = {name: torch.tensor(p[0], requires_grad=True) for name, p in net.parameters.items()}
    groups = [{"params": [mine["W1"]], "lr": 0.5, "weight_decay": 0.3}]
    groups += [{"params": [mine[n] for n in mine if n[0] == "W" and n != "W1"], "lr": 1.0, "weight_decay": 0.3}]
    groups += [{"params": [mine[n] for n in mine if n[0] != "W"], "lr": 3.0, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, betas=(0.8, 0.95), eps=1e-6)
    factors = [group["lr"] for group in optimiser.param_groups]
    config = xpnet.TrainConfig(
        optimiser="adamw", beta1=0.8, beta2=0.95, adam_eps=1e-6, weight_decay=0.3, lr_first=0.5, lr_bn=3, lam=lam
    )
    rng = np.random.default_rng(1)
    perm, eta = rng.integers(0, 40, (50, 10)), 0.03 * rng.random((50, 1))
    hyper = type(hyper_of("adamw")).of(config, 1, np.array)
    state = State.of(net, 2)
    take(make_stepper(net, x, labels, hyper), state, perm, eta)
    for rows, rate in zip(perm, eta[:, 0], strict=True):
        for group, factor in zip(optimiser.param_groups, factors, strict=True):
            group["lr"] = float(rate) * factor
        y = torch.tensor(x[rows])
        for layer in (1, 2, 3):
            y = y @ mine[f"W{layer}"] + mine[f"b{layer}"]
            y = torch.relu(y) if layer < 3 else y
        penalty = sum((mine[f"W{layer}"] ** 2).sum() for layer in (1, 2, 3))
        optimiser.zero_grad()
        (torch.nn.functional.cross_entropy(y, torch.tensor(labels[rows])) + lam * penalty).backward()
        optimiser.step()
    for name, tensor in mine.items():
        np.testing.assert_allclose(state.parameters[name][0], tensor.detach(), rtol=1e-7, atol=1e-10, err_msg=name)


def test_a_gradient_of_zero_moves_nothing_by_lion_and_not_a_number_shows():
    for fast in ("lion", "adamw"):
        net = small(batch_norm=False)
        x, labels = samples()
        x = np.zeros_like(x)
        before = net.parameters["W1"].copy()
        hyper = type(hyper_of(fast)).of(xpnet.TrainConfig(optimiser=fast), 1, np.array)
        state = State.of(net, hyper.moments)
        stepper = make_stepper(net, x, labels, hyper)
        take(stepper, state, np.arange(8)[None], np.full((1, 1), 0.1))
        np.testing.assert_array_equal(state.parameters["W1"], before)
        assert (state.parameters["b3"] != 0).all()
        x[:] = np.nan
        take(stepper, state, np.arange(8)[None], np.full((1, 1), 0.1))
        assert np.isnan(state.parameters["W1"]).all()


# -- trainings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "settings", "lists"),
    [
        ("float64", ADAMW, {"beta1": (0.9, 0.5), "beta2": (0.999, 0.9), "lr_first": (1.0, 0.3)}),
        ("float32", ADAMW, {"weight_decay": (0.0, 3.0), "lr_bn": (0.0, 2.0)}),
        ("float32", {"momentum": 0.5}, {"lr_first": (1.0, 0.3), "lr_bn": (2.0, 1.0)}),
        ("float64", LION, {"beta1": (0.9, 0.5), "weight_decay": (0.0, 3.0)}),
    ],
)
def test_values_for_each_replica_are_single_trainings(blobs, dtype, settings, lists):
    common = {"epochs": 3, "batch_size": 50, "shuffle": "shared", "shuffle_seed": 3}
    together = network(2, dtype=dtype)
    both = xpnet.train(together, blobs, xpnet.TrainConfig(**common | settings | lists))
    limit = 1e-8 if dtype == "float64" else 2e-3
    for r in range(2):
        alone, own = network(dtype=dtype, seed=r), {name: values[r] for name, values in lists.items()}
        single = xpnet.train(alone, blobs, xpnet.TrainConfig(**common | settings | own))
        np.testing.assert_allclose(together.parameters["W1"][r], alone.parameters["W1"][0], rtol=limit, atol=limit)
        np.testing.assert_allclose(both.history["train_cost"][:, r], single.history["train_cost"], rtol=10 * limit)
    assert np.abs(np.diff(both.history["train_loss"][-1])) > 1e-3


def test_replicas_keep_their_moments_when_others_are_dropped(blobs):
    settings = ADAMW | {"epochs": 2, "batch_size": 50, "shuffle": "shared", "beta2": (0.5, 0.9, 0.999), "lr_first": 0.5}
    complete, fewer = network(3, dtype="float64"), network(3, dtype="float64")
    xpnet.train(complete, blobs, xpnet.TrainConfig(**settings))
    callback = Calls(prune_at=[3], on_prune=lambda _: [0])
    result = xpnet.train(fewer, blobs, xpnet.TrainConfig(**settings), callbacks=[callback])
    assert result.dropped == {0: 3}
    np.testing.assert_array_equal(fewer.parameters["W1"][1:], complete.parameters["W1"][1:])


def test_factors_of_1_are_a_training_without_them(blobs):
    nets = [network(2) for _ in range(2)]
    for net, values in zip(nets, ({}, {"lr_first": (1, 1), "lr_bn": 1}), strict=True):
        xpnet.train(net, blobs, xpnet.TrainConfig(epochs=2, batch_size=50, **values))
    np.testing.assert_array_equal(nets[1].parameters["W1"], nets[0].parameters["W1"])


def test_a_factor_of_0_freezes_its_tensors(blobs):
    for settings in ({}, {"momentum": 0.5}, ADAMW, LION):
        net = network()
        before = {name: p.copy() for name, p in net.parameters.items()}
        xpnet.train(net, blobs, xpnet.TrainConfig(epochs=1, batch_size=50, lr_first=0, lr_bn=0, **settings))
        moved = {name for name, p in net.parameters.items() if not np.array_equal(p, before[name])}
        assert moved == {"W2", "W3"}, settings


def test_the_cost_has_the_penalty_and_not_the_decay(blobs):
    net = network(dtype="float64")
    result = xpnet.train(net, blobs, xpnet.TrainConfig(epochs=1, **ADAMW, lam=0.02))
    squares = sum((net.parameters[f"W{layer}"] ** 2).sum() for layer in (1, 2, 3))
    assert result.test.cost == pytest.approx(result.test.loss + 0.02 * squares, rel=1e-9)


@pytest.mark.parametrize("settings", [ADAMW, LION])
def test_a_rate_that_is_too_high_is_noticed_or_leaves_finite_numbers(blobs, settings):
    net = network(2)
    config = xpnet.TrainConfig(epochs=2, batch_size=20, **settings | {"eta_max": (0.01, 1e30)})
    result = xpnet.train(net, blobs, config)
    assert list(result.diverged) == [1]
    assert np.isfinite(net.parameters["W1"][0]).all()


def test_a_state_without_the_moments_of_the_optimiser_is_refused(blobs):
    states = []
    keep = Calls(on_checkpoint=lambda point: states.append(point.state()))
    xpnet.train(network(), blobs, xpnet.TrainConfig(epochs=1, momentum=0.5), callbacks=[keep])
    with pytest.raises(ConfigError, match=r"^start: the network cannot go on from it, it has no second_moments, which"):
        xpnet.train(network(), blobs, xpnet.TrainConfig(epochs=2, **ADAMW), start=states[0])


def test_more_moments_take_more_memory():
    architecture = xpnet.NetworkConfig(inputs=300, hidden=(100,))
    parameters = 300 * 100 + 3 * 100 + 10 * 100 + 10  # without a bias before BN
    estimates = [
        bytes_of_a_replica(architecture, xpnet.TrainConfig(epochs=1, **values), 100, "float64")
        for values in ({}, {"optimiser": "lion"}, {"optimiser": "adamw"})
    ]
    assert np.diff(estimates).min() > 0.9 * 8 * 2 * parameters


# -- settings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, {"lam": 0.005, "beta1": None, "beta2": None}),
        ({"optimiser": "adamw"}, {"lam": 0, "beta1": 0.9, "beta2": 0.999}),
        ({"optimiser": "lion"}, {"lam": 0, "beta1": 0.9, "beta2": 0.99}),
        ({"optimiser": "lion", "lambda": 0.1, "beta2": 0.5}, {"lam": 0.1, "beta1": 0.9, "beta2": 0.5}),
    ],
)
def test_what_is_not_given_depends_on_the_optimiser(values, expected):
    settings = Settings.from_mapping(values)
    assert {name: getattr(settings.train, name) for name in expected} == expected
    again = Settings.from_mapping(settings.to_mapping())  # as a run's config.toml has it
    assert again.train == settings.train
    assert settings.to_mapping()["lambda"] == expected["lam"]
    assert ("beta1" in settings.to_mapping()) == (expected["beta1"] is not None)


def test_lists_of_an_optimisers_settings_are_a_population():
    many = population(optimiser="adamw", beta1="0.5,0.9", weight_decay=[0, 0.1], lr_first="0.5,1")
    assert len(many) == 8
    assert many.part(6, 8).train.lr_first == (0.5, 1)


WRONG = [
    ({"optimiser": "adam"}, "optimiser = adam: must be sgd, adamw or lion"),
    ({"optimiser": "adamw", "beta1": 1}, "beta1 = 1: must be a finite number of at least 0 and below 1"),
    ({"optimiser": "lion", "beta2": -0.1}, "beta2 = -0.1: must be a finite number of at least 0 and below 1"),
    ({"optimiser": "adamw", "adam_eps": 0}, "adam_eps = 0: must be a finite number of at least 1e-30"),
    ({"optimiser": "adamw", "weight_decay": -1}, "weight_decay = -1: must be a finite number of at least 0"),
    ({"lr_first": -1}, "lr_first = -1: must be a finite number of at least 0"),
    ({"lr_bn": "some"}, "lr_bn = some: must be a finite number of at least 0"),
    (
        {"optimiser": "adamw", "momentum": 0.9},
        "momentum = 0.9: has no effect on the optimiser adamw, which is set by beta1, beta2, adam_eps, weight_decay",
    ),
    ({"optimiser": "lion", "nesterov": True}, "nesterov = true: has no effect on the optimiser lion, which is set by"),
    ({"optimiser": "lion", "adam_eps": 1e-6}, "adam_eps = 1e-06: has no effect on the optimiser lion"),
    ({"beta1": 0.9}, "beta1 = 0.9: has no effect on the optimiser sgd, which is set by momentum, nesterov"),
    ({"weight_decay": 0.1}, "weight_decay = 0.1: has no effect on the optimiser sgd"),
]


@pytest.mark.parametrize(("values", "message"), WRONG)
def test_settings_without_effect_or_out_of_range_are_refused(values, message):
    with pytest.raises(ConfigError, match="^" + re.escape(message)):
        Settings.from_mapping(values)
    with pytest.raises(ConfigError, match="^" + re.escape(message)):
        xpnet.TrainConfig(**values)


def test_a_setting_of_another_optimiser_is_refused_even_at_its_default():
    with pytest.raises(ConfigError, match=r"^momentum = 0: has no effect on the optimiser adamw"):
        Settings.from_mapping({"optimiser": "adamw", "momentum": 0})
