"""The activations against formulas of their own, and every operation with them against its definition."""

from __future__ import annotations

import math

import emulator
import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from kernel_pair import Both
from operation_tables import STACKS

from xpnet.config.definitions import NetworkConfig
from xpnet.config.supported import KNOWN
from xpnet.errors import ConfigError
from xpnet.ops import numpy_activations, table
from xpnet.ops.activations import ACTIVATIONS, Activation
from xpnet.ops.cuda.activation_ops import KINDS
from xpnet.ops.reference import Activated

OTHERS = [name for name in ACTIVATIONS if name != "relu"]
INPUTS = np.array([-50.0, -3.0, -1.0, -0.3, -1e-4, 0.0, 1e-4, 0.5, 1.0, 2.5, 50.0])
# By hand, number by number.
FORMULAS = {
    "relu": lambda z: z if z > 0 else 0.0,
    "leaky-relu": lambda z: z if z > 0 else 0.01 * z,
    "gelu": lambda z: z / (1 + math.exp(-2 * math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))) if z > -20 else 0.0,
    "silu": lambda z: z / (1 + math.exp(-z)),
    "tanh": lambda z: 1 - 2 / (math.exp(2 * z) + 1),
    "sigmoid": lambda z: 1 / (1 + math.exp(-z)),
    "identity": lambda z: z,
}
shapes = st.tuples(st.integers(1, 3), st.integers(2, 7), st.integers(1, 80))


def close(actual, expected, **limits):
    np.testing.assert_allclose(actual, expected, **{"rtol": 1e-12, "atol": 1e-12} | limits)


@pytest.mark.parametrize("kind", ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_activation_and_its_slope_are_those_of_the_formula(kind):
    y = kind.y(np, INPUTS)
    close(y, [FORMULAS[kind.name](z) for z in INPUTS])
    h, smooth = 1e-5, INPUTS[INPUTS != 0]
    difference = (kind.y(np, smooth + h) - kind.y(np, smooth - h)) / (2 * h)
    close(kind.slope(np, smooth, kind.y(np, smooth)), difference, rtol=1e-8, atol=1e-9)
    # What the gradient check assumes of kinks, and the diagnosis of units at rest.
    one_sided = [kind.slope(np, np.array([z]), kind.y(np, np.array([z])))[0] for z in (-1e-9, 1e-9)]
    assert kind.kinked == (abs(one_sided[1] - one_sided[0]) > 0.1)
    if kind.kinked:
        np.testing.assert_array_equal(y > 0, INPUTS > 0)
    assert kind.rests == bool((y[INPUTS < 0] == 0).all())


def test_gains_are_those_of_the_literature():
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    weights = weights / weights.sum()
    for name, kind in ACTIVATIONS.items():
        zero = np.zeros(1)
        y, slope = kind.y(np, zero)[0], kind.slope(np, zero, kind.y(np, zero))[0]
        keeps_mean_square = 1 / (weights * kind.y(np, nodes) ** 2).sum()
        smooth_at_0 = 1 / (slope**2 * (1 + y**2)) if slope else math.inf
        expected = smooth_at_0 if name in ("tanh", "sigmoid", "identity") else keeps_mean_square
        assert kind.gain == pytest.approx(expected, rel=1e-4), name


def test_names_are_the_same_everywhere():
    for name in ACTIVATIONS:
        assert NetworkConfig(inputs=1, activation=name).activation == name
    with pytest.raises(ConfigError, match=", ".join([*ACTIVATIONS][:-1])):  # the message names all
        NetworkConfig(inputs=1, activation="softplus")
    assert set(KINDS) <= set(OTHERS)
    for who in ("cuda_ops", "fused", "graph"):
        assert KNOWN[who]["activation"] == ["relu", *KINDS]


@examples(20, 200)
@given(st.sampled_from([*STACKS]), st.sampled_from([*ACTIVATIONS]), shapes, st.integers(0, 2**31), *[st.booleans()] * 3)
def test_operations_with_any_activation_are_their_definitions(stack, name, shape, seed, shared, wide, single):
    (R, n, m), rng, dtype = shape, np.random.default_rng(seed), "float32" if single else "float64"
    limits = {"rtol": 2e-5, "atol": 2e-4} if single else {"atol": 1e-10}
    s, g, t = rng.standard_normal((3, R, n, m)).astype(dtype)
    if wide:  # replicas side by side in memory (n, R, m)
        s = np.array(s.transpose(1, 0, 2), order="C").transpose(1, 0, 2)
    gamma, beta = (0.5 + rng.random((2, 1 if shared else R, 1, m))).astype(dtype)
    fast, definition = table(np, *STACKS[stack], activation=name), table(np, activation=name)
    close(fast.activation(s), definition.activation(s), **limits)
    results = gradients = plain = plain_gradient = None
    for inputs in (t, s):  # the second time into the memory of the first
        results = fast.batch_norm_activation(inputs, gamma, beta, 1e-2, results if not wide else None)
        gradients = fast.batch_norm_activation_gradients(g, results, gamma, gradients if not wide else None)
        sums = inputs.copy()
        plain = fast.bias_activation(sums, beta, plain)
        plain_gradient = fast.activation_gradient(g, plain, plain_gradient)
    expected = definition.batch_norm_activation(s, gamma, beta, 1e-2)
    for field in ("y", "slope", "centred", "inv_std", "mean", "var"):
        if getattr(results, field) is not None:
            close(getattr(results, field), getattr(expected, field), **limits)
            assert getattr(results, field).dtype == dtype
    wanted = definition.batch_norm_activation_gradients(g, expected, gamma)
    for field in ("s", "gamma", "beta"):
        close(getattr(gradients, field), getattr(wanted, field), **limits)
    close(sums, s + beta, **limits)
    expected = definition.bias_activation(s.copy(), beta)
    close(plain.y, expected.y, **limits)
    close(plain_gradient, definition.activation_gradient(g, expected), **limits)
    close(fast.bias_activation_inference(s.copy(), beta), expected.y, **limits)
    args = (s, t[:, :1], np.abs(g[:, :1]), gamma, beta, 1e-2)
    close(fast.batch_norm_activation_inference(*args), definition.batch_norm_activation_inference(*args), **limits)


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("name", OTHERS)
def test_activation_of_large_inputs_is_finite_and_that_of_nan_is_nan(stack, name):
    ops = table(np, *STACKS[stack], activation=name)
    s = np.array([[[-1e9, -200.0, 200.0, 1e9, np.nan]]], np.float32)
    results = ops.bias_activation(s, np.zeros((1, 1, 5), np.float32))
    kind = ACTIVATIONS[name]
    for found in (results.y, results.slope, kind.y(np, s), kind.slope(np, s, kind.y(np, s))):
        np.testing.assert_array_equal(np.isfinite(found[0, 0, :4]), True)
    assert np.isnan(results.y[0, 0, 4])
    np.testing.assert_allclose(results.y[0, 0, :4], kind.y(np, s[0, 0, :4].astype(float)), rtol=1e-6)


def test_activation_without_a_function_of_its_own_is_computed_by_its_row():
    kind = Activation("square", lambda _, z: z * z, lambda _, z, __: 2 * z, 1.0)
    s = np.linspace(-1, 1, 6).reshape(1, 3, 2)
    results = numpy_activations.bias_activation(kind, s.copy(), np.ones((1, 1, 2)))
    close(results.y, (s + 1) ** 2)
    close(results.slope, 2 * (s + 1))


@pytest.mark.parametrize("name", OTHERS)
def test_gradient_does_not_read_the_outputs_which_others_may_change(name):
    ops = table(np, *STACKS["numba"], activation=name)
    s, g = np.random.default_rng(0).standard_normal((2, 1, 6, 3))
    ones = np.ones((1, 1, 3))
    plain, normed = ops.bias_activation(s.copy(), ones), ops.batch_norm_activation(s, ones, ones, 1e-5)

    def gradients():
        return [ops.activation_gradient(g, plain), *ops.batch_norm_activation_gradients(g, normed, ones)[:3]]

    before = [gradient.copy() for gradient in gradients()]
    for results in (plain, normed):
        results.y[...] = np.nan
    for one, other in zip(gradients(), before, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def both() -> Both:
    return Both()


@pytest.mark.skipif(emulator.compiler() is None, reason="there is no C++ compiler")
@examples(12, 60)
@given(
    name=st.sampled_from(KINDS),
    shape=st.sampled_from([(1, 2, 1), (3, 31, 9), (1, 33, 64), (4, 300, 5)]),
    dtype=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 1000),
)
def test_kernels_are_their_definitions(both, name, shape, dtype, seed):
    (R, n, m), rng, kind = shape, np.random.default_rng(seed), ACTIVATIONS[name]
    s, g, slope = (2 * rng.standard_normal((3, R, n, m))).astype(dtype)
    gamma, beta = rng.standard_normal((2, R, 1, m)).astype(dtype)
    both("activation", kind, s, dtype=dtype)
    both("bias_activation", kind, s, beta, dtype=dtype)
    both("bias_activation_inference", kind, s, beta, dtype=dtype)
    both("activation_gradient", kind, g, Activated(s, slope), dtype=dtype)
    both("batch_norm_activation", kind, s, gamma, beta, 1e-3, dtype=dtype)
    forward = table(np, activation=name).batch_norm_activation(s, gamma, beta, 1e-3)
    both("batch_norm_activation_gradients", kind, g, forward, gamma, dtype=dtype)
    both("batch_norm_activation_inference", kind, s, beta, np.abs(gamma), gamma, beta, 1e-3, dtype=dtype)
