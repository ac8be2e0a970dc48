"""Weights of rows, as scikit-learn's users pass them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import _check_sample_weight

from xpnet.sklearn.frames import plain

# Mean of whole-numbered weights up to which rows are repeated.
_MOST_REPEATED = 5


class WeightedRows(NamedTuple):
    """Features (n, d), their classes (n,), and their weights in the loss (n,), None for 1."""

    x: NDArray[Any]
    labels: NDArray[np.int64]
    weights: NDArray[np.float64] | None = None


def weighted(X: NDArray[Any], labels: NDArray[np.int64], sample_weight: Any) -> WeightedRows:
    """Return the rows whose weight is above 0: those of weight 0 are left out of everything.

    Small whole numbers repeat rows, as scikit-learn demands: a weight of 2 must equal a repeated row.  Weights in the
    loss have the same minimum, but cannot do that, since repeated rows also fill batches, and count in the statistics
    of batch normalisation and of the standardisation.  All other weights are weights in the loss.

    Raises:
        ValueError: The weights are not one finite number of at least 0 for each row, or are all 0.
    """
    if sample_weight is None:
        return WeightedRows(X, labels)
    weights = _check_sample_weight(plain(sample_weight), X, dtype=np.float64, ensure_non_negative=True)
    present = np.flatnonzero(weights)
    if not len(present):
        raise ValueError("sample_weight is 0 in every row; some weights must be above 0")
    kept = weights[present]
    if (kept == np.rint(kept)).all() and kept.sum() <= _MOST_REPEATED * len(weights):
        rows = np.repeat(present, kept.astype(np.int64))
        return WeightedRows(X[rows], labels[rows])
    return WeightedRows(X[present], labels[present], kept)


def balanced(weights: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return weights whose mean is 1 in every class, so that balanced classes have equal sums of weights."""
    sums, counts = np.bincount(labels, weights), np.bincount(labels)
    return np.asarray(weights / (sums / np.maximum(counts, 1))[labels])
