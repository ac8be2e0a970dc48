"""Every faster operation gives what its reference gives, into fresh arrays and into used ones."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from operation_tables import MODULES, REFERENCE, TABLES

from xpnet.data import Standardiser
from xpnet.ops import Ops, numba_ops, numpy_ops, reference

FAST = TABLES["numpy"]


@pytest.fixture(autouse=True, params=TABLES)
def every_table(request, monkeypatch):
    monkeypatch.setitem(globals(), "FAST", TABLES[request.param])


shapes = st.tuples(st.integers(1, 3), st.integers(2, 7), st.integers(1, 6), st.integers(1, 5))


def test_the_table_holds_every_operation_of_the_reference():
    functions = {n for n, f in inspect.getmembers(reference, inspect.isfunction) if f.__module__ == reference.__name__}
    functions = {name for name in functions if not name.startswith("_")}
    assert set(Ops._fields) == functions


@pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)
def test_signatures_agree(module):
    for name in Ops._fields:
        if hasattr(module, name):
            expected = list(inspect.signature(getattr(reference, name)).parameters)[1:]
            assert list(inspect.signature(getattr(module, name)).parameters) == expected, name


@pytest.mark.parametrize("name", [n for n in Ops._fields if hasattr(numpy_ops, n)])
def test_the_compiled_table_leaves_nothing_of_numpys_out(name: str):
    assert hasattr(numba_ops, name) or name == "relu"


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


def compare(name: str, *args, fields=None):
    """Call both versions; the fast one a second time into its first result, after that was spoilt."""
    before = [np.array(a, copy=True) if isinstance(a, np.ndarray) else a for a in args]
    expected = getattr(REFERENCE, name)(*args)
    first = getattr(FAST, name)(*args)
    for array in first if isinstance(first, tuple) else [first]:
        if isinstance(array, np.ndarray) and array.flags.owndata and fields is None:
            array[...] = 0
    again = getattr(FAST, name)(*args, out=first)
    if isinstance(expected, tuple):
        for field in expected._fields:
            if field != "work":
                close(getattr(again, field), getattr(expected, field))
    else:
        close(again, expected)
    for a, b in zip(args, before, strict=True):
        if isinstance(a, np.ndarray):
            np.testing.assert_array_equal(a, b)
    return first, expected


@settings(max_examples=40, deadline=None)
@given(shapes, st.integers(0, 2**31), st.booleans(), st.booleans())
def test_affine_and_its_gradients(shape, seed, shared, biased):
    R, n, d, m = shape
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d) if shared else (R, n, d))
    W = rng.standard_normal((R, d, m))
    b = rng.standard_normal((R, 1, m)) if biased else None
    g = rng.standard_normal((R, n, m))
    compare("affine", x, W, b)
    compare("input_gradient", g, W)
    compare("weight_gradient", x, g)
    compare("bias_gradient", g)


@settings(max_examples=40, deadline=None)
@given(shapes, st.integers(0, 2**31), st.booleans())
def test_batch_norm_and_relu(shape, seed, broadcast):
    R, n, _, m = shape
    rng = np.random.default_rng(seed)
    s, g = rng.standard_normal((2, R, n, m))
    gamma, beta = rng.standard_normal((2, 1 if broadcast else R, 1, m))
    fast, slow = compare("batch_norm_relu", s, gamma, beta, 1e-5)
    compare_gradients(g, FAST.batch_norm_relu(s, gamma, beta, 1e-5), slow, gamma)
    compare_gradients(g, FAST.batch_norm_relu(s, gamma, beta, 1e-5, fast), slow, gamma)
    y = compare("relu", s)[1]
    (one, other), b = (s.copy(), s.copy()), np.full((s.shape[0], 1, s.shape[2]), 0.3)
    close(FAST.bias_relu(one, b), REFERENCE.bias_relu(other, b))
    close(one, other)
    close(one, s + b)
    np.testing.assert_array_equal(FAST.bias_relu(s.copy(), b, np.empty_like(s)), np.maximum(s + b, 0))
    compare("relu_gradient", g, y)
    mean, var = rng.standard_normal((R, 1, m)), rng.random((R, 1, m)) + 0.1
    args = (s, mean, var, gamma, beta, 1e-5)
    close(FAST.batch_norm_relu_inference(*args), REFERENCE.batch_norm_relu_inference(*args))


def compare_gradients(g, fast, slow, gamma):
    expected = REFERENCE.batch_norm_relu_gradients(g, slow, gamma)
    actual = FAST.batch_norm_relu_gradients(g, fast, gamma)
    again = FAST.batch_norm_relu_gradients(g, fast, gamma, out=actual)
    for field in ("s", "gamma", "beta"):
        close(getattr(again, field), getattr(expected, field))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.integers(1, 6), st.integers(2, 6), st.integers(0, 2**31), st.booleans())
def test_softmax_cross_entropy(R, n, c, seed, shared):
    rng = np.random.default_rng(seed)
    s = 5 * rng.standard_normal((R, n, c))
    labels = rng.integers(0, c, n if shared else (R, n))
    compare("softmax_cross_entropy", s, labels, rng.random((R, 1, 1)))
    compare("softmax_cross_entropy", s, labels, 0.25)


def side_by_side(a):
    """Return the same values with the memory of (n, R, m)."""
    return np.array(a.transpose(1, 0, 2), order="C", copy=True).transpose(1, 0, 2)


@settings(max_examples=40, deadline=None)
@given(shapes, st.integers(0, 2**31), st.booleans())
def test_replicas_whose_memory_lies_side_by_side(shape, seed, same_keep):
    R, n, d, m = shape
    rng = np.random.default_rng(seed)
    x, W = rng.standard_normal((n, d)), rng.standard_normal((R, d, m))
    gamma, beta = rng.standard_normal((2, R, 1, m))
    wide = side_by_side(W)
    for _ in range(2):  # the second time with buffers, into the same layout
        s, expected_s = FAST.affine(x, wide, None), REFERENCE.affine(x, W, None)
        close(s, expected_s)
        norm, expected = (
            FAST.batch_norm_relu(s, gamma, beta, 1e-5),
            REFERENCE.batch_norm_relu(expected_s, gamma, beta, 1e-5),
        )
        norm = FAST.batch_norm_relu(s, gamma, beta, 1e-5, norm)
        for field in ("y", "mean", "var", "inv_std", "centred"):
            close(getattr(norm, field), getattr(expected, field))
        assert m == 1 or norm.y.strides == s.strides
        g = rng.standard_normal((R, n, m))
        compare_gradients(g, norm, expected, gamma)
        grads = FAST.batch_norm_relu_gradients(g, norm, gamma)
        close(FAST.weight_gradient(x, grads.s), REFERENCE.weight_gradient(x, np.array(grads.s)))
        keep = np.full((R, 1, 1), 0.9) if same_keep else rng.random((R, 1, 1))
        squares, expected_squares = np.ones((2, R))
        buffer = FAST.descend_by_product(wide, x, grads.s, keep, squares)
        REFERENCE.descend_by_product(W, x, np.array(grads.s), keep, expected_squares)
        FAST.descend_by_product(wide, x, g, keep, squares, buffer)  # a gradient of another layout
        REFERENCE.descend_by_product(W, x, g, keep, expected_squares)
        close(wide, W)
        close(squares, expected_squares)
    close(FAST.penalty([wide]), REFERENCE.penalty([W]))


@settings(max_examples=40, deadline=None)
@given(shapes, st.integers(0, 2**31), st.booleans())
def test_gathering_bytes_gives_the_standardised_values_bit_for_bit(shape, seed, single):
    R, n, d, _ = shape
    rng = np.random.default_rng(seed)
    raw = rng.integers(0, 256, (9, d), dtype=np.uint8)
    dtype = "float32" if single else "float64"
    standardiser = Standardiser(rng.random(d) * 255, 0.5 + 80 * rng.random(d))
    values, stored = standardiser.lazily(raw, dtype), standardiser(raw, dtype)
    for rows in (rng.integers(0, 9, n), rng.integers(0, 9, (R, n))):
        first = FAST.gather(rows, values)
        assert first.dtype == dtype
        np.testing.assert_array_equal(first, stored[rows])
        np.testing.assert_array_equal(FAST.gather(rows, values, first * 0), stored[rows])
        np.testing.assert_array_equal(REFERENCE.gather(rows, values), stored[rows])


@settings(max_examples=40, deadline=None)
@given(shapes, st.integers(0, 2**31), st.booleans())
def test_a_step_within_the_product(shape, seed, shared):
    R, n, d, m = shape
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d) if shared else (R, n, d))
    g, W, keep = rng.standard_normal((R, n, m)), rng.standard_normal((R, d, m)), rng.random((R, 1, 1))
    expected, (squares, expected_squares) = W.copy(), np.zeros((2, R))
    buffer = FAST.descend_by_product(W, x, g, keep, squares)
    FAST.descend_by_product(W, x, g, keep, squares, buffer)
    for _ in range(2):
        REFERENCE.descend_by_product(expected, x, g, keep, expected_squares)
    close(W, expected)
    close(squares, expected_squares)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_not_hidden(value):
    rng = np.random.default_rng(0)
    s = rng.standard_normal((1, 6, 4))
    s[0, 2, 1] = value
    ones, zeros = np.ones((1, 1, 4)), np.zeros((1, 1, 4))
    with np.errstate(all="ignore"):
        norm = FAST.batch_norm_relu(s, ones, zeros, 1e-5, FAST.batch_norm_relu(s * 0, ones, zeros, 1e-5))
        assert not np.isfinite(norm.y[0, :, 1]).all()
        args = (np.array([0, 1, 2, 3, 0, 1]), 1.0)
        entropy = FAST.softmax_cross_entropy(s, *args, FAST.softmax_cross_entropy(s * 0, *args))
        assert not np.isfinite(entropy.losses[0, 2])
    assert np.isfinite(entropy.losses[0, [0, 1, 3, 4, 5]]).all()


@settings(max_examples=40, deadline=None)
@given(shapes, st.integers(0, 2**31), st.booleans(), st.booleans())
def test_updates(shape, seed, nesterov, penalised):
    R, _, d, m = shape
    rng = np.random.default_rng(seed)
    start, step, velocity = rng.standard_normal((3, R, d, m))
    keep = rng.random((R, 1, 1)) if penalised else None
    rho = rng.random((R, 1, 1))
    # The tensors of a block, side by side, and one with a memory of its own.
    parts = [rng.standard_normal((R, 1, size)) for size in (3, d, 1)]
    block = rng.standard_normal((R, 1, d + 4))
    results = []
    for ops in (FAST, REFERENCE):
        squares, found = np.ones(R), []
        for begin, speed, steps in ((start, velocity, [step]), (block, block / 2, parts)):
            p, v, q, running = begin.copy(), speed.copy(), begin.copy(), begin.copy()
            buffer = ops.descend_with_momentum(p, v, [s.copy() for s in steps], keep, rho, nesterov)
            ops.descend_with_momentum(p, v, [s.copy() for s in steps], keep, rho, nesterov, squares, buffer)
            buffer = ops.descend(q, [s.copy() for s in steps], keep)
            ops.descend(q, [s.copy() for s in steps], keep, squares, buffer)
            buffer = ops.average(running, [s.copy() for s in steps], 0.9)
            ops.average(running, [s.copy() for s in steps], 0.8, buffer)
            found += [p, v, q, running]
        ops.add_squares(start, squares)
        results.append((*found, squares, ops.penalty([start, velocity])))
    for actual, expected in zip(*results, strict=True):
        close(actual, expected)


def test_scores_of_ten_thousand_neither_overflow_nor_lose_the_gradient():
    s = np.array([[[1e4, 0.0, -1e4], [-1e4, 1e4, 0.0]]], np.float32)
    for ops in (FAST, REFERENCE):
        result = ops.softmax_cross_entropy(s, np.array([0, 2]), 1.0)
        np.testing.assert_array_equal(result.losses, [[0, 1e4]])
        np.testing.assert_array_equal(result.g, [[[0, 0, 0], [0, 1, -1]]])
        np.testing.assert_array_equal(result.correct, [[True, False]])


def test_equal_scores_count_as_the_first_class_and_not_as_right():
    result = FAST.softmax_cross_entropy(np.zeros((1, 3, 4)), np.array([0, 1, 2]), 1.0)
    result = FAST.softmax_cross_entropy(np.zeros((1, 3, 4)), np.array([0, 1, 2]), 1.0, result)
    np.testing.assert_array_equal(result.correct, [[True, False, False]])
