"""NumPy files: ``.npz``, and pairs of ``.npy`` files; large features in ``.npy`` files stay on the disk."""

from __future__ import annotations

import contextlib
import functools
import io
import math
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from numpy.lib import format as npy
from numpy.typing import NDArray

from xpnet.config.definitions import DataConfig
from xpnet.data.arrays import Arrays, DatasetMetadata, SplitPolicy, raw_from_arrays
from xpnet.data.dataset import RawDataset
from xpnet.data.feature_table import CHUNK_BYTES, ChunkedArray, Table, read_chunks, read_values, table_of
from xpnet.data.readers.compressed import check_claims, is_damage, open_member, open_zip
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


def read_npz(path: Path, config: DataConfig) -> RawDataset:
    """Read ``x, y`` or ``x_train, y_train``, and ``x_test, y_test`` if they exist; ignore other arrays."""
    arrays, names = npz_arrays(path, _KNOWN)
    layouts = [keys for keys in _LAYOUTS if any(key in arrays for key in keys)]
    if len(layouts) != 1 or not all(key in arrays for key in layouts[0]):
        raise DataError(
            f"{path}: has the arrays {', '.join(names[:10]) or 'none'}; it must have x and y, or x_train and y_train, "
            "and can have x_test and y_test"
        )
    keys = (*layouts[0], *_TEST)
    x, y, x_test, y_test = (arrays.get(key) for key in keys)
    labels, labels_test = (None if array is None else array.read_all(str(path)) for array in (y, y_test))
    return raw_from_arrays(
        Arrays(x, labels, x_test, labels_test),
        Arrays(*(f"{path}: {key}" for key in keys)),
        DatasetMetadata(path.stem, str(path.resolve()), about={"what": ".npz file"}),
        SplitPolicy.of(config),
    )


def npz_arrays(path: Path, names: tuple[str, ...] | None = None) -> tuple[dict[str, ChunkedArray], list[str]]:
    """Return arrays of a ``.npz`` file, whose values are read later, and the names of all arrays in the file.

    Args:
        path: The file.
        names: The arrays to return; None for all.
    """

    @contextlib.contextmanager
    def open_again(info: zipfile.ZipInfo) -> Iterator[BinaryIO]:
        with open_zip(path) as archive, open_member(archive, info) as stream:
            yield stream

    with open_zip(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        wanted = {name: info for name, info in members.items() if names is None or name in names}
        check_claims(wanted, path)
        arrays = {}
        for name, info in wanted.items():
            with open_member(archive, info) as stream:
                array, start = _read_header(stream, info.file_size, f"{path}: {name}")
            arrays[name] = _read_later(array, functools.partial(open_again, info), start, f"{path}: {name}")
    return arrays, sorted(members)


def npy_array(path: Path) -> tuple[ChunkedArray, int]:
    """Return the array of a ``.npy`` file, whose values are read later, and where they begin in the file."""
    with open_regular(path, links=True) as file:
        array, start = _read_header(file, path.stat().st_size, str(path))
    return _read_later(array, lambda: open_regular(path, links=True), start, str(path)), start


def _read_later(
    array: ChunkedArray, open_stream: Callable[[], AbstractContextManager[BinaryIO]], start: int, name: str
) -> ChunkedArray:
    """Return an array that opens its stream, and reads its values from `start` on, when it is read."""

    def read() -> Iterator[NDArray[Any]]:
        with open_stream() as stream:
            stream.read(start)
            yield from _read_chunks(stream, array, name)

    return replace(array, read=read)


def _read_header(stream: BinaryIO, file_size: int, name: str) -> tuple[ChunkedArray, int]:
    """Return an array without its values, and where they begin; its claimed size is compared with the file's."""
    try:
        # Read no more than this, whatever length the header claims.
        head = io.BytesIO(stream.read(_MOST_HEADER + 12))
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[npy.read_magic(head)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about headers written by Python 2
            shape, fortran, dtype = read(head)
    except Exception as error:  # a header is parsed as Python, so many kinds of errors are possible
        if is_damage(error) or isinstance(error, (zipfile.BadZipFile, OSError)):
            raise
        reason = printable((str(error).splitlines() or [type(error).__name__])[0])
        raise DataError(f"{name} is not an array ({reason})") from None
    if dtype.hasobject:
        raise DataError(f"{name} holds Python objects, which could run code; save it as an array of numbers")
    if dtype.kind not in "biuf":
        raise DataError(f"{name} is an array of {dtype}; it must be one of real numbers")
    claimed, held = math.prod(shape) * dtype.itemsize, file_size - head.tell()
    if claimed != held or min(shape, default=0) < 0:
        raise DataError(f"{name} has the shape {shape}, of {claimed:,} bytes, but the file holds {held:,}")
    return ChunkedArray(shape, dtype, lambda: (), bool(fortran) and len(shape) > 1), head.tell()


def _read_chunks(stream: BinaryIO, array: ChunkedArray, name: str) -> Iterator[NDArray[Any]]:
    """Yield the values of a stream in the form that :class:`~xpnet.data.feature_table.ChunkedArray` describes."""
    if not array.fortran:
        yield from read_chunks(stream, array.shape, array.dtype, name)
        return
    rows, columns = array.shape[0], math.prod(array.shape[1:])
    most = max(1, CHUNK_BYTES // array.dtype.itemsize)
    # As many complete columns as fit into a chunk, or else several chunks for each column.
    total, size, times = (rows * columns, most // rows * rows, 1) if most >= rows else (rows, most, columns)
    for _ in range(times):
        for start in range(0, total, size):
            yield read_values(stream, min(size, total - start), array.dtype, name)


def read_npy(path: Path, config: DataConfig) -> RawDataset:
    """Read features from a ``.npy`` file and labels from the one beside it.

    ``x.npy`` goes with ``y.npy`` and ``x_train.npy`` with ``y_train.npy``, and both with ``x_test.npy`` and
    ``y_test.npy``, if they exist and no `test_fraction` is given; a `target` names the file of the labels.
    """
    labels = _labels_of(path, config.target)
    tests = [path.with_name(f"{name}.npy") for name in _TEST]
    if config.target is not None or config.test_fraction is not None or not any(map(Path.is_file, tests)):
        tests = []
    for file in (labels, *tests):
        if not file.is_file():
            raise DataError(f"data = {path}: needs its labels in {file}, which is not there; --target names their file")
    files = (path, labels, *tests)
    return raw_from_arrays(
        Arrays(*(npy_array(file)[0].read_all(str(file)) if i % 2 else _features(file) for i, file in enumerate(files))),
        Arrays(*map(str, files)),
        DatasetMetadata(path.stem, str(path.resolve()), about={"what": ".npy files"}),
        SplitPolicy.of(config),
    )


def npy_in(folder: Path) -> Path | None:
    """Return the features in a folder with a pair of ``.npy`` files, or None."""
    for x, y in _LAYOUTS:
        if (folder / f"{x}.npy").is_file() and (folder / f"{y}.npy").is_file():
            return folder / f"{x}.npy"
    return None


def _labels_of(path: Path, target: str | None) -> Path:
    """Return the file of the labels that go with features."""
    if target is not None:
        return Path(target).expanduser()
    stem = path.stem
    if stem in ("x", "x_train", "X", "X_train"):
        return path.with_name(f"{'y' if stem[0] == 'x' else 'Y'}{stem[1:]}.npy")
    for x, y in (("features", "labels"), ("images", "labels"), ("_x", "_y"), ("_X", "_y")):
        if stem.endswith(x):
            return path.with_name(f"{stem.removesuffix(x)}{y}.npy")
    return path.with_name(f"{stem}_labels.npy")


def _features(path: Path) -> Table:
    """Return the features of a file, to be read into memory or, where they are large, left on the disk."""
    array, start = npy_array(path)
    table = table_of(array, str(path))
    # Channels that come last, and rows that are not contiguous, must be rearranged, which is done in memory.
    as_rows = not array.fortran and (len(array.shape) != 4 or array.shape[-1] not in (1, 3))
    if array.nbytes < MAPPED_FROM or not as_rows:
        return table
    return replace(table, disk=rows_in(path, start, (table.rows, table.width), array.dtype))
