"""Every faster operation gives what its reference gives, into fresh arrays and into used ones."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpnet.backend import get_backend
from xpnet.ops import Ops, fast_numpy, get_ops, get_reference, reference

CPU = get_backend("cpu")
FAST, REFERENCE = get_ops(CPU), get_reference(CPU)

shapes = st.tuples(st.integers(1, 3), st.integers(2, 7), st.integers(1, 6), st.integers(1, 5))


def test_the_table_holds_every_operation_of_the_reference():
    functions = {n for n, f in inspect.getmembers(reference, inspect.isfunction) if f.__module__ == reference.__name__}
    assert set(Ops._fields) == functions


@pytest.mark.parametrize("name", [n for n in Ops._fields if hasattr(fast_numpy, n)])
def test_signatures_agree(name: str):
    expected = list(inspect.signature(getattr(reference, name)).parameters.values())[1:]
    assert list(inspect.signature(getattr(fast_numpy, name)).parameters.values()) == expected


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
    slow = compare("batch_norm_relu", s, gamma, beta, 1e-5)[1]
    compare_gradients(g, FAST.batch_norm_relu(s, gamma, beta, 1e-5), slow, gamma)
    y = compare("relu", s)[1]
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


@settings(max_examples=40, deadline=None)
@given(shapes, st.integers(0, 2**31), st.booleans(), st.booleans())
def test_updates(shape, seed, nesterov, penalised):
    R, _, d, m = shape
    rng = np.random.default_rng(seed)
    start, step, velocity = rng.standard_normal((3, R, d, m))
    keep = rng.random((R, 1, 1)) if penalised else None
    rho = rng.random((R, 1, 1))
    results = []
    for ops in (FAST, REFERENCE):
        p, v, q = start.copy(), velocity.copy(), start.copy()
        buffer = ops.descend_with_momentum(p, v, step.copy(), keep, rho, nesterov)
        ops.descend_with_momentum(p, v, step.copy(), keep, rho, nesterov, buffer)
        ops.descend(q, step.copy(), keep)
        running = np.array(start[:, :1])
        ops.average(running, np.array(velocity[:, :1]), 0.9)
        results.append((p, v, q, running, ops.penalty([start, velocity])))
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
    np.testing.assert_array_equal(result.correct, [[True, False, False]])
