"""The softmax and the normalisation of unusual numbers, by every implementation, against float64 and wider."""

from __future__ import annotations

from typing import Any, NamedTuple

import emulator
import numpy as np
import pytest
from kernel_pair import Both
from operation_tables import REFERENCE, TABLES

pytestmark = pytest.mark.guarantee("numbers")
OPERATIONS = {"reference": REFERENCE, **TABLES}
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
# Scores (n, c) of any scale; the classes of their labels are the first, the last and one between.
SCORES = np.array(
    [
        [1e4, -1e4, 0, 9_999.5],
        [-1e4, -1e4, -1e4, -1e4],
        [-1e4, 1e4, 1e4, 1e4],
        [1e30, -1e30, 1e29, 0],
        [1e-30, -1e-30, 0, 1e-30],
        [88.8, -103.9, 17.0, 88.7],  # about where exp overflows and underflows in float32
        [-745.2, 709.8, 0, -1],  # and in float64
        [0, 0, 0, 0],
    ]
)


class Call(NamedTuple):
    """Operations of one implementation, on arrays of the host."""

    operation: Any
    host: Any = lambda value: value

    def __call__(self, name, *arguments):
        return self.operation(name, *arguments)


@pytest.fixture(params=[*OPERATIONS, "cuda"], scope="module")
def call(request):
    """Return a caller of operations by name; its method `host` copies a result to the host."""
    if request.param != "cuda":
        table = OPERATIONS[request.param]
        return Call(lambda name, *arguments: getattr(table, name.replace("relu", "activation"))(*arguments))
    if emulator.compiler() is None:
        pytest.skip("there is no C++ compiler")
    both = Both()
    return Call(lambda name, *arguments: getattr(both.ops, name)(*map(both.to, arguments)), both.back)


@DTYPES
@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("label", [0, 1, 3])
def test_losses_and_gradients_of_scores_of_any_scale(call, dtype, replicas, label, harm):
    logits = np.stack([np.roll(SCORES, r, axis=0) for r in range(replicas)]).astype(dtype)
    labels = np.full(len(SCORES), label)
    with np.errstate(under="ignore"):
        found = call("softmax_cross_entropy", logits, labels, 0.25)
        wide = logits.astype(np.longdouble)
        shifted = wide - wide.max(axis=-1, keepdims=True)
        p = np.exp(shifted) / np.exp(shifted).sum(axis=-1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(axis=-1)) - shifted[..., label]
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(call.host(found.losses), losses.astype(float), rtol=4 * eps, atol=4 * eps)
    np.testing.assert_allclose(call.host(found.g), (0.25 * (p - np.eye(4)[label])).astype(float), rtol=0, atol=4 * eps)
    np.testing.assert_array_equal(call.host(found.correct), logits.argmax(axis=-1) == label)
    harm.did("scores of any scale", logits.size)


@DTYPES
def test_a_loss_beyond_the_type_is_infinite_and_not_another_number(call, dtype):
    top = np.finfo(dtype).max
    logits = np.array([[[top, -top, 0.0], [0.0, np.inf, 0.0], [np.nan, 0.0, 0.0]]], dtype)
    with np.errstate(all="ignore"):
        losses = call.host(call("softmax_cross_entropy", logits, np.array([1, 0, 1]), 1.0).losses)
    assert losses[0, 0] == np.inf
    assert np.isnan(losses[0, 1:]).all()


@DTYPES
@pytest.mark.parametrize("units", [5, 70])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_samples_without_variance_are_normalised_to_the_shift(call, dtype, units, n):
    """All samples alike, or one alone: s_hat is 0, and nothing but beta learns."""
    row = np.linspace(-1e4, 1e4, units).astype(dtype)
    s = np.broadcast_to(row, (2, n, units)).copy()
    gamma = np.full((2, 1, units), 3, dtype)
    beta = np.broadcast_to(np.linspace(-1, 1, units).astype(dtype), (2, 1, units)).copy()
    found = call("batch_norm_relu", s, gamma, beta, 1e-5)
    # A mean of equal numbers is one of them to its last bits, which the deviation of 0 and eps make larger.
    rounding = 1e4 * np.finfo(dtype).eps * 3 / np.sqrt(1e-5)
    exact = n < 3
    expected = np.broadcast_to(np.maximum(beta, 0), s.shape)
    np.testing.assert_allclose(call.host(found.y), expected, rtol=0, atol=0 if exact else rounding)
    if exact:
        assert not call.host(found.var).any()
        g = np.ones_like(s)
        gradients = call("batch_norm_relu_gradients", g, found, gamma)
        assert not call.host(gradients.gamma).any()
        assert not call.host(gradients.s).any()
        np.testing.assert_array_equal(call.host(gradients.beta), n * (beta > 0))
