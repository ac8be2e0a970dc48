"""What an encoder does to the columns of a table, as a few groups of columns, each with one formula for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.encoder import Encoder
from xpnet.data.numeric_scales import NumericScale

# Of `Encoder.uses`.
_VALUE, _GAP = 1, 2


@dataclass(frozen=True, eq=False)
class TableArrays:
    """How the raw features (n, d) of a table become columns (n, k): groups side by side, in this order.

    Missing numbers (NaN) of all columns are replaced by `fill` first.

    =========  ========================================  =======================================================
    group      arrays, beside the columns it takes       formula
    =========  ========================================  =======================================================
    linear                                               x
    robust     robust_median, robust_rest, robust_factor z / sqrt(1 + (z / 3)**2), z = (x - median - rest) factor, cut
                                                         at -1e6 and 1e6
    quantile   quantile_knots, quantile_values (c, t)    linear between the knots, constant beyond
    ple        ple_low, ple_rest, ple_width, ple_least,  (x - low - rest) / width, cut at least and most; rest is what
               ple_most                                  float32 loses of low
    category   category_last, category_first,            1 for the output places[first + code], with the code x cut
               category_places, category_outputs         at 0 and last; else 0
    missing                                              1 where x was missing, else 0
    =========  ========================================  =======================================================

    Attributes:
        arrays: The arrays of the groups that are there, and `fill`, by name.
        categories: Names of the categories of each such column, by its number; a code is a position in it.
        notes: Sentences for the user.
    """

    arrays: dict[str, NDArray[Any]]
    categories: dict[int, tuple[str, ...]]
    notes: tuple[str, ...] = ()


class _Groups:
    """Groups of columns while they are collected."""

    def __init__(self) -> None:
        self.columns: dict[str, list[int]] = {}
        self.outputs: dict[str, list[int]] = {}  # numbers of the encoder's outputs
        self.more: dict[str, list[Any]] = {}

    def add(self, group: str, column: int, outputs: Sequence[int], **more: Any) -> None:
        """Add a column to a group, with what the formula needs to know of it."""
        self.columns.setdefault(group, []).append(column)
        self.outputs.setdefault(group, []).extend(outputs)
        for name, value in more.items():
            self.more.setdefault(f"{group}_{name}", []).append(value)


_ORDER = ("linear", "robust", "quantile", "ple", "category", "missing")


def table_arrays(encoder: Encoder, names: Sequence[str]) -> tuple[TableArrays, NDArray[np.int64]]:
    """Return the groups of an encoder's columns, and for each of their outputs its number among the encoder's."""
    groups, start, at = _Groups(), 0, 0
    scale = NumericScale(encoder.numeric, encoder.knots, np.array([c.kind == "number" for c in encoder.columns]))
    fill, categories = encoder.fill.copy(), {}
    for j, outputs in encoder.outputs_of(names).items():
        column, has_gap = encoder.columns[j], bool(encoder.uses[j] & _GAP)
        numbers = range(start, start + len(outputs) - has_gap)
        start += len(outputs)
        if column.kind == "category":
            known = len(column.categories)
            places, at = encoder.places[at : at + known + 1], at + known + 1
            fill[j] = 0 if column.categories[:1] == ("",) else known
            categories[j] = column.categories
            if numbers:
                groups.add("category", j, numbers, last=known, places=places)
        elif numbers:
            _add_number(groups, scale, j, numbers, is_number=column.kind == "number")
        if has_gap:
            groups.add("missing", j, [start - 1])
    arrays: dict[str, NDArray[Any]] = {"fill": fill.astype(np.float32)}
    for group in _ORDER:
        if group in groups.columns:
            arrays[group] = np.array(groups.columns[group], np.int64)
            arrays |= _finished(group, {n: v for n, v in groups.more.items() if n.startswith(f"{group}_")})
    order = np.array([number for group in _ORDER for number in groups.outputs.get(group, ())], np.int64)
    return TableArrays(arrays, categories, _notes(categories, names)), order


def _add_number(groups: _Groups, scale: NumericScale, j: int, outputs: range, *, is_number: bool) -> None:
    """Add a column of numbers, or of booleans, to the group of its scale."""
    knots = scale.knots[j]
    if not is_number or scale.numeric == "standard":
        groups.add("linear", j, outputs)
    elif scale.numeric == "robust":
        groups.add("robust", j, outputs, median=knots[0], rest=_rest(knots[0]), factor=knots[1])
    elif scale.numeric == "quantile":
        # The values at the knots as float32 has them, so that rounding moves no value along the slopes.
        rounded = np.unique(knots.astype(np.float32))
        groups.add("quantile", j, outputs, knots=rounded, values=scale(rounded.astype(np.float64), j)[:, 0])
    else:
        edges = knots[np.isfinite(knots)]
        last = len(edges) - 2
        for t, output in enumerate(outputs):
            least, most = -np.inf if t == 0 else 0.0, np.inf if t == last else 1.0
            low, width = edges[t], edges[t + 1] - edges[t]
            groups.add("ple", j, [output], low=low, rest=_rest(low), width=width, least=least, most=most)


def _rest(value: float) -> float:
    """Return what float32 loses of a number."""
    return float(value) - float(np.float32(value))


def _finished(group: str, more: dict[str, list[Any]]) -> dict[str, NDArray[Any]]:
    """Return what a formula needs to know, as arrays."""
    if group == "quantile":  # columns with fewer knots repeat their last one
        width = max(map(len, more["quantile_knots"]))
        padded = {n: [np.pad(v, (0, width - len(v)), mode="edge") for v in values] for n, values in more.items()}
        return {name: np.array(values, np.float32) for name, values in padded.items()}
    if group == "category":
        places, last = more["category_places"], np.array(more["category_last"], np.int64)
        widths = [int(of[-1]) + 1 for of in places]  # the last place is that of all others
        first = np.cumsum([0, *widths[:-1]])
        return {
            "category_last": last,
            "category_first": np.cumsum([0, *(last[:-1] + 1)]),
            "category_places": np.concatenate([of + start for of, start in zip(places, first, strict=True)]),
            "category_outputs": np.array(sum(widths), np.int64),
        }
    return {name: np.array(values, np.float32) for name, values in more.items()}


def _notes(categories: dict[int, tuple[str, ...]], names: Sequence[str]) -> tuple[str, ...]:
    """Return a sentence on how categories go into the model."""
    if not categories:
        return ("a missing number is NaN in x",)
    j = next(iter(categories))
    sentence = (
        f"x has a number for each column; that of a category, as in column {names[j] if len(names) else j}, is its "
        "position in the exported list of the column's categories, or the length of the list if it is none of them; "
        "missing numbers are NaN"
    )
    return (sentence,)


def intervals(knots: NDArray[Any], values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return start, slope and value at the start of each interval (c, t + 1): before the first knot, and after each."""
    q, v = knots.astype(np.float64), values.astype(np.float64)
    rise, run = np.diff(v), np.diff(q)
    slope = np.pad(np.divide(rise, run, out=np.zeros_like(rise), where=run > 0), ((0, 0), (1, 1)))
    start, value = (np.concatenate([table[:, :1], table], axis=1) for table in (q, v))
    return start.astype(np.float32), slope.astype(np.float32), value.astype(np.float32)


def owner_of_outputs(arrays: dict[str, NDArray[Any]]) -> NDArray[np.int64]:
    """Return for each output of the categories the position of its column among those of categories."""
    owner = np.zeros(int(arrays["category_outputs"]), np.int64)
    ends = [*arrays["category_first"][1:].tolist(), len(arrays["category_places"])]
    for c, (first, end) in enumerate(zip(arrays["category_first"].tolist(), ends, strict=True)):
        owner[arrays["category_places"][first:end]] = c
    return owner
