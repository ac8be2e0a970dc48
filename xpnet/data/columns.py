"""Tables with named columns: which of them are features, which is the label, and what classes there are."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.data.safe_pickle import printable
from xpnet.errors import DataError

# What the column of the labels is called where nobody says.
_USUAL = ("label", "labels", "target", "class")
MOST_COLUMNS = 100_000
_MOST_CLASSES = 10_000
# Of all labels together.
MOST_LETTERS = 4 * 2**20


class Columns(NamedTuple):
    """The columns of a table.

    Attributes:
        names: Their names, or their numbers.
        named: Whether the file names them.
        target: Place of the labels; -1 for none.
        kept: Places of the features.
    """

    names: tuple[str, ...]
    named: bool
    target: int
    kept: tuple[int, ...]

    @classmethod
    def of(cls, names: tuple[str, ...], named: bool, target: int, wanted: Sequence[str] = ()) -> Columns:
        """Return the columns of a table, of which the features are those called `wanted`, or all but the labels."""
        place = {name: i for i, name in enumerate(names)}
        if named and wanted and all(name in place for name in wanted):
            return cls(names, named, target, tuple(place[name] for name in wanted))
        return cls(names, named, target, tuple(i for i in range(len(names)) if i != target))

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features; empty where columns have no names."""
        return tuple(self.names[i] for i in self.kept) if self.named else ()

    def called(self, column: int) -> str:
        """Return a column for a message: its number, from 0, and its name."""
        return f"column {column} ({printable(self.names[column])})" if self.named else f"column {column}"


def is_label_name(cell: str, target: str | None) -> bool:
    """Return whether a cell of the first line is the name of the column of labels, and no number."""
    text = cell.strip()
    return text.lower() in _USUAL or (text == target and not text.lstrip("-").isdecimal())


def find_target(names: Sequence[str], named: bool, target: str | None, where: str) -> int:
    """Return the place of the column of labels.

    Args:
        names: Names of the columns.
        named: Whether the file names them.
        target: A name, or a number from 0, which may be negative; None takes a column with a usual name.
        where: What to call the file in messages.

    Raises:
        DataError: There is no such column, or several of that name.
    """
    shown = ", ".join(printable(name) for name in names[:10]) + (", ..." if len(names) > 10 else "")
    has = f"its columns are {shown}" if named else f"it has {len(names)} columns without names"
    if target is None:
        usual = [i for i, name in enumerate(names) if named and name.strip().lower() in _USUAL]
        if len(usual) != 1:
            raise DataError(f"{where}: needs --target, the name or the number of the column of labels; {has}")
        return usual[0]
    matches = [i for i, name in enumerate(names) if named and name.strip() == target.strip()]
    if len(matches) == 1:
        return matches[0]
    if len(matches) > 1:
        raise DataError(f"target = {target}: {where} has {len(matches)} columns of that name; give its number from 0")
    try:
        number = int(target)
    except ValueError:
        close = difflib.get_close_matches(target, names, n=1) if named else []
        hint = f"did you mean {printable(close[0])}?" if close else has
        raise DataError(f"target = {target}: {where} has no such column; {hint}") from None
    if not -len(names) <= number < len(names):
        raise DataError(f"target = {target}: {where} has the columns 0 to {len(names) - 1}")
    return number % len(names)


class Labels:
    """Labels as they come from a file, one after the other: each different text is kept once.

    Args:
        where: What to call their column in messages; empty where nobody wants to know them.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._numbers: dict[str, int] = {}
        self._codes: list[NDArray[np.int32]] = []
        self._rows = self._letters = 0

    def add(self, texts: Iterable[str], codes: NDArray[np.int64] | None = None) -> None:
        """Take the labels of some more rows: texts, or places in a list of texts.

        Raises:
            DataError: So far there are more different ones, or longer ones, than classes have.
        """
        if not self._where:
            return
        numbers, before = self._numbers, len(self._numbers)
        found = np.array([numbers.setdefault(text.strip(), len(numbers)) for text in texts], np.int32)
        self._codes.append(found if codes is None else found[codes])
        self._rows += len(self._codes[-1])
        self._letters += sum(map(len, itertools.islice(numbers, before, None)))
        if len(numbers) > _MOST_CLASSES:
            raise _too_many(self._where, len(numbers), self._rows)
        if self._letters > MOST_LETTERS:
            raise DataError(
                f"{self._where} has labels of more than {MOST_LETTERS:,} letters together; shorten them, or name "
                "another column with --target"
            )

    @property
    def names(self) -> list[str]:
        """The different labels, in the order of their first rows."""
        return list(self._numbers)

    def codes(self) -> NDArray[np.int32]:
        """Return the place of each row's label among the names, once: the rows are given away."""
        codes = np.concatenate(self._codes)
        self._codes = []
        return codes


def classes_of(read: Labels, where: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return classes from 0 and their names, of labels as texts.

    Whole numbers from 0 without large gaps stay what they are; everything else is sorted, numbers by size and
    texts by the alphabet.

    Raises:
        DataError: There is one class alone, or there are so many that the column holds something else.
    """
    names, codes = read.names, read.codes()
    rows, count = len(codes), len(names)
    if count < 2:
        raise DataError(f"{where} has the label {printable(names[0])} alone; there must be at least 2 classes")
    if count > 20 and count > rows / 2:
        raise _too_many(where, count, rows)
    try:
        numbers = np.array([float(name) for name in names])
    except ValueError:
        order = sorted(range(count), key=names.__getitem__)
    else:
        whole = np.isfinite(numbers).all() and (numbers == np.rint(numbers)).all() and len(set(numbers)) == count
        highest = numbers.max()
        if whole and numbers.min() >= 0 and highest + 1 <= min(2 * count + 10, rows):
            return numbers.astype(np.int64)[codes], tuple(map(str, range(int(highest) + 1)))
        order = np.argsort(numbers, kind="stable").tolist()
    rank = np.empty(count, np.int64)
    rank[order] = np.arange(count)
    return rank[codes], tuple(names[i] for i in order)


def _too_many(where: str, count: int, rows: int) -> DataError:
    return DataError(
        f"{where} has {count:,} different labels in {rows:,} rows; they are probably not classes, "
        "name another column with --target"
    )


def labels_have_names(names: Sequence[str]) -> bool:
    """Return whether classes are called something else than their numbers."""
    return tuple(names) != tuple(map(str, range(len(names))))


def same_classes(labels: NDArray[Any], names: Sequence[str], of: Sequence[str], where: str) -> NDArray[np.int64]:
    """Return labels with `names` as classes of the names `of`.

    Raises:
        DataError: A name is not among them.
    """
    place = {name: i for i, name in enumerate(of)}
    present = np.unique(labels)
    unknown = [printable(names[c]) for c in present if names[c] not in place]
    if unknown:
        known = ", ".join(printable(name) for name in of[:10]) + (", ..." if len(of) > 10 else "")
        raise DataError(f"{where} has the class {unknown[0]}, which is none of those known: {known}")
    number = np.array([place.get(name, -1) for name in names])
    return np.asarray(number[labels], np.int64)
