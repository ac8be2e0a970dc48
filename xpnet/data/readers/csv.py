"""CSV files: numbers, booleans and categories, and a column of labels."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from xpnet.config.definitions import DataConfig
from xpnet.data.column import MISSING, NUMBER, is_number, missing_value
from xpnet.data.column_coder import ColumnCoder
from xpnet.data.feature_table import in_range
from xpnet.data.growing_table import GrowingTable
from xpnet.data.labels import TextLabels
from xpnet.data.readers.columns import (
    MOST_COLUMNS,
    Columns,
    TableRows,
    are_mostly_names,
    are_names,
    is_header,
    is_label_name,
    smallest,
)
from xpnet.data.readers.compressed import open_unzipped
from xpnet.data.readers.line_numbers import LineNumbers
from xpnet.errors import DataError
from xpnet.utils.memory import check_room

_DELIMITERS = ",;\t|"
# Bytes of a line: 100,000 numbers of forty digits; a cell of text may take a quarter of them.
_MOST_LINE = 4 * 2**20
_CHARACTERS = 2**18  # in lines that are converted together
_MOST_BLANK = 10_000
# Limit for a gzipped table: numbers as text shrink to a third or a tenth, only malicious files to a hundredth.
_MOST_RATIO, _LARGE = 100, 64 * 2**20


class _Line(NamedTuple):
    number: int
    text: str


_Record: TypeAlias = tuple[int, list[str]]
_Item = TypeVar("_Item")


def read_csv(path: Path, config: DataConfig, *, wanted: Sequence[str] | None = None) -> TableRows:
    """Read a CSV file: the codes of its features (see :mod:`xpnet.data.column`), and its labels.

    Codes become uint8 if all are whole numbers from 0 to 255, else float32, or float64 if they are too large for
    float32.

    Args:
        path: The file, UTF-8, its columns separated by comma, semicolon, tab or bar.
        config: `target`, `header` and `drop_columns`.
        wanted: For samples without labels: names of the features, of which there may be none; columns of other names
            are ignored, and a first line with these names is not a sample. None for samples with labels.
    """
    with open_unzipped(path) as file:
        return _Reader(path, file).read(config, wanted)


def first_line(path: Path) -> list[str]:
    """Return the cells of the first line of a CSV file; an empty list for an empty file."""
    with open_unzipped(path) as file:
        return _Reader(path, file).first()


class _Reader:
    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file, self._delimiter = path, file, ""
        self._x, self._rows, self._places = GrowingTable(), 0, LineNumbers()
        self._coders: list[ColumnCoder] = []  # none as long as all cells are numbers

    def first(self) -> list[str]:
        return next(self._records(self._lines()), (0, []))[1]

    def read(self, config: DataConfig, wanted: Sequence[str] | None) -> TableRows:
        lines = self._lines()
        records = self._records(lines)
        number, cells = next(records, (0, []))
        if not number:
            raise DataError(f"{self._path}: has no lines; it must have a row for each sample")
        second = next(records, None)
        named = config.header
        if named is None:
            said = are_names(cells, wanted or ()) or are_mostly_names(cells, wanted or ())
            named = (
                said
                or any(is_label_name(cell, config.target) for cell in cells)
                or is_header(cells, second[1] if second else None)
            )
        names = tuple(cell.strip() for cell in cells) if named else tuple(map(str, range(len(cells))))
        self._columns = columns = Columns.of(names, named, config, wanted, str(self._path))
        if config.header is None and not named:
            self._columns = columns._replace(notes=self._doubts(names, cells, wanted or ()))
        self._labels = TextLabels(f"{self._path}: {columns.title(columns.target)}" if wanted is None else "")
        first: list[_Record] = [] if named else [(number, cells)]
        self._add_records(first + ([second] if second else []))
        while batch := _batch(lines, lambda line: len(line.text), _CHARACTERS):
            if any('"' in line.text for line in batch):
                # A quoted cell may continue in the next line: from here on, read record by record.
                records = self._records(itertools.chain(batch, lines))
                while some := _batch(records, lambda record: 50 + 50 * len(record[1]), 20 * _CHARACTERS):
                    self._add_records(some)
            elif self._coders or not self._add_lines(batch):
                self._add_records(self._split(batch))
        if not self._rows:
            raise DataError(f"{self._path}: has no rows beneath its header; it must have one for each sample")
        return self._finish()

    def _finish(self) -> TableRows:
        kinds = [NUMBER] * len(self._columns.kept)
        for j, coder in enumerate(self._coders):
            kinds[j], codes = coder.finish(self._x.column(j))
            if coder.is_category:
                self._x.put(smallest(codes[:, None]), 0, j)
        return TableRows(self._columns, self._x.finish(), self._labels, tuple(kinds), self._places)

    def _coder(self, column: int) -> ColumnCoder:
        title, name = self._columns.title(column), self._columns.names[column]
        return ColumnCoder(f"{self._path}: {title}", name, lambda line: f"{self._path}: line {line}, {title}")

    def _doubts(self, numbers: Sequence[str], cells: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
        """Return a note where the first line, which was read as a sample, may name columns."""
        if len(cells) > 1 and [cell.strip() for cell in cells] == list(numbers):
            return (
                f"{self._path}: its first line, 0 to {numbers[-1]}, is a sample; if it names columns, pass --header",
            )
        if not wanted and not any(map(is_number, cells)):
            return (f"{self._path}: its first line is a sample; if it names columns, pass --header",)
        note = "its first line is a sample, and its columns are those that the network knows, in their order"
        return (f"{self._path}: {note}",) if wanted else ()

    def _records(self, lines: Iterator[_Line]) -> Iterator[_Record]:
        """Yield the cells of records, with the number of their last line."""
        at = size = cells_at_most = 0

        def texts() -> Iterator[str]:
            nonlocal at, size, cells_at_most
            for line in lines:
                at, size = line.number, size + len(line.text)
                cells_at_most += line.text.count(self._delimiter)
                if cells_at_most >= MOST_COLUMNS:
                    raise self._error(at, f"has {cells_at_most + 1:,} columns; at most {MOST_COLUMNS:,} are read")
                if size > _MOST_LINE:
                    raise self._error(at, f"has no end of a row in {size:,} letters; is a quote open?")
                yield line.text

        head = next(lines, None)
        if head is None:
            return
        self._delimiter = self._delimiter or max(_DELIMITERS, key=head.text.count)
        lines = itertools.chain([head], lines)
        csv.field_size_limit(_MOST_LINE // 4)
        try:
            for cells in csv.reader(texts(), delimiter=self._delimiter, skipinitialspace=True):
                size = cells_at_most = 0
                if cells:
                    yield at, cells
        except csv.Error as error:
            raise self._error(at, f"is no CSV ({error})") from None

    def _lines(self) -> Iterator[_Line]:
        """Yield lines as text; refuse a line that is longer than the limit."""
        number = size = blank = 0
        packed = self._path.stat().st_size
        while content := self._file.readline(_MOST_LINE):
            number += 1
            if number == 1:
                if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
                    raise DataError(f"{self._path}: is in UTF-16; save it as UTF-8")
                content = content.removeprefix(b"\xef\xbb\xbf")
            if len(content) == _MOST_LINE:
                raise self._error(number, f"has more than {_MOST_LINE:,} bytes; it is no table")
            if b"\0" in content:
                raise self._error(number, "has a NUL byte; it is no text, or not saved as UTF-8")
            try:
                text = content.decode("utf-8")
            except UnicodeDecodeError as error:
                byte = content[error.start]
                raise self._error(number, f"has the byte 0x{byte:02x}, which is not UTF-8; save it as UTF-8") from None
            blank = 0 if text.strip() else blank + 1
            if blank > _MOST_BLANK:
                raise self._error(number, f"has {blank:,} empty lines before it; it is no table")
            size += len(content)
            if size > _MOST_RATIO * packed + _LARGE:
                raise DataError(f"{self._path}: unpacks to more than {_MOST_RATIO} times its size; unpack it yourself")
            if text.strip():
                yield _Line(number, text)

    def _split(self, lines: list[_Line]) -> list[_Record]:
        """Return the cells of lines without quotes."""
        if self._delimiter and all(line.text.count(self._delimiter) < MOST_COLUMNS for line in lines):
            return [(line.number, line.text.rstrip("\r\n").split(self._delimiter)) for line in lines]
        return list(self._records(iter(lines)))

    def _add_lines(self, lines: list[_Line]) -> bool:
        """Add lines without quotes, all at once; return False, with nothing added, if something is wrong."""
        columns, delimiter = self._columns, self._delimiter
        width, target = len(columns.names), columns.target
        texts = [line.text.rstrip("\r\n") for line in lines]
        if any(text.count(delimiter) != width - 1 for text in texts) or not columns.kept:
            return False
        try:
            values = np.loadtxt(texts, np.float64, delimiter=delimiter, comments=None, usecols=columns.kept, ndmin=2)
        except ValueError:
            return False
        if len(values) != len(texts) or not in_range(values):
            return False
        if target >= 0:
            after = width - 1 - target
            if target <= after:
                labels = [text.split(delimiter, target + 1)[target].strip() for text in texts]
            else:
                labels = [text.rsplit(delimiter, after + 1)[1].strip() for text in texts]
            if any(label.lower() in MISSING for label in labels):
                return False
            self._labels.add(labels)
        self._add(values, lines)
        return True

    def _add_records(self, rows: list[_Record]) -> None:
        """Add records, column by column."""
        columns = self._columns
        width, target = len(columns.names), columns.target
        for number, row in rows:
            if len(row) != width:
                raise self._error(number, f"has {len(row)} columns, and the first line {width}")
            if target >= 0 and row[target].strip().lower() in MISSING:
                raise missing_value(f"{self._path}: line {number}, {columns.title(target)}")
        if not rows:
            return
        values = None if self._coders else self._numbers(rows)
        if values is None:
            self._coders = self._coders or [self._coder(column) for column in columns.kept]
            values = self._codes(rows)
        if target >= 0:
            self._labels.add(row[target] for _, row in rows)
        self._add(values, rows)

    def _numbers(self, rows: list[_Record]) -> NDArray[np.float64] | None:
        """Return the features of records if all are numbers."""
        kept = self._columns.kept
        cells: Callable[[list[str]], Any] = itemgetter(*kept) if kept else lambda _: ()
        try:
            values = np.array([cells(row) for _, row in rows], np.float64).reshape(len(rows), len(kept))
        except ValueError:
            return None
        return values if in_range(values) else None

    def _codes(self, rows: list[_Record]) -> NDArray[np.float64]:
        """Return the codes of the features of records."""
        lines, kept = [number for number, _ in rows], self._columns.kept
        values = np.empty((len(rows), len(kept)))
        for j, (column, coder) in enumerate(zip(kept, self._coders, strict=True)):
            before = coder.is_category
            values[:, j] = coder.add([row[column] for _, row in rows], lines)
            if coder.is_category and not before and self._rows:
                self._x.put(smallest(coder.recoded(self._x.column(j))[:, None]), 0, j)
        return values

    def _add(self, values: NDArray[np.float64], records: Sequence[tuple[int, Any]]) -> None:
        self._places.add(self._rows, records)
        check_room(4 * values.nbytes, f"{self._path}: after {self._x.nbytes:,} bytes")
        self._rows += len(values)
        self._x.add(smallest(values))

    def _error(self, line: int, text: str) -> DataError:
        return DataError(f"{self._path}: line {line}: {text}")


def _batch(items: Iterator[_Item], size: Callable[[_Item], int], most: int) -> list[_Item]:
    """Return the next items, until their total size exceeds `most`."""
    batch, total = [], 0
    for item in items:
        batch.append(item)
        total += size(item)
        if total > most:
            break
    return batch


def is_text(start: bytes) -> bool:
    """Return whether a file that begins with `start` can be a table in text."""
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return True
    text = io.TextIOWrapper(io.BytesIO(start), "utf-8", errors="replace").read()
    return bool(text.strip()) and any(mark in text for mark in _DELIMITERS) and all(c not in text for c in "\x01\x02")
