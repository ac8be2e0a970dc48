"""Weights of samples and of classes in the loss."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.dataset import Dataset
from xpnet.data.feature_table import plain_array
from xpnet.errors import ConfigError, DataError, printable
from xpnet.utils.plural import counted

_WANTED = "weights must be finite numbers of at least 0"


def as_weights(values: Any, name: str, rows: int, x_name: str) -> NDArray[np.float64]:
    """Return weights of samples as float64 (n,).

    Args:
        values: The weights.
        name: Their name in messages.
        rows: Rows of the features that they belong to.
        x_name: Name of the features in messages.

    Raises:
        DataError: They are not finite numbers of at least 0, one for each row, or all of them are 0.
    """
    weights = plain_array(values, name, f"entries of different lengths; {_WANTED}, one for each row")
    if weights.dtype.kind not in "biuf":
        raise DataError(f"{name} is an array of {weights.dtype}; {_WANTED}")
    if weights.shape != (rows,):
        raise DataError(
            f"{name} has the shape {weights.shape} for {rows:,} rows of {x_name}; there must be one for each"
        )
    weights = weights.astype(np.float64)
    good = np.isfinite(weights) & (weights >= 0)
    if not good.all():
        row = int(np.argmin(good))
        raise DataError(f"{name} has the weight {weights[row]:g} in row {row}; {_WANTED}")
    if not weights.any():
        raise DataError(f"{name} is 0 in every row; {_WANTED}, some of them above 0")
    return weights


def loss_weights(data: Dataset, class_weight: str | tuple[float, ...] | None) -> NDArray[np.float64] | None:
    """Return the weight of each training sample in the loss (N,), with the mean 1; None if all weights are equal.

    It is the product of the sample's own weight and of that of its class; see :class:`xpnet.TrainConfig`.

    Raises:
        ConfigError: There is not one weight for each class, a class to balance has no training samples, or all weights
            of the training samples are 0.
    """
    labels, weights = data.train.labels, data.train.weights
    if class_weight is not None:
        of_class = _balanced(data) if class_weight == "balanced" else _given(data, class_weight)
        weights = of_class[labels] if weights is None else of_class[labels] * weights
    if weights is None:
        return None
    with np.errstate(over="ignore"):
        mean = float(weights.mean())
    if not 0 < mean < np.inf:
        raise ConfigError(
            f"class_weight, sample_weight: the mean weight of the {len(weights):,} training samples of {data.name} is "
            f"{mean:g}; some weights must be above 0, and their sum a finite number"
        )
    return None if (weights == weights[0]).all() else np.asarray(weights / mean)


def _balanced(data: Dataset) -> NDArray[np.float64]:
    """Return N / (c N_k) for N training samples in c classes, N_k of them in class k, as scikit-learn defines it."""
    counts = np.bincount(data.train.labels, minlength=data.classes)
    if not counts.all():
        name = printable(data.class_names[int(np.argmin(counts))])
        raise ConfigError(
            f"class_weight = balanced: the class {name} has no training samples, so nothing can balance it; "
            "give a number for each class"
        )
    return np.asarray(len(data.train) / (data.classes * counts))


def _given(data: Dataset, class_weight: str | tuple[float, ...]) -> NDArray[np.float64]:
    if len(class_weight) != data.classes:
        names = ", ".join(map(printable, data.class_names[:10])) + (", ..." if data.classes > 10 else "")
        raise ConfigError(
            f"class_weight: has {counted(len(class_weight), 'number')} for the {data.classes} classes of {data.name}; "
            f"give one for each, in the order {names}, or balanced"
        )
    return np.array(class_weight, np.float64)
