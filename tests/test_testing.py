"""xpnet.testing: gradient checks of people's own functions."""

from __future__ import annotations

import numpy as np
import pytest

from xpnet.errors import ArrayError, ConfigError
from xpnet.testing import assert_gradients, check_gradients

x = np.random.default_rng(0).standard_normal((3, 4))


def test_right_gradient_passes():
    report = check_gradients(lambda x: np.sum(np.sin(x)), np.cos, x)
    assert report.passed
    assert report.checked == 12
    assert report.max_relative_error < 1e-8
    assert check_gradients(lambda x: np.sum(np.sin(x)), np.cos(x), x).passed


def test_wrong_gradient_fails_and_says_where():
    def wrong(x):
        g = np.cos(x)
        g[1, 2] += 0.1
        return g

    report = check_gradients(lambda x: np.sum(np.sin(x)), wrong, x)
    assert not report.passed
    assert report.at == (1, 2)
    assert report.failing == 1
    with pytest.raises(AssertionError, match=r"gradient of weights: 1 of 12 entries are wrong; the worst is \[1, 2\]"):
        assert_gradients(lambda x: np.sum(np.sin(x)), wrong, x, name="weights")
    assert_gradients(lambda x: np.sum(np.sin(x)), np.cos, x)


def test_terms_have_less_round_off_than_their_mean():
    target = np.random.default_rng(1).standard_normal((1000, 4))

    def terms(w):
        return 1e3 + ((target - w) ** 2).sum(axis=1)

    def gradient(w):
        return 2 * (w - target).mean(axis=0)

    by_terms = check_gradients(terms, gradient, x[0])
    by_mean = check_gradients(lambda w: terms(w).mean(), gradient, x[0])
    assert by_terms.passed
    assert by_terms.max_absolute_error < by_mean.max_absolute_error


def test_curvature_shrinks_the_step():
    report = check_gradients(lambda x: np.sum(np.sin(5e3 * x)), lambda x: 5e3 * np.cos(5e3 * x), x)
    assert report.passed
    assert report.smaller_steps > 0


def test_sample():
    assert check_gradients(lambda x: np.sum(x**2), lambda x: 2 * x, x, coverage=5).checked == 5


def test_what_is_wrong_is_said():
    with pytest.raises(ArrayError, match="float32"):
        check_gradients(np.sum, np.ones_like, x.astype(np.float32))
    with pytest.raises(ArrayError, match="gradient: has shape"):
        check_gradients(np.sum, np.ones(3), x)
    with pytest.raises(ConfigError, match="h = 0"):
        check_gradients(np.sum, np.ones_like, x, h=0)
