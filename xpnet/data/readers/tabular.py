"""Tables as data sets: CSV and Parquet, one file or two, one of them to test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from xpnet.config.definitions import DataConfig
from xpnet.data.arrays import About, SplitPolicy, build_source
from xpnet.data.dataset import RawDataset
from xpnet.data.feature_table import Table, table_in_memory
from xpnet.data.labels import numbering
from xpnet.data.readers.columns import Columns, Labels, are_names, classes_of, same_classes
from xpnet.data.readers.csv import first_line, read_csv
from xpnet.data.readers.parquet import is_parquet, read_parquet
from xpnet.errors import DataError

SUFFIXES = (".csv", ".tsv", ".csv.gz", ".parquet", ".pq")


class _Read(NamedTuple):
    columns: Columns
    x: NDArray[Any]
    labels: Labels


def read_tables(path: Path, config: DataConfig, test: Path | None = None) -> RawDataset:
    """Read a table, and perhaps another one to test with.

    Without `test`, a table called ``train``, or ``..._train``, takes the one beside it that is called ``test``, unless
    `test_fraction` says which part of its own rows to take.

    Raises:
        DataError: A table is broken, or the two do not fit together.
        OSError: A file cannot be read.
    """
    if test is None and config.test_fraction is None:
        test = _beside(path)
    train = _read(path, config)
    where = f"{path}: {train.columns.called(train.columns.target)}"
    classes, names = classes_of(train.labels, where)
    tested = None
    if test is not None:
        other = _read(test, config)
        if other.columns.features != train.columns.features or other.x.shape[1] != train.x.shape[1]:
            raise DataError(
                f"{test}: has other columns than {path}; the two must have the same, or pass --test-fraction with the "
                "one file"
            )
        tested = _table(other, test), same_classes(other.labels.codes(), other.labels.names, names, str(test))
    what = "Parquet" if is_parquet(path) else "CSV"
    about = About(
        path.stem,
        str(path.resolve()),
        notes=train.columns.notes + numbering(names, where),
        about={"what": f"{what} table"},
    )
    if test is not None:
        about = replace(about, about={**about.about, "test file": str(test)})
    fraction = config.test_fraction if test is not None or config.test_fraction else 0.1
    return build_source(
        _table(train, path), classes, tested, names, about, str(path), SplitPolicy(config.data_seed or 0, fraction)
    )


def tables_in(folder: Path) -> tuple[Path, Path | None] | None:
    """Return the tables in a folder, to train with and to test with: train.csv and test.csv, or a single one."""
    found = [path for path in sorted(folder.iterdir()) if path.name.lower().endswith(SUFFIXES) and path.is_file()]
    if len(found) == 1:
        return found[0], None
    train = [path for path in found if _stem(path) == "train"]
    return (train[0], _beside(train[0])) if len(train) == 1 else None


def names_columns(path: Path, wanted: Sequence[str]) -> bool:
    """Return whether the first line of a CSV file, or of the one in a folder to train with, has the names `wanted`."""
    found = tables_in(path) if path.is_dir() else (path, None)
    return found is not None and not is_parquet(found[0]) and are_names(first_line(found[0]), wanted)


def _stem(path: Path) -> str:
    return path.name.lower().split(".")[0]


def _beside(path: Path) -> Path | None:
    """Return the table to test with that goes with one to train with."""
    name = path.name
    for mine, partner in (("train", "test"), ("Train", "Test")):
        stem, dot, suffix = name.partition(".")
        if stem == mine or stem.endswith((f"_{mine}", f"-{mine}")):
            other = path.with_name(stem.removesuffix(mine) + partner + dot + suffix)
            return other if other.is_file() else None
    return None


def _read(path: Path, config: DataConfig) -> _Read:
    if is_parquet(path):
        if config.header is not None:
            given = str(config.header).lower()
            raise DataError(f"header = {given}: has no meaning for {path}; Parquet names its columns")
        return _Read(*read_parquet(path, config))
    return _Read(*read_csv(path, config))


def _table(read: _Read, path: Path) -> Table:
    if not read.x.shape[1]:
        raise DataError(f"{path}: has a column of labels alone; it needs features to learn from")
    return table_in_memory(read.x, feature_names=read.columns.features)
