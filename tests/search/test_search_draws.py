"""Points of a space, and the range of a finer round."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpnet.errors import ConfigError
from xpnet.search.draws import EVEN, RANDOM, draw
from xpnet.search.refine import refined
from xpnet.search.space import Space


@given(st.sampled_from(EVEN + RANDOM), st.integers(1, 40), st.integers(0, 2**40), st.integers(0, 3))
def test_draws_are_a_function_of_the_seed_and_lie_in_the_space(how, count, seed, path):
    space = Space.of({"lambda": (1e-5, 1e-1), "width": (3, 9), "eta": (0.01, 0.4)})
    points = draw(space, how, count, seed, path)
    assert points == draw(space, how, count, seed, path)
    assert 1 <= len(points) <= count
    for point in points:
        for dimension in space.dimensions:
            assert dimension.low <= point[dimension.name] <= dimension.high
    if how in RANDOM:
        assert len(points) == count
        assert points != draw(space, how, count, seed + 1, path)
        assert points != draw(space, how, count, seed, path + 1)


def test_random_draws_are_even_on_their_scale():
    space = Space.of({"lambda": (1e-5, 1e-1), "momentum": (0.0, 0.8), "width": (1, 4)})
    points = draw(space, "random", 4000, 1)
    exponents = np.log10([point["lambda"] for point in points])
    np.testing.assert_allclose(np.histogram(exponents, bins=4, range=(-5, -1))[0] / 4000, 0.25, atol=0.03)
    momenta = [point["momentum"] for point in points]
    np.testing.assert_allclose(np.histogram(momenta, bins=4, range=(0, 0.8))[0] / 4000, 0.25, atol=0.03)
    uniform = [point["lambda"] for point in draw(space, "uniform", 4000, 1)]
    assert np.mean(uniform) == pytest.approx(0.05, abs=0.002)
    # Whole numbers on an even scale are equally likely, the ends too.
    widths = [point["width"] for point in draw(space, "uniform", 4000, 1)]
    np.testing.assert_allclose(np.bincount(widths)[1:] / 4000, 0.25, atol=0.03)
    picks = [point["lambda"] for point in draw(Space.of("lambda=0,1e-3,1e-2"), "random", 3000, 1)]
    np.testing.assert_allclose([picks.count(value) / 3000 for value in (0, 1e-3, 1e-2)], 1 / 3, atol=0.04)


def test_a_sobol_sequence_leaves_no_gaps():
    points = draw(Space.of({"lambda": (1e-5, 1e-1), "momentum": (0.0, 0.8)}), "sobol", 16, 3)
    cells = {(int(np.log10(p["lambda"]) + 5), int(p["momentum"] / 0.2)) for p in points}
    assert len(cells) == 16  # one in each of 4 x 4
    assert len(draw(Space.of("lambda"), "sobol", 5, 3)) == 5


def test_grids_are_the_product_and_no_larger_than_asked_for():
    space = Space.of({"lambda": (1e-5, 1e-1), "eta": (0.01, 0.1)})
    points = draw(space, "log-grid", 20, 0)
    assert len(points) == 16
    np.testing.assert_allclose(sorted({p["lambda"] for p in points}), np.geomspace(1e-5, 1e-1, 4), rtol=1e-12)
    points = draw(space, "grid", 9, 0)
    np.testing.assert_allclose(sorted({p["eta"] for p in points}), [0.01, 0.055, 0.1], rtol=1e-12)
    with_list = draw(Space.of({"lambda": (1e-5, 1e-1), "width": [10, 20, 30]}), "log-grid", 10, 0)
    assert len(with_list) == 9
    assert draw(Space.of("depth=1..3"), "grid", 10, 0) == [{"depth": 1}, {"depth": 2}, {"depth": 3}]
    assert draw(Space.of("lambda"), "log-grid", 1, 0) == [{"lambda": pytest.approx(1e-3)}]
    with pytest.raises(ConfigError, match="have 3 combinations"):
        draw(Space.of("lambda=0,1e-3,1e-2"), "grid", 2, 0)


def test_linspace_advances_all_together():
    points = draw(Space.of({"eta": (0.1, 0.3), "momentum": (0.0, 0.8), "width": [5, 6]}), "linspace", 3, 0)
    assert [point["width"] for point in points] == [5, 5, 6]
    np.testing.assert_allclose([point["eta"] for point in points], [0.1, 0.2, 0.3])
    np.testing.assert_allclose([point["momentum"] for point in points], [0.0, 0.4, 0.8])


@pytest.mark.parametrize("how", ["log-grid", "log-uniform"])
def test_zero_has_no_exponent(how):
    with pytest.raises(ConfigError, match="has no exponent"):
        draw(Space.of("momentum"), how, 5, 0)


def scored(**columns):
    names = [name for name in columns if name != "score"]
    return [
        (dict(zip(names, values, strict=True)), score)
        for *values, score in zip(*(columns[n] for n in names), columns["score"], strict=True)
    ]


def test_the_rule_of_report_a():
    # Best at 10^-3, second at 10^-2.4: the exponents of the next round are -3 ± 0.6.
    found = scored(**{"lambda": [1e-3, 10**-2.4, 1e-5, 1e-1]}, score=[0.53, 0.52, 0.5, 0.3])
    (dimension,) = refined(Space.of("lambda"), found, "two-best", 3).dimensions
    assert np.log10([dimension.low, dimension.high]) == pytest.approx([-3.6, -2.4])
    # It may leave the range, as the report's does.
    found = scored(**{"lambda": [1e-1, 1e-3]}, score=[0.5, 0.4])
    (dimension,) = refined(Space.of("lambda"), found, "two-best", 3).dimensions
    assert np.log10([dimension.low, dimension.high]) == pytest.approx([-3, 1])
    # A share stays one.
    found = scored(momentum=[0.9, 0.5], score=[0.5, 0.4])
    (dimension,) = refined(Space.of("momentum"), found, "two-best", 3).dimensions
    assert (dimension.low, dimension.high) == (0.5, pytest.approx(0.999))


def test_around_the_k_best():
    values = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
    found = scored(**{"lambda": values}, score=[0.1, 0.3, 0.5, 0.4, 0.2])
    (dimension,) = refined(Space.of("lambda"), found, "k-best", 2).dimensions
    assert (dimension.low, dimension.high) == pytest.approx((1e-4, 1e-1))
    # At the edge it stays within what was asked for.
    found = scored(**{"lambda": values}, score=[0.1, 0.2, 0.3, 0.4, 0.5])
    (dimension,) = refined(Space.of("lambda"), found, "k-best", 2).dimensions
    assert (dimension.low, dimension.high) == pytest.approx((1e-3, 1e-1))


def test_lists_keep_what_the_best_have_and_agreement_reaches_to_the_neighbours():
    space = Space.of({"width": [10, 20, 30], "lambda": (1e-5, 1e-1)})
    found = scored(width=[10, 20, 30, 20], **{"lambda": [1e-3, 1e-3, 1e-4, 1e-2]}, score=[0.5, 0.6, 0.2, 0.1])
    width, lam = refined(space, found, "two-best", 3).dimensions
    assert width.values == (10, 20)
    assert (lam.low, lam.high) == pytest.approx((1e-4, 1e-2))
    assert refined(space, found[:1], "two-best", 3) == space


def test_whole_numbers_stay_whole():
    found = scored(width=[40, 60, 10], score=[0.6, 0.5, 0.1])
    (dimension,) = refined(Space.of("width"), found, "two-best", 3).dimensions
    assert dimension.low == int(dimension.low) >= 1
    assert dimension.low <= 40 * 40 / 60
    assert dimension.high >= 60
    found = scored(depth=[1, 2], score=[0.6, 0.5])
    (dimension,) = refined(Space.of("depth"), found, "two-best", 3).dimensions
    assert (dimension.low, dimension.high) == (1, 2)
