"""Parquet files, where pyarrow is installed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.config.definitions import DataConfig
from xpnet.data.column import LARGEST, NUMBER, Column, bad_value, missing_value
from xpnet.data.column_coder import ColumnCoder
from xpnet.data.feature_table import in_range
from xpnet.data.growing_table import GrowingTable
from xpnet.data.labels import MOST_LETTERS, TextLabels
from xpnet.data.readers.columns import MOST_COLUMNS, Columns, TableRows, smallest
from xpnet.data.readers.parquet_types import is_number, is_text, leaves, width
from xpnet.data.readers.safe_pickle import printable
from xpnet.errors import DataError
from xpnet.utils.extras import need
from xpnet.utils.file_system import open_regular
from xpnet.utils.memory import check_room

_ROWS = 65_536
_CELLS = 1_000_000
# Bytes of columns that are unpacked at a time: pages of all of them are in memory together.
_TOGETHER, _BUFFER = 8 * 2**20, 2**16
# Most unpacked bytes for a row of a column: a number twice (in a dictionary and beside it), a label as text. Larger
# columns are refused, since a column may be one page, which is unpacked in one piece.
_MOST_NUMBER, _MOST_LABEL, _MOST_HEADERS = 16, 32, 256
# Most bytes of a label of fixed width; such labels are not read as a dictionary.
_MOST_WIDTH = 1000


def is_parquet(path: Path) -> bool:
    """Return whether a file is a Parquet file, by its content."""
    with open_regular(path, links=True) as file:
        return file.read(4) == b"PAR1"


def parquet_names(path: Path) -> list[str]:
    """Return the names of the columns of a Parquet file; none if it cannot be read."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        return []
    try:
        with open_regular(path, links=True) as handle:
            return [str(name) for name in pq.read_schema(handle, memory_map=False).names]
    except (pa.ArrowException, OSError, ValueError, OverflowError, NotImplementedError):
        return []


def read_parquet(path: Path, config: DataConfig, *, wanted: Sequence[str] | None = None) -> TableRows:
    """Read a Parquet file; see :func:`xpnet.data.readers.csv.read_csv` for the arguments and the result."""
    need("parquet", f"{path}: a Parquet file")
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open_regular(path, links=True) as handle:
            with pq.ParquetFile(handle, memory_map=False) as file:
                reader = _Reader(path, file.metadata, file.schema_arrow, config, wanted)
            # Read as a dictionary, so that a text of many rows is stored once.
            texts = [reader.columns.names[number] for number in reader.texts]
            options = {"memory_map": False, "buffer_size": _BUFFER, "metadata": file.metadata}
            with pq.ParquetFile(handle, read_dictionary=texts, **options) as file:
                return reader.read(file)
    except (pa.ArrowException, OSError, ValueError, OverflowError, NotImplementedError) as error:
        if isinstance(error, DataError) or (isinstance(error, OSError) and error.errno is not None):
            raise
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: is not a whole Parquet file ({reason}); take another copy") from None


class _Reader:
    def __init__(
        self, path: Path, metadata: Any, schema: Any, config: DataConfig, wanted: Sequence[str] | None
    ) -> None:
        self._path, self._metadata = path, metadata
        names, self._rows = tuple(schema.names), int(metadata.num_rows)
        if len(names) > MOST_COLUMNS:
            raise DataError(f"{path}: has {len(names):,} columns; at most {MOST_COLUMNS:,} are read")
        if self._rows < 1:
            raise DataError(f"{path}: has no rows; it must have one for each sample")
        self.columns: Columns = Columns.of(names, True, config, wanted, str(path))
        target = self.columns.target
        self._labels = TextLabels(f"{path}: {self.columns.title(target)}" if wanted is None else "")
        counts = [leaves(field.type) for field in schema]
        # A column of lists or structures has several columns in the file, or one of another kind.
        self._leaf = list(itertools.accumulate(counts, initial=0))
        self._coders = {
            number: self._coder(number) for number in self.columns.kept if self._is_text(number, schema.field(number))
        }
        self._booleans = {number for number in self.columns.kept if str(schema.field(number).type) == "bool"}
        self._gaps: dict[int, str] = {}
        self.texts = [*self._coders, *([target] if target >= 0 else [])]
        if target >= 0 and schema.field(target).type.num_fields:
            kind = schema.field(target).type
            raise DataError(f"{path}: {self.columns.title(target)}: is of type {kind}; labels are numbers or texts")
        self._label_width = width(schema.field(target).type) if target >= 0 else 1
        if self._label_width > _MOST_WIDTH:
            raise DataError(
                f"{path}: {self.columns.title(target)}: has labels of {self._label_width:,} bytes; shorten them"
            )
        check_room(self._rows * len(names), f"{path}: {self._rows:,} rows of {len(names):,} columns")
        self._together = max(1, int(_TOGETHER / (self._check_size() + 2 * _BUFFER)))
        self._batch = max(1, min(_ROWS, _CELLS // len(names)))

    def read(self, file: Any) -> TableRows:
        """Read the columns that are wanted, a few at a time."""
        target = self.columns.target
        if target >= 0:
            for start, batch in self._batches(file, [target], max(1, min(_ROWS, _TOGETHER // self._label_width))):
                column = _plain(batch.column(0))
                self._check_missing(column, start, target)
                _add_labels(self._labels, column)
        x = GrowingTable(self._rows, len(self.columns.kept))
        large = self._fill(file, x, set())
        if large:
            # A batch of rows with a number that float32 cannot hold is read again, all of it as float64.
            self._fill(file, x, large)
        kinds = []
        for j, number in enumerate(self.columns.kept):
            gap = self._gaps.get(number, "")
            column = Column("boolean", ("false", "true"), gap=gap) if number in self._booleans else NUMBER
            if number in self._coders:
                column, codes = self._coders[number].finish(x.column(j))
                x.put(smallest(codes[:, None]), 0, j)
            kinds.append(replace(column, gap=gap) if gap else column)
        return TableRows(self.columns, x.finish(), self._labels, tuple(kinds))

    def _coder(self, column: int) -> ColumnCoder:
        title = f"{self._path}: {self.columns.title(column)}"
        return ColumnCoder(title, self.columns.names[column], lambda row: self._place(row, column), is_text=True)

    def _is_text(self, number: int, field: Any) -> bool:
        """Return whether a column is of categories; refuse what is neither text nor numbers."""
        from pyarrow import types

        kind, title = field.type, f"{self._path}: {self.columns.title(number)}"
        if is_number(kind):
            return False
        of_category = kind.value_type if types.is_dictionary(kind) else kind
        if is_text(of_category) or (types.is_dictionary(kind) and is_number(of_category)):
            return True
        drop = f"leave the column out with --drop-columns {printable(self.columns.names[number])}"
        if types.is_temporal(kind):
            raise DataError(f"{title}: holds dates or times; make numbers of them, such as days, or {drop}")
        raise DataError(f"{title}: is of type {kind}; it must be numbers or texts, or {drop}")

    def _fill(self, file: Any, x: GrowingTable, large: set[int]) -> set[int]:
        """Read numbers into the table; return the batches of rows that have a number too large for float32."""
        too_large = set()
        for first, block in self._blocks():
            for start, batch in self._batches(file, block, self._batch):
                values = np.empty((len(batch), len(block)))
                for into, column in enumerate(block):
                    values[:, into] = self._codes(batch.column(into), start, column)
                if not in_range(values) and (wrong := np.abs(values) > LARGEST).any():
                    row, into = np.argwhere(wrong)[0]
                    value = float(values[row, into])
                    raise bad_value(self._place(start + row, block[into]), f"{value:g}", value)
                narrow, number = smallest(values), start // self._batch
                if narrow.dtype == np.float64:
                    too_large.add(number)
                x.put(values if number in large else narrow, start, first)
        return too_large if len(self._blocks()) > 1 and not large else set()

    def _codes(self, values: Any, start: int, column: int) -> NDArray[Any]:
        """Return the codes of some rows of a column, of which `start` is the first."""
        coder = self._coders.get(column)
        if coder is not None:
            codes: NDArray[Any] = _of_texts(coder, values, start)
            return codes
        numbers = (values.cast("uint8") if column in self._booleans else values).to_numpy(zero_copy_only=False)
        if (gaps := np.isnan(numbers) if numbers.dtype.kind == "f" else np.False_).any() and column not in self._gaps:
            self._gaps[column] = self._place(start + int(np.argmax(gaps)), column)
        return np.asarray(numbers)

    def _check_missing(self, values: Any, start: int, column: int) -> None:
        if values.null_count:
            row = start + int(np.argmax(values.is_null().to_numpy(zero_copy_only=False)))
            raise missing_value(self._place(row, column))

    def _place(self, row: int, column: int) -> str:
        return f"{self._path}: row {row}, {self.columns.title(column)}"

    def _blocks(self) -> list[tuple[int, tuple[int, ...]]]:
        """Return groups of columns to read together, each with the position of its first column in the features."""
        kept, some = self.columns.kept, self._together
        return [(start, kept[start : start + some]) for start in range(0, len(kept), some)]

    def _batches(self, file: Any, columns: Sequence[int], rows: int) -> Iterator[tuple[int, Any]]:
        """Yield some columns in batches of rows, each with the number of its first row."""
        groups, start = range(file.num_row_groups), 0
        places = [self._leaf[number] for number in columns]
        for batch in file.reader.iter_batches(rows, row_groups=groups, column_indices=places, use_threads=False):
            if start + len(batch) > self._rows:
                break
            yield start, batch
            start += len(batch)
        if start != self._rows:
            raise ValueError(f"{self._rows:,} rows were said to be there")

    def _check_size(self) -> float:
        """Return the average bytes of a column in the largest group of rows; refuse groups above the limits."""
        columns = len(self.columns.names)
        # If some columns are not read, the sizes say nothing: those columns may hold anything.
        all_read = columns == len(self.columns.kept) + (self.columns.target >= 0)
        largest = 0
        # pyarrow's metadata of single columns says more, but if it is damaged, pyarrow ends the process.
        for number in range(self._metadata.num_row_groups):
            group = self._metadata.row_group(number)
            size, rows = int(group.total_byte_size), int(group.num_rows)
            texts = max(1, len(self.texts))
            most = _MOST_NUMBER * rows * (len(self.columns.kept) - len(self._coders)) + _MOST_HEADERS * columns
            most += (_MOST_LABEL * rows + MOST_LETTERS) * texts
            if all_read and size > most:
                raise DataError(
                    f"{self._path}: takes {size:,} bytes in {rows:,} rows of {columns:,} columns; at most "
                    f"{_MOST_NUMBER} for each number and {_MOST_LABEL} for each label are read"
                )
            largest = max(largest, size)
        return largest / columns


def _of_texts(coder: ColumnCoder, column: Any, start: int) -> NDArray[np.float64]:
    """Return the codes of some rows of a column of texts, of which `start` is the first."""
    if not hasattr(column, "dictionary"):
        texts = ["" if value is None else _label(value) for value in column.to_pylist()]
        return coder.add(texts, range(start, start + len(texts)))
    indices = column.indices.fill_null(-1).to_numpy()
    used, first, places = np.unique(indices, return_index=True, return_inverse=True)
    if used[0] < -1 or used[-1] >= len(column.dictionary):
        raise ValueError("a text is none of those that its column has")
    texts = ["" if place < 0 else _label(column.dictionary[int(place)].as_py()) for place in used]
    return coder.add(texts, (start + first).tolist())[places]


def _add_labels(labels: TextLabels, column: Any) -> None:
    if not hasattr(column, "dictionary"):
        labels.add(map(_label, column.to_pylist()))
        return
    used, first, codes = np.unique(column.indices.to_numpy(), return_index=True, return_inverse=True)
    if used[0] < 0 or used[-1] >= len(column.dictionary):
        raise ValueError("a label is none of those that its column has")
    # Sort labels by their first rows.
    order = np.argsort(first)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    labels.add((_label(column.dictionary[int(place)].as_py()) for place in used[order]), rank[codes])


def _plain(column: Any) -> Any:
    """Return labels with NaN turned into missing values if they are floating, else unchanged."""
    import pyarrow as pa
    from pyarrow import compute, types

    if types.is_dictionary(column.type) and is_number(column.type.value_type):
        column = column.dictionary_decode()
    if not types.is_floating(column.type):
        return column
    column = column.cast(pa.float64())
    return compute.if_else(compute.is_nan(column), pa.scalar(None, column.type), column)


def _label(value: Any) -> str:
    is_whole = isinstance(value, bool) or (isinstance(value, float) and value.is_integer())
    return str(int(value) if is_whole else value)
