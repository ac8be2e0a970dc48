"""Labels, checked and converted to classes from 0: numbers of an array, or texts of a table.

Every problem with labels raises :class:`~xpnet.errors.DataError`; so do a single class, and so many different labels
that they cannot be classes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.feature_table import plain_array
from xpnet.data.readers.safe_pickle import printable
from xpnet.errors import DataError

_WANTED = "labels must be whole numbers"
_LARGEST = 2**31
_MOST_CLASSES = 10_000
# Characters of all different labels of a table together.
MOST_LETTERS = 4 * 2**20
_LISTED = 4
_OTHER_COLUMN = ", name another column with --target"
_ARE = " are the classes "


def as_labels(values: Any, name: str, rows: int, x_name: str) -> NDArray[np.int64]:
    """Return labels as int64 (n,), with their values; the shape (n, 1) and floats with whole values are accepted.

    Args:
        values: The labels.
        name: Their name in messages.
        rows: Rows of the features that they belong to.
        x_name: Name of the features in messages.
    """
    y = plain_array(values, name, f"entries of different lengths; {_WANTED}, one a row")
    if y.dtype.kind not in "biuf":
        raise DataError(f"{name} is an array of {y.dtype}; {_WANTED}")
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        hint = "; if it is one-hot, take its argmax(axis=1)" if y.ndim == 2 else ""
        raise DataError(f"{name} has the shape {y.shape}; labels must be one whole number a row, (n,){hint}")
    if len(y) != rows:
        raise DataError(f"{name} has {len(y):,} labels for {rows:,} rows of {x_name}; there must be one for each")
    good = np.ones(len(y), bool)
    if y.dtype.kind == "f":
        good = y == np.rint(y)  # False for NaN
    if y.dtype.kind != "b":
        good &= (y <= _LARGEST) & (y >= -_LARGEST)
    if not good.all():
        row = int(np.argmin(good))
        raise DataError(f"{name} has the label {y[row]} in row {row}; {_WANTED} of at most {_LARGEST:,}")
    return y.astype(np.int64)


def classes_of_numbers(labels: NDArray[np.int64], name: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return classes from 0, one for each label that occurs, in ascending order, and the labels as their names."""
    values = np.unique(labels)
    names = tuple(map(str, values.tolist()))
    # Labels numbered from 0 without gaps are classes, however many there are.
    if len(values) > 1 and values[0] == 0 and values[-1] == len(values) - 1:
        return labels, names
    check_count(len(values), len(labels), names[0], name)
    return np.searchsorted(values, labels), names


class TextLabels:
    """Labels of a table that arrive as texts, some rows at a time; each different text is stored once.

    Args:
        name: Name of their column in messages; empty where labels are not wanted.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._numbers: dict[str, int] = {}
        self._codes: list[NDArray[np.int32]] = []
        self._rows = self._letters = 0

    def add(self, texts: Iterable[str], codes: NDArray[np.int64] | None = None) -> None:
        """Append the labels of more rows: `texts`, or `codes`, which are positions in `texts`."""
        if not self._name:
            return
        numbers, before = self._numbers, len(self._numbers)
        places = np.array([numbers.setdefault(text.strip(), len(numbers)) for text in texts], np.int32)
        self._codes.append(places if codes is None else places[codes])
        self._rows += len(self._codes[-1])
        self._letters += sum(map(len, itertools.islice(numbers, before, None)))
        if len(numbers) > _MOST_CLASSES:
            check_count(len(numbers), self._rows, "", self._name, _OTHER_COLUMN)
        if self._letters > MOST_LETTERS:
            raise DataError(
                f"{self._name} has labels of more than {MOST_LETTERS:,} letters together; shorten them{_OTHER_COLUMN}"
            )

    @property
    def names(self) -> list[str]:
        """The different labels, in the order of their first rows."""
        return list(self._numbers)

    def codes(self) -> NDArray[np.int32]:
        """Return the position of each row's label in the names; may be called once."""
        codes = np.concatenate(self._codes)
        self._codes = []
        return codes


def classes_of_texts(labels: TextLabels, name: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return classes from 0 and their names.

    Each label that occurs is a class, and equal numbers are one class.  Classes are sorted: numbers by value, texts
    alphabetically.
    """
    texts, codes = labels.names, labels.codes()
    first: dict[Decimal | str, str] = {}
    for text in texts:
        first.setdefault(value_of(text), text)
    check_count(len(first), len(codes), printable(texts[0]), name, _OTHER_COLUMN)
    numbers = [value for value in first if isinstance(value, Decimal)]
    if len(numbers) < len(first):
        values: list[Any] = sorted(first, key=first.__getitem__)
        names = [first[value] for value in values]
    else:
        values = sorted(numbers)
        are_whole = values[0] >= 0 and values[-1] < 2**63 and all(value == int(value) for value in values)
        names = [str(int(value)) if are_whole else first[value] for value in values]
    rank = {value: c for c, value in enumerate(values)}
    return np.array([rank[value_of(text)] for text in texts], np.int64)[codes], tuple(names)


def same_classes(labels: NDArray[Any], names: Sequence[str], of: Sequence[str], name: str) -> NDArray[np.int64]:
    """Return labels with the class names `names` as positions in the names `of`; numbers match by value."""
    place = {value_of(known): i for i, known in enumerate(of)} | {known: i for i, known in enumerate(of)}
    number = np.array([place.get(label, place.get(value_of(label), -1)) for label in names])
    classes = np.asarray(number[labels], np.int64)
    if (classes < 0).any():
        unknown = printable(names[labels[np.argmax(classes < 0)]])
        known = ", ".join(map(printable, of[:10])) + (", ..." if len(of) > 10 else "")
        raise DataError(f"{name} has the class {unknown}, which is none of those known: {known}")
    return classes


def check_count(classes: int, rows: int, first: str, name: str, hint: str = "") -> None:
    """Refuse labels with one class, or with too many different values to be classes."""
    if classes < 2:
        raise DataError(f"{name} has the label {first} alone; there must be at least 2 classes")
    if classes > _MOST_CLASSES or (classes > 20 and classes > rows / 2):
        raise DataError(f"{name} has {classes:,} different labels in {rows:,} rows; these are hardly classes{hint}")


def value_of(label: str) -> Decimal | str:
    """Return the value by which a label is compared: its number, or its text."""
    try:
        value = Decimal(label)
    except ArithmeticError:
        return label
    return value if value.is_finite() and "_" not in label else label


def numbering(names: Sequence[str], name: str) -> tuple[str, ...]:
    """Return a sentence on the class number of each numeric label, if labels and class numbers differ."""
    numbers = tuple(map(str, range(len(names))))
    if tuple(names) == numbers or any(isinstance(value_of(label), str) for label in names):
        return ()
    return (f"{name}: the labels {_listed(names)}{_ARE}{_listed(numbers)}",)


def without_numbering(notes: Sequence[str]) -> tuple[str, ...]:
    """Return notes without the sentence of :func:`numbering`."""
    return tuple(note for note in notes if _ARE not in note)


def _listed(texts: Sequence[str]) -> str:
    return ", ".join(texts if len(texts) <= _LISTED else (*texts[:2], "...", texts[-1]))
