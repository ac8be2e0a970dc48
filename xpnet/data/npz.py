"""Arrays in a ``.npz`` file."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from xpnet.data.arrays import Arrays, source_from_arrays
from xpnet.data.source import Source
from xpnet.errors import DataError

_LAYOUTS = (("x_train", "y_train"), ("x", "y"))
_TEST = ("x_test", "y_test")
_KNOWN = (*_LAYOUTS[0], *_LAYOUTS[1], *_TEST)
_MOST_BYTES = 64 * 2**30
# Deflate cannot shrink by more than 1032; a larger claim is a lie, and a large one a trap.
_MOST_RATIO, _LARGE = 1100, 2**30


def read_npz(path: Path) -> Source:
    """Read ``x, y`` or ``x_train, y_train``, and ``x_test, y_test`` if there are; other arrays are left alone.

    Raises:
        DataError: The file is cut off or no ``.npz``, or its arrays cannot be used.
        OSError: The file cannot be opened.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            members = {name: info for name, info in members.items() if name in _KNOWN}
            _check_sizes(members, path)
            arrays = {name: _read(archive, info, f"{path}: {name}") for name, info in members.items()}
            others = sorted(info.filename.removesuffix(".npy") for info in archive.infolist())
    # RuntimeError: encrypted; NotImplementedError: a compression that NumPy does not write.
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        size = path.stat().st_size
        raise DataError(f"{path}: is cut off or not a .npz file ({error}); it has {size:,} bytes") from None
    keys = _keys(arrays, others, path)
    return source_from_arrays(
        Arrays(*(arrays.get(key) for key in keys)),
        Arrays(*(f"{path}: {key}" for key in keys)),
        name=path.stem,
        location=str(path.resolve()),
    )


def _keys(arrays: dict[str, Any], others: list[str], path: Path) -> tuple[str, ...]:
    layouts = [keys for keys in _LAYOUTS if any(key in arrays for key in keys)]
    if len(layouts) != 1 or not all(key in arrays for key in layouts[0]):
        has = ", ".join(others[:10]) or "none"
        raise DataError(
            f"{path}: has the arrays {has}; it must have x and y, or x_train and y_train, "
            "and can have x_test and y_test"
        )
    return (*layouts[0], *_TEST)


def _check_sizes(members: dict[str, zipfile.ZipInfo], path: Path) -> None:
    total = sum(info.file_size for info in members.values())
    if total > _MOST_BYTES:
        raise DataError(f"{path}: its arrays claim {total:,} bytes; at most {_MOST_BYTES:,} are read")
    for name, info in members.items():
        if info.file_size > _LARGE and info.file_size > _MOST_RATIO * info.compress_size:
            raise DataError(
                f"{path}: {name} claims {info.file_size:,} bytes packed into {info.compress_size:,}, "
                "which is not possible; take another copy"
            )


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str) -> NDArray[Any]:
    """Read one array after comparing what its header claims with what the archive holds."""
    with archive.open(info) as stream:
        try:
            version = npy.read_magic(stream)
            header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
            shape, fortran, dtype = header(stream)
        except (ValueError, KeyError) as error:
            raise DataError(f"{where} is not an array ({error})") from None
        if dtype.hasobject:
            raise DataError(f"{where} holds Python objects, which could run code; save it as an array of numbers")
        if dtype.kind not in "biuf":
            raise DataError(f"{where} is an array of {dtype}; it must be one of real numbers")
        wanted, held = math.prod(shape) * dtype.itemsize, info.file_size - stream.tell()
        if wanted != held or min(shape, default=0) < 0:
            raise DataError(f"{where} has the shape {shape}, of {wanted:,} bytes, but the file holds {held:,}")
        content = stream.read(wanted)
        if len(content) != wanted:
            raise DataError(f"{where} is cut off: {len(content):,} of {wanted:,} bytes are there")
    array = np.frombuffer(content, dtype)
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)
