"""Principal components of a training set, and the projection on them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.standardise import Standardiser
from xpnet.data.transformed_rows import pooled, reflected
from xpnet.errors import DataError
from xpnet.utils.lazy_arrays import Features
from xpnet.utils.memory import check_room, usable_cores
from xpnet.utils.rng import Purpose, generator

# Samples whose covariance is computed.
_SAMPLES = 20_000
# Pictures are moved by up to this share of their sides, so that the components hold for moved pictures too.
_SHARE = 8
# Samples of a thread's turn, and the most threads: each needs memory for its turn.
_BLOCK, _THREADS = 1000, 4
# Components with a smaller share of the largest variance are rounding.
_RANK = 1e-6

Shape = tuple[int, int, int]
Floats = NDArray[np.float64]


def principal_components(
    x: Features,
    image_shape: Shape | None,
    pool: int,
    count: int,
    eps: float,
    standardiser: Standardiser | None = None,
) -> tuple[Standardiser, Floats]:
    """Return the standardiser of a training set, and the projection (d', count) on its principal components.

    With the eigenvalues l of the covariance of the standardised features, descending, a component is scaled by
    (l + eps)^(-1/2), and all of them by one number, so that their mean variance is 1: a regularised whitening.  The
    covariance of pictures is that of pictures moved at random and its mirror image together, and their standard
    deviation is that of a channel.  Every component of pictures equals its mirror image, or the negative of it; those
    that equal it come first.

    Args:
        x: Training samples (n, d).
        image_shape: (channels, height, width) of pictures; None for other data.
        pool: Side of the squares of pixels that are averaged.
        count: Number of components.
        eps: Added to the variances.
        standardiser: That of data other than pictures, if it is known.

    Raises:
        DataError: There are fewer components with a variance.
    """
    n, d = x.shape
    width = d // pool**2
    if count > width:
        raise DataError(f"pca = {count}: is more than the {width} features that there are; take at most so many")
    check_room(4 * min(n, _SAMPLES) * width + 24 * width**2, f"pca = {count}: the covariance of {width} features")
    some = generator(0, Purpose.PCA).permutation(n)[:_SAMPLES]
    some.sort()
    side = (0, 0) if image_shape is None else (image_shape[1] // pool, image_shape[2] // pool)
    if image_shape is None:
        standardiser = standardiser or Standardiser.fit(x)
        values = standardiser(x[some], "float32")
        values -= values.mean(axis=0, dtype=np.float64).astype(np.float32)
        variances, vectors = _sorted([(np.eye(width), _second_moments(values))])
    else:
        values = _moved(x, some, image_shape, pool)
        standardiser = _by_channel(values, image_shape[0], side)
        values *= (1 / standardiser.std).astype(np.float32)
        variances, vectors = _sorted(_even_and_odd(values, image_shape[0], side))
    rank = int((variances > _RANK * variances[0]).sum()) if variances[0] > 0 else 0
    if count > rank:
        raise DataError(f"pca = {count}: the training set has {rank} components that vary; take at most so many")
    scale = (variances[:count] + eps) ** -0.5
    scale /= np.sqrt((scale**2 * variances[:count]).mean())
    projection = vectors[:, :count] * scale
    if image_shape is not None:
        projection = _even_first(projection, _mirror(image_shape[0], side))
    return standardiser, np.ascontiguousarray(projection)


def _second_moments(values: Any) -> Floats:
    """Return the mean products of all pairs of columns of values (n, q)."""
    return np.asarray((values.T @ values).astype(np.float64) / len(values))


def _mirror(channels: int, side: tuple[int, int]) -> NDArray[np.int64]:
    """Return for each feature of a picture the number of its mirror image's."""
    return np.arange(channels * side[0] * side[1]).reshape(channels, *side)[..., ::-1].reshape(-1)


def _by_channel(values: NDArray[np.float32], channels: int, side: tuple[int, int]) -> Standardiser:
    """Subtract the mean of pictures and their mirror images; return it with the standard deviation of each channel."""
    mirror = _mirror(channels, side)
    mean = values.mean(axis=0, dtype=np.float64)
    mean = (mean + mean[mirror]) / 2
    values -= mean.astype(np.float32)
    squares = np.einsum("ij,ij->j", values, values, dtype=np.float64).reshape(channels, -1).mean(axis=1)
    std = np.where(squares > 0, np.sqrt(squares / len(values)), 1.0)
    return Standardiser(mean, np.repeat(std, side[0] * side[1]))


def _moved(x: Features, some: NDArray[np.int64], image_shape: Shape, pool: int) -> NDArray[np.float32]:
    """Return pictures of `x`, each moved by some pixels, reflected at its border, and pooled, as rows."""
    channels, height, width = image_shape
    most = min(height, width) // _SHARE
    moves = generator(0, Purpose.PCA, 1).integers(-most, most + 1, (2, len(some)))
    out = np.empty((len(some), channels * (height // pool) * (width // pool)), np.float32)
    places = np.arange(channels * height * width).reshape(image_shape)
    code = moves[0] * (2 * most + 1) + moves[1]

    def move(these: NDArray[np.int64]) -> None:
        down, right = moves[:, these[0]]
        rows, columns = (reflected(np, np.arange(size) + by, size) for size, by in ((height, down), (width, right)))
        pictures = np.take(x[some[these]], places[:, rows][:, :, columns].reshape(-1), axis=1)
        out[these] = pooled(pictures.reshape(-1, *image_shape), pool, np.float32)

    with ThreadPoolExecutor(min(_THREADS, usable_cores())) as threads:
        list(threads.map(move, [np.flatnonzero(code == same) for same in np.unique(code)]))
    return out


def _even_and_odd(values: NDArray[np.float32], channels: int, side: tuple[int, int]) -> list[tuple[Floats, Floats]]:
    """Return two bases of pictures (d', q), and the second moments of `values` and their mirror images in each.

    Pictures of the first basis equal their mirror image, those of the second its negative.  The second moments of
    samples together with their mirror images have no entries between the two, so each has its own eigenvectors: they
    take half the time, or a quarter.
    """
    mirror = _mirror(channels, side)
    d, root, half = len(mirror), 0.5**0.5, side[1] // 2
    left, centre = np.flatnonzero(np.arange(d) < mirror), np.flatnonzero(np.arange(d) == mirror)
    even, odd = np.zeros((d, len(left) + len(centre))), np.zeros((d, len(left)))
    at = np.arange(len(left))
    even[left, at] = even[mirror[left], at] = odd[left, at] = root
    odd[mirror[left], at] = -root
    even[centre, len(left) + np.arange(len(centre))] = 1
    sums, differences = (np.empty((len(values), basis.shape[1]), np.float32) for basis in (even, odd))

    def fold(rows: slice) -> None:
        pictures = values[rows].reshape(-1, channels, *side)
        one, other = pictures[..., :half], pictures[..., ::-1][..., :half]
        folded = (*one.shape[:1], len(left))
        sums[rows, : len(left)] = ((one + other) * np.float32(root)).reshape(folded)
        sums[rows, len(left) :] = values[rows, centre]
        differences[rows] = ((one - other) * np.float32(root)).reshape(folded)

    with ThreadPoolExecutor(min(_THREADS, usable_cores())) as threads:
        list(threads.map(fold, [slice(start, start + _BLOCK) for start in range(0, len(values), _BLOCK)]))
    parts = (even, _second_moments(sums)), (odd, _second_moments(differences))
    return [part for part in parts if part[0].shape[1]]


def _even_first(projection: Floats, mirror: NDArray[np.int64]) -> Floats:
    """Return components that equal their mirror images, and then those that equal their negatives, free of rounding."""
    parity = np.sign((projection * projection[mirror]).sum(axis=0))
    exact = (projection + parity * projection[mirror]) / 2
    return np.asarray(exact[:, np.argsort(-parity, kind="stable")])


def _sorted(parts: list[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """Return the eigenvalues of second moments, descending, and their eigenvectors as columns, of a fixed sign.

    Each part is a basis (d', q), and the second moments (q, q) in it.
    """
    found = [(basis, *np.linalg.eigh(moments)) for basis, moments in parts]
    variances = np.concatenate([values for _, values, _ in found])
    vectors = np.concatenate([basis @ inner for basis, _, inner in found], axis=1)
    order = np.argsort(-variances, kind="stable")
    variances, vectors = np.maximum(variances[order], 0), vectors[:, order]
    largest = np.abs(vectors).argmax(axis=0)
    return variances, vectors * np.sign(vectors[largest, np.arange(len(largest))])
