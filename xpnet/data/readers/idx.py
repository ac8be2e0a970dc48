"""IDX files, the form of MNIST and Fashion-MNIST, gzipped or not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.data.arrays import About, Arrays, SplitPolicy, source_from_arrays
from xpnet.data.dataset import RawDataset
from xpnet.data.feature_table import Pieces, rows_at_a_time, whole
from xpnet.data.readers.packed import opened
from xpnet.errors import DataError
from xpnet.utils.file_system import open_regular
from xpnet.utils.memory import check_room

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
# Deflate cannot shrink by more than 1032.
_MOST_RATIO = 1100
_ROLES = ("training images", "training labels", "test images", "test labels")
_FASHION = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
# The two look alike from outside; their first labels tell them apart.
_FIRST_LABELS = {(5, 0, 4, 1, 9, 2, 1, 3): "mnist", (9, 0, 0, 3, 0, 2, 7, 2): "fashion-mnist"}


class _Header(NamedTuple):
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    size: int


def is_idx(start: bytes) -> bool:
    """Return whether a file that begins so is an IDX file."""
    return len(start) >= 4 and start[:2] == b"\0\0" and start[2] in _TYPES and 1 <= start[3] <= 4


def idx_files(folder: Path) -> dict[str, Path]:
    """Return the IDX files in a folder by what they are: training and test, images and labels.

    What a file holds says whether they are images or labels; its name, whether they are for training.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = path.name.lower()
        part = "training" if name.startswith("train") else "test" if name.startswith(("t10k", "test")) else None
        if part is None or not path.is_file():
            continue
        start = _start(path)
        if is_idx(start):
            found.setdefault(f"{part} {'labels' if start[3] == 1 else 'images'}", path)
    return found


def _start(path: Path) -> bytes:
    try:
        with opened(path) as file:
            return file.read(4)
    except (OSError, DataError):
        return b""


def read_idx(folder: Path) -> RawDataset:
    """Read the four files of MNIST, or of a set in its form.

    Raises:
        DataError: A file is missing or broken.
        OSError: A file cannot be read.
    """
    files = idx_files(folder)
    missing = [role for role in _ROLES if role not in files]
    if missing:
        raise DataError(
            f"{folder}: has no IDX file of {' and '.join(missing)}; MNIST has train-images-idx3-ubyte, "
            "train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte"
        )
    x, y, x_test, y_test = (_pieces(files[role]) for role in _ROLES)
    labels, labels_test = (whole(part, str(folder)) for part in (y, y_test))
    name = _FIRST_LABELS.get(tuple(labels[:8].tolist()), "")
    names = {"fashion-mnist": _FASHION, "mnist": tuple(map(str, range(10)))}.get(name)
    return source_from_arrays(
        Arrays(x, labels, x_test, labels_test),
        Arrays(*(str(files[role]) for role in _ROLES)),
        About(
            name or folder.name,
            str(folder.resolve()),
            names if names is not None and labels.max() < len(names) else None,
            about={"what": f"{name or 'images'}, IDX files"},
        ),
        SplitPolicy(shuffled=False),
    )


def _pieces(path: Path) -> Pieces:
    with opened(path) as file:
        header = _header(file, path)
    shape, dtype, size = header
    wanted = math.prod(shape) * dtype.itemsize
    held = path.stat().st_size
    if file_is_plain(path) and held != size + wanted:
        raise DataError(f"{path}: claims the shape {shape}, of {wanted:,} bytes, but holds {held - size:,}")
    if wanted > _MOST_RATIO * held:
        raise DataError(f"{path}: claims {wanted:,} bytes packed into {held:,}, which is not possible")
    check_room(wanted, str(path))

    def read() -> Iterator[NDArray[Any]]:
        rows = rows_at_a_time(shape, dtype.itemsize)
        with opened(path) as file:
            file.read(size)
            for start in range(0, shape[0], rows):
                part = (min(rows, shape[0] - start), *shape[1:])
                content = file.read(math.prod(part) * dtype.itemsize)
                if len(content) != math.prod(part) * dtype.itemsize:
                    raise DataError(f"{path}: is cut off: it should hold {wanted:,} bytes, unpacked")
                yield np.frombuffer(content, dtype).reshape(part).astype(dtype.newbyteorder("="), copy=False)
            if file.read(1):
                raise DataError(f"{path}: holds more than the {wanted:,} bytes of its shape {shape}")

    return Pieces(shape, dtype.newbyteorder("="), read)


def file_is_plain(path: Path) -> bool:
    """Return whether a file is not gzipped."""
    with open_regular(path, links=True) as file:
        return file.read(2) != b"\x1f\x8b"


def _header(file: BinaryIO, path: Path) -> _Header:
    start = file.read(4)
    if not is_idx(start):
        raise DataError(f"{path}: is not an IDX file; take another copy")
    count = start[3]
    lengths = file.read(4 * count)
    if len(lengths) != 4 * count:
        raise DataError(f"{path}: is cut off within its header")
    shape = tuple(int.from_bytes(lengths[i : i + 4], "big") for i in range(0, 4 * count, 4))
    return _Header(shape, np.dtype(_TYPES[start[2]]), 4 + 4 * count)
