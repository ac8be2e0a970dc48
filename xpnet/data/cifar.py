"""CIFAR-10 as published for Python: six pickled batches, made into one data set."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.archive import read_archive_files
from xpnet.data.pickled_array import PickledArray
from xpnet.data.safe_pickle import CutShortError, printable, read_pickle
from xpnet.data.source import Source
from xpnet.data.splits import nine_tenths
from xpnet.errors import DataError

FOLDER = "cifar-10-batches-py"
ARCHIVE = "cifar-10-python.tar.gz"
CIFAR10_HINT = (
    f"get {ARCHIVE} from https://www.cs.toronto.edu/~kriz/cifar.html and pass its path as --data, "
    "or put it in the working folder or in the folder that XPNET_DATA names"
)
CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_TRAINING = tuple(f"data_batch_{number}" for number in range(1, 6))
_TEST = "test_batch"
_META = "batches.meta"
_PIXELS = 3 * 32 * 32
_LARGEST = 64 * 2**20  # a published batch has 31 MB


def find_cifar10() -> Path | None:
    """Return where CIFAR-10 lies on this machine, or None.

    Looks in the folder that ``XPNET_DATA`` names, in xpnet's cache folder, in the working folder and in
    its ``data`` folder, for the batches, their folder, or the published archive.  ``XPNET_DATA`` may
    also name the archive itself.
    """
    for place in places():
        found = cifar10_in(place)
        if found is not None:
            return found.resolve()
    return None


def places() -> list[Path]:
    """Return where CIFAR-10 is looked for, in this order."""
    from platformdirs import user_cache_dir

    named = os.environ.get("XPNET_DATA")
    return [*([Path(named).expanduser()] if named else []), Path(user_cache_dir("xpnet")), Path(), Path("data")]


def cifar10_in(place: Path) -> Path | None:
    """Return the folder of batches or the archive in `place`, which may also be one of them, or None."""
    if place.is_file():
        return place
    for folder in (place, place / FOLDER):
        # Any batch will do: reading the folder then says which one is missing.
        if any((folder / name).is_file() for name in (*_TRAINING, _TEST)):
            return folder
    return place / ARCHIVE if (place / ARCHIVE).is_file() else None


def read_folder(folder: Path) -> Source:
    """Read the batches in `folder`.

    Raises:
        DataError: A batch is missing or broken.
        OSError: A file cannot be read.
    """
    files = {}
    for name in (*_TRAINING, _TEST, _META):
        path = folder / name
        if path.is_file():
            _check_size(path.stat().st_size, path)
            files[name] = path.read_bytes()
    return _assemble(files, folder)


def read_archive(path: Path) -> Source:
    """Read the batches in the published archive, without writing them to the disk.

    Raises:
        DataError: The archive is cut off, or a batch is missing or broken.
        OSError: The file cannot be read.
    """
    files = read_archive_files(path, (*_TRAINING, _TEST, _META), lambda name, size: _check_size(size, path / name))
    return _assemble(files, path)


def _check_size(size: int, path: Path) -> None:
    if size > _LARGEST:
        raise DataError(f"{path}: has {size:,} bytes; a batch of CIFAR-10 has 31 million")


def _assemble(files: Mapping[str, bytes], where: Path) -> Source:
    """Build the data set from the contents of the files that were found."""
    missing = [name for name in (*_TRAINING, _TEST) if name not in files]
    if missing:
        raise DataError(
            f"{where}: has no {', '.join(missing)}; CIFAR-10 has {_TRAINING[0]} to {_TRAINING[-1]} and {_TEST}"
        )
    names = _class_names(files[_META], f"{where / _META}") if _META in files else CLASS_NAMES
    training = [_batch(files[name], f"{where / name}", len(names)) for name in _TRAINING]
    x_test, labels_test = _batch(files[_TEST], f"{where / _TEST}", len(names))
    labels = np.concatenate([labels for _, labels in training])
    return Source(
        name="cifar10",
        location=str(where.resolve()),
        x=np.concatenate([x for x, _ in training]),
        labels=labels,
        x_test=x_test,
        labels_test=labels_test,
        class_names=names,
        image_shape=(3, 32, 32),
        default_split="45k" if len(labels) >= 50_000 else nine_tenths(len(labels)),
    )


def _batch(content: bytes, where: str, classes: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    try:
        batch = _dictionary(content, where, ("data", "labels"))
    except CutShortError as error:
        raise DataError(
            f"{error}; a whole published batch has more than 30,720,000 (10,000 images of 3,072 bytes)"
        ) from None
    x, labels = _images(batch["data"], where), batch["labels"]
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise DataError(f"{where}: labels must be a list of whole numbers")
    if len(labels) != len(x):
        raise DataError(f"{where}: has {len(x):,} images and {len(labels):,} labels; there must be one for each")
    for row, label in enumerate(labels):
        if not 0 <= label < classes:
            raise DataError(f"{where}: the label of row {row} is {label}; labels must be from 0 to {classes - 1}")
    return x, np.array(labels, np.int64)


def _images(array: Any, where: str) -> NDArray[np.uint8]:
    wanted = f"it must be an array (n, {_PIXELS}) of uint8"
    if not isinstance(array, PickledArray):
        raise DataError(f"{where}: data is of type {type(array).__name__}; {wanted}")
    try:
        x = array.to_numpy()
    except ValueError as error:
        raise DataError(f"{where}: data is {error}; {wanted}") from None
    if x.ndim != 2 or x.shape[1] != _PIXELS or len(x) == 0:
        raise DataError(f"{where}: data has the shape {x.shape}; {wanted}")
    return x


def _class_names(content: bytes, where: str) -> tuple[str, ...]:
    names = _dictionary(content, where, ("label_names",))["label_names"]
    if not isinstance(names, list) or len(names) != 10 or not all(isinstance(n, (str, bytes)) for n in names):
        raise DataError(f"{where}: label_names must be a list of 10 names")
    return tuple(printable(name.decode("utf-8", "replace") if isinstance(name, bytes) else name) for name in names)


def _dictionary(content: bytes, where: str, keys: tuple[str, ...]) -> dict[str, Any]:
    values = read_pickle(content, where)
    if not isinstance(values, dict):
        raise DataError(f"{where}: is not a dictionary with {' and '.join(keys)}, as CIFAR-10's files are")
    for key in keys:
        if key not in values:
            has = ", ".join(map(printable, sorted(values)[:10])) or "none"
            raise DataError(f"{where}: has no key {key}; its keys are {has}")
    return values
