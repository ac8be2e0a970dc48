"""From a name or a path to data."""

from __future__ import annotations

import re
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xpnet.data import cifar
from xpnet.data.arrays import source_from_arrays
from xpnet.data.npz import read_npz
from xpnet.data.patterns import patterns
from xpnet.data.source import Data, Source
from xpnet.data.splits import parse_split, split_source
from xpnet.errors import DataError

_ACCEPTED = "cifar10, patterns, patterns:N/M, a folder or .tar.gz of CIFAR-10's Python version, or a .npz file"


def load_data(source: str | Path | None = None, split: str | None = None) -> Data:
    """Read a data set and split it.

    Args:
        source: ``"cifar10"``, ``"patterns"``, ``"patterns:N"``, ``"patterns:N/M"`` or a path; None takes
            CIFAR-10 if it is on this machine and ``patterns`` otherwise.  Nothing is downloaded.
        split: ``"45k"``, ``"49k"``, ``"b1b2"``, ``"9k"`` or ``"N/M"``: the first N rows train, the next M
            validate; None takes the data's own default.

    Raises:
        DataError: The data is missing or broken, or too small for the split.
    """
    if split is not None:
        parse_split(split)  # before anything long
    return split_source(read_source(source), split)


def data_from_arrays(
    x_train: Any,
    labels_train: Any,
    x_test: Any = None,
    labels_test: Any = None,
    *,
    split: str | None = None,
    class_names: Sequence[str] | None = None,
    seed: int = 0,
) -> Data:
    """Return data from arrays in memory.

    Args:
        x_train: Features (n, d), or images (n, height, width, channels).
        labels_train: Classes (n,), whole numbers from 0.
        x_test: Features of the test set; without it, a tenth of the rows becomes the test set.
        labels_test: Classes of the test set.
        split: ``"N/M"``; None validates on a tenth.
        class_names: Name of each class.
        seed: Seed of the order in which the rows are split.

    Raises:
        DataError: Something about the arrays is wrong.
    """
    arrays = {"x_train": x_train, "y_train": labels_train, "x_test": x_test, "y_test": labels_test}
    given = {name: array for name, array in arrays.items() if array is not None}
    source = source_from_arrays(given, name="arrays", location="memory", class_names=class_names, seed=seed)
    return split_source(source, split)


def read_source(source: str | Path | None = None) -> Source:
    """Read a data set without splitting it; see :func:`load_data`."""
    if source is None:
        found = cifar.find_cifar10()
        return patterns() if found is None else _read_path(found)
    if source == "cifar10":
        found = cifar.find_cifar10()
        if found is None:
            raise DataError(f"data = cifar10: is not on this machine; {cifar.CIFAR10_HINT}")
        return _read_path(found)
    match = re.fullmatch(r"patterns(?::(\d{1,9})(?:/(\d{1,9}))?)?", str(source))
    if match is not None:
        return patterns(int(match[1] or 10_000), int(match[2] or 2_000))
    return _read_path(Path(source))


def _read_path(path: Path) -> Source:
    if not path.exists():
        raise DataError(f"data = {path}: there is no such file or folder; it can be {_ACCEPTED}")
    if path.is_dir():
        for folder in (path, path / cifar.FOLDER):
            if (folder / "data_batch_1").exists() or (folder / "test_batch").exists():
                return cifar.read_folder(folder)
        if (path / cifar.ARCHIVE).is_file():
            return cifar.read_archive(path / cifar.ARCHIVE)
        raise DataError(f"data = {path}: is a folder without CIFAR-10's data_batch_1; it can be {_ACCEPTED}")
    try:
        with path.open("rb") as file:
            start = file.read(2)
        if start == b"\x1f\x8b":
            return cifar.read_archive(path)
        if zipfile.is_zipfile(path) or path.suffix == ".npz":
            return read_npz(path)
        if tarfile.is_tarfile(path):
            raise DataError(
                f"data = {path}: is a tar archive that is not gzipped; CIFAR-10 is published as {cifar.ARCHIVE}"
            )
    except OSError as error:
        raise DataError(f"data = {path}: cannot be read ({error.strerror})") from None
    if path.name.endswith((".tar.gz", ".tgz")):
        raise DataError(f"{path}: is not gzipped; it has {path.stat().st_size:,} bytes, take another copy")
    raise DataError(f"data = {path}: is of no known kind; it can be {_ACCEPTED}")
