"""Smoothed labels: their cost, their gradients and their check, and replicas that have their own."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from calls import Calls
from examples import examples
from gradcheck_cases import network as checked_network
from gradcheck_cases import samples
from hypothesis import given
from hypothesis import strategies as st
from operation_tables import REFERENCE, TABLES
from training_cases import FIGURES, network

import xpnet
from xpnet.analysis.gradcheck import check_network, sweep_h
from xpnet.errors import ConfigError


def by_hand(s: Any, labels: Any, alpha: float) -> float:
    """Return the mean cross-entropy of logits (n, c) with smoothed labels, sample by sample."""
    total = 0.0
    for row, label in zip(s.tolist(), labels.tolist(), strict=True):
        log_sum = np.log(sum(np.exp(value) for value in row))
        for c, value in enumerate(row):
            wanted = alpha / len(row) + (1 - alpha if c == label else 0)
            total -= wanted * (value - log_sum)
    return total / len(s)


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.99])
def test_cost_of_smoothed_labels_is_their_cross_entropy(alpha):
    net, (x, labels) = checked_network((), batch_norm=False), samples()
    cost, _ = net.cost_and_gradients(x, labels, 0.0, alpha)
    s = x @ net.parameters["W1"][0] + net.parameters["b1"][0]
    assert cost[0] == pytest.approx(by_hand(s, labels, alpha), rel=1e-12)


@examples(20, 200)
@given(
    st.sampled_from(["numpy", "numba"]), st.integers(1, 3), st.integers(1, 6), st.integers(2, 5), st.integers(0, 999)
)
def test_smooth_labels_of_any_operations_is_its_definition(table, R, n, c, seed):
    rng = np.random.default_rng(seed)
    s, labels, alpha = 5 * rng.standard_normal((R, n, c)), rng.integers(0, c, n), rng.random((R, 1, 1))
    scale, ops = rng.random((R, 1, 1)), TABLES[table]
    entropy = ops.softmax_cross_entropy(s, labels, scale)
    plain = REFERENCE.softmax_cross_entropy(s, labels, scale)
    ops.smooth_labels(entropy, s, labels, alpha, scale)
    p = np.exp(s) / np.exp(s).sum(axis=-1, keepdims=True)
    wanted = (1 - alpha) * np.eye(c)[labels] + alpha / c
    np.testing.assert_allclose(entropy.losses, -(wanted * np.log(p)).sum(axis=-1), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(entropy.g, scale * (p - wanted), atol=1e-12)
    np.testing.assert_array_equal(entropy.correct, plain.correct)


def test_replicas_have_their_own_smoothing():
    net = network(3, dtype="float64")
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((20, 12)), rng.integers(0, 4, 20)
    costs, gradients = net.cost_and_gradients(x, labels, 0.1, np.array([0, 0.1, 0.5]))
    for r, alpha in enumerate((0, 0.1, 0.5)):
        cost, found = net.select([r]).cost_and_gradients(x, labels, 0.1, alpha)
        assert costs[r] == pytest.approx(cost[0], rel=1e-12)
        for name, gradient in found.items():
            np.testing.assert_allclose(gradients[name][r], gradient[0], rtol=1e-9, atol=1e-12)
    with pytest.raises(ConfigError, match=re.escape("label_smoothing: has shape (2,); it must be a number, or one")):
        net.cost_and_gradients(x, labels, 0.1, np.array([0, 0.1]))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("values", [{}, {"momentum": 0.5}, {"lam": (0.01, 0.1)}])
def test_values_for_each_replica_are_single_trainings(blobs, dtype, values):
    settings = {"epochs": 3, "batch_size": 50, "shuffle": "shared", "shuffle_seed": 3, **values}
    together = network(2, dtype=dtype)
    both = xpnet.train(together, blobs, xpnet.TrainConfig(**settings, label_smoothing=(0, 0.1)))
    limit = 1e-9 if dtype == "float64" else 1e-4
    for r, alpha in enumerate((0.0, 0.1)):
        alone = network(dtype=dtype, seed=r)
        lam = settings.get("lam", (0.005, 0.005))[r]
        single = xpnet.train(alone, blobs, xpnet.TrainConfig(**settings | {"lam": lam}, label_smoothing=alpha))
        np.testing.assert_allclose(together.parameters["W1"][r], alone.parameters["W1"][0], rtol=limit, atol=limit)
        for column in FIGURES[2:]:
            np.testing.assert_allclose(both.history[column][:, r], single.history[column], rtol=10 * limit)
    assert abs(both.history["train_loss"][-1, 0] - both.history["train_loss"][-1, 1]) > 0.01


def test_replicas_keep_their_smoothing_when_others_are_dropped(blobs):
    settings = {"epochs": 2, "batch_size": 50, "shuffle": "shared", "label_smoothing": (0.5, 0.0, 0.1)}
    whole, fewer = network(3, dtype="float64"), network(3, dtype="float64")
    xpnet.train(whole, blobs, xpnet.TrainConfig(**settings))
    callback = Calls(prune_at=[3], on_prune=lambda _: [0])
    result = xpnet.train(fewer, blobs, xpnet.TrainConfig(**settings), callbacks=[callback])
    assert result.dropped == {0: 3}
    np.testing.assert_allclose(fewer.parameters["W1"][1:], whole.parameters["W1"][1:], rtol=1e-9, atol=1e-12)


def test_smoothing_of_0_is_a_training_without_it(blobs):
    settings = {"epochs": 2, "batch_size": 50}
    nets = [network(2) for _ in range(3)]
    for net, values in zip(nets, ({}, {"label_smoothing": 0}, {"label_smoothing": (0, 0)}), strict=True):
        xpnet.train(net, blobs, xpnet.TrainConfig(**settings, **values))
    for net in nets[1:]:
        np.testing.assert_array_equal(net.parameters["W1"], nets[0].parameters["W1"])


def test_validation_and_test_figures_are_of_the_labels_as_they_are(blobs):
    net = network(dtype="float64")
    result = xpnet.train(net, blobs, xpnet.TrainConfig(epochs=1, label_smoothing=0.3))
    p = net.predict_proba(blobs.test.x)[0]
    assert result.test.loss == pytest.approx(-np.log(p[np.arange(len(p)), blobs.test.labels]).mean(), rel=1e-9)


# -- the gradient check -----------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.1, 0.7])
@pytest.mark.parametrize("method", ["fast", "naive"])
@pytest.mark.parametrize("options", [{}, {"batch_norm": False}, {"hidden": ()}])
def test_gradcheck_of_smoothed_labels_passes(alpha, method, options):
    net = checked_network(**options)
    report = check_network(net, *samples(), 0.1, label_smoothing=alpha, method=method)
    assert report.passed, report.reason
    assert report.settings["label_smoothing"] == alpha


def test_gradcheck_of_a_gradient_that_forgets_the_smoothing_fails():
    net = checked_network()

    def forgetful(entropy: Any, *rest: Any) -> None:
        before = entropy.g.copy()
        original(entropy, *rest)
        entropy.g[...] = before

    original = net.ops.smooth_labels
    net.ops = net.ops._replace(smooth_labels=forgetful)
    assert check_network(net, *samples(), 0.1).passed  # without smoothing, nothing is forgotten
    report = check_network(net, *samples(), 0.1, label_smoothing=0.1)
    assert not report.passed
    assert "b3" in report.reason


def test_gradcheck_of_a_cost_that_forgets_the_smoothing_fails():
    net = checked_network()

    def forgetful(entropy: Any, *rest: Any) -> None:
        before = entropy.losses.copy()
        original(entropy, *rest)
        entropy.losses[...] = before

    original = net.ops.smooth_labels
    net.ops = net.ops._replace(smooth_labels=forgetful)
    report = check_network(net, *samples(), 0.1, label_smoothing=0.1)
    assert not report.passed
    assert "own cost" in report.reason


def test_sweep_of_smoothed_labels_has_small_errors_of_small_steps():
    net, (x, labels) = checked_network(), samples()
    for alpha in (0.0, 0.2):
        rows = sweep_h(net, x, labels, 0.1, label_smoothing=alpha, steps=(1e-2, 1e-5), entries=20)
        errors = {row["h"]: row["median"] for row in rows if row["kind"] == "all"}
        assert errors[1e-5] < 1e-7 < errors[1e-2]


@pytest.mark.parametrize("alpha", [1, 1.5, -0.1, "some", float("nan")])
def test_smoothing_out_of_its_range_is_refused(alpha):
    for refuse in (
        lambda: xpnet.TrainConfig(label_smoothing=alpha),
        lambda: check_network(checked_network(), *samples(), label_smoothing=alpha),
    ):
        with pytest.raises(
            ConfigError, match=r"^label_smoothing = .*: must be a finite number of at least 0 and below"
        ):
            refuse()


def test_smoothing_for_another_number_of_replicas_is_refused(blobs):
    with pytest.raises(ConfigError, match=r"^label_smoothing: has 2 values for 3 replicas; give one, or one for each$"):
        xpnet.train(network(3), blobs, xpnet.TrainConfig(epochs=1, label_smoothing=(0, 0.1)))
