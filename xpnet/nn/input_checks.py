"""Checks of a network's arguments: arrays on its device, and raw samples, which are transformed on the host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from xpnet.backend import Array, Backend
from xpnet.config.arguments import seeds
from xpnet.data import NamedColumns, Transform
from xpnet.data.feature_table import plain_array, table_of
from xpnet.errors import ArrayError, ConfigError, DataError
from xpnet.utils.lazy_arrays import Rows


def checked(network: Any, x: Array, labels: Array | None, *, needed: bool) -> tuple[Array, Array]:
    """Return samples and labels for a :class:`~xpnet.Network`, checked; see its method of the same name."""
    x, hint = network.backend.own("x", x), "convert it with x.astype"
    if network.transform is not None:
        hint = f'transform raw samples with network.transform(x, "{network.dtype}")'
    check_samples(x, network.config.inputs, network.replicas, network.dtype, hint=hint)
    if labels is None and not needed:
        return x, None
    labels = network.backend.own("labels", labels)
    check_labels(labels, x, network.config.classes, network.backend)
    return x, labels


def numbers_of(network: Any, name: str, value: Any) -> Array:
    """Return a number, or one for each replica (R,), as an array on the network's device.

    Raises:
        ConfigError: `value` has another shape.
    """
    value = network.backend.asarray(value, dtype=network.dtype)
    if value.shape not in ((), (network.replicas,)):
        raise ConfigError(f"{name}: has shape {tuple(value.shape)}; it must be a number, or one for each replica")
    return value


def check_samples(x: Array, d: int, replicas: int, dtype: Any, *, hint: str = "") -> None:
    """Refuse samples that are not (n, d) or (R, n, d) of type `dtype`; `hint` is advice for another type.

    Raises:
        ArrayError: The samples have another shape or type.
    """
    if x.ndim not in (2, 3) or x.shape[-1] != d or x.shape[-2] == 0 or not _fits_replicas(x, replicas):
        raise _wrong_shape(x, d, replicas)
    if x.dtype != dtype:
        raise ArrayError(f"x: is {x.dtype}, but this network computes in {dtype}; {hint}")


def _fits_replicas(x: Array, replicas: int) -> bool:
    """Return whether samples (R, n, d) are for as many replicas as the network has; R = 1 fits any number."""
    return x.ndim != 3 or 1 in (replicas, len(x)) or len(x) == replicas


def _wrong_shape(x: Array, d: int, replicas: int) -> ArrayError:
    return ArrayError(f"x: has shape {tuple(x.shape)}; this network takes (n, {d}) or (R, n, {d}) with R = {replicas}")


def check_labels(labels: Array, x: Array, classes: int, backend: Backend) -> None:
    """Refuse labels that are not classes of the samples `x`.

    Raises:
        ArrayError: The labels are not classes.
    """
    if labels.dtype.kind not in "iu":
        raise ArrayError(f"labels: are {labels.dtype}; they must be whole numbers from 0")
    if labels.shape not in (x.shape[-2:-1], x.shape[:-1]):
        raise ArrayError(
            f"labels: have shape {tuple(labels.shape)} for x of shape {tuple(x.shape)}; "
            f"they must be {tuple(x.shape[-2:-1])}"
        )
    lowest, highest = (int(backend.to_numpy(label)) for label in (labels.min(), labels.max()))
    if lowest < 0 or highest >= classes:
        raise ArrayError(f"labels: range from {lowest} to {highest}; this network has classes 0 to {classes - 1}")


def settings_of_cost(network: Any, x: Array, lam: Any, smoothing: Any, weights: Any) -> tuple[Any, Any, Any]:
    """Return penalty, label smoothing and weights for the cost on `x`, checked; the last two are None if not used."""
    backend = network.backend
    on_host = backend.to_numpy(smoothing) if isinstance(smoothing, backend.xp.ndarray) else np.asarray(smoothing)
    alpha = numbers_of(network, "label_smoothing", smoothing) if on_host.any() else None
    of_samples = None if weights is None else _checked_weights(network, weights, x)
    return numbers_of(network, "lam", lam), alpha, of_samples


def _checked_weights(network: Any, weights: Any, x: Array) -> Array:
    """Return weights of the samples `x`, (n,) or (R, n), in the network's dtype on its device.

    Raises:
        ArrayError: They are not finite numbers of at least 0, or not one for each sample.
    """
    weights = network.backend.asarray(weights)
    if weights.dtype.kind not in "biuf" or weights.shape not in (x.shape[-2:-1], x.shape[:-1]):
        raise ArrayError(
            f"sample_weight: is {weights.dtype} of the shape {tuple(weights.shape)} for x of shape {tuple(x.shape)}; "
            f"weights must be numbers of the shape {tuple(x.shape[-2:-1])}"
        )
    weights = weights.astype(network.dtype)
    lowest, highest = (float(network.backend.to_numpy(weight)) for weight in (weights.min(), weights.max()))
    if not (lowest >= 0 and np.isfinite(highest)):  # also for NaN
        raise ArrayError(f"sample_weight: ranges from {lowest:g} to {highest:g}; weights must be finite and at least 0")
    return weights


def raw_samples(x: Any, network: Any) -> Any:
    """Return raw samples of any array-like type, or columns by name, on the host: (n, d) or (R, n, d).

    Raises:
        ArrayError: The samples have another shape, or lie on another device.
        DataError: The samples are not real numbers, or not finite; or columns are missing, or of another kind.
    """
    d, replicas, backend = network.features, network.replicas, network.backend
    encoder = network.transform.encoder
    if isinstance(x, Mapping):
        if not network.feature_names:
            raise DataError("x: has columns by name, and the network was trained on columns without names")
        return NamedColumns.of(x, "x").like(network.feature_names, encoder.columns if encoder else (), "x")
    if isinstance(x, Rows):
        return x
    on_device = isinstance(x, backend.xp.ndarray) and not isinstance(x, np.ndarray)
    try:
        x = plain_array(backend.to_numpy(x) if on_device else x, "x")
    except TypeError:
        backend.own("x", x)  # raises the error if `x` is on another device
        raise
    by_replica = x.ndim == 3 and x.shape[-1] == d and _fits_replicas(x, replicas)
    if x.ndim < 2 or not x.size or not (by_replica or np.prod(x.shape[1:]) == d):
        raise _wrong_shape(x, d, replicas)
    table = table_of(x.reshape(-1, d) if by_replica else x, "x", missing=encoder is not None)
    flat = np.concatenate(list(table.chunks()))
    return flat.reshape(x.shape) if by_replica else flat


def transformed(x: Any, transform: Transform, dtype: Any, first: int) -> Array:
    """Return raw samples as the inputs of the network, on the host; row `first` of the argument is their first.

    Raises:
        DataError: A value lies so far from those of the training data that `dtype` cannot hold the result.
    """
    with np.errstate(over="ignore"):
        z = transform(x.reshape(-1, x.shape[-1]), str(dtype)).reshape(*x.shape[:-1], transform.inputs)
    if not np.isfinite(z).all():
        *_, row, column = np.argwhere(~np.isfinite(z))[0]
        what = "feature" if transform.plain else "input"
        raise DataError(
            f"x: row {first + row}, {what} {column} (from 0): lies too far from the values that the network was "
            f"trained on for {dtype}"
        )
    return z


def some_of(replicas: int, value: Any) -> tuple[int, ...]:
    """Return a sequence of numbers of replicas; raise ValueError, with what it must be, if it is none."""
    chosen = seeds(value)
    if not isinstance(chosen, tuple) or not chosen or max(chosen) >= replicas:
        raise ValueError(f"a sequence of numbers from 0 to {replicas - 1}")
    return chosen
