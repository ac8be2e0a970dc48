"""Weights of classes and of samples in the loss: their cost, their gradients, their check and their trainings."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
from examples import examples
from gradcheck_cases import network as checked_network
from gradcheck_cases import samples
from hypothesis import given
from hypothesis import strategies as st
from operation_tables import REFERENCE, TABLES
from resumed import check_resumed
from training_cases import assert_same_bits, network

import xpnet
from xpnet.analysis.gradcheck import check_network, sweep_h
from xpnet.data import LabelledSet, fingerprint
from xpnet.data.weights import loss_weights
from xpnet.errors import ArrayError, ConfigError, DataError

RAGGED = (1.0, 2.0, 0.0, 0.5)


@examples(20, 200)
@given(
    st.sampled_from(["numpy", "numba"]),
    st.integers(1, 3),
    st.integers(1, 6),
    st.integers(2, 5),
    st.booleans(),
    st.booleans(),
    st.integers(0, 999),
)
def test_weigh_samples_of_any_operations_is_its_definition(table, R, n, c, own, by_rows, seed):
    rng = np.random.default_rng(seed)
    s, labels, size = 5 * rng.standard_normal((R, n, c)), rng.integers(0, c, n), (R, n) if own else (n,)
    all_weights, rows = 3 * rng.random(9), rng.integers(0, 9, size)
    ops = TABLES[table]
    entropy = ops.softmax_cross_entropy(s, labels, 0.25)
    ops.weigh_samples(entropy, *((all_weights, rows) if by_rows else (all_weights[rows],)))
    plain, w = REFERENCE.softmax_cross_entropy(s, labels, 0.25), all_weights[rows]
    np.testing.assert_allclose(entropy.losses, w * plain.losses, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(entropy.g, w[..., None] * plain.g, atol=1e-12)
    np.testing.assert_array_equal(entropy.correct, plain.correct)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_weight_of_two_is_a_sample_that_is_there_twice(smoothing):
    net, (x, labels) = checked_network(batch_norm=False), samples()
    weights = np.ones(len(x))
    weights[[3, 7]] = 2
    rows = np.repeat(np.arange(len(x)), weights.astype(int))
    cost, gradients = net.cost_and_gradients(x, labels, 0.1, smoothing, weights / weights.mean())
    twice, expected = net.cost_and_gradients(x[rows], labels[rows], 0.1, smoothing)
    assert cost[0] == pytest.approx(twice[0], rel=1e-13)
    for name, gradient in expected.items():
        np.testing.assert_allclose(gradients[name], gradient, rtol=1e-10, atol=1e-14, err_msg=name)


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("settings", [{}, {"momentum": 0.5, "label_smoothing": 0.1}])
def test_training_with_a_weight_of_two_is_one_with_the_sample_twice(blobs, replicas, settings):
    weights = np.ones(400)
    weights[10:90] = 2
    rows = np.repeat(np.arange(400), weights.astype(int))
    train = blobs.train
    once = dataclasses.replace(blobs, train=LabelledSet(train.x, train.labels, weights))
    twice = dataclasses.replace(blobs, train=LabelledSet(train.x[rows], train.labels[rows]))
    config = xpnet.TrainConfig(epochs=3, batch_size=1000, schedule="constant", eta=0.3, **settings)
    nets = [network(replicas, batch_norm=False, dtype="float64") for _ in range(2)]
    results = [xpnet.train(net, data, config) for net, data in zip(nets, (once, twice), strict=True)]
    for name, tensor in nets[1].parameters.items():
        np.testing.assert_allclose(nets[0].parameters[name], tensor, rtol=1e-9, atol=1e-12, err_msg=name)
    losses = [result.history["train_loss"] for result in results]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-10)


@pytest.mark.parametrize("replicas", [1, 2])
def test_equal_weights_are_no_weights_bit_for_bit(blobs, replicas):
    config = {"epochs": 2, "batch_size": 57, "momentum": 0.5}
    weighted = dataclasses.replace(blobs, train=dataclasses.replace(blobs.train, weights=np.full(400, 0.3)))
    trainings = []
    for data, more in ((blobs, {}), (weighted, {}), (blobs, {"class_weight": (2, 2, 2, 2)})):
        net = network(replicas)
        trainings.append((net, xpnet.train(net, data, xpnet.TrainConfig(**config, **more))))
    assert_same_bits(trainings[0], trainings[1])
    assert_same_bits(trainings[0], trainings[2])


def test_balanced_weights_are_those_of_scikit_learn_times_the_samples_own(blobs):
    labels = np.repeat([0, 1, 2, 3], [10, 20, 30, 340])
    data = dataclasses.replace(blobs, train=LabelledSet(blobs.train.x, labels))
    expected = (400 / (4 * np.array([10, 20, 30, 340])))[labels]
    np.testing.assert_allclose(loss_weights(data, "balanced"), expected, rtol=1e-12)
    own = np.linspace(1, 3, 400)
    weighted = dataclasses.replace(data, train=LabelledSet(blobs.train.x, labels, own))
    product = expected * own
    np.testing.assert_allclose(loss_weights(weighted, "balanced"), product / product.mean(), rtol=1e-12)
    np.testing.assert_allclose(loss_weights(weighted, None), own / own.mean(), rtol=1e-12)
    assert loss_weights(data, None) is None


def test_training_loss_is_weighted_and_all_other_figures_are_not(blobs):
    config = xpnet.TrainConfig(epochs=1, batch_size=400, class_weight=RAGGED, lam=0.1, eta_min=0, n_s=10)
    net, untrained = network(dtype="float64"), network(dtype="float64")
    result = xpnet.train(net, blobs, config)
    x, labels = blobs.transform(blobs.train.x, "float64"), blobs.train.labels
    weights = np.array(RAGGED)[labels]
    cost, _ = untrained.cost_and_gradients(x, labels, 0.1, 0.0, weights / weights.mean())
    assert result.history["train_cost"][0] == pytest.approx(cost[0], rel=1e-10)
    p = net.predict_proba(blobs.test.x)[0]
    assert result.test.loss == pytest.approx(-np.log(p[np.arange(len(p)), blobs.test.labels]).mean(), rel=1e-9)
    p = net.predict_proba(blobs.train.x)[0]
    assert result.train.loss == pytest.approx(-np.log(p[np.arange(len(p)), labels]).mean(), rel=1e-9)
    assert result.train.accuracy == pytest.approx((p.argmax(axis=1) == labels).mean())


def test_class_without_weight_is_not_learned(blobs):
    result = {}
    for weights in ((1, 1, 1, 1), (0, 1, 1, 1)):
        net = network()
        xpnet.train(net, blobs, xpnet.TrainConfig(epochs=10, class_weight=weights))
        result[weights[0]] = (net.predict(blobs.test.x) == 0).mean()
    assert result[0] < 0.02 < 0.1 < result[1]


def test_population_with_weights_is_its_networks_alone(blobs):
    settings = {"epochs": 3, "batch_size": 57, "class_weight": RAGGED, "momentum": 0.5}
    together = network(2, dtype="float64")
    both = xpnet.train(together, blobs, xpnet.TrainConfig(**settings, label_smoothing=(0, 0.1)))
    for r, alpha in enumerate((0.0, 0.1)):
        alone = network(seed=r, dtype="float64")
        single = xpnet.train(alone, blobs, xpnet.TrainConfig(**settings, label_smoothing=alpha))
        np.testing.assert_allclose(together.parameters["W1"][r], alone.parameters["W1"][0], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(both.history["train_loss"][:, r], single.history["train_loss"], rtol=1e-9)


@pytest.mark.guarantee("resume")
def test_training_with_weights_that_is_resumed_ends_with_the_same_bits(blobs):
    config = xpnet.TrainConfig(epochs=3, batch_size=57, class_weight=RAGGED)
    check_resumed(xpnet.get_backend("cpu"), blobs, (6, 5), "float32", config, [1, 9])


def test_class_weights_are_cut_with_no_population(blobs):
    settings = {"hidden": [6], "class_weight": [1, 2, 3, 4], "runs": 4, "epochs": 1}
    population = xpnet.Population.of(xpnet.Settings.from_mapping(settings), 12, 4)
    assert population.part(1, 3).train.class_weight == (1, 2, 3, 4)
    _, whole = xpnet.train_population(population, blobs, dtype="float64")
    _, chunks = xpnet.train_population(population, blobs, dtype="float64", max_replicas=2)
    np.testing.assert_allclose(chunks.test.losses, whole.test.losses, rtol=1e-9)


def test_range_test_trains_with_weights(blobs):
    found = [
        xpnet.lr_range(network().config, blobs, xpnet.TrainConfig(class_weight=weights), steps=20).losses
        for weights in (None, RAGGED)
    ]
    assert not np.allclose(*found)


def test_split_gives_way_to_a_stepper_that_knows_weights():
    data = xpnet.load_data("patterns:300/50")
    config = xpnet.TrainConfig(epochs=1, class_weight=tuple(range(10)), stepper="split")
    net = xpnet.Network(xpnet.NetworkConfig(inputs=data.inputs, hidden=(8,)))
    with pytest.raises(ConfigError, match="stepper = split: does not know the setting class_weight or sample_weight; "):
        xpnet.train(net, data, config)
    xpnet.train(net, data, dataclasses.replace(config, stepper="auto"))


# -- the gradient check -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["fast", "naive"])
@pytest.mark.parametrize("options", [{}, {"batch_norm": False}])
def test_gradcheck_of_a_weighted_cost_passes(method, options):
    weights = np.linspace(0, 2, 24)
    report = check_network(
        checked_network(**options), *samples(), 0.1, label_smoothing=0.1, sample_weight=weights, method=method
    )
    assert report.passed, report.reason
    assert report.settings["weighted"]


@pytest.mark.parametrize("forgotten", ["g", "losses"])
def test_gradcheck_of_a_network_that_forgets_the_weights_fails(forgotten):
    net = checked_network()
    original = net.ops.weigh_samples

    def forgetful(entropy: Any, *rest: Any) -> None:
        before = getattr(entropy, forgotten).copy()
        original(entropy, *rest)
        getattr(entropy, forgotten)[...] = before

    net.ops = net.ops._replace(weigh_samples=forgetful)
    assert check_network(net, *samples(), 0.1).passed
    report = check_network(net, *samples(), 0.1, sample_weight=np.linspace(0, 2, 24))
    assert not report.passed
    assert ("own cost" if forgotten == "losses" else "b3") in report.reason


def test_sweep_of_a_weighted_cost_has_small_errors_of_small_steps():
    weights = np.linspace(0.5, 1.5, 24)
    rows = sweep_h(checked_network(), *samples(), 0.1, sample_weight=weights, steps=(1e-2, 1e-5), entries=20)
    errors = {row["h"]: row["median"] for row in rows if row["kind"] == "all"}
    assert errors[1e-5] < 1e-7 < errors[1e-2]


# -- weights of samples, and what is refused --------------------------------------------------------------


def test_weights_of_samples_follow_them_through_the_shuffle():
    x = np.arange(60.0)[:, None] * [1, 2]
    data = xpnet.data_from_arrays(x, np.arange(60) % 3, sample_weight=np.arange(60), split="40/10")
    for part in (data.train, data.validation):
        np.testing.assert_array_equal(part.weights, part.x[:, 0])
    assert data.test.weights is None
    plain = xpnet.data_from_arrays(x, np.arange(60) % 3, split="40/10")
    other = xpnet.data_from_arrays(x, np.arange(60) % 3, sample_weight=np.arange(60) + 1, split="40/10")
    assert plain.train.weights is None
    assert len({repr(fingerprint(one)) for one in (data, plain, other)}) == 3


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ([-1.0] + [1] * 59, "sample_weight has the weight -1 in row 0; weights must be finite numbers of at least 0"),
        ([1.0] * 59 + [np.nan], "sample_weight has the weight nan in row 59; weights must be"),
        ([1.0] * 59 + [np.inf], "sample_weight has the weight inf in row 59; weights must be"),
        ([0.0] * 60, "sample_weight is 0 in every row; "),
        ([1.0] * 59, "sample_weight has the shape (59,) for 60 rows of x_train; there must be one for each"),
        (np.ones((60, 2)), "sample_weight has the shape (60, 2) for 60 rows"),
        (["a"] * 60, "sample_weight is an array of <U1; weights must be"),
        (1.0, "sample_weight has the shape () for 60 rows"),
    ],
)
def test_weights_of_samples_that_are_none_are_refused(weights, sentence):
    with pytest.raises(DataError, match="^" + re.escape(sentence)):
        xpnet.data_from_arrays(np.arange(60.0)[:, None], np.arange(60) % 3, sample_weight=weights)


@pytest.mark.parametrize(
    "value", [-1, "some", (1, -1), (1, float("nan")), "1,x", (), (0, 0), {"a": 1}, True, "", "1,inf"]
)
def test_class_weights_that_are_none_are_refused(value):
    with pytest.raises(ConfigError, match=r"^class_weight = .*: must be balanced, or a finite number of at least 0"):
        xpnet.TrainConfig(class_weight=value)


def of_training(data: Any, **changes: Any) -> Any:
    return dataclasses.replace(data, train=dataclasses.replace(data.train, **changes))


@pytest.mark.parametrize(
    ("class_weight", "changes", "sentence"),
    [
        (
            (1, 2),
            {},
            "class_weight: has 2 numbers for the 4 classes of arrays; give one for each, in the order 0, 1, 2, 3",
        ),
        (
            "balanced",
            {"labels": np.arange(400) % 3},
            "class_weight = balanced: the class 3 has no training samples, so ",
        ),
        (
            (0, 0, 0, 1),
            {"labels": np.arange(400) % 3},
            "class_weight, sample_weight: the mean weight of the 400 training",
        ),
        (None, {"weights": np.zeros(400)}, "class_weight, sample_weight: the mean weight of the 400 training samples"),
        (
            None,
            {"weights": np.full(400, 1e308)},
            "class_weight, sample_weight: the mean weight of the 400 training samp",
        ),
    ],
)
def test_weights_that_do_not_fit_the_data_are_refused(blobs, class_weight, changes, sentence):
    with pytest.raises(ConfigError, match="^" + re.escape(sentence)):
        xpnet.train(network(), of_training(blobs, **changes), xpnet.TrainConfig(epochs=1, class_weight=class_weight))


@pytest.mark.parametrize("weights", [np.ones(5), -np.ones(24), np.full(24, np.nan), np.array(["a"] * 24)])
def test_weights_of_a_cost_that_are_none_are_refused(weights):
    x, labels = samples()
    for refuse in (
        lambda: checked_network().cost_and_gradients(x, labels, sample_weight=weights),
        lambda: check_network(checked_network(), x, labels, sample_weight=weights),
    ):
        with pytest.raises(ArrayError, match=r"^sample_weight: "):
            refuse()
