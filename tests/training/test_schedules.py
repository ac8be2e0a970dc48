"""Learning rates at the steps where they are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xpnet
from xpnet.training.schedules import FIRST_RATE, constant, cosine, learning_rates, step_decay, triangular


def test_triangular_at_its_corners_has_the_known_rates():
    t = np.array([0, 1, 499, 500, 501, 999, 1000, 1500])
    step = (0.1 - 1e-5) / 500
    expected = [1e-5, 1e-5 + step, 0.1 - step, 0.1, 0.1 - step, 1e-5 + step, 1e-5, 0.1]
    np.testing.assert_allclose(triangular(t, 1e-5, 0.1, 500), expected, rtol=1e-12)


@given(st.integers(1, 1000), st.integers(0, 100_000), st.floats(0, 1), st.floats(0, 1))
def test_triangular_is_periodic_symmetric_and_bounded(n_s, t, a, b):
    low, high = min(a, b), max(a, b)
    eta = triangular(t, low, high, n_s)
    assert low - 1e-15 <= eta <= high + 1e-15
    assert eta == pytest.approx(triangular(t + 2 * n_s, low, high, n_s))
    assert eta == pytest.approx(triangular(2 * n_s - t % (2 * n_s), low, high, n_s))


def test_other_schedules_have_the_known_rates():
    np.testing.assert_allclose(step_decay([0, 9, 10, 25], 0.1, 0.5, 10), [0.1, 0.1, 0.05, 0.025])
    np.testing.assert_allclose(constant([0, 5], 0.3), [0.3, 0.3])
    np.testing.assert_allclose(cosine([0, 50, 100], 0.1, 0.02, 100), [0.1, 0.06, 0.02])


@pytest.mark.parametrize(
    ("settings", "first", "last"),
    [
        ({"n_s": "2ep", "cycles": 1}, (1e-5, 1e-5), 1e-5 + (0.1 - 1e-5) / 20),
        ({"schedule": "decay", "eta": 0.1, "decay": 0.9, "epochs": 3}, (0.1, 0.1), 0.1 * 0.81),
        ({"schedule": "constant", "eta": (0.1, 0.2), "epochs": 2}, (0.1, 0.2), 0.1),
        ({"schedule": "cosine", "eta": 0.1, "eta_min": 0.0, "epochs": 2}, (0.1, 0.1), 0.05 * (1 - np.cos(np.pi / 20))),
    ],
)
def test_learning_rates_of_a_run_begin_and_end_as_known(settings, first, last):
    config = xpnet.TrainConfig(batch_size=10, **settings)
    rates = learning_rates(config, config.length(100), 2)
    assert rates.shape == (config.length(100).steps, 2)
    np.testing.assert_allclose(rates[0], first)
    np.testing.assert_array_equal(rates[0], getattr(config, FIRST_RATE[config.schedule]))
    assert rates[-1, 0] == pytest.approx(last)


def test_length_of_a_training_in_steps_and_epochs():
    config = xpnet.TrainConfig(n_s=2250, cycles=2)
    length = config.length(45_000)
    assert (length.steps, length.steps_per_epoch, length.epochs) == (9000, 450, 20)
    assert xpnet.TrainConfig(n_s="5ep").length(45_000) == length
    assert xpnet.TrainConfig(epochs=3, batch_size=64).length(100).steps == 6
    assert xpnet.TrainConfig(epochs=3, batch_size=64, drop_last=True).length(100).steps == 3
    assert xpnet.TrainConfig(schedule="constant").length(1000).epochs == 20
