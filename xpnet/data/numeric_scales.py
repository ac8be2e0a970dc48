"""Scales of columns of numbers beside mean and standard deviation: robust, quantile and piecewise linear.

Each knows some *knots* of a column, which are fitted on the training rows:

- ``robust``: the median m and s, for x -> z / sqrt(1 + (z / 3)^2) with z = s (x - m); s = 1 / (q75 - q25), or
  2 / (max - min) where these quartiles are equal. RealMLP's: Holzmüller, Grinsztajn and Steinwart, *Better by default*,
  NeurIPS 2024 (arXiv:2407.04491), section 3.
- ``quantile``: quantiles, which go to those of the normal distribution, linearly between them: Bogatinovski et al. and
  scikit-learn's ``QuantileTransformer``; used for tables by Gorishniy et al., *Revisiting deep learning models for
  tabular data*, NeurIPS 2021 (arXiv:2106.11959).
- ``ple``: edges b_0 < ... < b_T of bins, at quantiles; bin t gives (x - b_{t-1}) / (b_t - b_{t-1}), which is cut off at
  0 except in the first bin, and at 1 except in the last: Gorishniy, Rubachev and Babenko, *On embeddings for numerical
  features in tabular deep learning*, NeurIPS 2022 (arXiv:2203.05556), equation 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from xpnet.errors import DataError

NUMERIC = ("standard", "robust", "quantile", "ple")
BINS = 16
# One quantile for so many training rows, within limits.
_ROWS, _LEAST, _MOST = 30, 10, 1000
_CLIP = 3.0

Floats = NDArray[np.float64]


def knots_of(columns: Sequence[Floats | None], rows: int, numeric: str) -> Floats:
    """Return the knots (d, q) of columns, each given by its values that are not missing, None for other columns."""
    if numeric == "robust":
        return np.array([(0.0, 0.0) if values is None else _robust(values) for values in columns])
    if numeric == "standard":
        return np.zeros((len(columns), 0))
    levels = np.linspace(0, 1, BINS + 1) if numeric == "ple" else _levels(max(_LEAST, min(_MOST, rows // _ROWS)))
    knots = np.full((len(columns), len(levels)), np.inf if numeric == "ple" else 0.0)
    for j, values in enumerate(columns):
        if values is not None:
            quantiles = np.quantile(values, levels)
            if numeric == "ple":
                quantiles = np.unique(quantiles)
            knots[j, : len(quantiles)] = quantiles
    return knots


def check_knots(knots: Floats, numeric: str, of_numbers: NDArray[np.bool_]) -> None:
    """Refuse knots from a file that no fit gives.

    Raises:
        DataError: They are of another number, not finite or not in order.
    """
    used = knots[of_numbers]
    limits = {"standard": (0, 0), "robust": (2, 2), "quantile": (_LEAST, _MOST), "ple": (BINS + 1, BINS + 1)}[numeric]
    wrong = not limits[0] <= knots.shape[1] <= limits[1] or bool(np.isnan(knots).any())
    if not wrong and numeric == "ple":
        finite = np.isfinite(used)
        rising = (used[:, 1:] > used[:, :-1]) | ~finite[:, 1:]
        wrong = not (finite[:, :2].all() and rising.all() and (finite[:, :-1] | ~finite[:, 1:]).all())
        wrong = wrong or bool((used == -np.inf).any())
    elif not wrong:
        wrong = not np.isfinite(knots).all()
        wrong = wrong or (numeric == "quantile" and bool((used[:, 1:] < used[:, :-1]).any()))
    if wrong:
        raise DataError(f"encode.knots are none of numeric = {numeric}")


@dataclass(frozen=True)
class NumericScale:
    """The scale of every column of numbers.

    Attributes:
        numeric: The kind of scale.
        knots: The knots of each column (d, q).
        is_number: Which columns are numbers; the others are left as they are.
    """

    numeric: str
    knots: Floats
    is_number: NDArray[np.bool_]

    @cached_property
    def widths(self) -> NDArray[np.int64]:
        """Numbers that each column becomes."""
        if self.numeric != "ple":
            return np.ones(len(self.knots), np.int64)
        return np.asarray(np.maximum(np.isfinite(self.knots).sum(axis=1) - 1, 1))

    def simple(self, values: Floats, columns: NDArray[np.int64]) -> Floats:
        """Return the values (n, c) of some columns: scaled, if the scale is robust and they are numbers."""
        numbers = self.is_number[columns]
        if self.numeric != "robust" or not numbers.any():
            return values
        out, (median, factor) = values.copy(), self.knots[columns[numbers]].T
        with np.errstate(over="ignore"):  # far out, where z is infinite, the result is the limit
            z = (values[:, numbers] - median) * factor
            out[:, numbers] = np.where(np.isfinite(z * z), z / np.sqrt(1 + (z / _CLIP) ** 2), np.sign(z) * _CLIP)
        return out

    def __call__(self, values: Floats, column: int) -> Floats:
        """Return the values (n,) of a column as (n, width), for ``quantile`` and ``ple``."""
        knots = self.knots[column]
        if self.numeric == "quantile":
            distinct, place, counts = np.unique(knots, return_inverse=True, return_counts=True)
            means = np.bincount(place, _normal(len(knots))) / counts  # equal quantiles go to their mean
            return np.asarray(np.interp(values, distinct, means)[:, None])
        edges = knots[np.isfinite(knots)]
        out: Floats = (values[:, None] - edges[:-1]) / np.diff(edges)
        np.maximum(out[:, 1:], 0, out=out[:, 1:])
        np.minimum(out[:, :-1], 1, out=out[:, :-1])
        return out


def _robust(values: Floats) -> tuple[float, float]:
    low, first, median, third, high = np.quantile(values, (0, 0.25, 0.5, 0.75, 1))
    spread = third - first if third > first else (high - low) / 2
    return float(median), float(1 / spread) if spread > 0 and np.isfinite(1 / spread) else 0.0


def _levels(count: int) -> Floats:
    """Return the shares of the values below each of `count` quantiles."""
    return (np.arange(count) + 0.5) / count


_NORMAL: dict[int, Floats] = {}


def _normal(count: int) -> Floats:
    """Return the quantiles of the normal distribution at :func:`_levels`."""
    if count not in _NORMAL:
        inverse = NormalDist().inv_cdf
        _NORMAL[count] = np.array([inverse(level) for level in _levels(count).tolist()])
    return _NORMAL[count]
