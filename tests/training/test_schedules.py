"""Learning rates at the steps where they are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xpnet
from xpnet.config.cycles import cycle_ends, steps_of_cycles
from xpnet.errors import ConfigError
from xpnet.training.schedules import (
    FIRST_RATE,
    constant,
    cosine,
    cosine_restarts,
    coslog4,
    learning_rates,
    one_cycle,
    step_decay,
    triangular,
)


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
    ("warmup", "anneal", "expected"),
    [
        (0.2, "linear", [0.25, 0.75, 15 / 16, 13 / 16, 11 / 16, 9 / 16, 7 / 16, 5 / 16, 3 / 16, 1 / 16]),
        (0.2, "cosine", [0.25, 0.75, *((1 + np.cos(np.pi * (i + 0.5) / 8)) / 2 for i in range(8))]),
        (0.0, "linear", [(19 - 2 * i) / 20 for i in range(10)]),
        (0.0, "cosine", [(1 + np.cos(np.pi * (i + 0.5) / 10)) / 2 for i in range(10)]),
    ],
)
def test_one_cycle_has_the_known_rates(warmup, anneal, expected):
    np.testing.assert_allclose(one_cycle(np.arange(10), 0.0, 1.0, 10, warmup, anneal), expected, rtol=1e-12)
    scaled = one_cycle(np.arange(10)[:, None], [0.02, 0.0], [0.1, 0.5], 10, warmup, anneal)
    np.testing.assert_allclose(scaled, np.transpose([0.02 + 0.08 * np.array(expected), 0.5 * np.array(expected)]))
    config = xpnet.TrainConfig(
        schedule="one-cycle", eta_min=0.02, eta_max=0.1, warmup=warmup, anneal=anneal, epochs=2.5, batch_size=25
    )
    rates = learning_rates(config, config.length(100), 2)
    np.testing.assert_allclose(rates[:, 0], scaled[:, 0])
    np.testing.assert_array_equal(rates[:, 0], rates[:, 1])


anneals = st.sampled_from(["linear", "cosine"])


@given(st.integers(1, 5000), st.floats(0, 0.999), anneals, st.integers(0, 9), st.integers(0, 9))
def test_one_cycle_rises_and_falls_once_within_its_bounds(steps, warmup, anneal, a, b):
    low, high = min(a, b), max(a, b)
    eta = one_cycle(np.arange(steps), low, high, steps, warmup, anneal)
    assert ((eta >= low - 1e-12) & (eta <= high + 1e-12)).all()
    peak, change = int(eta.argmax()), np.diff(eta)
    assert (change[:peak] >= -1e-12).all()
    assert (change[peak:] <= 1e-12).all()
    if high > low:
        assert abs(peak + 0.5 - warmup * steps) <= 1 + 1e-9


def test_cosine_restarts_at_known_steps_has_the_known_rates():
    t = np.array([0, 5, 9, 10, 20, 29, 30, 50, 70])  # cycles of 10, 20 and 40 steps
    falls = (1 + np.cos(np.pi * np.array([0, 0.5, 0.9, 0, 0.5, 0.95, 0, 0.5, 0]))) / 2
    np.testing.assert_allclose(cosine_restarts(t, 0.5, 0.1, 10, 2), 0.1 + 0.4 * falls, rtol=1e-12)
    config = xpnet.TrainConfig(
        schedule="cosine-restarts", n_s=5, restart_factor=2, cycles=3, eta=(0.5, 1), eta_min=0.1, batch_size=10
    )
    length = config.length(100)
    assert length.steps == 70
    rates = learning_rates(config, length, 2)
    np.testing.assert_allclose(rates[t[:-1], 0], 0.1 + 0.4 * falls[:-1], rtol=1e-12)
    np.testing.assert_allclose(rates[:, 1], 0.1 + 0.9 * (rates[:, 0] - 0.1) / 0.4, rtol=1e-12)


@given(st.integers(2, 50), st.floats(1, 3), st.integers(1, 6))
def test_cosine_restarts_begin_again_at_the_end_of_each_cycle(first, factor, cycles):
    steps = steps_of_cycles(first, factor, cycles, 10**8)
    eta = cosine_restarts(np.arange(steps), 1.0, 0.0, first, factor)
    ends = cycle_ends(first, factor, steps)
    assert len(ends) == cycles - 1
    assert eta[[0, *ends]].tolist() == [1.0] * cycles
    assert np.flatnonzero(np.diff(eta) > 0).tolist() == [end - 1 for end in ends]
    lengths = np.diff([0, *ends, steps])
    np.testing.assert_allclose(lengths, first * factor ** np.arange(cycles), atol=0.5 + 1e-9)


def test_coslog4_has_four_waves_each_twice_as_long():
    eta = coslog4(np.arange(15_000), 0.3, 15_000)
    peaks = np.flatnonzero((eta[1:-1] > eta[:-2]) & (eta[1:-1] >= eta[2:])) + 1
    np.testing.assert_allclose(eta[peaks], 0.3, rtol=1e-6)
    np.testing.assert_allclose(peaks, [1000 * (2 ** (wave + 0.5) - 1) for wave in range(4)], atol=1)
    ends = [1000, 3000, 7000]
    assert (eta[[0, *ends, -1]] < 1e-5).all()
    assert eta[0] > 0
    config = xpnet.TrainConfig(schedule="coslog4", eta=(0.3, 0.6), epochs=1500, batch_size=10)
    np.testing.assert_allclose(learning_rates(config, config.length(100), 2), eta[:, None] * [1, 2], rtol=1e-12)


def test_steps_of_cycles_are_refused_before_they_are_counted():
    assert steps_of_cycles(10, 1, 2**53, 100) > 100
    assert steps_of_cycles(10, 3, 60, 10**8) > 10**8
    for cycles in (2**53, 60):
        config = xpnet.TrainConfig(schedule="cosine-restarts", n_s=1, restart_factor=2, cycles=cycles)
        with pytest.raises(ConfigError, match=r"^epochs, cycles, n_s: make [\d,]+ steps, and may make 100,000,000$"):
            config.length(100)


def test_settings_of_one_schedule_have_no_effect_on_another():
    for name, value in (("warmup", 0.3), ("anneal", "linear")):
        message = rf"^{name} = {value}: has no effect on the schedule cosine, which is set by eta, eta_min$"
        with pytest.raises(ConfigError, match=message):
            xpnet.Settings.from_mapping({"schedule": "cosine", name: value})
    with pytest.raises(
        ConfigError, match=r"^eta = 0\.1: has no effect on the schedule one-cycle, which is set by eta_min"
    ):
        xpnet.Settings.from_mapping({"schedule": "one-cycle", "eta": 0.1})
    with pytest.raises(ConfigError, match=r"^eta_min = 0\.2, eta_max = 0\.1: eta_min must be at most eta_max$"):
        xpnet.TrainConfig(schedule="one-cycle", eta_min=0.2)
    with pytest.raises(ConfigError, match=r"^cycles = 2: the schedule one-cycle has no cycles; set epochs$"):
        xpnet.TrainConfig(schedule="one-cycle", cycles=2)
    with pytest.raises(ConfigError, match=r"^restart_factor = 0\.5: must be a finite number of at least 1$"):
        xpnet.TrainConfig(schedule="cosine-restarts", restart_factor=0.5)
    with pytest.raises(ConfigError, match=r"^restart_factor = 2: has no effect on the schedule triangular, which is"):
        xpnet.Settings.from_mapping({"restart_factor": 2})
    for schedule, name in (("coslog4", "eta_min"), ("cosine-restarts", "eta_max")):
        with pytest.raises(ConfigError, match=rf"^{name} = 0\.001: has no effect on the schedule {schedule}, which"):
            xpnet.Settings.from_mapping({"schedule": schedule, name: 0.001})
    with pytest.raises(ConfigError, match=r"^cycles = 2: the schedule coslog4 has no cycles; set epochs$"):
        xpnet.TrainConfig(schedule="coslog4", cycles=2)
    for warmup in (-0.1, 1, "half"):
        with pytest.raises(ConfigError, match=r"^warmup = .*: must be a finite number of at least 0 and below 1$"):
            xpnet.TrainConfig(schedule="one-cycle", warmup=warmup)


@pytest.mark.parametrize(
    ("epochs", "steps", "begun"),
    [(3, 30, 3), (3.0, 30, 3), (2.5, 25, 3), (2.6, 26, 3), (0.5, 5, 1), (0.01, 1, 1), (2.04, 20, 2), (1e-9, 1, 1)],
)
def test_epochs_in_parts_end_within_an_epoch(epochs, steps, begun):
    config = xpnet.TrainConfig(epochs=epochs, batch_size=10)
    length = config.length(95)
    assert (length.steps, length.epochs, length.steps_per_epoch) == (steps, begun, 10)
    assert isinstance(config.epochs, int if epochs == int(epochs) else float)


@pytest.mark.parametrize("epochs", [0, -1, float("nan"), float("inf"), "some", True, 2.0**54])
def test_epochs_that_are_no_length_are_refused(epochs):
    with pytest.raises(ConfigError, match=r"^epochs = .*: must be a (finite )?number above 0"):
        xpnet.TrainConfig(epochs=epochs)


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
