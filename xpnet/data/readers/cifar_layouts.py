"""One file of CIFAR-10 or CIFAR-100, in any of the three published layouts, recognised by its content."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.readers.matlab import MAGIC, read_matlab
from xpnet.data.readers.safe_pickle import CutShortError, PickledArray, printable, read_pickle
from xpnet.errors import DataError

PIXELS = 3 * 32 * 32
IMAGE_SHAPE = (3, 32, 32)
_SUFFIXES = ("", ".bin", ".mat")
_WANTED = f"it must be an array (n, {PIXELS}) of uint8"


@dataclass(frozen=True)
class Kind:
    """One of the data sets, with one kind of its labels.

    Attributes:
        name: Its name.
        title: Its name in messages.
        training: Its training files, without their suffix.
        test: Its test file.
        meta: Its files with the names of the classes, by the suffix of the other files.
        classes: Number of classes.
        labels: Name of the labels in pickles and MATLAB files.
        label_names: Name of the list of class names in the meta file.
        place: Position of the label in the bytes before an image, in the binary layout.
        label_bytes: Number of these bytes.
        largest: Bytes and number of images in a published file, in words.
    """

    name: str
    title: str
    training: tuple[str, ...]
    test: str
    meta: dict[str, str]
    classes: int
    labels: str
    label_names: str
    place: int
    label_bytes: int
    largest: str

    def files(self, suffix: str) -> tuple[str, ...]:
        """Return the names of the files with images, the test file last."""
        return tuple(stem + suffix for stem in (*self.training, self.test))

    def all_files(self) -> set[str]:
        """Return the names of all files, of every layout."""
        return {name for suffix in _SUFFIXES for name in self.files(suffix)} | set(self.meta.values())

    def suffix_of(self, exists: Callable[[str], bool]) -> str | None:
        """Return the suffix of a layout with at least one existing file; None if there is none."""
        return next((suffix for suffix in _SUFFIXES if any(map(exists, self.files(suffix)))), None)


CIFAR_10 = Kind(
    "cifar10",
    "CIFAR-10",
    tuple(f"data_batch_{number}" for number in range(1, 6)),
    "test_batch",
    {"": "batches.meta", ".bin": "batches.meta.txt", ".mat": "batches.meta.mat"},
    classes=10,
    labels="labels",
    label_names="label_names",
    place=0,
    label_bytes=1,
    largest="30,720,000 (10,000",
)


def cifar_100(labels: str | None = None) -> Kind:
    """Return CIFAR-100 with its ``fine`` or ``coarse`` labels."""
    of = labels or "fine"
    return Kind(
        "cifar100",
        "CIFAR-100",
        ("train",),
        "test",
        {"": "meta", ".bin": f"{of}_label_names.txt", ".mat": "meta.mat"},
        classes=100 if of == "fine" else 20,
        labels=f"{of}_labels",
        label_names=f"{of}_label_names",
        place=int(of == "fine"),
        label_bytes=2,
        largest="153,600,000 (50,000",
    )


def layout_of(content: bytes, name: str, kind: Kind) -> str:
    """Return ``"python"``, ``"binary"`` or ``"matlab"``, by the content, or by the name if that is ambiguous."""
    if content[: len(MAGIC)] == MAGIC or name.endswith(".mat"):
        return "matlab"
    # A pickle begins with 0x80, which is not a valid label.
    is_binary = name.endswith(".bin") or (len(content) > 0 and len(content) % (PIXELS + kind.label_bytes) == 0)
    return "binary" if content[:1] != b"\x80" and is_binary else "python"


def read_batch(content: bytes, path: str, kind: Kind) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return images (n, 3072) and labels (n,) of a file."""
    read = {"binary": _read_binary, "matlab": _read_matlab, "python": _read_pickled}[layout_of(content, path, kind)]
    x, labels = read(content, path, kind)
    if len(labels) != len(x):
        raise DataError(f"{path}: has {len(x):,} images and {len(labels):,} labels; there must be one for each")
    for row in np.flatnonzero((labels < 0) | (labels >= kind.classes))[:1]:
        raise DataError(f"{path}: the label of row {row} is {labels[row]}; labels must be from 0 to {kind.classes - 1}")
    return x, labels


def read_names(content: bytes, path: str, kind: Kind) -> tuple[str, ...]:
    """Return the names of the classes in a meta file: a pickle, a MATLAB file, or a name a line."""
    if path.endswith(".txt"):
        lines = content[: 2**16].decode("utf-8", "replace").split("\n")
        names: Any = [line.strip() for line in lines if line.strip()]
    elif content[: len(MAGIC)] == MAGIC or path.endswith(".mat"):
        names = read_matlab(content, path, (kind.label_names,))[kind.label_names]
    else:
        names = _dictionary(content, path, (kind.label_names,))[kind.label_names]
    count = kind.classes
    if not isinstance(names, list) or len(names) != count or not all(isinstance(n, (str, bytes)) for n in names):
        raise DataError(f"{path}: {kind.label_names} must be a list of {count} names")
    return tuple(printable(name.decode("utf-8", "replace") if isinstance(name, bytes) else name) for name in names)


def _read_binary(content: bytes, path: str, kind: Kind) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    record = kind.label_bytes + PIXELS
    if len(content) == 0 or len(content) % record:
        raise DataError(
            f"{path}: has {len(content):,} bytes, which are no whole number of images of {record:,} bytes each; "
            "take another copy"
        )
    rows = np.frombuffer(content, np.uint8).reshape(-1, record)
    return rows[:, kind.label_bytes :], rows[:, kind.place].astype(np.int64)


def _read_matlab(content: bytes, path: str, kind: Kind) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    values = read_matlab(content, path, ("data", kind.labels))
    x, y = values["data"], values[kind.labels]
    if not isinstance(x, np.ndarray):
        raise DataError(f"{path}: data is text or a cell; {_WANTED}")
    if x.dtype != np.uint8 or x.ndim != 2 or x.shape[1] != PIXELS or len(x) == 0:
        raise DataError(f"{path}: data is an array {x.shape} of {x.dtype}; {_WANTED}")
    is_column = isinstance(y, np.ndarray) and y.ndim == 2 and 1 in y.shape
    if not is_column or (y != np.rint(y)).any() or (np.abs(y) > 2**31).any():
        raise DataError(f"{path}: labels must be a column of whole numbers")
    return x, np.ravel(y).astype(np.int64)


def _read_pickled(content: bytes, path: str, kind: Kind) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    try:
        batch = _dictionary(content, path, ("data", kind.labels))
    except CutShortError as error:
        published = f"a whole published batch has more than {kind.largest} images of 3,072 bytes)"
        raise DataError(f"{error}; {published}") from None
    array, labels = batch["data"], batch[kind.labels]
    if not isinstance(array, PickledArray):
        raise DataError(f"{path}: data is of type {type(array).__name__}; {_WANTED}")
    try:
        x = array.to_numpy()
    except ValueError as error:
        raise DataError(f"{path}: data is {error}; {_WANTED}") from None
    if x.ndim != 2 or x.shape[1] != PIXELS or len(x) == 0:
        raise DataError(f"{path}: data has the shape {x.shape}; {_WANTED}")
    # A pickle may hold larger numbers than an array of int64.
    if not isinstance(labels, list) or not all(type(value) is int and abs(value) < 2**62 for value in labels):
        raise DataError(f"{path}: labels must be a list of whole numbers")
    return x, np.array(labels, np.int64)


def _dictionary(content: bytes, path: str, keys: Sequence[str]) -> dict[str, Any]:
    values = read_pickle(content, path)
    if not isinstance(values, dict):
        raise DataError(f"{path}: is not a dictionary with {' and '.join(keys)}, as CIFAR-10's files are")
    for key in keys:
        if key not in values:
            has = ", ".join(map(printable, sorted(values)[:10])) or "none"
            raise DataError(f"{path}: has no key {key}; its keys are {has}")
    return values
