"""Compiled loops for sizes that the comparison with the reference does not reach."""

from __future__ import annotations

import numpy as np
import pytest

from xpnet.ops import numpy_ops, reference

pytest.importorskip("numba")


@pytest.mark.parametrize("size", [1, 63, 64, 65, 130, 1000])
def test_total_adds_every_value_once(size):
    from xpnet.ops.numba_kernels import total

    values = (2.0 ** (np.arange(size) % 20)).astype(np.float32)  # whole numbers: the sum is exact in any order
    assert total(values) == values.astype(float).sum()


@pytest.mark.parametrize(("replicas", "samples", "classes"), [(5, 100, 10), (60, 50, 2), (1, 50, 100)])
def test_cross_entropy_of_many_logits_is_that_of_the_reference(replicas, samples, classes):
    from xpnet.ops import numba_ops

    rng = np.random.default_rng(0)
    s = (5 * rng.standard_normal((replicas, samples, classes))).astype(np.float32)
    assert s.size > numba_ops._FEW_LOGITS
    s[:, 3] = 0.0  # equal logits: the first class is predicted
    s[0, 4, classes - 1] = np.nan
    labels = rng.integers(0, classes, samples)
    scale = rng.random((replicas, 1, 1)).astype(np.float32)
    found = numba_ops.softmax_cross_entropy(s, labels, scale, numpy_ops.new_cross_entropy(s))
    expected = reference.softmax_cross_entropy(np, s.astype(float), labels, scale.astype(float))
    np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.g, expected.g, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found.correct, expected.correct)
