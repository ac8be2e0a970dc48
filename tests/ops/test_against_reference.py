"""Every faster operation gives what its reference gives, into fresh arrays and into used ones."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from operation_tables import MODULES, REFERENCE, TABLES

from xpnet.data import Standardiser
from xpnet.ops import Ops, activations, moments, reference

FAST = TABLES["numpy"]
shapes = st.tuples(st.integers(1, 3), st.integers(2, 7), st.integers(1, 6), st.integers(1, 5))
seeds = st.integers(0, 2**31)


@pytest.fixture(autouse=True, scope="module", params=TABLES)
def every_table(request):
    global FAST
    FAST = TABLES[request.param]


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


def all_close(actual, expected, names):
    for name in names:
        close(getattr(actual, name), getattr(expected, name))


def compare(name, *args):
    """Call both versions; the fast one a second time into its first result, after that was spoilt."""
    before = [np.array(a) if isinstance(a, np.ndarray) else a for a in args]
    expected, first = (getattr(ops, name)(*args) for ops in (REFERENCE, FAST))
    for array in first if isinstance(first, tuple) else [first]:
        if isinstance(array, np.ndarray) and array.flags.owndata:
            array[...] = 0
    again = getattr(FAST, name)(*args, out=first)
    if isinstance(expected, tuple):
        all_close(again, expected, [name for name, value in expected._asdict().items() if value is not None])
    else:
        close(again, expected)
    for a, b in zip(args, before, strict=True):
        if isinstance(a, np.ndarray):
            np.testing.assert_array_equal(a, b)
    return first, expected


def compare_gradients(g, fast, slow, gamma):
    expected = REFERENCE.batch_norm_activation_gradients(g, slow, gamma)
    actual = FAST.batch_norm_activation_gradients(g, fast, gamma)
    all_close(FAST.batch_norm_activation_gradients(g, fast, gamma, out=actual), expected, ("s", "gamma", "beta"))


def operations_of(module):
    functions = {n for n, f in inspect.getmembers(module, inspect.isfunction) if f.__module__ == module.__name__}
    return {name for name in functions if not name.startswith("_")} - PARTS


PARTS = {"normalised", "gradients_through_norm"}  # of several operations


def test_the_table_holds_every_operation_of_the_reference():
    fields = set(Ops._fields)
    defined = operations_of(reference) | operations_of(moments)
    assert {name.replace("activation", "relu") for name in fields} == defined
    assert {name for name in fields if "activation" in name} == operations_of(activations)


def definition_of(name):
    return next((getattr(m, name) for m in (reference, moments, activations) if hasattr(m, name)), None)


@pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)
def test_signatures_agree(module):
    for name in operations_of(module):
        definition = definition_of(name)
        if definition is None:  # a part of several operations
            continue
        expected = list(inspect.signature(definition).parameters)[1:]
        assert list(inspect.signature(getattr(module, name)).parameters) == expected, name


@examples(15)
@given(shapes, seeds, st.booleans(), st.booleans())
def test_affine_and_its_gradients(shape, seed, shared, biased):
    R, n, d, m = shape
    rng = np.random.default_rng(seed)
    x, g = rng.standard_normal((n, d) if shared else (R, n, d)), rng.standard_normal((R, n, m))
    W, b = rng.standard_normal((R, d, m)), rng.standard_normal((R, 1, m)) if biased else None
    compare("affine", x, W, b)
    compare("input_gradient", g, W)
    compare("weight_gradient", x, g)
    compare("bias_gradient", g)


@examples(15)
@given(shapes, seeds, st.booleans())
def test_batch_norm_and_relu(shape, seed, broadcast):
    R, n, _, m = shape
    rng = np.random.default_rng(seed)
    s, g = rng.standard_normal((2, R, n, m))
    gamma, beta = rng.standard_normal((2, 1 if broadcast else R, 1, m))
    fast, slow = compare("batch_norm_activation", s, gamma, beta, 1e-5)
    compare_gradients(g, FAST.batch_norm_activation(s, gamma, beta, 1e-5), slow, gamma)
    compare_gradients(g, FAST.batch_norm_activation(s, gamma, beta, 1e-5, fast), slow, gamma)
    compare("activation", s)
    (one, other), b = (s.copy(), s.copy()), np.full((R, 1, m), 0.3)
    forward = FAST.bias_activation(one, b)
    close(forward.y, REFERENCE.bias_activation(other, b).y)
    close(one, other)
    close(one, s + b)
    for y in (FAST.bias_activation(s.copy(), b, forward).y, FAST.bias_activation_inference(s.copy(), b)):
        np.testing.assert_array_equal(y, np.maximum(s + b, 0))
    compare("activation_gradient", g, forward)
    args = (s, rng.standard_normal((R, 1, m)), rng.random((R, 1, m)) + 0.1, gamma, beta, 1e-5)
    close(FAST.batch_norm_activation_inference(*args), REFERENCE.batch_norm_activation_inference(*args))


@examples(15)
@given(st.integers(1, 3), st.integers(1, 6), st.integers(2, 6), seeds, st.booleans())
def test_softmax_cross_entropy(R, n, c, seed, shared):
    rng = np.random.default_rng(seed)
    s, labels = 5 * rng.standard_normal((R, n, c)), rng.integers(0, c, n if shared else (R, n))
    compare("softmax_cross_entropy", s, labels, rng.random((R, 1, 1)))
    compare("softmax_cross_entropy", s, labels, 0.25)


@examples(15)
@given(shapes, seeds, st.booleans())
def test_replicas_whose_memory_lies_side_by_side(shape, seed, same_keep):
    R, n, d, m = shape
    rng = np.random.default_rng(seed)
    x, W = rng.standard_normal((n, d)), rng.standard_normal((R, d, m))
    gamma, beta = rng.standard_normal((2, R, 1, m))
    wide = np.array(W.transpose(1, 0, 2), order="C").transpose(1, 0, 2)  # in memory (d, R, m)
    for _ in range(2):  # the second time with buffers, into the same layout
        s, expected_s = FAST.affine(x, wide, None), REFERENCE.affine(x, W, None)
        close(s, expected_s)
        norm, expected = (
            ops.batch_norm_activation(logits, gamma, beta, 1e-5) for ops, logits in ((FAST, s), (REFERENCE, expected_s))
        )
        norm = FAST.batch_norm_activation(s, gamma, beta, 1e-5, norm)
        all_close(norm, expected, ("y", "mean", "var", "inv_std", "centred"))
        assert m == 1 or norm.y.strides == s.strides
        g = rng.standard_normal((R, n, m))
        compare_gradients(g, norm, expected, gamma)
        grads = FAST.batch_norm_activation_gradients(g, norm, gamma)
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


@examples(15)
@given(shapes, seeds, st.booleans())
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
        for found in (first, FAST.gather(rows, values, first * 0), REFERENCE.gather(rows, values)):
            np.testing.assert_array_equal(found, stored[rows])


@examples(15)
@given(shapes, seeds, st.booleans())
def test_a_step_within_the_product(shape, seed, shared):
    R, n, d, m = shape
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d) if shared else (R, n, d))
    g, W, keep = rng.standard_normal((R, n, m)), rng.standard_normal((R, d, m)), rng.random((R, 1, 1))
    expected, (squares, expected_squares) = W.copy(), np.zeros((2, R))
    buffer = None
    for _ in range(2):
        buffer = FAST.descend_by_product(W, x, g, keep, squares, buffer)
        REFERENCE.descend_by_product(expected, x, g, keep, expected_squares)
    close(W, expected)
    close(squares, expected_squares)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_not_finite_shows_in_the_results(value):
    s = np.random.default_rng(0).standard_normal((1, 6, 4))
    s[0, 2, 1] = value
    ones, zeros = np.ones((1, 1, 4)), np.zeros((1, 1, 4))
    with np.errstate(all="ignore"):
        norm = FAST.batch_norm_activation(s, ones, zeros, 1e-5, FAST.batch_norm_activation(s * 0, ones, zeros, 1e-5))
        assert not np.isfinite(norm.y[0, :, 1]).all()
        args = (np.array([0, 1, 2, 3, 0, 1]), 1.0)
        entropy = FAST.softmax_cross_entropy(s, *args, FAST.softmax_cross_entropy(s * 0, *args))
    assert np.isfinite(entropy.losses[0]).tolist() == [True, True, False, True, True, True]


@examples(15)
@given(shapes, seeds, st.booleans(), st.booleans())
def test_updates(shape, seed, nesterov, penalised):
    R, _, d, m = shape
    rng = np.random.default_rng(seed)
    start, step, velocity = rng.standard_normal((3, R, d, m))
    keep, rho = rng.random((R, 1, 1)) if penalised else None, rng.random((R, 1, 1))
    # Tensors side by side in a flat array, and one with a memory of its own.
    parts = [rng.standard_normal((R, 1, size)) for size in (3, d, 1)]
    flat = rng.standard_normal((R, 1, d + 4))
    results = []
    for ops in (FAST, REFERENCE):
        squares, found = np.ones(R), []
        for begin, speed, steps in ((start, velocity, [step]), (flat, flat / 2, parts)):
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


@examples(15)
@given(shapes, seeds, st.booleans())
def test_updates_by_moments(shape, seed, some_gradients_are_zero):
    R, _, d, m = shape
    rng = np.random.default_rng(seed)
    start, step, first, second = rng.standard_normal((4, R, d, m))
    second *= second
    if some_gradients_are_zero:  # for Lion, those of parameters that do not move
        step[:, 0], first[:, 0], start[:, 0] = 0, 0, 0
    numbers = 0.1 + 0.8 * rng.random((len(moments.NUMBERS), R))
    parts = [rng.standard_normal((R, 1, size)) for size in (3, d, 1)]
    flat, flat_second = rng.standard_normal((R, 1, d + 4)), rng.random((R, 1, d + 4))
    wide = np.array(start.transpose(1, 0, 2), order="C").transpose(1, 0, 2)  # in memory (d, R, m)
    results = []
    for ops in (FAST, REFERENCE):
        squares, found = np.ones(R), []
        cases = [(start, first, second, [step]), (wide, first, second, [step]), (flat, flat / 2, flat_second, parts)]
        for p, *kept, steps in cases:
            for descend, count in ((ops.descend_adamw, 2), (ops.descend_lion, 1)):
                tensors = [p.copy("K"), *(tensor.copy() for tensor in kept[:count])]
                buffer = descend(*tensors, [s.copy() for s in steps], numbers)
                descend(*tensors, [2 * s for s in steps], numbers, squares, buffer)
                found += tensors
        results.append((*found, squares))
    for actual, expected in zip(*results, strict=True):
        close(actual, expected)


def test_logits_of_ten_thousand_neither_overflow_nor_lose_the_gradient():
    s = np.array([[[1e4, 0.0, -1e4], [-1e4, 1e4, 0.0]]], np.float32)
    for ops in (FAST, REFERENCE):
        result = ops.softmax_cross_entropy(s, np.array([0, 2]), 1.0)
        np.testing.assert_array_equal(result.losses, [[0, 1e4]])
        np.testing.assert_array_equal(result.g, [[[0, 0, 0], [0, 1, -1]]])
        np.testing.assert_array_equal(result.correct, [[True, False]])


def test_equal_logits_count_as_the_first_class():
    result = None
    for _ in range(2):
        result = FAST.softmax_cross_entropy(np.zeros((1, 3, 4)), np.array([0, 1, 2]), 1.0, result)
        np.testing.assert_array_equal(result.correct, [[True, False, False]])
