"""One file of CIFAR-10 or CIFAR-100, in any of the three published layouts, recognised by its content."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.data.readers.matlab import MAGIC, read_matlab
from xpnet.data.readers.pickled_array import PickledArray
from xpnet.data.readers.safe_pickle import CutShortError, printable, read_pickle
from xpnet.errors import DataError

PIXELS = 3 * 32 * 32
IMAGE_SHAPE = (3, 32, 32)


class LabelKey(NamedTuple):
    """Which of a file's labels are taken.

    Attributes:
        key: Name of the labels in pickles and MATLAB files.
        place: Their place among the bytes in front of an image in the binary layout.
        bytes: How many such bytes there are.
        classes: Number of classes.
        names: Name of the list of class names in the meta file.
        name: The data set's name in messages.
    """

    key: str
    place: int
    bytes: int
    classes: int
    names: str
    name: str


CIFAR10 = LabelKey("labels", 0, 1, 10, "label_names", "CIFAR-10")
FINE = LabelKey("fine_labels", 1, 2, 100, "fine_label_names", "CIFAR-100")
COARSE = LabelKey("coarse_labels", 0, 2, 20, "coarse_label_names", "CIFAR-100")


def layout_of(content: bytes, name: str, label: LabelKey) -> str:
    """Return ``"python"``, ``"binary"`` or ``"matlab"``: what the content is, and only then what the name says."""
    if content[: len(MAGIC)] == MAGIC or name.endswith(".mat"):
        return "matlab"
    # A pickle begins with 0x80, which is no label.
    whole = len(content) > 0 and len(content) % (PIXELS + label.bytes) == 0
    return "binary" if content[:1] != b"\x80" and (whole or name.endswith(".bin")) else "python"


def read_batch(content: bytes, where: str, label: LabelKey) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return images (n, 3072) and labels (n,) of a file.

    Raises:
        DataError: The file is broken, or none of the three.
    """
    layout = layout_of(content, where, label)
    if layout == "binary":
        x, labels = _binary(content, where, label)
    elif layout == "matlab":
        values = read_matlab(content, where, ("data", label.key))
        x, labels = _matlab_images(values["data"], where), _matlab_labels(values[label.key], where)
    else:
        x, labels = _pickled(content, where, label)
    if len(labels) != len(x):
        raise DataError(f"{where}: has {len(x):,} images and {len(labels):,} labels; there must be one for each")
    for row in np.flatnonzero((labels < 0) | (labels >= label.classes))[:1]:
        raise DataError(
            f"{where}: the label of row {row} is {labels[row]}; labels must be from 0 to {label.classes - 1}"
        )
    return x, labels


def read_names(content: bytes, where: str, label: LabelKey) -> tuple[str, ...]:
    """Return the names of the classes in a meta file: a pickle, a MATLAB file, or a name a line.

    Raises:
        DataError: It is broken, or has another number of names.
    """
    if where.endswith(".txt"):
        lines = content[: 2**16].decode("utf-8", "replace").split("\n")
        names: Any = [line.strip() for line in lines if line.strip()]
    elif content[: len(MAGIC)] == MAGIC or where.endswith(".mat"):
        names = read_matlab(content, where, (label.names,))[label.names]
        names = [str(np.ravel(n)[0]) if np.size(n) == 1 else n for n in np.ravel(names)]
    else:
        names = _dictionary(content, where, (label.names,))[label.names]
    count = label.classes
    if not isinstance(names, list) or len(names) != count or not all(isinstance(n, (str, bytes)) for n in names):
        raise DataError(f"{where}: {label.names} must be a list of {count} names")
    return tuple(printable(name.decode("utf-8", "replace") if isinstance(name, bytes) else name) for name in names)


def _binary(content: bytes, where: str, label: LabelKey) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    record = label.bytes + PIXELS
    if len(content) == 0 or len(content) % record:
        raise DataError(
            f"{where}: has {len(content):,} bytes, which are no whole number of images of {record:,} bytes each; "
            "take another copy"
        )
    rows = np.frombuffer(content, np.uint8).reshape(-1, record)
    return rows[:, label.bytes :], rows[:, label.place].astype(np.int64)


def _matlab_images(x: Any, where: str) -> NDArray[np.uint8]:
    wanted = f"it must be an array (n, {PIXELS}) of uint8"
    if x.dtype != np.uint8 or x.ndim != 2 or x.shape[1] != PIXELS or len(x) == 0:
        raise DataError(f"{where}: data is an array {x.shape} of {x.dtype}; {wanted}")
    return np.asarray(x)


def _matlab_labels(y: Any, where: str) -> NDArray[np.int64]:
    if y.dtype.kind not in "iuf" or y.ndim != 2 or 1 not in y.shape or (y != np.rint(y)).any():
        raise DataError(f"{where}: labels must be a column of whole numbers")
    return np.ravel(y).astype(np.int64)


def _pickled(content: bytes, where: str, label: LabelKey) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    try:
        batch = _dictionary(content, where, ("data", label.key))
    except CutShortError as error:
        whole = "30,720,000 (10,000" if label is CIFAR10 else "153,600,000 (50,000"
        raise DataError(f"{error}; a whole published batch has more than {whole} images of 3,072 bytes)") from None
    x, labels = _images(batch["data"], where), batch[label.key]
    # The largest number that a pickle may hold here does not fit into an array of numbers.
    if not isinstance(labels, list) or not all(type(value) is int and abs(value) < 2**62 for value in labels):
        raise DataError(f"{where}: labels must be a list of whole numbers")
    return x, np.array(labels, np.int64)


def _images(array: Any, where: str) -> NDArray[np.uint8]:
    wanted = f"it must be an array (n, {PIXELS}) of uint8"
    if not isinstance(array, PickledArray):
        raise DataError(f"{where}: data is of type {type(array).__name__}; {wanted}")
    try:
        x = array.to_numpy()
    except ValueError as error:
        raise DataError(f"{where}: data is {error}; {wanted}") from None
    if x.ndim != 2 or x.shape[1] != PIXELS or len(x) == 0:
        raise DataError(f"{where}: data has the shape {x.shape}; {wanted}")
    return x


def _dictionary(content: bytes, where: str, keys: Sequence[str]) -> dict[str, Any]:
    values = read_pickle(content, where)
    if not isinstance(values, dict):
        raise DataError(f"{where}: is not a dictionary with {' and '.join(keys)}, as CIFAR-10's files are")
    for key in keys:
        if key not in values:
            has = ", ".join(map(printable, sorted(values)[:10])) or "none"
            raise DataError(f"{where}: has no key {key}; its keys are {has}")
    return values
