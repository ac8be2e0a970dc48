"""How raw samples become the inputs of a network: encoded or pooled, standardised, projected on components."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.config.arguments import floating, takes
from xpnet.data.column import Column
from xpnet.data.encoded_rows import EncodedRows
from xpnet.data.encoder import PREFIX, Encoder, are_encoded
from xpnet.data.pca import principal_components
from xpnet.data.standardise import Standardiser, chunks_of, numeric_features
from xpnet.data.transformed_rows import TransformedRows, pooled
from xpnet.errors import DataError
from xpnet.utils.lazy_arrays import Features, StandardisedRows

Shape = tuple[int, int, int]
PROJECTION = "standardise.projection"


@dataclass(frozen=True, eq=False)
class Transform:
    """Brings raw samples to the inputs of a network; fitted on a training set, and stored with the network.

    The inputs are z = ((p - mean) / std) projection, where p are the raw features, the means of squares of pixels, or
    what an encoder makes of the columns of a table.

    Attributes:
        standardiser: Mean and standard deviation of the pooled features (d',).
        image_shape: (channels, height, width) of the pictures that are pooled; None without pooling.
        pool: Side of the squares of pixels that are averaged; 1 without pooling.
        projection: (d', k) float64; None without principal components.
        seconds: Seconds that fitting has taken.
        encoder: Encodes the columns of a table; None where all features are numbers, to be standardised.
    """

    standardiser: Standardiser
    image_shape: Shape | None = None
    pool: int = 1
    projection: NDArray[np.float64] | None = None
    seconds: float = 0.0
    encoder: Encoder | None = None

    @classmethod
    def fit(
        cls,
        x: Features,
        image_shape: Shape | None = None,
        pool: int = 1,
        pca: int | None = None,
        pca_eps: float = 1.0,
        *,
        columns: Sequence[Column] = (),
        numeric: str = "standard",
        max_categories: int = 32,
    ) -> Transform:
        """Return the transform of a training set `x` (n, d).

        Args:
            x: Raw features: numbers, or the codes of `columns`.
            image_shape: (channels, height, width) of pictures; None for other data.
            pool: As in :class:`xpnet.DataConfig`.
            pca: Likewise.
            pca_eps: Likewise.
            columns: What the features mean; empty if all are numbers, and none of them is missing.
            numeric: As in :class:`xpnet.DataConfig`.
            max_categories: Likewise.

        Raises:
            DataError: `x` is not of two dimensions or is empty, `pool` does not divide the pictures, there are none,
                `pca` is larger than the number of components with any variance, or `numeric` is for tables.
        """
        begin = time.perf_counter()
        if image_shape is not None and numeric != "standard":
            raise DataError(f"numeric = {numeric}: is for columns of tables, and this data has pictures")
        if are_encoded(columns, numeric):
            encoder = Encoder.fit(x, columns, numeric, max_categories)
            standardiser, projection = _fit_encoded(EncodedRows(x, encoder), pool, pca, pca_eps)
            return cls(standardiser, None, 1, projection, time.perf_counter() - begin, encoder)
        check_pool(image_shape, pool)
        shape = image_shape if pool > 1 else None
        if pca is None:
            standardiser = Standardiser.fit(x) if pool == 1 else _fit_pooled(x, image_shape, pool)
            return cls(standardiser, shape, pool, seconds=time.perf_counter() - begin)
        standardiser, projection = principal_components(x, image_shape, pool, pca, pca_eps)
        return cls(standardiser, shape, pool, projection, time.perf_counter() - begin)

    @property
    def features(self) -> int:
        """Number of raw features d."""
        if self.encoder is not None:
            return self.encoder.features
        return len(self.standardiser.mean) if self.image_shape is None else int(np.prod(self.image_shape))

    @property
    def inputs(self) -> int:
        """Number of inputs of the network."""
        return len(self.standardiser.mean) if self.projection is None else int(self.projection.shape[1])

    @property
    def plain(self) -> bool:
        """Whether the inputs are the raw features, standardised."""
        return self.pool == 1 and self.projection is None and self.encoder is None

    @takes(dtype=floating)
    def __call__(self, x: Features, dtype: str = "float32") -> NDArray[Any]:
        """Return the inputs (n, k) of raw features `x` (n, d), in the floating type `dtype`: a new array.

        Raises:
            DataError: `x` has another number of features, or is not made of numbers.
        """
        if self.plain:
            return self.standardiser(x, dtype)
        x = self._checked(x)
        # In one layout, so that a projection that was read from a file gives the same bits.
        projection = None if self.projection is None else np.ascontiguousarray(self.projection, dtype)
        out = np.empty((x.shape[0], self.inputs), dtype)
        for rows in chunks_of(x):
            values = x[rows]
            if self.image_shape is not None:
                values = pooled(values.reshape(-1, *self.image_shape), self.pool, dtype)
            elif self.encoder is not None:
                values = self.encoder(values)
            z = self.standardiser(values, dtype)
            out[rows] = z if projection is None else z @ projection
        return out

    @takes(dtype=floating)
    def lazily(
        self, x: Features, dtype: str, image_shape: Shape | None = None, border: str = "reflect", cutout: int = 0
    ) -> TransformedRows:
        """Return a view of `x` (n, d) whose inputs are computed when they are read, in any view of its pictures.

        Raises:
            DataError: See :meth:`Standardiser.lazily`; or `x` has another number of features, or is a table of columns
                that are encoded.
        """
        x = self._checked(x)
        if self.encoder is not None:
            raise DataError("the encoded columns of a table have no views; transform them at once")
        few = np.empty((0, len(self.standardiser.mean)), np.uint8 if x.dtype == np.uint8 else dtype)
        scale = self.standardiser.lazily(few, dtype)
        projection = None if self.projection is None else np.ascontiguousarray(self.projection, dtype)
        shape = self.image_shape or image_shape
        return TransformedRows(x, shape, self.pool, scale.whole, scale.rest, scale.factor, projection, border, cutout)

    def _checked(self, x: Any) -> Features:
        """Return features (n, d) of numbers; refuse others."""
        return numeric_features(x, f"features must be (n, {self.features})", self.features, "transform")

    def standardised(self, x: Features, dtype: str) -> StandardisedRows:
        """Return a view of `x` (n, d) that is standardised when it is read, for a transform that does no more."""
        assert self.plain, "other transforms are read by `lazily`"
        return self.standardiser.lazily(x, dtype)

    def tensors(self) -> dict[str, NDArray[np.float64]]:
        """Return the arrays, by the names that files give them."""
        tensors = {"standardise.mean": self.standardiser.mean, "standardise.std": self.standardiser.std}
        tensors |= {} if self.encoder is None else self.encoder.tensors()
        return tensors if self.projection is None else tensors | {PROJECTION: self.projection}

    @classmethod
    def of(
        cls,
        tensors: Mapping[str, NDArray[Any]],
        image_shape: Shape | None,
        pool: int,
        encoder: Mapping[str, Any] | None = None,
    ) -> Transform | None:
        """Return the transform that wrote `tensors`, for pictures of `image_shape`; None if there are none.

        `encoder` is the description of its encoder, if it has one.

        Raises:
            DataError: They do not fit together.
        """
        if not tensors:
            return None
        of_encoder = {name: tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}
        if bool(of_encoder) != (encoder is not None):
            raise DataError("it has an encoder's arrays without their description, or the other way round")
        encodes = None if encoder is None else Encoder.of(of_encoder, encoder)
        tensors = {name: tensor for name, tensor in tensors.items() if name not in of_encoder}
        names = {"standardise.mean", "standardise.std"}
        if wrong := sorted((names - tensors.keys()) or (tensors.keys() - names - {PROJECTION})):
            raise DataError(f"it {'has no' if names - tensors.keys() else 'has an unknown'} {wrong[0]}")
        standardiser = Standardiser(*(tensors[name] for name in sorted(names)))
        projection, width = tensors.get(PROJECTION), len(standardiser.mean)
        if projection is not None:
            if projection.ndim != 2 or projection.shape[0] != width or projection.dtype != np.float64:
                raise DataError(f"{PROJECTION} is {projection.dtype} {projection.shape}, for {width} features")
            if not np.isfinite(projection).all():
                raise DataError(f"{PROJECTION} has a number that is not finite")
        check_pool(image_shape, pool)
        transform = cls(standardiser, image_shape if pool > 1 else None, pool, projection, encoder=encodes)
        if encodes is not None and (encodes.outputs != width or pool > 1):
            raise DataError(f"its encoder gives {encodes.outputs:,} numbers, and standardise.mean has {width:,}")
        if pool > 1 and transform.features != width * pool**2:
            raise DataError(f"standardise.mean has {width} numbers for pictures of {transform.features}")
        return transform

    def unfolded(self, W: NDArray[Any]) -> NDArray[Any]:
        """Return the weights (R, d, m) for raw, standardised features that act as `W` (R, k, m) does on the inputs.

        They belong to the standardiser of :meth:`plain_standardiser`, with which every pixel has the mean and the
        standard deviation of its square.
        """
        if self.projection is not None:
            W = np.matmul(self.projection.astype(W.dtype), W)
        if self.image_shape is None:
            return W
        channels, height, width = self.image_shape
        R, _, m = W.shape
        W = W.reshape(R, channels, height // self.pool, width // self.pool, m) / self.pool**2
        return W.repeat(self.pool, axis=2).repeat(self.pool, axis=3).reshape(R, -1, m)

    def plain_standardiser(self) -> Standardiser:
        """Return a standardiser of the raw features; see :meth:`unfolded`."""
        if self.image_shape is None:
            return self.standardiser
        channels, height, width = self.image_shape
        spread = [
            values.reshape(channels, height // self.pool, width // self.pool)
            .repeat(self.pool, axis=1)
            .repeat(self.pool, axis=2)
            .reshape(-1)
            for values in (self.standardiser.mean, self.standardiser.std)
        ]
        return Standardiser(*spread)


def check_pool(image_shape: Shape | None, pool: int) -> None:
    """Refuse to pool what is no picture, or cannot be cut into squares.

    Raises:
        DataError: `pool` is above 1, and cannot be used.
    """
    if pool == 1:
        return
    if image_shape is None:
        raise DataError(f"pool = {pool}: needs pictures, and this data has features of another kind")
    _, height, width = image_shape
    if height % pool or width % pool:
        raise DataError(f"pool = {pool}: does not divide pictures of {height} x {width}; take a divisor of both")


def _fit_encoded(
    x: EncodedRows, pool: int, pca: int | None, pca_eps: float
) -> tuple[Standardiser, NDArray[np.float64] | None]:
    """Return the standardiser of encoded columns, which leaves alone what is scaled already, and the projection."""
    check_pool(None, pool)
    moments, encoder = Standardiser.fit(x), x.encoder
    mean = np.where(encoder.centred, moments.mean, 0)
    standardiser = Standardiser(mean, np.where(encoder.scaled, moments.std, 1))
    if pca is None:
        return standardiser, None
    return principal_components(x, None, 1, pca, pca_eps, standardiser)


def _fit_pooled(x: Features, image_shape: Any, pool: int) -> Standardiser:
    """Return the standardiser of pooled pictures, computed in float64."""
    sums, squares, shift = 0.0, 0.0, None
    for rows in chunks_of(x):
        values = pooled(x[rows].reshape(-1, *image_shape), pool, np.float64)
        shift = values[0] if shift is None else shift
        sums = sums + (values - shift).sum(axis=0)
        squares = squares + ((values - shift) ** 2).sum(axis=0)
    assert shift is not None
    n = x.shape[0]
    variance = np.maximum(squares / n - (sums / n) ** 2, 0)
    std = np.sqrt(variance)
    return Standardiser(shift + sums / n, np.where(std <= 1e-12 * np.abs(shift), 1.0, std))
