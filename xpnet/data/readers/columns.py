"""Tables with named columns: which of them are features, which is the label, and what classes there are."""

from __future__ import annotations

import difflib
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.data.labels import MOST_CLASSES, check_count, value_of
from xpnet.data.readers.safe_pickle import printable
from xpnet.errors import DataError
from xpnet.utils.plural import counted

# What the column of the labels is called where nobody says.
_USUAL = ("label", "labels", "target", "class")
MOST_COLUMNS = 100_000
# Of all labels together.
MOST_LETTERS = 4 * 2**20


class Columns(NamedTuple):
    """The columns of a table.

    Attributes:
        names: Their names, or their numbers.
        named: Whether the file names them.
        target: Place of the labels; -1 for none.
        kept: Places of the features.
        notes: Sentences on what the first line was taken for, where that is in doubt.
    """

    names: tuple[str, ...]
    named: bool
    target: int
    kept: tuple[int, ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, names: tuple[str, ...], named: bool, target: int, wanted: Sequence[str], where: str) -> Columns:
        """Return the columns of a table, of which the features are those called `wanted`, or all but the labels.

        Raises:
            DataError: The columns have names, and not those that are wanted; see :func:`places_of`.
        """
        kept = tuple(i for i in range(len(names)) if i != target)
        if named and wanted:
            kept = tuple(kept[i] for i in places_of(wanted, [names[i] for i in kept], where))
        return cls(names, named, target, kept)

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


def places_of(wanted: Sequence[str], names: Sequence[str], where: str) -> list[int]:
    """Return the places of the columns called `wanted` among `names`; of equal names, the first goes with the first.

    Blanks around a name count only where names differ in nothing else.

    Raises:
        DataError: There are fewer columns of a name than are wanted, or so many that it cannot be told which is meant.
    """
    by_name: dict[str, list[int]] = {}
    if not set(wanted) <= set(names):
        wanted, names = ([name.strip() for name in of] for of in (wanted, names))
    for i, name in enumerate(names):
        by_name.setdefault(name, []).append(i)
    for name, count in Counter(wanted).items():
        has = len(by_name.get(name, ()))
        called = f"called {printable(name)}" if name else "without a name"
        if not has:
            raise DataError(f"{where}: has no column {printable(name) or called}, which the network was trained on")
        if has != count and max(has, count) > 1:
            raise DataError(
                f"{where}: has {counted(has, 'column')} {called}, and the network was trained on {count}; "
                "--target names a column of labels, others must go or get names of their own"
            )
    places = {name: iter(of) for name, of in by_name.items()}
    return [next(places[name]) for name in wanted]


def are_names(cells: Sequence[str], wanted: Sequence[str]) -> bool:
    """Return whether the cells of a line name all the columns that are `wanted`, numbers though they may be."""
    try:
        places_of(wanted, [cell.strip() for cell in cells], "")
    except DataError:
        return False
    return bool(wanted)


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
        if len(numbers) > MOST_CLASSES:
            _check_classes(len(numbers), self._rows, "", self._where)
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

    Each label that occurs is a class, and numbers that are equal are one; they are sorted, numbers by size and texts by
    the alphabet.

    Raises:
        DataError: There is one class alone, or there are so many that the column holds something else.
    """
    texts, codes = read.names, read.codes()
    first: dict[Decimal | str, str] = {}
    for text in texts:
        first.setdefault(value_of(text), text)
    _check_classes(len(first), len(codes), printable(texts[0]), where)
    numbers = [value for value in first if isinstance(value, Decimal)]
    if len(numbers) < len(first):
        values: list[Any] = sorted(first, key=first.__getitem__)
        names = [first[value] for value in values]
    else:
        values = sorted(numbers)
        whole = values[0] >= 0 and values[-1] < 2**63 and all(value == int(value) for value in values)
        names = [str(int(value)) if whole else first[value] for value in values]
    rank = {value: c for c, value in enumerate(values)}
    return np.array([rank[value_of(text)] for text in texts], np.int64)[codes], tuple(names)


def _check_classes(count: int, rows: int, first: str, where: str) -> None:
    try:
        check_count(count, rows, first, where)
    except DataError as error:
        raise DataError(f"{error}{', name another column with --target' if count > 1 else ''}") from None


def same_classes(labels: NDArray[Any], names: Sequence[str], of: Sequence[str], where: str) -> NDArray[np.int64]:
    """Return labels with `names` as classes of the names `of`; numbers are the same where they are equal.

    Raises:
        DataError: A name is not among them.
    """
    place = {value_of(name): i for i, name in enumerate(of)} | {name: i for i, name in enumerate(of)}
    number = np.array([place.get(name, place.get(value_of(name), -1)) for name in names])
    classes = np.asarray(number[labels], np.int64)
    if (classes < 0).any():
        unknown = printable(names[labels[np.argmax(classes < 0)]])
        known = ", ".join(printable(name) for name in of[:10]) + (", ..." if len(of) > 10 else "")
        raise DataError(f"{where} has the class {unknown}, which is none of those known: {known}")
    return classes
