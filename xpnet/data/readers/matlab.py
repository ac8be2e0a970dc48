"""MATLAB files (level 5): arrays of numbers, text, and cells of these; nothing else is read.

SciPy's reader trusts the headers, builds objects and functions, and makes three copies of numbers.  Here every element
is checked against the bytes of the file, compressed elements are unpacked up to a limit, and numbers are not copied.
"""

from __future__ import annotations

import math
import zlib
from typing import Any, Literal, NamedTuple

import numpy as np

from xpnet.data.readers.safe_pickle import printable
from xpnet.errors import DataError

MAGIC = b"MATLAB 5.0 MAT-file"
_HDF5 = b"\x89HDF"

# Types of elements.
_MATRIX, _COMPRESSED = 14, 15
_DTYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_ENCODINGS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_BYTES = {kind: np.dtype(dtype).itemsize for kind, dtype in _DTYPES.items()} | {16: 1, 17: 2, 18: 4}
# Classes of arrays.
_CELL, _CHAR, _NUMBERS = 1, 4, range(6, 16)
_REFUSED = {2: "a structure", 3: "an object", 5: "a sparse matrix", 16: "a function", 17: "an opaque object"}
_MOST_BYTES = 160 * 2**20  # CIFAR-100's training file has 154 million bytes of images and 5 of names
_MOST_ELEMENTS = 2000
_DEPTH = 3


class _Element(NamedTuple):
    kind: int
    data: memoryview
    end: int


def read_matlab(content: bytes, path: str, names: tuple[str, ...]) -> dict[str, Any]:
    """Return variables of a MATLAB file: arrays of numbers; cells of texts, and texts, become lists of texts.

    Args:
        content: The complete file.
        path: Name of the file in messages.
        names: The variables that are read.
    """
    try:
        values, others = _Reader(content).variables(names)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    for name in names:
        if name not in values:
            known = ", ".join(map(printable, [*values, *others][:10])) or "none"
            raise DataError(f"{path}: has no variable {name}; its variables are {known}")
    return values


class _Reader:
    """Reads the elements of one file; every problem raises a ValueError with the reason."""

    def __init__(self, content: bytes) -> None:
        if content[:4] == _HDF5 or content[124:126] in (b"\x00\x02", b"\x02\x00"):
            raise ValueError("is a MATLAB file of version 7.3; save it with -v7")
        if content[: len(MAGIC)] != MAGIC or content[126:128] not in (b"IM", b"MI"):
            raise ValueError("is not a MATLAB file of level 5; save it with -v7")
        self._content = memoryview(content)
        self._order: Literal["little", "big"] = "little" if content[126:128] == b"IM" else "big"
        self._elements = self._unpacked = 0

    def variables(self, wanted: tuple[str, ...]) -> tuple[dict[str, Any], list[str]]:
        """Return the values of variables, and the names of the others."""
        values: dict[str, Any] = {}
        others, at = [], 128
        while at < len(self._content):
            kind, data, at = self._element(self._content, at, padded=False)
            if kind == _COMPRESSED:
                kind, data, _ = self._element(memoryview(self._unpack(data)), 0, padded=False)
            if kind != _MATRIX:
                raise ValueError(f"holds an element of type {kind} where an array should be; take another copy")
            name = bytes(self._header(data)[2].data).decode("latin-1")
            if name in wanted:
                values[name] = self._array(data, 0)
            else:
                others.append(name)
        return values, others

    def _number(self, view: memoryview, at: int) -> int:
        return int.from_bytes(view[at : at + 4], self._order)

    def _element(self, view: memoryview, at: int, *, padded: bool = True) -> _Element:
        """Return the type and the content of the element at `at`, and where the next one begins."""
        self._elements += 1
        if self._elements > _MOST_ELEMENTS:
            raise ValueError(f"has more than {_MOST_ELEMENTS:,} elements; CIFAR-10's files have a few")
        if at + 8 > len(view):
            raise ValueError(f"is cut short at byte {at:,}; take another copy")
        kind, size, start = self._number(view, at), self._number(view, at + 4), at + 8
        end = start + size + (-size % 8 if padded else 0)
        if kind >> 16:  # four bytes or fewer, packed into the tag
            kind, size, start, end = kind & 0xFFFF, kind >> 16, at + 4, at + 8
            if size > 4:
                raise ValueError(f"has a small element of {size:,} bytes; take another copy")
        if start + size > len(view):
            raise ValueError(
                f"claims {size:,} bytes at byte {at:,}, where {len(view) - start:,} are; take another copy"
            )
        return _Element(kind, view[start : start + size], end)

    def _header(self, view: memoryview) -> tuple[_Element, _Element, _Element]:
        """Return an array's flags, shape and name."""
        flags = self._element(view, 0)
        shape = self._element(view, flags.end)
        return flags, shape, self._element(view, shape.end)

    def _unpack(self, data: memoryview) -> bytes:
        """Return the content of a compressed element, within the limit for the complete file."""
        left = _MOST_BYTES - self._unpacked
        try:
            content = zlib.decompressobj().decompress(data, left + 1)
        except zlib.error as error:
            raise ValueError(f"cannot be unpacked ({error}); take another copy") from None
        self._unpacked += len(content)
        if len(content) > left:
            raise ValueError(f"unpacks to more than {_MOST_BYTES:,} bytes; CIFAR-10's files have 31 million")
        return content

    def _array(self, view: memoryview, depth: int) -> Any:
        """Return an array of numbers, or a list of the texts in a cell or a text array."""
        flags, dims, name = self._header(view)
        if flags.kind != 6 or len(flags.data) != 8 or dims.kind != 5 or len(dims.data) % 4 or name.kind not in (1, 2):
            raise ValueError("has an array without a proper header; take another copy")
        word, title = self._number(flags.data, 0), printable(bytes(name.data).decode("latin-1"))
        kind, is_complex = word & 0xFF, bool(word & 0x0800)
        if kind not in (_CELL, _CHAR, *_NUMBERS):
            raise ValueError(
                f"{title} is {_REFUSED.get(kind, f'class {kind}')}; only arrays of numbers and text are read"
            )
        shape = tuple(self._number(dims.data, i) for i in range(0, len(dims.data), 4))
        if len(shape) > 8:
            raise ValueError(f"{title} has {len(shape)} dimensions; take another copy")
        count = math.prod(shape)
        if kind == _CELL:
            if depth >= _DEPTH or count * 8 > len(view):
                raise ValueError(f"{title} claims {count:,} cells, which the file does not hold")
            return self._cells(view, name.end, count, title, depth)
        if is_complex:
            raise ValueError(f"{title} is complex; only real numbers are read")
        values = self._element(view, name.end)
        # Numbers may be stored in a smaller type than that of the array.
        if (
            len(values.data) != count * _BYTES.get(values.kind, 0)
            or values.kind not in (_DTYPES, _ENCODINGS)[kind == _CHAR]
        ):
            raise ValueError(f"{title} has the shape {shape}, but the file holds {len(values.data):,} bytes of it")
        if kind == _CHAR:
            return self._rows_of_text(values, shape) if count else []
        dtype = np.dtype(_DTYPES[values.kind]).newbyteorder("<" if self._order == "little" else ">")
        return np.frombuffer(values.data, dtype).reshape(shape, order="F") if count else np.empty(0, dtype)

    def _cells(self, view: memoryview, at: int, count: int, title: str, depth: int) -> list[Any]:
        values: list[Any] = []
        for _ in range(count):
            kind, data, at = self._element(view, at)
            if kind != _MATRIX:
                raise ValueError(f"{title} holds a cell of type {kind}; take another copy")
            value = self._array(data, depth + 1) if len(data) else []
            values += value if isinstance(value, list) else [value]
        return values

    def _rows_of_text(self, values: _Element, shape: tuple[int, ...]) -> list[str]:
        encoding = _ENCODINGS[values.kind]
        if _BYTES[values.kind] > 1:
            encoding += "-le" if self._order == "little" else "-be"
        text = bytes(values.data).decode(encoding, "replace")
        return [text[row :: shape[0]] for row in range(min(shape[0], len(text)))]
