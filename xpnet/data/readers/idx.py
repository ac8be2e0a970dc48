"""IDX files, the form of MNIST and Fashion-MNIST, gzipped or not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.arrays import Arrays, DatasetMetadata, SplitPolicy, raw_from_arrays
from xpnet.data.dataset import RawDataset
from xpnet.data.feature_table import ChunkedArray, read_chunks
from xpnet.data.readers.compressed import open_unzipped
from xpnet.errors import DataError
from xpnet.utils.file_system import open_regular
from xpnet.utils.memory import check_room

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
# Deflate cannot compress by a factor of more than 1032.
_MOST_RATIO = 1100
_ROLES = ("training images", "training labels", "test images", "test labels")
# MNIST and Fashion-MNIST have files of the same names and sizes; their first labels tell them apart.
_FIRST_LABELS = {(5, 0, 4, 1, 9, 2, 1, 3): "mnist", (9, 0, 0, 3, 0, 2, 7, 2): "fashion-mnist"}
_CLASSES = {
    "mnist": tuple("0123456789"),
    "fashion-mnist": (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
}


def is_idx(start: bytes) -> bool:
    """Return whether a file that begins with `start` is an IDX file."""
    return len(start) >= 4 and start[:2] == b"\0\0" and start[2] in _TYPES and 1 <= start[3] <= 4


def idx_files(folder: Path) -> dict[str, Path]:
    """Return the IDX files in a folder by role: ``training images``, ``training labels``, and so on.

    The content of a file tells images from labels; its name, training from test.
    """
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = path.name.lower()
        subset = "training" if name.startswith("train") else "test" if name.startswith(("t10k", "test")) else None
        if subset is None or not path.is_file():
            continue
        start = _start(path)
        if is_idx(start):
            files.setdefault(f"{subset} {'labels' if start[3] == 1 else 'images'}", path)
    return files


def _start(path: Path) -> bytes:
    try:
        with open_unzipped(path) as file:
            return file.read(4)
    except (OSError, DataError):
        return b""


def read_idx(folder: Path) -> RawDataset:
    """Read the four files of MNIST, or of a data set in the same form."""
    files = idx_files(folder)
    missing = [role for role in _ROLES if role not in files]
    if missing:
        raise DataError(
            f"{folder}: has no IDX file of {' and '.join(missing)}; MNIST has train-images-idx3-ubyte, "
            "train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte"
        )
    x, y, x_test, y_test = (_array(files[role]) for role in _ROLES)
    labels, labels_test = (array.read_all(str(folder)) for array in (y, y_test))
    name = _FIRST_LABELS.get(tuple(labels[:8].tolist()), "")
    classes = _CLASSES.get(name)
    return raw_from_arrays(
        Arrays(x, labels, x_test, labels_test),
        Arrays(*(str(files[role]) for role in _ROLES)),
        DatasetMetadata(
            name or folder.name,
            str(folder.resolve()),
            classes if classes is not None and labels.max() < len(classes) else None,
            about={"what": f"{name or 'images'}, IDX files"},
        ),
        SplitPolicy(shuffled=False),
    )


def _array(path: Path) -> ChunkedArray:
    """Return the array in a file; the size that its header claims is compared with the size of the file."""
    with open_unzipped(path) as file:
        start = file.read(4)
        if not is_idx(start):
            raise DataError(f"{path}: is not an IDX file; take another copy")
        header = file.read(4 * start[3])
    if len(header) != 4 * start[3]:
        raise DataError(f"{path}: is cut off within its header")
    shape, dtype, offset = tuple(np.frombuffer(header, ">u4").tolist()), np.dtype(_TYPES[start[2]]), 4 + len(header)
    claimed, held = math.prod(shape) * dtype.itemsize, path.stat().st_size
    with open_regular(path, links=True) as file:
        is_zipped = file.read(2) == b"\x1f\x8b"
    if not is_zipped and held != offset + claimed:
        raise DataError(f"{path}: claims the shape {shape}, of {claimed:,} bytes, but holds {held - offset:,}")
    if claimed > _MOST_RATIO * held:
        raise DataError(f"{path}: claims {claimed:,} bytes packed into {held:,}, which is not possible")
    check_room(claimed, str(path))

    def read() -> Iterator[NDArray[Any]]:
        with open_unzipped(path) as file:
            file.read(offset)
            yield from read_chunks(file, shape, dtype, str(path))
            if file.read(1):
                raise DataError(f"{path}: holds more than the {claimed:,} bytes of its shape {shape}")

    return ChunkedArray(shape, dtype, read)
