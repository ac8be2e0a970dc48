"""Columns of a table: which are features, which is the label, and which are left out."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.config.definitions import DataConfig
from xpnet.data.column import Column, is_number
from xpnet.data.labels import TextLabels
from xpnet.data.readers.line_numbers import LineNumbers
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
        cls, names: tuple[str, ...], named: bool, config: DataConfig, wanted: Sequence[str] | None, path: str
    ) -> Columns:
        """Return the columns of a table.

        Args:
            names: Their names, or their numbers.
            named: Whether the file names them.
            config: Its `target` names the column of labels, its `drop_columns` those to leave out.
            wanted: Names of the features, for samples without labels; None or empty for all columns except the labels.
            path: Name of the file in messages.
        """
        target = config.target
        place = find_target(names, named, target, path) if wanted is None or target is not None else -1
        dropped = [find_column("drop_columns", name, names, named, path) for name in config.drop_columns or ()]
        if place in dropped:
            raise DataError(f"drop_columns = {names[place]}: {path} has its labels in this column; name others")
        kept = tuple(i for i in range(len(names)) if i != place and i not in dropped)
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
    """A table that has been read.

    Attributes:
        columns: Its columns.
        x: The codes of the features (n, d); see :mod:`xpnet.data.column`.
        labels: The labels, as texts.
        kinds: What the codes of each feature mean.
        lines: The lines of the rows in their file; None if it has none.
    """

    columns: Columns
    x: NDArray[Any]
    labels: TextLabels
    kinds: tuple[Column, ...]
    lines: LineNumbers | None = None

    def titles(self, path: Path) -> list[str]:
        """Return file, number and name of every feature, for messages."""
        return [f"{path}: {self.columns.title(i)}" for i in self.columns.kept]


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


def are_mostly_names(cells: Sequence[str], wanted: Sequence[str]) -> bool:
    """Return whether the cells of a line include most of the names `wanted`, none of which is a number."""
    known = {name.strip() for name in wanted} & {cell.strip() for cell in cells}
    return len(known) > len(wanted) / 2 and not any(map(is_number, known))


def is_header(first: Sequence[str], second: Sequence[str] | None) -> bool:
    """Return whether the first line names columns: it has a text above a number, and no number above a text."""
    numbers = [is_number(cell) for cell in first]
    if second is None or len(second) != len(first):
        return not any(numbers)
    pairs = set(zip(numbers, map(is_number, second), strict=True))
    return (False, True) in pairs and (True, False) not in pairs


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
    return find_column("target", target, names, named, path)


def find_column(setting: str, column: str, names: Sequence[str], named: bool, path: str) -> int:
    """Return the position of a column, which a setting gives by name or by number; see :func:`find_target`."""
    matches = [i for i, name in enumerate(names) if named and name.strip() == column.strip()]
    if len(matches) == 1:
        return matches[0]
    if len(matches) > 1:
        raise DataError(f"{setting} = {column}: {path} has {len(matches)} columns of that name; give its number from 0")
    try:
        number = int(column)
    except ValueError:
        close = difflib.get_close_matches(column, names, n=1) if named else []
        hint = f"did you mean {printable(close[0])}?" if close else _listed(names, named)
        raise DataError(f"{setting} = {column}: {path} has no such column; {hint}") from None
    if not -len(names) <= number < len(names):
        raise DataError(f"{setting} = {column}: {path} has the columns 0 to {len(names) - 1}")
    return number % len(names)


def _listed(names: Sequence[str], named: bool) -> str:
    shown = ", ".join(map(printable, names[:10])) + (", ..." if len(names) > 10 else "")
    return f"its columns are {shown}" if named else f"it has {len(names)} columns without names"


def smallest(values: NDArray[np.float64]) -> NDArray[Any]:
    """Return numbers, which may be NaN, in the smallest type that holds them."""
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if np.isnan(low):
        missing = np.isnan(values)
        kind = np.promote_types(smallest(np.where(missing, 0.0, values)).dtype, np.float32)
        # Files may hold NaNs that raise an error when they are computed with; this one does not.
        return np.where(missing, np.nan, values).astype(kind)
    if low >= 0 and high <= 255 and not (values % 1).any():
        return values.astype(np.uint8)
    if max(-low, high) > 2**24:
        return values
    # float32 would turn a column whose numbers are all too small into zeros.
    largest = np.maximum(values.max(axis=0, initial=0), -values.min(axis=0, initial=0))
    return values if ((largest > 0) & (largest < _TINY)).any() else values.astype(np.float32)
