"""Columns of a table: which are features and which is the label; and errors about unusable values."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.data.feature_table import LARGEST
from xpnet.data.labels import TextLabels
from xpnet.data.readers.safe_pickle import printable
from xpnet.errors import DataError
from xpnet.utils.plural import counted

# Names of the column of labels if no setting names it.
_USUAL = ("label", "labels", "target", "class")
MOST_COLUMNS = 100_000
_TINY = float(np.finfo(np.float32).tiny)


class Columns(NamedTuple):
    """The columns of a table.

    Attributes:
        names: Their names, or their numbers.
        named: Whether the file names them.
        target: Position of the column of labels; -1 for none.
        kept: Positions of the features.
        notes: Sentences on how the first line was read, if that is in doubt.
    """

    names: tuple[str, ...]
    named: bool
    target: int
    kept: tuple[int, ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, names: tuple[str, ...], named: bool, target: str | None, wanted: Sequence[str] | None, path: str
    ) -> Columns:
        """Return the columns of a table.

        Args:
            names: Their names, or their numbers.
            named: Whether the file names them.
            target: Name or number of the column of labels, as in the settings.
            wanted: Names of the features, for samples without labels; None or empty for all columns except the labels.
            path: Name of the file in messages.
        """
        place = find_target(names, named, target, path) if wanted is None or target is not None else -1
        kept = tuple(i for i in range(len(names)) if i != place)
        if named and wanted:
            kept = tuple(kept[i] for i in places_of(wanted, [names[i] for i in kept], path))
        return cls(names, named, place, kept)

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features; empty if columns have no names."""
        return tuple(self.names[i] for i in self.kept) if self.named else ()

    def title(self, column: int) -> str:
        """Return the number, from 0, and the name of a column, for messages."""
        return f"column {column} ({printable(self.names[column])})" if self.named else f"column {column}"


class TableRows(NamedTuple):
    """A table that has been read: its columns, the features (n, d), and the labels as texts."""

    columns: Columns
    x: NDArray[Any]
    labels: TextLabels


def is_label_name(cell: str, target: str | None) -> bool:
    """Return whether a cell of the first line is the name of the column of labels and not a number."""
    text = cell.strip()
    return text.lower() in _USUAL or (text == target and not text.lstrip("-").isdecimal())


def places_of(wanted: Sequence[str], names: Sequence[str], path: str) -> list[int]:
    """Return the positions of the columns `wanted` in `names`; equal names are matched in their order.

    Spaces around a name count only if names differ in nothing else.
    """
    by_name: dict[str, list[int]] = {}
    if not set(wanted) <= set(names):
        wanted, names = ([name.strip() for name in of] for of in (wanted, names))
    for i, name in enumerate(names):
        by_name.setdefault(name, []).append(i)
    for name, count in Counter(wanted).items():
        has = len(by_name.get(name, ()))
        title = f"called {printable(name)}" if name else "without a name"
        if not has:
            raise DataError(f"{path}: has no column {printable(name) or title}, which the network was trained on")
        if has != count and max(has, count) > 1:
            raise DataError(
                f"{path}: has {counted(has, 'column')} {title}, and the network was trained on {count}; "
                "--target names a column of labels, others must go or get names of their own"
            )
    places = {name: iter(of) for name, of in by_name.items()}
    return [next(places[name]) for name in wanted]


def are_names(cells: Sequence[str], wanted: Sequence[str]) -> bool:
    """Return whether the cells of a line include all names `wanted`, even if these are numbers."""
    try:
        places_of(wanted, [cell.strip() for cell in cells], "")
    except DataError:
        return False
    return bool(wanted)


def find_target(names: Sequence[str], named: bool, target: str | None, path: str) -> int:
    """Return the position of the column of labels.

    Args:
        names: Names of the columns.
        named: Whether the file names them.
        target: A name, or a number from 0, which may be negative; None takes a column with a usual name.
        path: Name of the file in messages.
    """
    if target is None:
        usual = [i for i, name in enumerate(names) if named and name.strip().lower() in _USUAL]
        if len(usual) != 1:
            has = _listed(names, named)
            raise DataError(f"{path}: needs --target, the name or the number of the column of labels; {has}")
        return usual[0]
    return find_column(names, named, target, path, "target")


def find_column(names: Sequence[str], named: bool, given: str, path: str, setting: str) -> int:
    """Return the position of a column, `given` by its name or its number, by the setting of that name."""
    matches = [i for i, name in enumerate(names) if named and name.strip() == given.strip()]
    if len(matches) == 1:
        return matches[0]
    if len(matches) > 1:
        raise DataError(f"{setting} = {given}: {path} has {len(matches)} columns of that name; give its number from 0")
    try:
        number = int(given)
    except ValueError:
        close = difflib.get_close_matches(given, names, n=1) if named else []
        hint = f"did you mean {printable(close[0])}?" if close else _listed(names, named)
        raise DataError(f"{setting} = {given}: {path} has no such column; {hint}") from None
    if not -len(names) <= number < len(names):
        raise DataError(f"{setting} = {given}: {path} has the columns 0 to {len(names) - 1}")
    return number % len(names)


def _listed(names: Sequence[str], named: bool) -> str:
    shown = ", ".join(map(printable, names[:10])) + (", ..." if len(names) > 10 else "")
    return f"its columns are {shown}" if named else f"it has {len(names)} columns without names"


def missing_value(place: str) -> DataError:
    """Return the error for a value that is missing; `place` is file, row and column."""
    return DataError(f"{place}: the value is missing; fill it in, or remove the row")


def bad_value(place: str, text: str, value: float | None) -> DataError:
    """Return the error for a cell whose `value` is not a number, is not finite, or cannot be squared."""
    if value is not None and np.isfinite(value):
        return DataError(f"{place}: {text} is beyond {LARGEST:g}, which cannot be squared; rescale the column")
    hint = "; decimals need a point" if re.fullmatch(r"[+-]?\d+,\d+", text) else ""
    return DataError(f"{place}: {text!r} is not a finite number{hint}")


def smallest(values: NDArray[np.float64]) -> NDArray[Any]:
    """Return numbers in the smallest type that holds them."""
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if low >= 0 and high <= 255 and not (values % 1).any():
        return values.astype(np.uint8)
    if max(-low, high) > 2**24:
        return values
    # float32 would turn a column whose numbers are all too small into zeros.
    largest = np.maximum(values.max(axis=0, initial=0), -values.min(axis=0, initial=0))
    return values if ((largest > 0) & (largest < _TINY)).any() else values.astype(np.float32)
