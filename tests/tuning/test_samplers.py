"""Points of a space, and the range of a finer round."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpnet.errors import ConfigError
from xpnet.tuning.rounds import refined
from xpnet.tuning.samplers import EVEN, RANDOM, draw
from xpnet.tuning.space import Space


@settings(deadline=None, max_examples=40)  # the first one imports what the others need
@given(st.sampled_from(EVEN + RANDOM), st.integers(1, 40), st.integers(0, 2**40), st.integers(0, 3))
def test_draws_are_a_function_of_the_seed_and_lie_in_the_space(how, count, seed, path):
    space = Space.of({"lambda": (1e-5, 1e-1), "width": (3, 9), "eta": (0.01, 0.4)})
    points = draw(space, how, count, seed, path)
    assert points == draw(space, how, count, seed, path)
    assert 1 <= len(points) <= count
    assert all(d.low <= point[d.name] <= d.high for point in points for d in space.dimensions)
    assert len({tuple(point.values()) for point in points}) == len(points)
    if how in RANDOM:
        assert len(points) == count
        assert points != draw(space, how, count, seed + 1, path)
        assert points != draw(space, how, count, seed, path + 1)


def test_random_draws_are_even_on_their_scale():
    space = Space.of({"lambda": (1e-5, 1e-1), "momentum": (0.0, 0.8), "width": (1, 4), "sigma": [0.1, 0.2, 0.3]})
    points = draw(space, "random", 4000, 1)
    exponents = np.log10([point["lambda"] for point in points])
    np.testing.assert_allclose(np.histogram(exponents, bins=4, range=(-5, -1))[0] / 4000, 0.25, atol=0.03)
    momenta = [point["momentum"] for point in points]
    np.testing.assert_allclose(np.histogram(momenta, bins=4, range=(0, 0.8))[0] / 4000, 0.25, atol=0.03)
    uniform = draw(space, "uniform", 4000, 1)
    assert np.mean([point["lambda"] for point in uniform]) == pytest.approx(0.05, abs=0.002)
    # Whole numbers on an even scale are equally likely, the ends too, and so are the values of a list.
    widths = [point["width"] for point in uniform]
    np.testing.assert_allclose(np.bincount(widths)[1:] / 4000, 0.25, atol=0.03)
    picks = [point["sigma"] for point in uniform]
    np.testing.assert_allclose([picks.count(value) / 4000 for value in (0.1, 0.2, 0.3)], 1 / 3, atol=0.04)


def test_no_point_is_drawn_twice():
    assert draw(Space.of("lambda=0.1"), "random", 4, 0) == [{"lambda": 0.1}]
    cycles = [point["cycles"] for point in draw(Space.of("cycles=1..3"), "random", 50, 0)]
    assert cycles == [2, 3, 1]  # the last of equal points stays: workers of all versions plan the same


def test_sobol_sequence_leaves_no_gaps():
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


def ranked(**columns):
    """Return points as they are ranked: the best first."""
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def finer(space, found, rule, best=3, tried=None):
    return refined(Space.of(space), found, found if tried is None else tried, rule, best).dimensions


VALUES = [1e-3, 1e-2, 1e-4, 1e-1, 1e-5]


@pytest.mark.parametrize(
    ("found", "rule", "best", "tried", "exponents"),
    [
        # The rule of report A: best at 10^-3, second at 10^-2.4, so the next round has -3 ± 0.6.
        ([1e-3, 10**-2.4, 1e-5, 1e-1], "two-best", 3, None, (-3.6, -2.4)),
        ([1e-1, 1e-3], "two-best", 3, None, (-3, 1)),  # it may leave the range, as the report's does
        (VALUES, "k-best", 2, None, (-4, -1)),
        (sorted(VALUES, reverse=True), "k-best", 2, None, (-3, -1)),  # at the edge it stays within the range
        ([1e-3, 1e-2], "k-best", 1, VALUES, (-4, -2)),  # pruned points are neighbours too
    ],
)
def test_finer_range_lies_around_the_best(found, rule, best, tried, exponents):
    tried = None if tried is None else ranked(**{"lambda": tried})
    (dimension,) = finer("lambda", ranked(**{"lambda": found}), rule, best, tried)
    assert np.log10([dimension.low, dimension.high]) == pytest.approx(exponents)


@pytest.mark.parametrize(
    ("space", "best", "second", "low", "high"),
    [
        ("momentum", 0.9, 0.5, 0.5, 0.999),
        ("momentum=log:0.1..0.9", 0.9, 0.1, 0.1, 0.999),
        ("momentum", 0.1, 0.5, 0.0, 0.5),
        ("decay", 0.99, 0.9, 0.9, 1.0),
        ("bn_alpha", 0.9, 0.6, 0.6, 0.999),
        ("lambda=1e-300..1e300", 1e300, 1e-300, 1e-300, 1e300),
        ("lambda=1e-300..1e300", 1e-300, 1e300, 1e-300, 1e300),
        ("eta", 0.5, 1e-3, 1e-3, 250.0),
        ("width", 500, 10, 10, 500),
        ("width", 40, 60, 26, 60),  # whole numbers stay whole
        ("batch_size=20..269", 269, 20, 20, 269),
        ("depth", 1, 6, 1, 6),
        ("depth", 1, 2, 1, 2),
    ],
)
def test_finer_range_can_be_trained(space, best, second, low, high):
    name = Space.of(space).names[0]
    (dimension,) = finer(space, [{name: best}, {name: second}], "two-best")
    assert (dimension.low, dimension.high) == (pytest.approx(low, rel=1e-9), pytest.approx(high, rel=1e-9))


def test_finer_list_keeps_the_values_of_the_best_and_agreement_reaches_to_the_neighbours():
    space = {"width": [10, 20, 30], "lambda": (1e-5, 1e-1)}
    found = ranked(width=[20, 10, 30, 20], **{"lambda": [1e-3, 1e-3, 1e-4, 1e-2]})
    width, lam = finer(space, found, "two-best")
    assert width.values == (10, 20)
    assert (lam.low, lam.high) == pytest.approx((1e-4, 1e-2))
    assert [d.text() for d in finer(space, found[:1], "two-best")] == Space.of(space).texts()
