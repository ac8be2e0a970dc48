"""X and y as scikit-learn's users pass them, and the data set that a network trains on."""

from __future__ import annotations

from typing import Any

import narwhals as nw
import numpy as np
from numpy.typing import NDArray
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import _check_sample_weight, validate_data

from xpnet.data import Dataset, LabelledSet, Transform
from xpnet.data.feature_table import LARGEST, in_range

# Rows that stand in for validation rows where none are split off; their figures are not shown.
_STAND_IN = 1
# Sum of whole-numbered weights, relative to the number of rows, up to which rows are repeated.
_MOST_REPEATED = 20
_ROWS_AT_A_TIME = 10_000


def features_of(estimator: Any, X: Any) -> NDArray[Any]:
    """Return X for prediction as an array (n, d) of uint8, float32 or float64; named columns may come in any order.

    Raises:
        ValueError: X is not what the estimator was fitted on.
    """
    names = getattr(estimator, "feature_names_in_", None)
    return _checked_features(validate_data(estimator, _plain(X, names), reset=False, dtype="numeric"))


def features_and_targets(estimator: Any, X: Any, y: Any, *, reset: bool = True) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return X and y for fitting: (n, d) of uint8, float32 or float64, and (n,) of any type.

    This sets ``n_features_in_`` and ``feature_names_in_`` of the estimator, unless `reset` is False.

    Raises:
        ValueError: X or y is malformed, or y is a regression target.
    """
    names = None if reset else getattr(estimator, "feature_names_in_", None)
    X, y = validate_data(estimator, _plain(X, names), _labels(y), reset=reset, dtype="numeric")
    if y.dtype == object and len(kinds := sorted({type(label).__name__ for label in y})) > 1:
        raise ValueError(f"y has labels of the types {', '.join(kinds)}; they must be of one type, and none missing")
    if type_of_target(y) == "continuous":
        raise ValueError(
            f"Unknown label type: continuous. y is a regression target, with values such as {y[y != np.rint(y)][0]:g}; "
            f"{type(estimator).__name__} needs classes, such as whole numbers or texts"
        )
    check_classification_targets(y)
    return _checked_features(X), y


def _labels(y: Any) -> Any:
    """Return a column, or a frame of labels, as an array; other values as they are."""
    frame = nw.from_native(y, pass_through=True, allow_series=True)
    return frame.to_numpy() if isinstance(frame, nw.DataFrame | nw.Series) else _plain(y, None)


def _plain(values: Any, names: Any) -> Any:
    """Return data frames with numeric columns, in the order of `names` if these are theirs, and tensors as arrays.

    Other values are returned as they are.  This is the only place that knows frames: an encoder of categories and
    missing cells takes the place of `_numeric`.
    """
    if isinstance(values, np.ndarray):
        return values
    frame = nw.from_native(values, pass_through=True, allow_series=True)
    if isinstance(frame, nw.LazyFrame):
        frame = frame.collect()
    if isinstance(frame, nw.DataFrame):
        if names is not None and list(names) != frame.columns and set(names) <= set(frame.columns):
            frame = frame.select(*names) if len(names) == len(frame.columns) else frame
        return _numeric(frame)
    if isinstance(frame, nw.Series):
        return frame.to_numpy()
    if hasattr(values, "__dlpack__") and not hasattr(values, "__array_function__"):
        return _from_dlpack(values)
    return values


def _numeric(frame: nw.DataFrame[Any]) -> Any:
    """Return a frame in its own library, with columns of float64; refuse a column that is not numeric."""
    for name, dtype in frame.schema.items():
        if not (dtype.is_numeric() or dtype == nw.Boolean):
            raise ValueError(
                f"X has the column {name!r} of type {dtype}, which holds no numbers; encode it, such as with "
                "sklearn.preprocessing.OneHotEncoder, or leave it out"
            )
    return frame.select(nw.all().cast(nw.Float64)).to_native()


def _from_dlpack(values: Any) -> NDArray[Any]:
    """Return a tensor of another library as an array on the host."""
    kind = f"{type(values).__module__.split('.')[0]}.{type(values).__name__}"
    try:
        try:
            return np.from_dlpack(values)
        except (RuntimeError, BufferError, TypeError, ValueError):  # lies on a GPU
            return np.from_dlpack(values, device="cpu", copy=True)
    except Exception as error:  # each library has errors of its own
        raise ValueError(f"a {kind} cannot become a NumPy array ({error}); pass one on the host, detached") from None


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


def weighted(
    X: NDArray[Any], labels: NDArray[np.int64], sample_weight: Any, estimator: Any
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the rows with their weights: a whole number w repeats a row w times, and 0 leaves it out.

    Training on the result equals training on a table with repeated rows, in batches and in statistics.

    Raises:
        ValueError: The weights are not one number of at least 0 for each row, are all 0, or are not whole.
    """
    if sample_weight is None:
        return X, labels
    weights = _check_sample_weight(_plain(sample_weight, None), X, dtype=np.float64, ensure_non_negative=True)
    repeats = np.rint(weights)
    if (repeats != weights).any() or repeats.sum() > _MOST_REPEATED * len(weights):
        raise ValueError(
            f"sample_weight: {type(estimator).__name__} takes whole numbers that repeat each row "
            f"{_MOST_REPEATED} times or less on average; round or rescale the weights"
        )
    rows = np.repeat(np.arange(len(X)), repeats.astype(np.int64))
    return X[rows], labels[rows]


def canonical_order(X: NDArray[Any], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return an order of the rows (n,) that depends on their values alone: by a hash of each row with its label.

    So a fit does not depend on the order of the rows, and a weight of 2 is the same as a repeated row.
    """
    factors = np.random.default_rng(0).integers(2**63, size=X.shape[1] + 1, dtype=np.uint64) * 2 + 1
    codes = np.empty(len(X), np.uint64)
    for start in range(0, len(X), _ROWS_AT_A_TIME):
        part = slice(start, start + _ROWS_AT_A_TIME)
        bits = (X[part].astype(np.float64) + 0.0).view(np.uint64)  # -0 becomes 0
        bits ^= bits >> np.uint64(29)
        codes[part] = bits @ factors[:-1] + labels[part].astype(np.uint64) * factors[-1]
    return np.argsort(codes, kind="stable")


def data_set(
    X: NDArray[Any],
    labels: NDArray[np.int64],
    class_names: tuple[str, ...],
    *,
    validation: float | None,
    rng: np.random.RandomState,
    feature_names: tuple[str, ...] = (),
    transform: Transform | None = None,
) -> Dataset:
    """Return a data set for training.

    Args:
        X: Features (n, d).
        labels: Classes (n,), from 0.
        class_names: Name of each class.
        validation: Share of the rows, class by class, that validates; None trains on all rows.
        rng: Draws the rows that validate.
        feature_names: Names of the columns, or none.
        transform: Brings features to inputs; if not given, it is fitted on the training rows.
    """
    order = canonical_order(X, labels)
    validates = np.zeros(len(X), bool)
    if validation is not None:
        validates[_split(labels[order], validation, rng)] = True
    rows, others = order[~validates], order[validates]
    train = LabelledSet(np.ascontiguousarray(X[rows]), labels[rows])
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
