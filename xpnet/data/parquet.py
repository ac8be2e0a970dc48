"""Parquet files, where pyarrow is installed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.config import DataConfig
from xpnet.data.columns import MOST_COLUMNS, Columns, Labels, find_target
from xpnet.data.csvs import TOO_LARGE, in_range, smallest
from xpnet.data.room import check_room
from xpnet.data.tables import LARGEST, Growing
from xpnet.errors import DataError
from xpnet.file_system import open_regular

_ROWS = 65_536
_CELLS = 1_000_000


def is_parquet(path: Path) -> bool:
    """Return whether a file is a Parquet file, by its content."""
    with open_regular(path, links=True) as file:
        return file.read(4) == b"PAR1"


def read_parquet(
    path: Path, config: DataConfig, *, wanted: Sequence[str] | None = None
) -> tuple[Columns, NDArray[Any], Labels]:
    """Read a Parquet file; see :func:`xpnet.data.csvs.read_csv` for what comes out.

    Raises:
        DataError: pyarrow is not installed, or the file is broken or holds what is no number.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise DataError(f"{path}: is a Parquet file, which needs pyarrow: pip install pyarrow") from None
    try:
        with open_regular(path, links=True) as opened, pq.ParquetFile(opened, memory_map=False) as file:
            schema = file.schema_arrow
            names, rows = tuple(schema.names), int(file.metadata.num_rows)
            if len(names) > MOST_COLUMNS:
                raise DataError(f"{path}: has {len(names):,} columns; at most {MOST_COLUMNS:,} are read")
            if rows < 1:
                raise DataError(f"{path}: has no rows; it must have one for each sample")
            labelled = wanted is None or config.target is not None
            target = find_target(names, True, config.target, str(path)) if labelled else -1
            columns = Columns.of(names, True, target, wanted or (), str(path))
            kept = set(columns.kept)
            for number, field in enumerate(schema):
                kind = pa.types
                numeric = kind.is_integer(field.type) or kind.is_floating(field.type) or kind.is_boolean(field.type)
                if number in kept and not numeric:
                    raise DataError(f"{path}: {columns.called(number)}: is of type {field.type}; it must be numbers")
            check_room(rows * len(names), f"{path}: {rows:,} rows of {len(names):,} columns")
            x = Growing()
            labels = Labels()
            start = 0
            for batch in file.iter_batches(batch_size=max(1, min(_ROWS, _CELLS // len(names))), use_threads=False):
                values = np.empty((len(batch), len(columns.kept)))
                for into, number in enumerate(columns.kept):
                    _check_missing(batch.column(number), path, start, columns.called(number))
                    values[:, into] = batch.column(number).to_numpy(zero_copy_only=False)
                if target >= 0:
                    _check_missing(batch.column(target), path, start, columns.called(target))
                    labels.add(map(_label, batch.column(target).to_pylist()))
                if not in_range(values):
                    row, place = np.argwhere(~(np.abs(values) <= LARGEST))[0]
                    where = f"{path}: row {start + row}, {columns.called(columns.kept[place])}"
                    value = float(values[row, place])
                    raise DataError(
                        f"{where}: {f'{value:g} {TOO_LARGE}' if np.isfinite(value) else 'is not a finite number'}"
                    )
                check_room(4 * values.nbytes, f"{path}: after {x.size:,} bytes")
                x.add(smallest(values))
                start += len(batch)
            return columns, x.finish(), labels
    except (pa.ArrowException, OSError, ValueError, OverflowError, NotImplementedError) as error:
        if isinstance(error, DataError) or (isinstance(error, OSError) and error.errno is not None):
            raise
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: is not a whole Parquet file ({reason}); take another copy") from None


def _check_missing(column: Any, path: Path, start: int, called: str) -> None:
    if column.null_count:
        row = start + int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
        raise DataError(f"{path}: row {row}, {called}: the value is missing; fill it in, or remove the row")


def _label(value: Any) -> str:
    return str(int(value)) if isinstance(value, (bool, float)) and value == int(value) else str(value)
