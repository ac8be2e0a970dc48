"""MATLAB files (level 5), checked before SciPy reads them.

SciPy's reader believes what headers claim and builds objects, structures and functions.  So every element is walked
through first: only numbers, text and cells of text pass, each no longer than the file holds, and what is
compressed is unpacked up to a limit.  Numbers are taken as they lie there; the rest is left to SciPy.
"""

from __future__ import annotations

import io
import math
import warnings
import zlib
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.data.readers.safe_pickle import printable
from xpnet.errors import DataError

MAGIC = b"MATLAB 5.0 MAT-file"
_HDF5 = b"\x89HDF"

_MATRIX, _COMPRESSED = 14, 15
_BYTES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8, 16: 1, 17: 2, 18: 4}
_DTYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CELL, _CHAR = 1, 4
_NUMBERS = range(6, 16)
_OTHERS = {2: "a structure", 3: "an object", 5: "a sparse matrix", 16: "a function", 17: "an opaque object"}
_MOST_BYTES = 160 * 2**20  # the images of CIFAR-100 have 154 million
_HEADER = 2048  # holds an array's flags, shape and name
_MOST_ELEMENTS = 2000
_DEPTH = 3


class _Element(NamedTuple):
    kind: int
    data: memoryview
    end: int


class _Unfit(Exception):  # noqa: N818 - it is caught here and told as a DataError
    """Why a file is not read."""


def read_matlab(content: bytes, where: str, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the arrays `names` of a MATLAB file.

    Args:
        content: The whole file.
        where: What to call it in messages.
        names: The variables that are read.

    Raises:
        DataError: The file is of another level, broken, holds objects, or lacks a variable.
    """
    try:
        has, found = _check(content, names)
    except _Unfit as error:
        raise DataError(f"{where}: {error}") from None
    for name in names:
        if name not in has:
            known = ", ".join(map(printable, has[:10])) or "none"
            raise DataError(f"{where}: has no variable {name}; its variables are {known}")
    others = [name for name in names if name not in found]
    if not others:
        return found
    from scipy.io import loadmat

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = loadmat(io.BytesIO(content), variable_names=others)
        return {name: values[name] for name in others} | found
    except Exception as error:  # SciPy raises whatever it stumbles over
        raise DataError(f"{where}: is not a whole MATLAB file ({type(error).__name__}); take another copy") from None


def _check(content: bytes, wanted: tuple[str, ...]) -> tuple[list[str], dict[str, NDArray[Any]]]:
    """Return the names of a file's variables, and those that are wanted and arrays of numbers: none is harmful.

    SciPy reads no more of the others than their names.
    """
    if content[:4] == _HDF5 or content[124:126] in (b"\x00\x02", b"\x02\x00"):
        raise _Unfit("is a MATLAB file of version 7.3; save it with -v7")
    if content[: len(MAGIC)] != MAGIC or content[126:128] not in (b"IM", b"MI"):
        raise _Unfit("is not a MATLAB file of level 5; save it with -v7")
    order: Literal["little", "big"] = "little" if content[126:128] == b"IM" else "big"
    reader = _Reader(order)
    names, at, view = [], 128, memoryview(content)
    while at < len(view):
        element = reader.element(view, at, padded=False)
        data = element.data
        kind = element.kind
        if kind == _COMPRESSED:
            head = memoryview(_unpacked(data, _HEADER))
            kind, name = reader.kind(head), reader.name(head[8:])
            if name in wanted:
                data = reader.element(memoryview(reader.unpacked(data)), 0, padded=False).data
        else:
            name = reader.name(data)
        if kind != _MATRIX:
            raise _Unfit(f"holds an element of type {kind} where an array should be; take another copy")
        if name in wanted:
            reader.array(data, 0)
        names.append(name)
        at = element.end
    return names, reader.numbers


def _unpacked(data: memoryview, most: int) -> bytes:
    """Return at most so many bytes of what a compressed element holds."""
    try:
        return zlib.decompressobj().decompress(data, most)
    except zlib.error as error:
        raise _Unfit(f"cannot be unpacked ({error}); take another copy") from None


class _Reader:
    """Walks through the elements of one file, and counts what it meets."""

    def __init__(self, order: Literal["little", "big"]) -> None:
        self._order = order
        self._elements, self._unpacked = 0, 0
        # Arrays of numbers are the bytes of the file: SciPy makes three copies of them.
        self.numbers: dict[str, NDArray[Any]] = {}

    def _number(self, view: memoryview, at: int) -> int:
        return int.from_bytes(view[at : at + 4], self._order)

    def kind(self, view: memoryview) -> int:
        """Return the type of the element that begins here."""
        return self._number(view, 0)

    def name(self, view: memoryview) -> str:
        """Return the name of an array."""
        flags = self.element(view, 0)
        dims = self.element(view, flags.end)
        return bytes(self.element(view, dims.end).data).decode("latin-1")

    def element(self, view: memoryview, at: int, *, padded: bool = True) -> _Element:
        """Return the element at a place: its type, its content, and where the next one begins."""
        self._elements += 1
        if self._elements > _MOST_ELEMENTS:
            raise _Unfit(f"has more than {_MOST_ELEMENTS:,} elements; CIFAR-10's files have a few")
        if at + 8 > len(view):
            raise _Unfit(f"is cut short at byte {at:,}; take another copy")
        kind, size, start = self._number(view, at), self._number(view, at + 4), at + 8
        if kind >> 16:  # four bytes or fewer, packed into the tag
            kind, size, start = kind & 0xFFFF, kind >> 16, at + 4
            end = at + 8
            if size > 4:
                raise _Unfit(f"has a small element of {size:,} bytes; take another copy")
        else:
            end = start + size + (-size % 8 if padded else 0)
        if start + size > len(view):
            raise _Unfit(f"claims {size:,} bytes at byte {at:,}, where {len(view) - start:,} are; take another copy")
        return _Element(kind, view[start : start + size], end)

    def unpacked(self, data: memoryview) -> bytes:
        """Return what a compressed element holds, up to the limit of the whole file."""
        most = _MOST_BYTES - self._unpacked
        content = _unpacked(data, most + 1)
        self._unpacked += len(content)
        if len(content) > most:
            raise _Unfit(f"unpacks to more than {_MOST_BYTES:,} bytes; CIFAR-10's files have 31 million")
        return content

    def array(self, view: memoryview, depth: int) -> str:
        """Check an array, and return its name."""
        flags = self.element(view, 0)
        dims = self.element(view, flags.end)
        name = self.element(view, dims.end)
        if flags.kind != 6 or len(flags.data) != 8 or dims.kind != 5 or len(dims.data) % 4 or name.kind not in (1, 2):
            raise _Unfit("has an array without a proper header; take another copy")
        word = self._number(flags.data, 0)
        kind, is_complex = word & 0xFF, bool(word & 0x0800)
        title = bytes(name.data).decode("latin-1")
        if kind in _OTHERS or kind not in (_CELL, _CHAR, *_NUMBERS):
            what = _OTHERS.get(kind, f"class {kind}")
            raise _Unfit(f"{printable(title)} is {what}; only arrays of numbers and text are read")
        shape = [self._number(dims.data, i) for i in range(0, len(dims.data), 4)]
        if len(shape) > 8:
            raise _Unfit(f"{printable(title)} has {len(shape)} dimensions; take another copy")
        count, at = math.prod(shape), name.end
        if kind == _CELL:
            if depth >= _DEPTH or count * 8 > len(view):
                raise _Unfit(f"{printable(title)} claims {count:,} cells, which the file does not hold")
            for _ in range(count):
                cell = self.element(view, at)
                if cell.kind != _MATRIX:
                    raise _Unfit(f"{printable(title)} holds a cell of type {cell.kind}; take another copy")
                if len(cell.data):
                    self.array(cell.data, depth + 1)
                at = cell.end
            return title
        if is_complex:
            raise _Unfit(f"{printable(title)} is complex; only real numbers are read")
        part = self.element(view, at)
        # Numbers may be stored as a smaller type than their own.
        if part.kind not in _BYTES or len(part.data) != count * _BYTES[part.kind]:
            held = len(part.data)
            raise _Unfit(f"{printable(title)} has the shape {tuple(shape)}, but the file holds {held:,} bytes of it")
        if count and kind in _NUMBERS and part.kind in _DTYPES and depth == 0:
            dtype = np.dtype(_DTYPES[part.kind]).newbyteorder("<" if self._order == "little" else ">")
            self.numbers[title] = np.frombuffer(part.data, dtype).reshape(shape, order="F")
        return title
