"""Scores of predicted probabilities, compared with scikit-learn's, and the importance of features."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

import xpnet
from xpnet.analysis.scores import areas_under_roc, calibration, f1_scores, log_loss, permutation_importance


@given(st.integers(2, 5), st.integers(10, 80), st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=15, deadline=None)
def test_scores_are_those_of_scikit_learn(classes: int, n: int, seed: int, coarse: bool):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(classes), n)
    p = np.round(p, 1) if coarse else p  # ties
    labels = rng.integers(0, classes, n)
    predicted = p.argmax(axis=1)
    confusion = metrics.confusion_matrix(labels, predicted, labels=range(classes))
    expected = metrics.f1_score(labels, predicted, labels=range(classes), average=None, zero_division=np.nan)
    known = confusion.sum(axis=0) + confusion.sum(axis=1) > 0
    np.testing.assert_allclose(f1_scores(confusion)[known], np.nan_to_num(expected)[known])
    for c, area in enumerate(areas_under_roc(p, labels)):
        own = labels == c
        if own.any() and not own.all():
            assert area == pytest.approx(metrics.roc_auc_score(own, p[:, c]))
        else:
            assert np.isnan(area)
    rows = p / p.sum(axis=1, keepdims=True)
    assert log_loss(rows, labels) == pytest.approx(-np.log(np.maximum(rows[np.arange(n), labels], 1e-15)).mean())


def test_calibration_of_known_shares():
    p = np.array([[0.95, 0.05]] * 10 + [[0.65, 0.35]] * 10)
    labels = np.array([0] * 9 + [1] + [0] * 5 + [1] * 5)
    found = calibration(p, labels)
    assert (found.samples.tolist(), found.confidence.tolist()) == ([10, 10], pytest.approx([0.65, 0.95]))
    assert found.accuracy.tolist() == pytest.approx([0.5, 0.9])
    assert found.error == pytest.approx((0.15 + 0.05) / 2)
    assert found.bias == pytest.approx(0.8 - 0.7)


def test_importance_is_that_of_the_feature_that_decides():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 4)).astype(np.float32)
    data = xpnet.data_from_arrays(x, (x[:, 2] > 0).astype(int))
    network = xpnet.Network(xpnet.NetworkConfig(inputs=4, classes=2, hidden=(8,)), replicas=2, seed=0)
    xpnet.train(network, data, xpnet.TrainConfig(batch_size=20, epochs=15))
    found = permutation_importance(network, data.test.x, np.asarray(data.test.labels))
    assert found is not None
    assert found.loss.argmax() == 2
    assert found.loss[2] > 0.25
    assert abs(np.delete(found.loss, 2)).max() < 0.15
    assert (found.spread >= 0).all()
    wide = np.zeros((1000, 700), np.float32)
    assert permutation_importance(network, wide, np.zeros(1000, int)) is None
