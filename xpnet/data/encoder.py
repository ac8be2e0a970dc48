"""How the columns of a table become numbers for a network: numbers brought to a scale, categories one-hot.

All of it is learned on training rows.  :mod:`xpnet.data.numeric_scales` has the formulas for numbers.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.column import KINDS, NUMBER, Column
from xpnet.data.numeric_scales import NUMERIC, NumericScale, check_knots, knots_of
from xpnet.errors import DataError
from xpnet.utils import schema
from xpnet.utils.lazy_arrays import Features, Rows

PREFIX = "encode."  # of the names of its arrays
# A category is rare if fewer than 1 % of the training rows have it; a smallest and a largest number of rows bound this.
_SHARE, _LEAST, _MOST = 100, 2, 10
# Of `uses`: the column's values are inputs, and so is whether they are missing.
_VALUE, _GAP = 1, 2
DESCRIPTION = schema.record(
    {
        "numeric": schema.one_of(*NUMERIC),
        "kinds": schema.text,
        "categories": schema.items(schema.items(schema.text)),
    },
    closed=True,
)


def are_encoded(columns: Sequence[Column], numeric: str) -> bool:
    """Return whether columns need an encoder; others are only standardised."""
    return numeric != "standard" or any(column.kind == "category" or column.gap for column in columns)


@dataclass(frozen=True, eq=False)
class Encoder:
    """Turns the codes of a table's columns (see :mod:`xpnet.data.column`) into numbers for a network.

    A column of numbers becomes one number, or several for ``numeric = "ple"``; a boolean becomes 1 or 0.  Missing ones
    are replaced by the median of the training rows, and a number of their own is 1 for them, if training rows have
    missing ones.  A column of categories becomes a number for each frequent category, and a last one for all others.

    Attributes:
        columns: The columns (d,).
        numeric: How columns of numbers are scaled: ``"standard"`` (by the standardiser, later), ``"robust"``,
            ``"quantile"`` or ``"ple"``.
        fill: Value of missing numbers of each column (d,).
        uses: Bits of each column (d,): 1 if its values are encoded, 2 if missing ones have a number of their own.
        knots: What a scale knows of each column (d, q); see :mod:`xpnet.data.numeric_scales`.
        places: For each category of each column of categories, and for unknown ones, its place in the encoding.
    """

    columns: tuple[Column, ...]
    numeric: str
    fill: NDArray[np.float64]
    uses: NDArray[np.int64]
    knots: NDArray[np.float64]
    places: NDArray[np.int64]

    @classmethod
    def fit(
        cls, x: Features, columns: Sequence[Column], numeric: str = "standard", max_categories: int = 32
    ) -> Encoder:
        """Return the encoder of training rows `x` (n, d), the codes of `columns`.

        Raises:
            DataError: No column varies.
        """
        rows = x[:] if isinstance(x, Rows) else x
        n, d = rows.shape
        if n == 0:
            raise DataError("the encoder needs training rows, and there are none")
        columns = tuple(columns) or (Column(),) * d
        fill, uses, places = np.zeros(d), np.zeros(d, np.int64), []
        scaled: list[NDArray[np.float64] | None] = [None] * d
        for j, column in enumerate(columns):
            values = rows[:, j].astype(np.float64)
            if column.kind == "category":
                of_column = _places(values, column, max_categories)
                places.append(of_column)
                uses[j] = _VALUE * (np.unique(values).size > 1)
                continue
            present = values[~np.isnan(values)]
            if present.size:
                median = float(np.median(present))
                fill[j] = median if column.kind == "number" else np.rint(median)
                uses[j] = _VALUE * (present.min() < present.max()) + _GAP * (0 < present.size < n)
                scaled[j] = present if column.kind == "number" else None
        if not uses.any():
            raise DataError("no column has different values in the training rows; there is nothing to learn from")
        at = np.concatenate(places) if places else np.zeros(0, np.int64)
        return cls(columns, numeric, fill, uses, knots_of(scaled, n, numeric), at)

    def __call__(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """Return the encoded rows (n, k) of codes `x` (n, d)."""
        x = x.astype(np.float64)
        gaps = np.isnan(x)
        out = np.zeros((len(x), self.outputs))
        start, width = self._starts, self._widths
        numbers = np.where(gaps, self.fill, x) if gaps.any() else x
        scale = self._scale
        simple = np.flatnonzero(self._simple)
        out[:, start[simple]] = scale.simple(numbers[:, simple], simple)
        for j in np.flatnonzero(self._values & ~self._simple).tolist():
            if self.columns[j].kind != "category":
                out[:, start[j] : start[j] + width[j]] = scale(numbers[:, j], j)
                continue
            places = self._places[j]
            known = np.where(gaps[:, j], self._empty(j), np.clip(np.nan_to_num(x[:, j]), 0, len(places) - 1))
            out[np.arange(len(x)), start[j] + places[known.astype(np.int64)]] = 1
        with_gap = np.flatnonzero(self.uses & _GAP)
        out[:, start[with_gap] + width[with_gap]] = gaps[:, with_gap]
        return out

    @property
    def features(self) -> int:
        """Number of columns d."""
        return len(self.columns)

    @property
    def outputs(self) -> int:
        """Number of numbers k that a row becomes."""
        return int((self._widths + self._gap_widths).sum())

    @cached_property
    def scaled(self) -> NDArray[np.bool_]:
        """Which of the outputs (k,) the standardiser brings to standard deviation 1."""
        kinds = [c.kind == "boolean" or (c.kind == "number" and self.numeric == "standard") for c in self.columns]
        return self._spread(np.array(kinds), False)

    @cached_property
    def centred(self) -> NDArray[np.bool_]:
        """Which of the outputs (k,) the standardiser brings to mean 0."""
        kinds = [c.kind != "number" or self.numeric in ("standard", "ple") for c in self.columns]
        return self._spread(np.array(kinds), True)

    def output_names(self, names: Sequence[str] = ()) -> tuple[str, ...]:
        """Return a name for each output, made of the names of the columns, or of their numbers."""
        return tuple(itertools.chain.from_iterable(self.outputs_of(names).values()))

    def outputs_of(self, names: Sequence[str] = ()) -> dict[int, tuple[str, ...]]:
        """Return the names of the outputs of each column, by its number."""
        return {j: tuple(self._names(j, names[j] if len(names) else f"column {j}")) for j in range(self.features)}

    def _names(self, j: int, name: str) -> Iterator[str]:
        column, width = self.columns[j], int(self._widths[j])
        if column.kind == "category" and width:
            at = {int(p): c or "missing" for c, p in zip(column.categories, self._places[j], strict=False)}
            yield from (f"{name} = {at[i]}" for i in range(width - 1))
            yield f"{name} = other"
        else:
            yield from (name if width == 1 else f"{name} [{i}]" for i in range(width))
        if self.uses[j] & _GAP:
            yield f"{name} missing"

    def unused(self) -> list[int]:
        """Return the columns that have one value in all training rows, and are left out."""
        return np.flatnonzero(self.uses == 0).tolist()

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the arrays, by the names that files give them."""
        return {f"{PREFIX}{name}": getattr(self, name) for name in ("fill", "uses", "knots", "places")}

    def description(self) -> dict[str, Any]:
        """Return what is not in the arrays, in types that JSON has."""
        return {
            "numeric": self.numeric,
            "kinds": "".join(column.kind[0] for column in self.columns),
            "categories": [list(column.categories) for column in self.columns if column.kind != "number"],
        }

    @classmethod
    def of(cls, tensors: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> Encoder:
        """Return the encoder that wrote `tensors` and the description `about`.

        Raises:
            DataError: They do not fit together.
        """
        names = {kind[0]: kind for kind in KINDS}
        kinds, categories = about["kinds"], iter(about["categories"])
        if not kinds or set(kinds) - names.keys():
            raise DataError(f"encoder.kinds must be first letters of {', '.join(KINDS)}")
        named = sum(kind != "n" for kind in kinds)
        if named != len(about["categories"]):
            raise DataError(f"encoder.categories has {len(about['categories'])} lists for {named} columns")
        fill = tensors.get(f"{PREFIX}fill")
        if fill is None or fill.shape != (len(kinds),):
            raise DataError(f"it has no {PREFIX}fill for {len(kinds):,} columns")
        columns = tuple(NUMBER if k == "n" else Column(names[k], tuple(next(categories))) for k in kinds)
        for column in columns:
            if list(column.categories) != sorted(set(column.categories)):
                raise DataError("encoder.categories must be sorted, each once")
        wanted = {"fill": ("f", 1), "uses": ("i", 1), "knots": ("f", 2), "places": ("i", 1)}
        arrays = {}
        for name, (kind, ndim) in wanted.items():
            array = tensors.get(f"{PREFIX}{name}")
            if array is None or array.dtype.kind != kind or array.ndim != ndim or array.dtype.itemsize != 8:
                raise DataError(f"it has no {PREFIX}{name} of {ndim} axes")
            arrays[name] = array
        encoder = cls(columns, about["numeric"], **arrays)
        encoder._check()
        return encoder

    def _check(self) -> None:
        """Refuse arrays that do not fit the columns."""
        d = len(self.columns)
        if not len(self.fill) == len(self.uses) == len(self.knots) == d:
            raise DataError(f"{PREFIX}fill, uses and knots must have an entry for each of {d} columns")
        of_categories = [c for c in self.columns if c.kind == "category"]
        if len(self.places) != sum(len(c.categories) + 1 for c in of_categories):
            raise DataError(f"{PREFIX}places must have an entry for each category")
        if not np.isfinite(self.fill).all() or not set(self.uses.tolist()) <= {0, _VALUE, _GAP, _VALUE | _GAP}:
            raise DataError(f"{PREFIX}fill must be finite, and {PREFIX}uses be 0 to 3")
        for j, places in self._places.items():
            others = places[-1]
            taken = sorted(set(places.tolist()))
            if taken != list(range(len(taken))) or others != taken[-1] or (self.uses[j] & _GAP):
                raise DataError(f"{PREFIX}places of column {j} must be 0 to that of unknown categories")
        check_knots(self.knots, self.numeric, np.array([c.kind == "number" for c in self.columns]) & self._values)

    @cached_property
    def _values(self) -> NDArray[np.bool_]:
        return np.asarray(self.uses & _VALUE, bool)

    @cached_property
    def _simple(self) -> NDArray[np.bool_]:
        """Which columns become one number by the same formula."""
        easy = self.numeric in ("standard", "robust")
        kinds = np.array([c.kind == "boolean" or (easy and c.kind == "number") for c in self.columns], bool)
        return np.asarray(self._values & kinds)

    @cached_property
    def _scale(self) -> NumericScale:
        return NumericScale(self.numeric, self.knots, np.array([c.kind == "number" for c in self.columns]))

    @cached_property
    def _places(self) -> dict[int, NDArray[np.int64]]:
        """The places of the categories of each column of categories."""
        of, at = {}, 0
        for j, column in enumerate(self.columns):
            if column.kind == "category":
                of[j] = self.places[at : at + len(column.categories) + 1]
                at += len(of[j])
        return of

    @cached_property
    def _widths(self) -> NDArray[np.int64]:
        """Number of outputs of each column, without that for missing values."""
        widths = np.where([c.kind == "number" for c in self.columns], self._scale.widths, 1)
        for j, places in self._places.items():
            widths[j] = int(places[-1]) + 1
        return np.where(self._values, widths, 0)

    @cached_property
    def _gap_widths(self) -> NDArray[np.int64]:
        return (self.uses & _GAP) // _GAP

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        """First output of each column."""
        return np.concatenate([[0], np.cumsum(self._widths + self._gap_widths)[:-1]])

    def _spread(self, of_values: NDArray[np.bool_], of_gaps: bool) -> NDArray[np.bool_]:
        """Return for each output whether it is of a column `of_values`, or `of_gaps` where it tells of missing ones."""
        widths = np.stack([self._widths, self._gap_widths], axis=1).reshape(-1)
        flags = np.stack([of_values, np.full(len(of_values), of_gaps)], axis=1).reshape(-1)
        return np.repeat(flags, widths)

    def _empty(self, j: int) -> int:
        """Return the code of a missing cell of a column of categories."""
        categories = self.columns[j].categories
        return 0 if categories[:1] == ("",) else len(categories)


def _places(codes: NDArray[np.float64], column: Column, most: int) -> NDArray[np.int64]:
    """Return the place of each category in the encoding, and of unknown ones, which share the last with rare ones."""
    counts = np.bincount(codes.astype(np.int64), minlength=len(column.categories) + 1)
    frequent = counts >= max(_LEAST, min(_MOST, len(codes) // _SHARE))
    frequent[len(column.categories)] = False
    order = np.lexsort((np.arange(len(counts)), -counts))
    kept = np.sort([i for i in order[: most - 1] if frequent[i]]).astype(np.int64)
    places = np.full(len(counts), len(kept))
    places[kept] = np.arange(len(kept))
    return places
