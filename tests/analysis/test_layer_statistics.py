"""Layer statistics against numbers known by hand and against the network's own gradients."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from strict import strict_backend

import xpnet
from xpnet.analysis.layer_statistics import MEASURES
from xpnet.errors import ArrayError, ConfigError

CONFIG = xpnet.NetworkConfig(inputs=12, hidden=(7, 5), classes=4)


def batch(n=40, d=12, dtype="float64"):
    rng = np.random.default_rng(3)
    return rng.standard_normal((n, d)).astype(dtype), np.arange(n) % 4


def by_hand(hidden, *, W, b, classes=2):
    """Return a network without BN in float64 whose parameters are given."""
    config = xpnet.NetworkConfig(inputs=len(W[0]), hidden=hidden, classes=classes, batch_norm=False)
    net = xpnet.Network(config, dtype="float64")
    for number, (weights, biases) in enumerate(zip(W, b, strict=True), start=1):
        net.parameters[f"W{number}"] = np.array(weights, float)[None]
        net.parameters[f"b{number}"] = np.array(biases, float)[None, None]
    return net


def test_scales_dead_units_and_inactive_entries_of_a_network_made_by_hand():
    # Units: x, -x, always negative, always positive.
    net = by_hand((4,), W=[[[1, -1, 0, 0]], np.zeros((4, 2))], b=[[0, 0, -1, 2], [0.5, -0.5]])
    x = np.array([[1.0], [2.0], [-1.0], [4.0]])
    found = xpnet.diagnose(net, x, np.array([0, 1, 1, 0]))
    s = np.array([[1, -1, -1, 2], [2, -2, -1, 2], [-1, 1, -1, 2], [4, -4, -1, 2.0]])
    y = np.maximum(s, 0)
    assert found.s_std[0, 0] == pytest.approx(s.std(), rel=1e-14)
    assert found.s_spread[0, 0] == pytest.approx(np.sqrt(s.var(axis=0).mean()), rel=1e-14)
    assert found.y_mean[0, 0] == pytest.approx(y.mean(), rel=1e-14)
    assert found.y_std[0, 0] == pytest.approx(y.std(), rel=1e-14)
    assert found.dead[0, 0] == 1 / 4
    assert found.inactive[0, 0] == (y == 0).mean() == 8 / 16
    assert found.W_rms[0].tolist() == [pytest.approx(np.sqrt(0.5)), 0]
    assert found.relative_spread[0, 0] == pytest.approx(
        np.sqrt((y.std(axis=0) ** 2).mean() / (y.mean(axis=0) ** 2).mean()), rel=1e-14
    )
    # The scores are the last bias, whatever the sample is.
    assert found.y_mean[0, 1] == 0
    assert found.y_std[0, 1] == found.s_std[0, 1] == 0.5
    assert found.s_spread[0, 1] == found.relative_spread[0, 1] == 0
    assert found.similarity[0, 1] == pytest.approx(1, rel=1e-14)
    assert found.effective_rank[0, 1] == pytest.approx(1, rel=1e-6)
    assert np.isnan([found.dead[0, 1], found.inactive[0, 1], found.update_ratio[0, 1]]).all()
    assert found.predicted.tolist() == [1]
    assert found.accuracy.tolist() == [0.5]
    assert found.loss[0] == pytest.approx(np.log(1 + np.exp(-1)) / 2 + np.log(1 + np.exp(1)) / 2)


def test_samples_that_are_all_the_same_have_a_spread_of_exactly_zero():
    # The mean of seven times 0.1 is not 0.1 in floating point.
    net = by_hand((2,), W=[[[0.1, 0.7]], [[0.3, 0.1], [0.9, 0.7]]], b=[[0, 0], [0, 0.3]])
    found = xpnet.diagnose(net, np.full((7, 1), 0.1), np.zeros(7, int))
    assert found.s_spread.tolist() == found.relative_spread.tolist() == [[0, 0]]
    np.testing.assert_allclose(found.similarity, 1, rtol=1e-14)


@pytest.mark.parametrize("samples", [3, 6])
def test_effective_rank_and_similarity_are_those_of_the_definition(samples):
    # More units than samples and fewer: both forms of the product.
    rng = np.random.default_rng(0)
    net = by_hand((5,), W=[rng.standard_normal((4, 5)), rng.standard_normal((5, 2))], b=[np.ones(5), [0, 0]])
    x = rng.standard_normal((samples, 4))
    found = xpnet.diagnose(net, x, np.zeros(samples, int))
    y = np.maximum(x @ net.parameters["W1"][0] + 1, 0)
    for layer, out in enumerate((y, y @ net.parameters["W2"][0])):
        singular = np.linalg.svd(out, compute_uv=False)
        p = singular[singular > 1e-12] / singular.sum()
        assert found.effective_rank[0, layer] == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-6)
        unit = out / np.linalg.norm(out, axis=1, keepdims=True)
        pairs = (unit @ unit.T)[~np.eye(samples, dtype=bool)]
        assert found.similarity[0, layer] == pytest.approx(pairs.mean(), rel=1e-12)


def test_rank_of_orthogonal_outputs_is_full_and_tiny_outputs_are_no_different():
    for scale in (1.0, 1e-200):
        net = by_hand((3,), W=[scale * np.eye(3), np.eye(3)], b=[[0] * 3, [0] * 3], classes=3)
        found = xpnet.diagnose(net, np.eye(3), np.arange(3))
        np.testing.assert_allclose(found.effective_rank[0], 3, rtol=1e-12)
        np.testing.assert_allclose(found.similarity[0], 0, atol=1e-15)
        assert found.s_std[0, 0] == pytest.approx(scale * np.eye(3).std(), rel=1e-6)
    net = by_hand((3,), W=[np.ones((3, 3)), np.ones((3, 3))], b=[[0] * 3, [0] * 3], classes=3)
    found = xpnet.diagnose(net, np.array([[1.0, 2, 3], [2, 4, 6], [0, 0, 1]]), np.arange(3))
    np.testing.assert_allclose(found.effective_rank[0], 1, rtol=1e-6)
    np.testing.assert_allclose(found.similarity[0], 1, rtol=1e-12)


def test_outputs_that_are_all_zero_have_no_rank_and_samples_without_outputs_no_direction():
    net = by_hand((2,), W=[[[1, 1]], np.ones((2, 2))], b=[[0, 0], [0, 0]])
    found = xpnet.diagnose(net, np.array([[-1.0], [-2.0]]), np.array([0, 1]))
    for name in ("effective_rank", "similarity", "relative_spread"):
        assert np.isnan(getattr(found, name)).all(), name
    assert found.dead[0, 0] == found.inactive[0, 0] == 1
    found = xpnet.diagnose(net, np.array([[1.0], [-2.0], [3.0]]), np.array([0, 1, 1]))
    assert found.similarity[0, 0] == pytest.approx(1, rel=1e-14)
    assert found.inactive[0, 0] == pytest.approx(1 / 3)


@pytest.mark.parametrize("batch_norm", [True, False])
def test_gradients_are_those_of_the_network(batch_norm):
    net = xpnet.Network(dataclasses.replace(CONFIG, batch_norm=batch_norm), dtype="float64", seed=[3, 4])
    x, labels = batch()
    lam, eta = np.array([0.1, 0.3]), np.array([0.5, 2.0])
    _, gradients = net.cost_and_gradients(x, labels, lam)
    before = {name: p.copy() for name, p in net.parameters.items()}
    found = xpnet.diagnose(net, x, labels, lam, eta)
    for layer in range(3):
        g, W = gradients[f"W{layer + 1}"], net.parameters[f"W{layer + 1}"]
        rms, size = (np.sqrt((v**2).mean(axis=(1, 2))) for v in (g, W))
        np.testing.assert_allclose(found.W_gradient_rms[:, layer], rms, rtol=1e-12)
        np.testing.assert_allclose(found.update_ratio[:, layer], eta * rms / size, rtol=1e-12)
    assert all(np.array_equal(before[name], p) for name, p in net.parameters.items())
    # dJ/ds of the first layer by its definition: x is square and invertible here, so x' g gives g back.
    square, labels = batch(12)
    _, gradients = net.cost_and_gradients(square, labels)
    g = np.linalg.solve(square.T, gradients["W1"])
    found = xpnet.diagnose(net, square, labels)
    np.testing.assert_allclose(found.gradient_rms[:, 0], np.sqrt((g**2).mean(axis=(1, 2))), rtol=1e-9)
    logits = square
    for number in (1, 2, 3):
        s = logits @ net.parameters[f"W{number}"] + net.parameters.get(f"b{number}", 0)
        np.testing.assert_allclose(found.s_std[:, number - 1], s.std(axis=(1, 2)), rtol=1e-10)
        if batch_norm:
            logits = np.maximum((s - s.mean(axis=1, keepdims=True)) / np.sqrt(s.var(axis=1, keepdims=True) + 1e-5), 0)
        else:
            logits = np.maximum(s, 0)
    p = np.exp(s) / np.exp(s).sum(axis=2, keepdims=True)
    g = (p - np.eye(4)[labels]) / 12
    np.testing.assert_allclose(found.gradient_rms[:, 2], np.sqrt((g**2).mean(axis=(1, 2))), rtol=1e-10)
    np.testing.assert_allclose(found.loss, -np.log(p[:, np.arange(12), labels]).mean(axis=1), rtol=1e-10)


@pytest.mark.parametrize("shared", [True, False])
def test_a_replica_is_measured_as_alone(shared):
    x, labels = batch()
    together = xpnet.Network(CONFIG, dtype="float64", seed=[3, 4, 5])
    if not shared:
        x, labels = np.stack([x, 2 * x, x + 1]), np.stack([labels, labels, labels[::-1]])
    found = xpnet.diagnose(together, x, labels, np.array([0.0, 0.1, 0.2]), 0.5)
    for r in range(3):
        own = (x, labels) if shared else (x[r], labels[r])
        solo = xpnet.diagnose(xpnet.Network(CONFIG, dtype="float64", seed=3 + r), *own, 0.1 * r, 0.5)
        for name, values in vars(found).items():
            np.testing.assert_allclose(values[r], getattr(solo, name)[0], rtol=1e-10, err_msg=name)


@pytest.mark.parametrize("batch_norm", [True, False])
def test_nothing_of_a_device_is_mixed_with_the_host(batch_norm):
    backend = strict_backend()
    config = dataclasses.replace(CONFIG, batch_norm=batch_norm)
    x, labels = batch()
    there = xpnet.Network(config, backend=backend, dtype="float64", replicas=2)
    found = xpnet.diagnose(there, backend.asarray(x), backend.asarray(labels), 0.1, 0.5)
    here = xpnet.diagnose(xpnet.Network(config, dtype="float64", replicas=2), x, labels, 0.1, 0.5)
    for name, values in vars(found).items():
        assert type(values) is np.ndarray
        np.testing.assert_allclose(values, getattr(here, name), rtol=1e-9, err_msg=name)


def test_float32_is_added_up_in_float64():
    net = xpnet.Network(CONFIG, dtype="float32", seed=1)
    x, labels = batch(dtype="float32")
    found = xpnet.diagnose(net, x, labels)
    W = net.parameters["W1"].astype("float64")
    assert found.W_rms[0, 0] == pytest.approx(np.sqrt((W**2).mean()), rel=1e-14)
    assert all(getattr(found, name).dtype == np.float64 for name in MEASURES)


def test_what_does_not_fit_is_refused():
    net = xpnet.Network(CONFIG, dtype="float64")
    x, labels = batch()
    with pytest.raises(ConfigError, match="x: has 1 sample; a diagnosis compares samples, pass at least 2"):
        xpnet.diagnose(net, x[:1], labels[:1])
    with pytest.raises(ArrayError, match="x: is float32"):
        xpnet.diagnose(net, x.astype("float32"), labels)


def test_one_network_measured_on_a_batch_for_each_of_several():
    # Parameters with R = 1 broadcast against inputs with R > 1.
    net, (x, labels) = xpnet.Network(CONFIG, dtype="float64"), batch()
    found = xpnet.diagnose(net, np.stack([x, 2 * x]), labels)
    assert found.s_std.shape == found.W_rms.shape == (2, 3)
    np.testing.assert_allclose(found.s_std[1, 0], 2 * found.s_std[0, 0])
