"""X and y as scikit-learn's users pass them, and the data set that a network trains on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import validate_data

from xpnet.data import Dataset, LabelledSet, Transform
from xpnet.data.column import LARGEST
from xpnet.data.feature_table import in_range
from xpnet.sklearn.frames import labels_of, plain
from xpnet.sklearn.weights import WeightedRows, balanced

# Rows that stand in for validation rows where none are split off; their figures are not shown.
_STAND_IN = 1
_ROWS_AT_A_TIME = 10_000


def features_of(estimator: Any, X: Any) -> NDArray[Any]:
    """Return X for prediction as an array (n, d) of uint8, float32 or float64; named columns may come in any order.

    Raises:
        ValueError: X is not what the estimator was fitted on.
    """
    names = getattr(estimator, "feature_names_in_", None)
    return _checked_features(validate_data(estimator, plain(X, names), reset=False, dtype="numeric"))


def features_and_targets(estimator: Any, X: Any, y: Any, *, reset: bool = True) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return X and y for fitting: (n, d) of uint8, float32 or float64, and (n,) of any type.

    This sets ``n_features_in_`` and ``feature_names_in_`` of the estimator, unless `reset` is False.

    Raises:
        ValueError: X or y is malformed, or y is a regression target.
    """
    names = None if reset else getattr(estimator, "feature_names_in_", None)
    X, y = validate_data(estimator, plain(X, names), labels_of(y), reset=reset, dtype="numeric")
    if y.dtype == object and len(kinds := sorted({type(label).__name__ for label in y})) > 1:
        raise ValueError(f"y has labels of the types {', '.join(kinds)}; they must be of one type, and none missing")
    if type_of_target(y) == "continuous":
        raise ValueError(
            f"Unknown label type: continuous. y is a regression target, with values such as {y[y != np.rint(y)][0]:g}; "
            f"{type(estimator).__name__} needs classes, such as whole numbers or texts"
        )
    check_classification_targets(y)
    return _checked_features(X), y


def _checked_features(X: NDArray[Any]) -> NDArray[Any]:
    """Return features as uint8, float32 or float64, whichever holds their values; refuse those beyond 1e150."""
    kind, size = X.dtype.kind, X.dtype.itemsize
    if X.dtype == np.bool_:
        return X.view(np.uint8)
    if kind in "iu" and size > 1:
        exact = size <= 2 or (X.min() >= -(2**24) and X.max() <= 2**24)
        return X.astype(np.float32 if exact else np.float64)
    if X.dtype == np.uint8:
        return X
    X = X.astype(np.float32 if size <= 4 else np.float64, copy=False)
    if not in_range(X):
        raise ValueError(f"X has values beyond {LARGEST:g}, infinity or too large to be squared; rescale it")
    return X


def canonical_order(rows: WeightedRows) -> NDArray[np.int64]:
    """Return an order of the rows (n,) that depends on their values alone: by a hash of each row with its label.

    So a fit does not depend on the order of the rows, and a weight of 2 is the same as a repeated row.
    """
    X, labels, weights = rows
    factors = np.random.default_rng(0).integers(2**63, size=X.shape[1] + 1, dtype=np.uint64) * 2 + 1
    codes = np.empty(len(X), np.uint64)
    for start in range(0, len(X), _ROWS_AT_A_TIME):
        part = slice(start, start + _ROWS_AT_A_TIME)
        bits = (X[part].astype(np.float64) + 0.0).view(np.uint64)  # -0 becomes 0
        bits ^= bits >> np.uint64(29)
        codes[part] = bits @ factors[:-1] + labels[part].astype(np.uint64) * factors[-1]
    return np.argsort(codes, kind="stable") if weights is None else np.lexsort((weights, codes))


def data_set(
    samples: WeightedRows,
    class_names: tuple[str, ...],
    *,
    validation: float | None,
    rng: np.random.RandomState,
    balances: bool = False,
    feature_names: tuple[str, ...] = (),
    transform: Transform | None = None,
) -> Dataset:
    """Return a data set for training.

    Args:
        samples: Features (n, d), classes (n,) from 0, and weights (n,).
        class_names: Name of each class.
        validation: Share of the rows, class by class, that validates; None trains on all rows.
        rng: Draws the rows that validate.
        balances: Whether the training will balance the classes.
        feature_names: Names of the columns, or none.
        transform: Brings features to inputs; if not given, it is fitted on the training rows.
    """
    X, labels, weights = samples
    order = canonical_order(samples)
    validates = np.zeros(len(X), bool)
    if validation is not None:
        validates[_split(labels[order], validation, rng)] = True
    rows, others = order[~validates], order[validates]
    weights = None if weights is None else weights[rows]
    if balances and weights is not None:
        weights = balanced(weights, labels[rows])
    train = LabelledSet(np.ascontiguousarray(X[rows]), labels[rows], weights)
    seen = train if validation is not None else LabelledSet(train.x[:_STAND_IN], train.labels[:_STAND_IN])
    held = LabelledSet(np.ascontiguousarray(X[others]), labels[others]) if validation is not None else seen
    return Dataset(
        name="X",
        location="memory",
        split=f"{len(train)}/{len(held)}",
        train=train,
        validation=held,
        test=LabelledSet(seen.x[:_STAND_IN], seen.labels[:_STAND_IN]),
        class_names=class_names,
        image_shape=None,
        transform=transform or Transform.fit(train.x, None),
        feature_names=feature_names,
    )


def _split(labels: NDArray[np.int64], fraction: float, rng: np.random.RandomState) -> NDArray[np.int64]:
    """Return the rows that validate: a share of every class, but never all of its rows.

    Raises:
        ValueError: No class has rows enough.
    """
    chosen = []
    for c in np.unique(labels):
        places = rng.permutation(np.flatnonzero(labels == c))
        count = min(round(fraction * len(places)), len(places) - 1)
        chosen.append(places[:count])
    rows = np.concatenate(chosen)
    if not len(rows) and len(labels) > len(chosen):
        common = np.flatnonzero(labels == np.bincount(labels).argmax())
        rows = common[:1]
    if not len(rows):
        raise ValueError(
            f"early_stopping: {len(labels)} rows of {len(chosen)} classes leave none to validate with; give more rows, "
            "or early_stopping=False"
        )
    return rows
