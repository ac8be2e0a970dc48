"""From the cells of a column, which arrive some rows at a time, to their codes; see :mod:`xpnet.data.column`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.column import MISSING, Column, bad_value, name_of_number, number_of
from xpnet.data.feature_table import in_range
from xpnet.data.labels import MOST_LETTERS
from xpnet.data.readers.safe_pickle import printable
from xpnet.errors import DataError

MOST_CATEGORIES = 10_000
# A column of so few different values may be one of categories, whatever the number of rows.
_FEW = 20
_DATES = 0.9  # share of the cells of a column of dates that are dates
_DATE = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ].*)?|\d{1,2}[-/.]\d{1,2}[-/.](\d{4}|\d{2})([T ].*)?|\d{1,2}:\d{2}(:.*)?"
)


class ColumnCoder:
    """Codes of a column of cells.

    A column is one of numbers until a cell holds something else; from there on it is one of categories, and codes that
    were returned before are renumbered by :meth:`recoded`.

    Args:
        title: File, number and name of the column, for messages.
        name: Its name or number, by which `drop_columns` leaves it out.
        place: Returns file, row and column of the cell with a given row number.
        is_text: Whether the column is of categories from the start.
    """

    def __init__(self, title: str, name: str, place: Callable[[int], str], *, is_text: bool = False) -> None:
        self._title, self._name, self._place, self._typed = title, name, place, is_text
        self._codes: dict[str, int] = {}
        self._known: dict[str, int] = {}  # cells as they are written
        self._letters, self._gap = 0, ""
        self._first: tuple[int, str] | None = None  # row and text of the first cell that is no number
        self.is_category = is_text

    def add(self, cells: Sequence[str], rows: Sequence[int]) -> NDArray[np.float64]:
        """Return the codes of more cells, which stand in the given rows."""
        if self.is_category:
            return self._categories(cells, rows)
        try:
            values = np.array(cells, np.float64)
        except ValueError:
            pass
        else:
            if in_range(values):
                return values
        numbers = {cell: number_of(cell) for cell in dict.fromkeys(cells)}
        if None not in numbers.values():
            values = np.fromiter(map(numbers.__getitem__, cells), np.float64, len(cells))
            if not self._gap:
                self._gap = self._place(rows[int(np.argmax(np.isnan(values)))])
            return values
        at = next(i for i, cell in enumerate(cells) if numbers[cell] is None)
        self.is_category, self._first = True, (rows[at], cells[at].strip())
        return self._categories(cells, rows)

    def recoded(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Return the codes, now that the column is of categories, of numbers that :meth:`add` returned before."""
        distinct, place = np.unique(values.astype(np.float64), return_inverse=True)
        names = ("" if np.isnan(value) else name_of_number(value) for value in distinct.tolist())
        return np.array([self._code(name) for name in names], np.float64)[place]

    def finish(self, codes: NDArray[Any]) -> tuple[Column, NDArray[np.float64]]:
        """Return the column, and the final codes of its cells in place of `codes`, all that were returned."""
        if not self.is_category:
            return Column(gap=self._gap), codes
        names, codes = list(self._codes), codes.astype(np.int64)
        counts = np.bincount(codes, minlength=len(names))
        lower = {name.lower() for name in names if name}
        if lower and lower <= {"true", "false"}:
            of_code = [np.nan if not name else float(name.lower() == "true") for name in names]
            both = tuple(sorted(name for name in names if name))
            return Column("boolean", both, gap=self._gap), np.array(of_code)[codes]
        order = sorted(range(len(names)), key=names.__getitem__)
        rank = np.empty(len(names))
        rank[order] = np.arange(len(names))
        column = Column("category", tuple(names[i] for i in order), self._problem(names, counts), self._gap)
        return column, rank[codes] if len(names) else codes.astype(np.float64)

    def _categories(self, cells: Sequence[str], rows: Sequence[int]) -> NDArray[np.float64]:
        known = self._known
        if len(known) > 2 * MOST_CATEGORIES:
            known.clear()
        for cell in dict.fromkeys(cells):
            if cell not in known:
                known[cell] = self._code(_name_of(cell))
        codes = np.fromiter(map(known.__getitem__, cells), np.float64, len(cells))
        if not self._gap and (empty := self._codes.get("")) is not None and (codes == empty).any():
            self._gap = self._place(rows[int(np.argmax(codes == empty))])
        return codes

    def _code(self, name: str) -> int:
        """Return the number of a category, in the order in which they come.

        Raises:
            DataError: There are too many.
        """
        number = self._codes.setdefault(name, len(self._codes))
        if number == len(self._codes) - 1:
            self._letters += len(name)
            if len(self._codes) > MOST_CATEGORIES or self._letters > MOST_LETTERS:
                numbers = sum(number_of(known) is not None for known in self._codes)
                if self._first is not None and 2 * numbers > len(self._codes):
                    raise self._no_number()
                size = f"more than {MOST_CATEGORIES:,}" if len(self._codes) > MOST_CATEGORIES else "very long"
                raise DataError(f"{self._title}: has {size} different texts, which teach nothing; {self._leave_out()}")
        return number

    def _problem(self, names: Sequence[str], counts: NDArray[np.int64]) -> str:
        """Return why nothing can be learned from the categories `names`, which occur so often; or an empty text."""
        present = np.array([bool(name) for name in names], bool)
        numbers = np.array([bool(name) and number_of(name) is not None for name in names], bool)
        rows, texts = int(counts[present].sum()), present & ~numbers
        # Many numbers and few texts: it is the texts that are wrong, unless they come again and again.
        doubtful = numbers.sum() > _FEW or counts[texts].min(initial=2) == 1
        if self._first is not None and doubtful and counts[numbers].sum() > counts[texts].sum():
            return str(self._no_number())
        dates = np.array([_DATE.fullmatch(name) is not None for name in names], bool)
        if rows and counts[dates].sum() >= _DATES * rows:
            shown = printable(names[int(np.argmax(dates))])
            return (
                f"{self._title}: holds dates or times, such as {shown}; make numbers of them, such as days, or "
                f"{self._leave_out()}"
            )
        distinct = int(present.sum())
        if distinct > _FEW and distinct > rows / 2:
            return (
                f"{self._title}: is text or identifiers, {distinct:,} different values in {rows:,} rows, which teach "
                f"nothing; {self._leave_out()}"
            )
        return ""

    def _no_number(self) -> DataError:
        assert self._first is not None
        row, text = self._first
        try:
            value = float(text)
        except ValueError:
            value = None
        return bad_value(self._place(row), printable(text), value)

    def _leave_out(self) -> str:
        return f"leave the column out with --drop-columns {printable(self._name)}"


def _name_of(cell: str) -> str:
    """Return the category of a cell: its text, one for all ways of writing a number, empty where it is missing."""
    text = cell.strip()
    value = number_of(text)
    if value is None:
        return text
    return "" if text.lower() in MISSING else name_of_number(value)
