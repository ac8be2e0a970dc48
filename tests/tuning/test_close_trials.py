"""Whether chance tells the best trials of a search apart."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpnet.tuning.close_trials import close_trials


def test_margin_of_single_seeds_is_two_standard_errors_of_a_difference_on_the_samples():
    close = close_trials([0.60, 0.59, 0.57], [None] * 3, 1, 1000)
    assert close is not None
    assert close.margin == pytest.approx(2 * math.sqrt(2 * 0.6 * 0.4 / 1000))  # 4.4 points
    assert (close.count, close.difference) == (3, pytest.approx(0.03))
    conclusion = close.conclusion()
    assert conclusion is not None
    assert conclusion.rule == "alike"
    assert "All 3 complete trials cannot be told apart: they are within 3.0 points, and two equally" in conclusion.text
    assert "differ by up to 4.4 points on 1,000 validation samples, in 19 of 20 cases." in conclusion.text
    assert "(--runs 5)" in conclusion.text


def test_margin_of_several_seeds_is_that_of_their_spread_over_all_trials():
    close = close_trials([0.60, 0.595, 0.55, 0.5], [0.003, 0.004, 0.005, 0.006], 4, 10**9)
    assert close is not None
    deviation = math.sqrt((9 + 16 + 25 + 36) / 4) / 1000
    assert close.margin == pytest.approx(2 * deviation * math.sqrt(2 / 4))
    assert close.count == 2
    conclusion = close.conclusion()
    assert conclusion is not None
    assert "The best 2 of 4 complete trials" in conclusion.text
    assert "the spread over 4 seeds explains 0.7 points" in conclusion.text
    assert "(--runs 8)" in conclusion.text


def test_best_trial_that_stands_out_is_no_conclusion():
    close = close_trials([0.60, 0.50], [None, None], 1, 5000)
    assert close is not None
    assert close.count == 1
    assert close.conclusion() is None
    assert close_trials([], [], 1, 5000) is None
    assert close_trials([0.5, 0.5], [None, None], 1, None) is None


@given(st.floats(0.2, 0.8), st.integers(100, 10_000), st.integers(0, 2**32 - 1))
def test_networks_that_are_equally_good_are_rarely_told_apart(p: float, samples: int, seed: int):
    """Of two networks with one accuracy, the better is outside the margin in about 5 % of the cases."""
    drawn = np.random.default_rng(seed).binomial(samples, p, (200, 2)) / samples
    closes = [close_trials(sorted(pair, reverse=True), [None, None], 1, samples) for pair in drawn.tolist()]
    assert sum(close is not None and close.count == 1 for close in closes) < 30
