"""Inputs of a network that are computed when they are read: pictures seen in views, pooled, standardised, projected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.views import samples_of, view_of
from xpnet.utils.lazy_arrays import Features, Rows


@dataclass(frozen=True, eq=False)
class TransformedRows:
    """Raw samples whose network inputs are computed on reading.

    It is indexed by rows, which are numbers of samples with a view each; see :mod:`xpnet.data.views`.  The inputs are

        z = ((p - whole - rest) * factor) projection,

    in this order and in the floating type of `factor`, where p are the means of squares of `pool` by `pool` pixels of
    the picture in its view.

    Attributes:
        x: Raw features (N, d), in memory or on the disk.
        image_shape: (channels, height, width) of the pictures; None for other data, which has no views.
        pool: Side of the squares that are averaged.
        whole, rest, factor: Mean, in two parts, and 1 / standard deviation of the pooled features (d',); see
            :class:`~xpnet.data.StandardisedRows`.
        projection: (d', k), or None for inputs that are the standardised features.
        border: Pixels that a moved picture brings in: ``"reflect"`` or ``"constant"``.
        cutout: Side of the square that views cut out; inputs whose centres are in it become 0 (before projection).
    """

    x: Features
    image_shape: tuple[int, int, int] | None
    pool: int
    whole: NDArray[Any]
    rest: NDArray[Any]
    factor: NDArray[Any]
    projection: NDArray[Any] | None
    border: str = "reflect"
    cutout: int = 0

    @property
    def shape(self) -> tuple[int, int]:
        """Samples and inputs."""
        width = self.factor if self.projection is None else self.projection
        return int(self.x.shape[0]), int(width.shape[-1])

    @property
    def ndim(self) -> int:
        """Number of axes: 2."""
        return 2

    @property
    def dtype(self) -> Any:
        """The floating type of the inputs."""
        return self.factor.dtype

    @cached_property
    def halves(self) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """The left halves (d' / 2, k) of the even and the odd components, or None if the components are none of these.

        An even component equals its mirror image, an odd one the negative of it.  So a picture's products with them are
        those of the sums and of the differences of its left and its mirrored right half: half the arithmetic.
        """
        if self.image_shape is None or not isinstance(self.projection, np.ndarray) or self.cutout:
            return None
        channels, height, width = (
            side // n for side, n in zip(self.image_shape, (1, self.pool, self.pool), strict=True)
        )
        if width % 2:
            return None
        left, right = np.split(np.arange(channels * height * width).reshape(-1, width), 2, axis=1)
        left, right = left.reshape(-1), right[:, ::-1].reshape(-1)
        P = self.projection
        even = int((P[left] == P[right]).all(axis=0).sum())
        alike = all((part[left] == part[right]).all() for part in (self.whole, self.rest, self.factor, P[:, :even]))
        if not alike or (P[left, even:] != -P[right, even:]).any():
            return None
        return np.ascontiguousarray(P[left, :even]), np.ascontiguousarray(P[left, even:])

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        """Return the inputs of `rows`, a slice or an array, on the host."""
        return self.take(np.arange(self.shape[0])[rows] if isinstance(rows, slice) else np.asarray(rows))

    def take(self, rows: Any, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return the inputs of `rows`, in `out` if it is given, on the host."""
        inputs = transformed(np, self, rows)
        if out is None:
            return np.asarray(inputs)
        out[...] = inputs
        return out

    @property
    def kind(self) -> Any:
        """The type in which a device holds the raw features: uint8 stays, others become the inputs' type."""
        return self.x.dtype if self.x.dtype == np.uint8 else self.dtype

    def to(self, asarray: Callable[[Any], Any], *, move_x: bool = True) -> TransformedRows:
        """Return the same samples on the device for which `asarray` makes arrays; without `move_x`, x is not moved."""
        x: Any = self.x
        if move_x and isinstance(x, np.ndarray | Rows):
            x = asarray(np.ascontiguousarray(x[:], self.kind))
        projection = None if self.projection is None else asarray(self.projection)
        whole, rest, factor = (asarray(part) for part in (self.whole, self.rest, self.factor))
        return replace(self, x=x, whole=whole, rest=rest, factor=factor, projection=projection)

    def part(self, rows: slice) -> TransformedRows:
        """Return some of the samples."""
        return replace(self, x=self.x[rows])


def transformed(xp: Any, source: TransformedRows, rows: Any) -> Any:
    """Return the inputs (..., k) of `rows` (...), an array of the array module `xp`; this defines them."""
    flat = rows.reshape(-1)
    raw = source.x[samples_of(flat)]
    if source.image_shape is not None:
        raw = viewed(xp, raw.reshape(-1, *source.image_shape), flat, source.border)
        raw = pooled(raw, source.pool, source.dtype)
    z = raw.astype(source.dtype) - source.whole
    z -= source.rest
    z *= source.factor
    if source.cutout and source.image_shape is not None:
        z *= _kept(xp, source, flat)
    if source.projection is not None:
        z = z @ source.projection
    return z.reshape(*rows.shape, z.shape[-1])


def viewed(xp: Any, pictures: Any, rows: Any, border: str) -> Any:
    """Return pictures (n, channels, height, width), moved and mirrored as their `rows` (n,) say."""
    view, (n, channels, height, width) = view_of(rows), pictures.shape
    across = xp.arange(width)
    across = xp.where(view.flip[:, None] == 1, width - 1 - across, across) - view.right[:, None]
    down = xp.arange(height) - view.down[:, None]
    y, x = reflected(xp, down, height), reflected(xp, across, width)
    sample, channel = xp.arange(n)[:, None, None, None], xp.arange(channels)[None, :, None, None]
    moved = pictures[sample, channel, y[:, None, :, None], x[:, None, None, :]]
    if border == "constant":
        inside = ((down >= 0) & (down < height))[:, None, :, None] & ((across >= 0) & (across < width))[:, None, None]
        moved = moved * inside
    return moved


def reflected(xp: Any, places: Any, size: int) -> Any:
    """Return the places in a picture that its mirror images at the border show; those at most `size` - 1 beyond it."""
    places = xp.abs(places)
    return xp.where(places < size, places, 2 * (size - 1) - places)


def pooled(pictures: Any, pool: int, dtype: Any) -> Any:
    """Return the means of squares of pixels of pictures (n, channels, height, width), as rows (n, d')."""
    total = pictures[..., ::pool, ::pool].astype(dtype)
    for place in range(1, pool**2):
        down, across = divmod(place, pool)
        total += pictures[..., down::pool, across::pool]
    if pool > 1:
        total *= 1 / pool**2
    return total.reshape(len(pictures), -1)


def _kept(xp: Any, source: TransformedRows, rows: Any) -> Any:
    """Return 0 for every pooled feature (n, d') that a view cuts out, and 1 for the others."""
    assert source.image_shape is not None
    channels, height, width = source.image_shape
    view, pool, half = view_of(rows), source.pool, source.cutout / 2

    def far(size: int, centre: Any) -> Any:
        places = xp.arange(size // pool) * pool + (pool - 1) / 2
        apart = places - centre[:, None]
        return (apart < -half) | (apart >= half)

    down, across = far(height, view.row), far(width, view.column)
    kept = down[:, None, :, None] | across[:, None, None, :] | (view.row < 0)[:, None, None, None]
    kept = xp.broadcast_to(kept, (len(rows), channels, height // pool, width // pool))
    return kept.reshape(len(rows), -1).astype(source.dtype)
