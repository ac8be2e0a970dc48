"""Tables as data sets: CSV and Parquet, in one file, or in two files with the test set in the second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from xpnet.config.definitions import DataConfig
from xpnet.data.arrays import DatasetMetadata, SplitPolicy, raw_from_table
from xpnet.data.column import adapted
from xpnet.data.dataset import RawDataset
from xpnet.data.feature_table import Table, table_in_memory
from xpnet.data.labels import classes_of_texts, numbering, same_classes
from xpnet.data.readers.columns import TableRows, are_names, is_label_name
from xpnet.data.readers.csv import first_line, read_csv
from xpnet.data.readers.parquet import is_parquet, parquet_names, read_parquet
from xpnet.data.readers.weight_column import split_weights
from xpnet.errors import DataError

SUFFIXES = (".csv", ".tsv", ".csv.gz", ".parquet", ".pq")


def read_tables(path: Path, config: DataConfig, test: Path | None = None) -> RawDataset:
    """Return the data set of a table, with the test set from a second table if there is one.

    Without `test`, a table called ``train`` or ``..._train`` takes the table ``test`` beside it, unless `test_fraction`
    gives the share of its own rows to test with.
    """
    if test is None and config.test_fraction is None:
        test = _test_table(path)
    train, weights = _read(path, config), None
    if config.weight is not None:
        train, weights = split_weights(train, config.weight, path)
    name = f"{path}: {train.columns.title(train.columns.target)}"
    labels, classes = classes_of_texts(train.labels, name)
    about = {"what": f"{'Parquet' if is_parquet(path) else 'CSV'} table"}
    tested = None
    if test is not None:
        other = _read(test, config)
        if config.weight is not None:
            other, _ = split_weights(other, config.weight, test)
        if other.columns.features != train.columns.features or other.x.shape[1] != train.x.shape[1]:
            raise DataError(
                f"{test}: has other columns than {path}; the two must have the same, or pass --test-fraction with the "
                "one file"
            )
        codes = adapted(other.x, other.kinds, train.kinds, other.titles(test))
        tested = (
            _table(other._replace(x=codes), test),
            same_classes(other.labels.codes(), other.labels.names, classes, str(test)),
        )
        about["test file"] = str(test)
    notes = train.columns.notes + numbering(classes, name)
    metadata = DatasetMetadata(path.stem, str(path.resolve()), notes=notes, about=about)
    policy = SplitPolicy.of(config, 0.1 if test is None else None)
    return raw_from_table(_table(train, path), labels, tested, classes, metadata, str(path), policy, weights)


def tables_in(folder: Path) -> tuple[Path, Path | None] | None:
    """Return the training table and the test table of a folder: train.csv and test.csv, or a single table."""
    tables = [path for path in sorted(folder.iterdir()) if path.name.lower().endswith(SUFFIXES) and path.is_file()]
    if len(tables) == 1:
        return tables[0], None
    train = [path for path in tables if path.name.lower().split(".")[0] == "train"]
    return (train[0], _test_table(train[0])) if len(train) == 1 else None


def names_columns(path: Path, wanted: Sequence[str]) -> bool:
    """Return whether the first line of a CSV file, or of a folder's training table, has the names `wanted`."""
    tables = tables_in(path) if path.is_dir() else (path, None)
    return tables is not None and not is_parquet(tables[0]) and are_names(first_line(tables[0]), wanted)


def unknown_columns(path: Path, wanted: Sequence[str], target: str | None) -> tuple[str, ...]:
    """Return the columns of a table, or of a folder's, that are neither `wanted` nor the labels, if they have names."""
    tables = tables_in(path) if path.is_dir() else (path, None)
    if tables is None or not wanted:
        return ()
    names = parquet_names(tables[0]) if is_parquet(tables[0]) else [cell.strip() for cell in first_line(tables[0])]
    if not are_names(names, wanted):
        return ()
    others = [name for name in names if name not in wanted and name != target and not is_label_name(name, target)]
    if target is not None and target.lstrip("-").isdecimal() and -len(names) <= int(target) < len(names):
        others = [name for name in others if name != names[int(target)]]
    return tuple(name for name in others if name and others.count(name) == 1)


def _test_table(path: Path) -> Path | None:
    """Return the test table that belongs to a training table; None if there is none."""
    stem, dot, suffix = path.name.partition(".")
    for word, partner in (("train", "test"), ("Train", "Test")):
        if stem == word or stem.endswith((f"_{word}", f"-{word}")):
            other = path.with_name(stem.removesuffix(word) + partner + dot + suffix)
            return other if other.is_file() else None
    return None


def _read(path: Path, config: DataConfig) -> TableRows:
    if not is_parquet(path):
        return read_csv(path, config)
    if config.header is not None:
        given = str(config.header).lower()
        raise DataError(f"header = {given}: has no meaning for {path}; Parquet names its columns")
    return read_parquet(path, config)


def _table(rows: TableRows, path: Path) -> Table:
    if not rows.x.shape[1]:
        raise DataError(f"{path}: has a column of labels alone; it needs features to learn from")
    table = table_in_memory(rows.x, feature_names=rows.columns.features, columns=rows.kinds)
    return replace(table, lines_of=None if rows.lines is None else rows.lines.of)
