from __future__ import annotations

import math
import tracemalloc
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from data_files import few_examples
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xpnet.data import Standardiser
from xpnet.errors import DataError

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40)
FINITE = st.floats(-1e6, 1e6, width=32)


def test_a_small_example():
    standardiser = Standardiser.fit(np.array([[1.0, 5.0], [3.0, 5.0]]))
    assert standardiser.mean.tolist() == [2.0, 5.0]
    assert standardiser.std.tolist() == [1.0, 1.0]  # of the constant feature, too
    assert standardiser(np.array([[4.0, 5.0], [0.0, 7.0]])).tolist() == [[2.0, 0.0], [-2.0, 2.0]]


@few_examples
@given(x=hnp.arrays(np.uint8, SHAPES))
def test_bytes_have_exact_moments(x: Any):
    standardiser = Standardiser.fit(x)
    n = len(x)
    for column, mean, std in zip(x.T.tolist(), standardiser.mean, standardiser.std, strict=True):
        exact = Fraction(sum(column), n)
        variance = sum((value - exact) ** 2 for value in column) / n
        assert mean == pytest.approx(float(exact), rel=1e-15)
        assert std == (pytest.approx(float(variance) ** 0.5, rel=1e-14) if variance else 1)


@few_examples
@given(x=hnp.arrays(np.uint8, SHAPES) | hnp.arrays(np.float32, SHAPES, elements=FINITE))
def test_the_training_set_gets_mean_0_and_deviation_1(x: Any):
    z = Standardiser.fit(x)(x, "float64")
    constant = (x == x[0]).all(axis=0)
    assert np.isfinite(z).all()
    assert (z[:, constant] == 0).all()
    # A feature that differs by no more than the rounding of its type counts as constant.
    moving = x.std(axis=0, dtype=np.float64) > 1e-6 * np.abs(x).max(axis=0, initial=0)
    np.testing.assert_allclose(z[:, moving].mean(axis=0), 0, atol=1e-8)
    np.testing.assert_allclose(z[:, moving].std(axis=0), 1, rtol=1e-8)


@few_examples
@given(offset=st.floats(-1e9, 1e9), scale=st.floats(1e-3, 1e3), seed=st.integers(0, 2**31))
def test_an_offset_costs_no_digits_that_it_need_not_cost(offset: float, scale: float, seed: int):
    z = np.random.default_rng(seed).standard_normal((500, 3))
    x = offset + scale * z
    standardiser = Standardiser.fit(x)
    lost = np.finfo(float).eps * (abs(offset) / scale + 1)
    np.testing.assert_allclose(standardiser.std, x.std(axis=0), rtol=1e-9 + 10 * lost)
    np.testing.assert_allclose(standardiser(x, "float64").mean(axis=0), 0, atol=100 * lost)


@pytest.mark.parametrize("value", [0.1, 1e30, -1e-30, 1 / 3, 255])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_constant_features_become_0(value: float, dtype: str):
    x = np.full((1000, 2), value, dtype)
    assert (Standardiser.fit(x)(x) == 0).all()
    x[::3, 0] = np.nextafter(x[0, 0], x.dtype.type(np.inf))  # constant but for rounding
    assert Standardiser.fit(x).std.tolist() == [1, 1]
    assert np.abs(Standardiser.fit(x)(x)).max() <= 1e-6 * max(1, value)


def test_sums_of_many_bytes_do_not_cancel():
    x = np.full((600_000, 2), 255, np.uint8)  # the square of a sum has more digits than a float
    x[0, 1] = 254
    standardiser = Standardiser.fit(x)
    assert (standardiser(x[1:, :])[:, 0] == 0).all()
    np.testing.assert_allclose(standardiser.std[1], math.sqrt(599_999) / 600_000, rtol=1e-12)


def test_a_feature_is_not_constant_because_it_is_small():
    x = np.array([[1e-30, 1e6], [2e-30, 1e6 + 1]])
    np.testing.assert_allclose(Standardiser.fit(x)(x, "float64"), [[-1, -1], [1, 1]], rtol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", range(3))
def test_bytes_are_standardised_as_in_float64(dtype: str, seed: int):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (3000, 40), dtype=np.uint8)
    # Nearly constant features have tiny deviations: their mean's digits decide.
    x[:, :20] = 128
    x[rng.integers(0, 3000, 20), np.arange(20)] = rng.integers(0, 256, 20)
    standardiser = Standardiser.fit(x)
    expected = (x - standardiser.mean) / standardiser.std
    z = standardiser(x, dtype)
    assert z.dtype == dtype
    np.testing.assert_allclose(z, expected, rtol=1e-6 if dtype == "float32" else 1e-13, atol=0)


def test_floats_are_centred_in_float64():
    x = (1e6 + np.arange(100).reshape(-1, 1) / 8).astype(np.float32)
    standardiser = Standardiser.fit(x)
    z = standardiser(x)
    assert z.dtype == np.float32
    np.testing.assert_allclose(z, (x.astype(float) - standardiser.mean) / standardiser.std, rtol=1e-6)


@settings(max_examples=20)
@given(rows=st.integers(1, 1000))
def test_chunks_cover_all_rows(rows: int):
    x = np.random.default_rng(rows).integers(0, 256, (rows, 700), dtype=np.uint8)
    for part in (x, x.astype(np.float64)):
        standardiser = Standardiser.fit(part)
        np.testing.assert_allclose(standardiser.mean, x.mean(axis=0), rtol=1e-13)
        constant = (x == x[0]).all(axis=0)
        np.testing.assert_allclose(standardiser.std, np.where(constant, 1, x.std(axis=0)), rtol=1e-12)
        assert len(standardiser(part)) == rows


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_memory_does_not_grow_with_the_data(dtype: Any):
    x = np.random.default_rng(0).integers(0, 256, (6000, 1000)).astype(dtype)
    tracemalloc.start()
    try:
        standardiser = Standardiser.fit(x)
        assert tracemalloc.get_traced_memory()[1] < 8e6
        z = standardiser(x)
        assert tracemalloc.get_traced_memory()[1] < z.nbytes + 8e6
    finally:
        tracemalloc.stop()


def test_the_input_is_left_as_it_was():
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    before = x.copy()
    assert not np.shares_memory(Standardiser.fit(x)(x), x)
    np.testing.assert_array_equal(x, before)


def test_none_of_no_rows():
    standardiser = Standardiser(np.zeros(3), np.ones(3))
    assert standardiser(np.zeros((0, 3), np.uint8)).shape == (0, 3)


def test_what_does_not_fit_is_refused():
    standardiser = Standardiser(np.zeros(3), np.ones(3))
    for shape in ((5, 1), (5, 4), (3,)):
        with pytest.raises(DataError, match=r"features must be \(n, 3\), got \(5, 1\)|\(5, 4\)|\(3,\)"):
            standardiser(np.zeros(shape, np.float32))
    for shape in ((0, 3), (3,)):
        with pytest.raises(DataError, match=r"must be \(n, d\) and not empty"):
            Standardiser.fit(np.zeros(shape))


@pytest.mark.parametrize(
    ("mean", "std"), [([0.0, 1.0], [1.0]), ([[0.0]], [[1.0]]), ([0.0], [0.0]), ([0.0], [-1.0]), ([np.nan], [1.0])]
)
def test_impossible_moments_are_refused(mean: Any, std: Any):
    with pytest.raises(DataError, match=r"^Standardiser: mean"):
        Standardiser(np.array(mean), np.array(std))


@pytest.mark.parametrize("scale", [1e-140, 1e-155, 1e-170, 1e-200, 1e-300])
@pytest.mark.parametrize("offset", [0.0, 3.0])
def test_the_smallest_deviations_are_not_taken_for_a_constant(scale, offset):
    x = np.random.default_rng(1).standard_normal((300, 2)) + np.array([offset, 0])
    standardiser = Standardiser.fit(np.c_[x * [scale, 1], np.full(300, 5 * scale)])
    np.testing.assert_allclose(standardiser.std[:2], x.std(axis=0) * [scale, 1], rtol=1e-12)
    assert standardiser.std[2] == 1
    z = standardiser(np.c_[x * [scale, 1], np.full(300, 5 * scale)], "float64")
    np.testing.assert_allclose(z[:, :2], (x - x.mean(axis=0)) / x.std(axis=0), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_constant_features_take_no_more_memory_than_others(value: float):
    x = np.full((4, 500_000), value, np.float32)
    tracemalloc.start()
    standardiser = Standardiser.fit(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (standardiser.std == 1).all()
    assert peak <= 40 * x.shape[1] + 2**20
