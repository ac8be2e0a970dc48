"""Products of rounded factors: exact rounding, then products and sums as in float32."""

from __future__ import annotations

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from xpnet.data import Transform
from xpnet.data.views import Augmentation
from xpnet.training.steppers.unit_shares import Columns

pytest.importorskip("numba")
from xpnet.ops import bfloat16_ops, numba_ops, numpy_ops
from xpnet.ops import numba_bfloat16 as kernels

if not kernels.processor_has_bfloat16():
    pytest.skip("this processor has no AVX-512 BF16", allow_module_level=True)

# A sum of k products of up to 16 bits each, in float32, in some order.
CLOSE = {"rtol": 2e-5, "atol": 2e-5}


def rounded(a):
    """Return `a` rounded to bfloat16, in float64: to the nearest, ties to even, by arithmetic on the mantissa."""
    mantissa, exponent = np.frexp(np.asarray(a, np.float64))
    return np.ldexp(np.round(mantissa * 256) / 256, exponent)


def bits_of(values):
    """Return the bits of what `round_rows` writes for numbers (n,)."""
    out = np.zeros((1, len(values) + 1), np.uint16)
    kernels.round_rows(np.asarray(values, np.float32)[None], out, (0, 0))
    return out[0, : len(values)]


def test_numbers_are_rounded_to_the_nearest_and_ties_to_even():
    # 1 + 2**-7 is the next number after 1: half way between, the even mantissa is taken.
    one, step = 1.0, 2.0**-7
    values = [one + step / 2, one + 3 * step / 2, one + step / 2 + 2**-20, one + step / 2 - 2**-20, -one - step / 2, 0]
    expected = np.array([one, one + 2 * step, one + step, one, -one, 0], np.float32).view(np.uint32) >> 16
    np.testing.assert_array_equal(bits_of(values), expected)
    draw = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    found = (bits_of(draw).astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(found, rounded(draw))


def test_what_is_no_number_stays_none():
    found = (bits_of([np.inf, -np.inf, np.nan, 3.4e38]).astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(found, [np.inf, -np.inf, np.nan, np.inf])


@examples(20, 200)
@given(
    n=st.integers(1, 40),
    d=st.integers(32, 80),
    m=st.integers(32, 80),
    R=st.integers(1, 3),
    shared=st.booleans(),
    parts=st.booleans(),
    seed=st.integers(0, 99),
)
def test_products_are_those_of_rounded_factors(n, d, m, R, shared, parts, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d) if shared else (R, n, d), np.float32)
    W, g = rng.standard_normal((R, d, m + 5), np.float32), rng.standard_normal((R, n, m), np.float32)
    W = W[:, :, 5:] if parts else np.ascontiguousarray(W[:, :, 5:])
    b = rng.standard_normal((R, 1, m), np.float32)
    calls = 2 if seed % 2 else 1  # the second writes into the memory of the first
    s = inputs = weights = None
    for _ in range(calls):
        s = bfloat16_ops.affine(x, W, b, s)
        inputs = bfloat16_ops.input_gradient(g, W, inputs)
        weights = bfloat16_ops.weight_gradient(x, g, weights)
    np.testing.assert_allclose(s, rounded(x) @ rounded(W) + b, **CLOSE)
    np.testing.assert_allclose(inputs, rounded(g) @ rounded(W).swapaxes(1, 2), **CLOSE)
    np.testing.assert_allclose(weights, np.swapaxes(rounded(x), -1, -2) @ rounded(g), **CLOSE)


@examples(10, 100)
@given(n=st.integers(1, 30), m=st.integers(40, 90), cut=st.integers(1, 3), seed=st.integers(0, 99))
def test_operand_written_in_parts_multiplies_like_a_whole_one(n, m, cut, seed):
    rng = np.random.default_rng(seed)
    x, W = rng.standard_normal((n, m), np.float32), rng.standard_normal((m, 35), np.float32)
    g, V = rng.standard_normal((n, 33), np.float32), rng.standard_normal((70, m), np.float32)
    operand = bfloat16_ops.Operand(n, m)
    row, column = min(n, 2 * cut) // 2 * 2, 16 * cut
    for rows, columns in (
        (slice(0, row), slice(0, column)),
        (slice(0, row), slice(column, m)),
        (slice(row, n), slice(0, m)),
    ):
        operand.put(x[rows, columns], rows, columns)
    np.testing.assert_allclose(operand.times(W, None), rounded(x) @ rounded(W), **CLOSE)
    transposed = bfloat16_ops.Transposed(70, m)
    for columns in (slice(0, column), slice(column, m)):
        own = Columns({"V": columns}, ["V"])
        own.take([{"V": V[None]}])
        transposed.put(own, "V", columns)
    for rows in (slice(0, 32), slice(32, 70)):  # those of two threads
        found = operand.times_transposed(transposed, rows, np.empty((n, rows.stop - rows.start), np.float32))
        np.testing.assert_allclose(found, rounded(x) @ rounded(V[rows]).T, **CLOSE)
    np.testing.assert_allclose(operand.transposed_times(g, None), rounded(x).T @ rounded(g), **CLOSE)


def test_infinite_factor_reaches_only_its_row_and_column():
    x, W = np.ones((13, 40), np.float32), np.ones((1, 40, 33), np.float32)
    x[12, 39], W[0, 0, 32] = np.inf, np.nan
    s = bfloat16_ops.affine(x, W, None)[0]
    assert np.isfinite(s[:12, :32]).all()
    assert np.isinf(s[12, :32]).all()
    assert np.isnan(s[:, 32]).all()


@pytest.mark.parametrize("infinite", ["x", "W", "g"])
def test_last_of_an_odd_number_is_added_once_even_if_it_is_infinite(infinite):
    factors = {"x": np.ones((1, 13, 41), np.float32), "W": np.ones((1, 41, 33), np.float32)}
    factors["g"] = np.ones((1, 13, 33), np.float32)
    factors[infinite][0, -1, 0] = np.inf
    x, W, g = factors.values()
    found = bfloat16_ops.affine(x, W, None)[0], bfloat16_ops.weight_gradient(x, g)[0]
    assert not any(np.isnan(values).any() for values in found)
    assert np.isinf(found[0][-1 if infinite == "x" else 0, 0]) == (infinite != "g")
    assert np.isinf(found[1][0, 0]) == (infinite != "W")


@pytest.mark.parametrize("shape", [(10, 31, 64), (10, 64, 31)])
def test_products_with_few_units_stay_float32(shape):
    n, d, m = shape
    rng = np.random.default_rng(0)
    x, W = rng.standard_normal((2, n, d), np.float32), rng.standard_normal((2, d, m), np.float32)
    g = rng.standard_normal((2, n, m), np.float32)
    for name, arguments in (("affine", (x, W, None)), ("input_gradient", (g, W)), ("weight_gradient", (x, g))):
        expected = getattr(numpy_ops, name)(*arguments)
        np.testing.assert_array_equal(getattr(bfloat16_ops, name)(*arguments), expected)


def test_update_by_product_moves_weights_by_the_rounded_gradient():
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal((20, 40), np.float32), rng.standard_normal((2, 20, 33), np.float32)
    W, keep = rng.standard_normal((2, 40, 33), np.float32), np.full((2, 1, 1), 0.9, np.float32)
    before, squares = W.copy(), np.zeros(2)
    bfloat16_ops.descend_by_product(W, x, g, keep, squares)
    np.testing.assert_allclose(W, 0.9 * before - rounded(x).T @ rounded(g), **CLOSE)
    np.testing.assert_allclose(squares, (before.astype(np.float64) ** 2).sum(axis=(1, 2)), rtol=1e-6)


@pytest.mark.parametrize("components", [40, 70])
def test_pictures_are_projected_by_rounded_products(monkeypatch, components):
    monkeypatch.setattr(numba_ops, "_FEWEST_HALVED", 64)
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 256, (300, 3 * 16 * 16), np.uint8)
    shape = (3, 16, 16)
    x = Transform.fit(raw, shape, 2, components).lazily(raw, "float32", shape)
    rows = Augmentation("random", 3, 0, 16, 16).rows(np.arange(30), 5, 1)
    exact = numba_ops.gather(rows, x)
    found = bfloat16_ops.gather(rows, x)
    assert 0 < abs(found - exact).max() < 0.03 * abs(exact).max()
