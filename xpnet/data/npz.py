"""Arrays in a ``.npz`` file."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from xpnet.data.arrays import source_from_arrays
from xpnet.data.source import Source
from xpnet.errors import DataError

_KNOWN = ("x", "y", "x_train", "y_train", "x_test", "y_test")
_LARGEST = 64 * 2**30


def read_npz(path: Path) -> Source:
    """Read ``x, y`` or ``x_train, y_train, x_test, y_test``; other arrays in the file are left alone.

    Raises:
        DataError: The file is cut off or no ``.npz``, or its arrays cannot be used.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            arrays = {name: _read(archive, members[name], path, name) for name in _KNOWN if name in members}
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        size = path.stat().st_size
        raise DataError(f"{path}: is cut off or not a .npz file ({error}); it has {size:,} bytes") from None
    return source_from_arrays(arrays, name=path.stem, location=str(path.resolve()))


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, name: str) -> NDArray[Any]:
    """Read one array after comparing what its header claims with what the archive holds."""
    where = f"{path}: {name}"
    with archive.open(info) as stream:
        try:
            version = npy.read_magic(stream)
            header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
            shape, fortran, dtype = header(stream)
        except (ValueError, KeyError) as error:
            raise DataError(f"{where} is not an array ({error})") from None
        if dtype.hasobject:
            raise DataError(f"{where} holds Python objects, which could run code; save it as an array of numbers")
        wanted, held = math.prod(shape) * dtype.itemsize, info.file_size - stream.tell()
        if wanted != held or wanted > _LARGEST:
            raise DataError(f"{where} claims {wanted:,} bytes for its shape {shape} and the file holds {held:,}")
        content = stream.read(wanted)
        if len(content) != wanted:
            raise DataError(f"{where} is cut off: {len(content):,} of {wanted:,} bytes are there")
    array = np.frombuffer(content, dtype)
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)
