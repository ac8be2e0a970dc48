"""Arrays of NumPy: ``.npz`` files, and pairs of ``.npy`` files, of which large ones stay on the disk."""

from __future__ import annotations

import io
import math
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from xpnet.config.definitions import DataConfig
from xpnet.data.arrays import About, Arrays, SplitPolicy, source_from_arrays
from xpnet.data.dataset import RawDataset
from xpnet.data.feature_table import CHUNK_BYTES, Pieces, Table, rows_at_a_time, table_of, whole
from xpnet.data.readers.packed import check_claims, is_damage, open_member, opened_zip
from xpnet.data.readers.safe_pickle import printable
from xpnet.errors import DataError
from xpnet.utils.file_system import open_regular
from xpnet.utils.lazy_arrays import rows_in

_LAYOUTS = (("x_train", "y_train"), ("x", "y"))
_TEST = ("x_test", "y_test")
_KNOWN = (*_LAYOUTS[0], *_LAYOUTS[1], *_TEST)
_MOST_HEADER = 10_000
# Features of more bytes than this stay on the disk: they are mapped.
MAPPED_FROM = 256 * 2**20


class _Header(NamedTuple):
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    size: int


def read_npz(path: Path, config: DataConfig) -> RawDataset:
    """Read ``x, y`` or ``x_train, y_train``, and ``x_test, y_test`` if there are; other arrays are left alone.

    Raises:
        DataError: The file is cut off or no ``.npz``, or its arrays cannot be used.
        OSError: The file cannot be opened.
    """
    arrays, others = npz_arrays(path, _KNOWN)
    keys = _keys(arrays, others, path)
    x, y, x_test, y_test = (arrays.get(key) for key in keys)
    labels, labels_test = (None if part is None else whole(part, str(path)) for part in (y, y_test))
    return source_from_arrays(
        Arrays(x, labels, x_test, labels_test),
        Arrays(*(f"{path}: {key}" for key in keys)),
        About(path.stem, str(path.resolve()), about={"what": ".npz file"}),
        division_of(config),
    )


def division_of(config: DataConfig) -> SplitPolicy:
    """Return how the settings divide the samples."""
    return SplitPolicy(config.data_seed or 0, config.test_fraction)


def npz_arrays(path: Path, names: tuple[str, ...] | None = None) -> tuple[dict[str, Pieces], list[str]]:
    """Return arrays of a ``.npz`` file that are read later, and the names of all that it has.

    Args:
        path: The file.
        names: The arrays that are wanted; None for all.

    Raises:
        DataError: The file is cut off or no ``.npz``, or an array claims what it does not hold.
    """
    with opened_zip(path) as archive:
        others = sorted(info.filename.removesuffix(".npy") for info in archive.infolist())
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        members = {name: info for name, info in members.items() if names is None or name in names}
        check_claims(members, path)
        return {name: _member(path, archive, info, f"{path}: {name}") for name, info in members.items()}, others


def _keys(arrays: dict[str, Pieces], others: list[str], path: Path) -> tuple[str, ...]:
    layouts = [keys for keys in _LAYOUTS if any(key in arrays for key in keys)]
    if len(layouts) != 1 or not all(key in arrays for key in layouts[0]):
        has = ", ".join(others[:10]) or "none"
        raise DataError(
            f"{path}: has the arrays {has}; it must have x and y, or x_train and y_train, "
            "and can have x_test and y_test"
        )
    return (*layouts[0], *_TEST)


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str) -> Pieces:
    with open_member(archive, info) as stream:
        header = _header(stream, info.file_size, where)

    def read() -> Iterator[NDArray[Any]]:
        with opened_zip(path) as archive, open_member(archive, info) as stream:
            stream.read(header.size)
            yield from _read(stream, header, where)

    return Pieces(header.shape, header.dtype, read, header.fortran)


def _header(stream: BinaryIO, file_size: int, where: str) -> _Header:
    """Read an array's header, and compare what it claims with what the file holds."""
    try:
        version = npy.read_magic(stream)
        read, field = {(1, 0): (npy.read_array_header_1_0, 2), (2, 0): (npy.read_array_header_2_0, 4)}[version]
        length = stream.read(field)
        # NumPy reads a header of any length before it says that it is too long.
        if int.from_bytes(length, "little") > _MOST_HEADER:
            raise ValueError(f"its header claims {int.from_bytes(length, 'little'):,} bytes")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that Python 2 has written
            shape, fortran, dtype = read(io.BytesIO(length + stream.read(int.from_bytes(length, "little"))))
    except Exception as error:  # a header is parsed as Python, and fails in as many ways
        if is_damage(error) or isinstance(error, (zipfile.BadZipFile, OSError)):
            raise
        reason = printable((str(error).splitlines() or [type(error).__name__])[0])
        raise DataError(f"{where} is not an array ({reason})") from None
    if dtype.hasobject:
        raise DataError(f"{where} holds Python objects, which could run code; save it as an array of numbers")
    if dtype.kind not in "biuf":
        raise DataError(f"{where} is an array of {dtype}; it must be one of real numbers")
    wanted, held = math.prod(shape) * dtype.itemsize, file_size - stream.tell()
    if wanted != held or min(shape, default=0) < 0:
        raise DataError(f"{where} has the shape {shape}, of {wanted:,} bytes, but the file holds {held:,}")
    return _Header(shape, bool(fortran) and len(shape) > 1, dtype, stream.tell())


def _read(stream: BinaryIO, header: _Header, where: str) -> Iterator[NDArray[Any]]:
    """Yield an array in pieces, as :class:`~xpnet.data.feature_table.Pieces` says."""
    shape, fortran, dtype, _ = header
    if fortran:
        rows, columns = shape[0], math.prod(shape[1:])
        some = max(1, CHUNK_BYTES // dtype.itemsize)
        for size in _cut(rows * columns, some // rows * rows) if some >= rows else columns * [*_cut(rows, some)]:
            yield np.frombuffer(_exactly(stream, size * dtype.itemsize, where), dtype)
        return
    rows = rows_at_a_time(shape, dtype.itemsize)
    for start in range(0, shape[0] if shape else 1, rows):
        part = (min(rows, shape[0] - start), *shape[1:]) if shape else ()
        content = _exactly(stream, math.prod(part) * dtype.itemsize, where)
        yield np.frombuffer(content, dtype).reshape(part)


def _cut(size: int, most: int) -> Iterator[int]:
    """Return the sizes of pieces of at most `most`."""
    return (min(most, size - start) for start in range(0, size, most))


def _exactly(stream: BinaryIO, size: int, where: str) -> bytes:
    content = stream.read(size)
    if len(content) != size:
        raise DataError(f"{where} is cut off: {len(content):,} of {size:,} bytes are there")
    return content


def read_npy(path: Path, config: DataConfig) -> RawDataset:
    """Read features from a ``.npy`` file and labels from the one beside it.

    ``x.npy`` goes with ``y.npy`` and ``x_train.npy`` with ``y_train.npy``, and both with ``x_test.npy`` and
    ``y_test.npy``, if they are there and no `test_fraction` is asked for; a `target` names the file of the labels.

    Raises:
        DataError: A file is missing or broken.
        OSError: A file cannot be opened.
    """
    labels = _partner(path, config.target)
    tests = [path.with_name(f"{name}.npy") for name in _TEST]
    if config.target is not None or config.test_fraction is not None or not any(map(Path.is_file, tests)):
        tests = []
    for file in (labels, *tests):
        if not file.is_file():
            raise DataError(f"data = {path}: needs its labels in {file}, which is not there; --target names their file")
    files = (path, labels, *tests)
    values = [_features(file) if number % 2 == 0 else _whole(file) for number, file in enumerate(files)]
    return source_from_arrays(
        Arrays(*values),
        Arrays(*map(str, files)),
        About(path.stem, str(path.resolve()), about={"what": ".npy files"}),
        division_of(config),
    )


def npy_in(folder: Path) -> Path | None:
    """Return the features in a folder with a pair of ``.npy`` files, or None."""
    for x, y in _LAYOUTS:
        if (folder / f"{x}.npy").is_file() and (folder / f"{y}.npy").is_file():
            return folder / f"{x}.npy"
    return None


def _partner(path: Path, target: str | None) -> Path:
    if target is not None:
        return Path(target).expanduser()
    stem = path.stem
    if stem in ("x", "x_train", "X", "X_train"):
        return path.with_name(f"{'y' if stem[0] == 'x' else 'Y'}{stem[1:]}.npy")
    for mine, partner in (("features", "labels"), ("images", "labels"), ("_x", "_y"), ("_X", "_y")):
        if stem.endswith(mine):
            return path.with_name(f"{stem.removesuffix(mine)}{partner}.npy")
    return path.with_name(f"{stem}_labels.npy")


def npy_pieces(path: Path) -> tuple[Pieces, _Header]:
    """Return the array of a ``.npy`` file that is read later, and its header.

    Raises:
        DataError: It claims what it does not hold, or holds objects.
    """
    where = str(path)
    with open_regular(path, links=True) as file:
        header = _header(file, path.stat().st_size, where)

    def read() -> Iterator[NDArray[Any]]:
        with open_regular(path, links=True) as file:
            file.seek(header.size)
            yield from _read(file, header, where)

    return Pieces(header.shape, header.dtype, read, header.fortran), header


def _whole(path: Path) -> NDArray[Any]:
    return whole(npy_pieces(path)[0], str(path))


def _features(path: Path) -> Table:
    """Return the features of a file, to be read into memory or, where they are large, left on the disk."""
    pieces, header = npy_pieces(path)
    table = table_of(pieces, str(path))
    # Channels that come last, and rows that lie apart, must be rearranged, which is done in memory.
    as_rows = not header.fortran and (len(header.shape) != 4 or header.shape[-1] not in (1, 3))
    if math.prod(header.shape) * header.dtype.itemsize < MAPPED_FROM or not as_rows:
        return table
    shape = (table.rows, table.width)
    disk = rows_in(path, header.size, shape, header.dtype)
    return Table(table.rows, table.width, table.dtype, table.chunks, table.image_shape, disk)
