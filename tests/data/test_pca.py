"""Principal components are those of the covariance written out, of a fixed sign and scale."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from naive_pictures import seen

import xpnet
from xpnet.data import pca
from xpnet.data.pca import principal_components
from xpnet.data.views import View
from xpnet.errors import DataError, XpnetError
from xpnet.utils.rng import Purpose, generator


def table(n: int = 60, d: int = 7, seed: int = 0) -> Any:
    """Return rows of correlated features of different scales."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) * 10.0 ** np.arange(d)[::-1] + 3).astype(float)


def pictures(n: int, channels: int, height: int, width: int, seed: int = 0) -> Any:
    """Return smooth pictures as bytes, in rows."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 200, (n, channels, height, width))
    smooth = coarse + np.roll(coarse, 1, axis=2) + np.roll(coarse, 1, axis=3) + 40 * np.arange(channels)[:, None, None]
    return (smooth // 3).astype(np.uint8).reshape(n, -1)


def scaled(variances: Any, vectors: Any, count: int, eps: float) -> tuple[Any, Any]:
    """Return the projection and its variances, from eigenvalues and eigenvectors in any order."""
    order = np.argsort(-variances)[:count]
    variances, vectors = variances[order], vectors[:, order]
    scale = 1 / np.sqrt(variances + eps)
    scale /= np.sqrt(np.mean(scale**2 * variances))
    signs = [1 if column[np.abs(column).argmax()] > 0 else -1 for column in vectors.T]
    return vectors * scale * signs, variances * scale**2


def of_pictures(x: Any, shape: Any, pool: int, count: int, eps: float) -> tuple[Any, Any, Any]:
    """Return mean, deviation and projection from the covariance of moved pictures and their mirror images."""
    channels, height, width = shape
    most = min(height, width) // 8
    moves = most - generator(0, Purpose.PCA, 1).integers(0, 2 * most + 1, (2, len(x)))
    order = np.sort(generator(0, Purpose.PCA).permutation(len(x)))
    rows = []
    for number, down, right in zip(order, *moves, strict=True):
        for flip in (0, 1):
            view = View(flip, down, right, -1, -1)
            planes = np.array([seen(plane.tolist(), view, "reflect") for plane in x[number].reshape(shape)])
            rows.append(planes.reshape(channels, height // pool, pool, width // pool, pool).mean(axis=(2, 4)).ravel())
    values = np.array(rows)
    mean = values.mean(axis=0)
    by_channel = (values - mean).reshape(len(values), channels, -1)
    std = np.repeat(np.sqrt((by_channel**2).mean(axis=(0, 2))), values.shape[1] // channels)
    z = (values - mean) / std
    return mean, std, scaled(*np.linalg.eigh(z.T @ z / len(z)), count, eps)[0]


@pytest.mark.parametrize("eps", [0.0, 1.0, 0.01])
@pytest.mark.parametrize("count", [1, 4, 7])
def test_components_of_a_table_are_those_of_its_correlations(count, eps):
    x = table()
    standardiser, projection = principal_components(x, None, 1, count, eps)
    np.testing.assert_allclose(standardiser.mean, x.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(standardiser.std, x.std(axis=0), rtol=1e-12)
    expected, variances = scaled(*np.linalg.eigh(np.corrcoef(x.T)), count, eps)
    np.testing.assert_allclose(projection, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    z = standardiser(x, "float64") @ projection
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-12)
    covariance = np.cov(z.T, bias=True).reshape(count, count)
    np.testing.assert_allclose(covariance, np.diag(variances), atol=1e-4)
    assert np.trace(covariance) / count == pytest.approx(1, rel=1e-4)
    if eps == 0:  # complete whitening
        np.testing.assert_allclose(np.diag(covariance), 1, rtol=1e-3)


@pytest.mark.parametrize(
    ("shape", "pool"),
    [((1, 4, 4), 1), ((3, 4, 4), 2), ((3, 3, 5), 1), ((1, 6, 9), 3), ((1, 9, 10), 1), ((3, 8, 16), 4)],
)
@pytest.mark.parametrize(("eps", "block"), [(1.0, 1000), (0.01, 7)])
def test_components_of_pictures_are_those_of_the_covariance_with_their_mirror_images(
    monkeypatch, shape, pool, eps, block
):
    """An odd width has a column that is its own mirror image; sides of 8 pixels and more are moved, too."""
    monkeypatch.setattr(pca, "_BLOCK", block)  # 80 samples in one turn, or in twelve
    x = pictures(80, *shape)
    mean, std, expected = of_pictures(x, shape, pool, 5, eps)
    standardiser, projection = principal_components(x, shape, pool, 5, eps)
    np.testing.assert_allclose(standardiser.mean, mean, rtol=1e-5)
    np.testing.assert_allclose(standardiser.std, std, rtol=1e-5)
    channels, height, width = (side // n for side, n in zip(shape, (1, pool, pool), strict=True))
    mirrored = expected.reshape(channels, height, width, 5)[:, :, ::-1].reshape(expected.shape)
    parity = np.sign((expected * mirrored).sum(axis=0))
    expected = expected[:, np.argsort(-parity, kind="stable")]  # those that equal their mirror image come first
    # Of a component that is odd, the largest entry is there with both signs.
    expected *= np.sign((projection * expected).sum(axis=0))
    np.testing.assert_allclose(projection, expected, atol=2e-3 * np.abs(expected).max())


@examples(15, 200)
@given(
    seed=st.integers(0, 10_000),
    channels=st.sampled_from([1, 3]),
    lines=st.integers(1, 3),
    cells=st.integers(1, 4),
    pool=st.integers(1, 3),
    count=st.integers(1, 6),
    eps=st.floats(0, 10),
)
def test_components_are_orthogonal_before_scaling_of_mean_variance_1_and_of_a_fixed_sign(
    seed, channels, lines, cells, pool, count, eps
):
    shape = channels, lines * pool, cells * pool
    x, width = pictures(40, *shape, seed=seed), channels * lines * cells
    count = min(count, width)
    standardiser, projection = principal_components(x, shape, pool, count, eps)
    assert (projection.shape, projection.dtype) == ((width, count), np.float64)
    products = projection.T @ projection
    np.testing.assert_allclose(products - np.diag(np.diag(products)), 0, atol=1e-9 * np.diag(products).max())
    largest = np.abs(projection).argmax(axis=0)
    assert (projection[largest, np.arange(count)] > 0).all()
    # Each component is even or odd: its mirror image is itself, or its negative.
    mirrored = projection.reshape(channels, lines, cells, count)[:, :, ::-1].reshape(width, count)
    near = np.minimum(np.abs(mirrored - projection).max(axis=0), np.abs(mirrored + projection).max(axis=0))
    np.testing.assert_allclose(near, 0, atol=1e-9 * np.abs(projection).max())
    planes = x.reshape(-1, *shape).astype(float)
    both = np.concatenate([planes, planes[..., ::-1]]).reshape(-1, channels, lines, pool, cells, pool)
    z = (both.mean(axis=(3, 5)).reshape(len(both), -1) - standardiser.mean) / standardiser.std
    if max(shape[1:]) < 8:  # not moved
        assert np.mean((z @ projection) ** 2) == pytest.approx(1, rel=1e-3)


def test_components_of_the_same_data_are_the_same_bits():
    x = pictures(50, 3, 8, 8)
    first, again = (principal_components(x.copy(), (3, 8, 8), 2, 9, 1.0) for _ in range(2))
    np.testing.assert_array_equal(first[1], again[1])
    np.testing.assert_array_equal(first[0].mean, again[0].mean)


def test_components_of_many_samples_are_those_of_some(monkeypatch):
    monkeypatch.setattr(pca, "_SAMPLES", 30)
    x = table(500)
    _, projection = principal_components(x, None, 1, 3, 1.0)
    some = x[np.sort(generator(0, Purpose.PCA).permutation(500)[:30])]
    z = (some - x.mean(axis=0)) / x.std(axis=0)
    z -= z.mean(axis=0)
    expected, _ = scaled(*np.linalg.eigh(z.T @ z / 30), 3, 1.0)
    np.testing.assert_allclose(projection, expected, atol=1e-4 * np.abs(expected).max())


def test_constant_features_are_of_no_component():
    x = table()
    x[:, [1, 4]] = 5.0
    standardiser, projection = principal_components(x, None, 1, 5, 1.0)
    np.testing.assert_allclose(projection[[1, 4]], 0, atol=1e-9)
    assert np.isfinite(standardiser(x, "float64") @ projection).all()
    with pytest.raises(DataError, match="pca = 6: the training set has 5 components that vary; take at most so many"):
        principal_components(x, None, 1, 6, 1.0)


@pytest.mark.parametrize(
    ("x", "shape", "pool", "count", "message"),
    [
        (table(), None, 1, 8, "pca = 8: is more than the 7 features that there are; take at most so many"),
        (pictures(30, 1, 4, 4), (1, 4, 4), 2, 5, "pca = 5: is more than the 4 features that there are"),
        (table(5), None, 1, 5, "pca = 5: the training set has 4 components that vary; take at most so many"),
        (np.repeat(table(20, 3), 2, axis=1), None, 1, 4, "pca = 4: the training set has 3 components that vary"),
        (np.full((9, 3), 7.0), None, 1, 1, "pca = 1: the training set has 0 components that vary"),
        (np.full((9, 4), 7, np.uint8), (1, 2, 2), 1, 1, "pca = 1: the training set has 0 components that vary"),
    ],
)
def test_more_components_than_there_are_are_refused(x, shape, pool, count, message):
    with pytest.raises(DataError, match=f"^{message}"):
        principal_components(x, shape, pool, count, 1.0)


def test_a_covariance_that_does_not_fit_into_memory_is_refused_before_it_is_computed():
    x = np.broadcast_to(np.zeros(1, np.uint8), (3, 4_000_000))
    with pytest.raises(XpnetError, match=r"pca = 5: the covariance of 4,?000,?000 features"):
        principal_components(x, None, 1, 5, 1.0)


@pytest.mark.parametrize("bad", [0, -1, 1.5, "many"])
def test_a_number_of_components_that_is_none_is_refused(bad):
    with pytest.raises(XpnetError, match=r"^pca = .*: must be a whole number of at least 1"):
        xpnet.data_from_arrays(table(), np.arange(60) % 2, pca=bad)
