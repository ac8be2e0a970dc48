"""X and y as scikit-learn's users pass them, and the data set that a network trains on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import assert_all_finite, check_array, check_X_y
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import validate_data

from xpnet.data import Dataset, LabelledSet, Transform
from xpnet.data.column import LARGEST, Column, check_usable
from xpnet.data.encoder import are_encoded
from xpnet.data.feature_table import in_range
from xpnet.sklearn.frames import Coded, coded_array, coded_frame, frame_of, labels_of, plain
from xpnet.sklearn.weights import WeightedRows, balanced

# Rows that stand in for validation rows where none are split off; their figures are not shown.
_STAND_IN = 1
_ROWS_AT_A_TIME = 10_000
_NO_TARGETS = "no_validation"  # scikit-learn's word for y in predictions


def features_of(estimator: Any, X: Any) -> NDArray[Any]:
    """Return X for prediction as the codes (n, d) of a fitted estimator's columns, which may come in any order.

    Raises:
        ValueError: X is not what the estimator was fitted on.
    """
    coded, _ = _coded(estimator, X, reset=False)
    return _codes(estimator, coded)


def features_and_targets(estimator: Any, X: Any, y: Any, *, reset: bool = True) -> tuple[Coded, NDArray[Any]]:
    """Return X for fitting, and y (n,) of any type.

    This sets ``n_features_in_`` and ``feature_names_in_`` of the estimator.  If not `reset`, X has these columns, and
    gets their codes.

    Raises:
        ValueError: X or y is malformed, a column of X teaches nothing, or y is a regression target.
    """
    coded, y = _coded(estimator, X, labels_of(y), reset=reset)
    if reset:
        check_usable(coded.columns)
        coded = coded._replace(columns=coded.columns if are_encoded(coded.columns, estimator.numeric) else ())
    else:
        coded = Coded(_codes(estimator, coded), columns_of(estimator))
    if y.dtype == object and len(kinds := sorted({type(label).__name__ for label in y})) > 1:
        raise ValueError(f"y has labels of the types {', '.join(kinds)}; they must be of one type, and none missing")
    if y.dtype.kind == "f":
        assert_all_finite(y, input_name="y")  # before its type is looked at, which casts it
    if type_of_target(y) == "continuous":
        raise ValueError(
            f"Unknown label type: continuous. y is a regression target, with values such as {y[y != np.rint(y)][0]:g}; "
            f"{type(estimator).__name__} needs classes, such as whole numbers or texts"
        )
    check_classification_targets(y)
    return coded, y


def columns_of(estimator: Any) -> tuple[Column, ...]:
    """Return the columns on which an estimator was fitted; empty if all were numbers of which none was missing."""
    encoder = estimator.network_.transform.encoder
    return () if encoder is None else encoder.columns


def _codes(estimator: Any, coded: Coded) -> NDArray[Any]:
    return coded.like(columns_of(estimator), getattr(estimator, "feature_names_in_", ()))


def _coded(estimator: Any, X: Any, y: Any = _NO_TARGETS, *, reset: bool) -> tuple[Coded, Any]:
    """Return X, and y if it is given, checked as scikit-learn does."""
    alone = isinstance(y, str) and y == _NO_TARGETS
    frame = frame_of(X, None if reset else getattr(estimator, "feature_names_in_", None))
    checks = {"dtype": "numeric", "ensure_all_finite": "allow-nan"}
    if frame is None:
        checked = validate_data(estimator, plain(X), y, reset=reset, **checks)
        X, y = (checked, y) if alone else checked
        return coded_array(_checked_features(X)), y
    validate_data(estimator, frame.to_native(), reset=reset, skip_check_array=True)
    coded = coded_frame(frame)
    if alone:
        check_array(coded.x, estimator=estimator, input_name="X", **checks)
    else:
        _, y = check_X_y(coded.x, y, estimator=estimator, **checks)
    return coded._replace(x=_checked_features(coded.x)), y


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
    if not in_range(X) and not in_range(np.nan_to_num(X)):
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
        values = X[part].astype(np.float64) + 0.0  # -0 becomes 0
        values[np.isnan(values)] = np.nan  # of which there are many
        bits = values.view(np.uint64)
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
    columns: tuple[Column, ...] = (),
    encoding: Mapping[str, Any] | None = None,
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
        columns: What the features mean; empty if all are numbers of which none is missing.
        encoding: How they are encoded: arguments of :meth:`xpnet.data.Transform.fit`.
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
        transform=transform or Transform.fit(train.x, columns=columns, **(encoding or {})),
        feature_names=feature_names,
        columns=columns,
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
