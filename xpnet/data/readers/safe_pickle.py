"""Pickles of CIFAR-10, read without running code.

A pickle is a program for a small stack machine.  Python's own machine imports and calls what the program names, and
allocates any length that it claims.  The machine here knows only the instructions for a dictionary of strings, numbers,
lists and uint8 arrays (pickle protocols 2 to 4), calls nothing, and allocates no more than the file holds.  Arrays come
out as :class:`PickledArray`, the file's claim, which :meth:`PickledArray.to_numpy` compares with the bytes.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.errors import DataError

# A published batch of CIFAR-10 takes 40,000 instructions, one of CIFAR-100 250,000; each instruction may leave an
# object of some 50 bytes.  A dictionary or a list takes some 250 bytes; the published files have a dozen of them.
_MOST_INSTRUCTIONS, _MOST_CONTAINERS = 500_000, 10_000
_CONTAINERS = frozenset((b"]", b"}", b"(", b"t", b"\x85", b"\x86", b"\x87", b"R"))
_LONG = 2**20


class CutShortError(DataError):
    """A pickle ends in the middle of a value."""


@dataclass
class PickledArray:
    """A uint8 array as a pickle claims it: its shape, its order in memory, and its bytes."""

    shape: tuple[int, ...] | None = None
    fortran: bool = False
    raw: bytes | memoryview = b""

    def to_numpy(self) -> NDArray[np.uint8]:
        """Return the array, read-only, over the bytes of the pickle.

        Raises:
            ValueError: The shape was never set, or is not that of the bytes.
        """
        if self.shape is None or math.prod(self.shape) != len(self.raw):
            raise ValueError(f"an array said to be {self.shape} has {len(self.raw):,} bytes")
        return np.frombuffer(self.raw, np.uint8).reshape(self.shape, order="F" if self.fortran else "C")


class _Known(Enum):
    """The globals that are understood, and a dtype; none of them is imported or called."""

    RECONSTRUCT = "_reconstruct"
    NDARRAY = "ndarray"
    DTYPE = "dtype"
    ENCODE = "encode"
    UINT8 = "u1"  # the result of numpy.dtype("u1"), the only dtype that is understood


_GLOBALS = {
    ("numpy.core.multiarray", "_reconstruct"): _Known.RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _Known.RECONSTRUCT,
    ("numpy", "ndarray"): _Known.NDARRAY,
    ("numpy", "dtype"): _Known.DTYPE,
    # How Python 3 writes bytes in protocol 2: as text that is to be encoded as latin1.
    ("_codecs", "encode"): _Known.ENCODE,
}


class _LongText:
    """A long text, as its bytes in the file: one character beyond latin1 would make a str four times as large."""

    def __init__(self, raw: memoryview) -> None:
        self.raw = raw

    def encode(self, encoding: str) -> memoryview:
        """Return the text in another encoding."""
        decoder, out = codecs.getincrementaldecoder("utf-8")(), bytearray()
        for start in range(0, len(self.raw), _LONG):
            out += decoder.decode(self.raw[start : start + _LONG]).encode(encoding)
        decoder.decode(b"", final=True)
        return memoryview(out)

    def __len__(self) -> int:
        return len(self.raw)


def read_pickle(data: bytes, path: str) -> Any:
    """Return the value that a pickle describes.

    It is None, bool, int, bytes, str, tuple, list, dict with str keys, or PickledArray, nested.  Strings of Python 2
    are bytes, but keys are always str.

    Args:
        data: The complete pickle.
        path: Name of the file in messages.

    Raises:
        CutShortError: The pickle ends early.
        DataError: The pickle names an unknown global, holds arrays other than uint8, or is not of the expected form.
    """
    machine = _Machine(data, path)
    try:
        return machine.run()
    except (IndexError, KeyError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: is not a pickle of CIFAR-10 (broken at byte {machine.at:,})") from None


def printable(text: str) -> str:
    """Return the beginning of a text from a file, safe to print on a terminal.

    Raises:
        TypeError: `text` is not a text.
    """
    if not isinstance(text, str):
        raise TypeError
    start = text[:60]
    return start if start.isprintable() else start.encode("unicode_escape").decode()


class _Machine:
    """The stack machine.  Instructions are named as in the standard library's pickletools."""

    def __init__(self, data: bytes, path: str) -> None:
        self.data, self.path, self.at = data, path, 0
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # stacks that MARK has put aside
        self.memo: dict[int, Any] = {}
        self.keys: dict[bytes, str] = {}
        self.containers = self.encoded = 0

    def run(self) -> Any:
        for _ in range(_MOST_INSTRUCTIONS):
            code = self.take(1)
            if code == b".":  # STOP
                return self.stack.pop()
            handler = _HANDLERS.get(code)
            if handler is None:
                raise self.refusal(f"holds the pickle instruction {code!r} at byte {self.at - 1:,}")
            if code in _CONTAINERS:
                self.containers += 1
                if self.containers > _MOST_CONTAINERS:
                    raise self.refusal(f"has more than {_MOST_CONTAINERS:,} lists, tuples and dictionaries")
            handler(self)
        raise self.refusal(f"has more than {_MOST_INSTRUCTIONS:,} pickle instructions")

    def take(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self.data):
            raise CutShortError(
                f"{self.path}: is cut short: it has {len(self.data):,} bytes and should go on to at least {end:,}"
            )
        taken, self.at = self.data[self.at : end], end
        return taken

    def take_long(self, count: int) -> bytes | memoryview:
        """Return the next bytes; many bytes are not copied, since a complete data set may be one string."""
        if count < _LONG or self.at + count > len(self.data):
            return self.take(count)
        self.at += count
        return memoryview(self.data)[self.at - count : self.at]

    def text(self, count: int) -> str | _LongText:
        raw = self.take_long(count)
        return _LongText(raw) if isinstance(raw, memoryview) else raw.decode()

    def number(self, size: int, *, signed: bool = False) -> int:
        return int.from_bytes(self.take(size), "little", signed=signed)

    def line(self) -> str:
        end = self.data.find(b"\n", self.at)
        text = self.take((end if end >= 0 else len(self.data)) + 1 - self.at)
        return text[:-1].decode("latin-1")

    def refusal(self, reason: str) -> DataError:
        return DataError(f"{self.path}: {reason}, which the CIFAR-10 files do not; it was not read further")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def tuple_of(self, count: int) -> None:
        if len(self.stack) < count:
            raise IndexError
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise TypeError
        self.stack[-1].extend(items)

    def memorise(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise TypeError
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, (str, bytes)):
                raise self.refusal(f"has a key of type {type(key).__name__}")
            # One key object may be in any number of dictionaries; it is decoded once.
            if isinstance(key, bytes):
                if key not in self.keys:
                    self.keys[key] = key.decode("latin-1")
                key = self.keys[key]
            target[key] = value

    def find_global(self, module: str, name: str) -> None:
        if (module, name) not in _GLOBALS:
            raise self.refusal(f"names the global {printable(module)}.{printable(name)}")
        self.push(_GLOBALS[module, name])

    def stack_global(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not (isinstance(module, str) and isinstance(name, str)):
            raise TypeError
        self.find_global(module, name)

    def reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if function is _Known.RECONSTRUCT and arguments[0] is _Known.NDARRAY:
            self.push(PickledArray())
        elif function is _Known.DTYPE:
            code = arguments[0].decode("latin-1") if isinstance(arguments[0], bytes) else arguments[0]
            if code not in ("u1", "|u1"):
                raise self.refusal(f"holds an array of dtype '{printable(code)}' instead of 'u1'")
            self.push(_Known.UINT8)
        elif function is _Known.ENCODE and arguments[1] in ("latin1", "latin-1"):
            # One text may be encoded many times; together they may not be larger than the file.
            self.encoded += len(arguments[0])
            if self.encoded > len(self.data):
                raise self.refusal("encodes more text than it holds")
            self.push(arguments[0].encode("latin-1"))
        else:
            raise TypeError

    def build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if target is _Known.UINT8:
            return  # the state is byte order and alignment, which do not matter for single bytes
        _, shape, dtype, fortran, raw = state
        # The product of a million lengths of a thousand digits would take hours.
        bounded = len(shape) <= 32 and all(type(n) is int and 0 <= n < 2**63 for n in shape)
        held = isinstance(raw, (bytes, memoryview))
        if not (isinstance(target, PickledArray) and dtype is _Known.UINT8 and held and bounded):
            raise TypeError
        target.shape, target.fortran, target.raw = tuple(shape), bool(fortran), raw


_HANDLERS: dict[bytes, Callable[[_Machine], Any]] = {
    b"\x80": lambda m: m.take(1),  # PROTO
    b"\x95": lambda m: m.take(8),  # FRAME
    b"(": _Machine.mark,
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"K": lambda m: m.push(m.number(1)),  # BININT1
    b"M": lambda m: m.push(m.number(2)),  # BININT2
    b"J": lambda m: m.push(m.number(4, signed=True)),  # BININT
    b"\x8a": lambda m: m.push(m.number(m.number(1), signed=True)),  # LONG1
    b"U": lambda m: m.push(m.take(m.number(1))),  # SHORT_BINSTRING
    b"T": lambda m: m.push(m.take_long(m.number(4))),  # BINSTRING
    b"C": lambda m: m.push(m.take(m.number(1))),  # SHORT_BINBYTES
    b"B": lambda m: m.push(m.take_long(m.number(4))),  # BINBYTES
    b"\x8c": lambda m: m.push(m.take(m.number(1)).decode()),  # SHORT_BINUNICODE
    b"X": lambda m: m.push(m.text(m.number(4))),  # BINUNICODE
    b"]": lambda m: m.push([]),
    b"}": lambda m: m.push({}),
    b")": lambda m: m.push(()),
    b"\x85": lambda m: m.tuple_of(1),
    b"\x86": lambda m: m.tuple_of(2),
    b"\x87": lambda m: m.tuple_of(3),
    b"t": lambda m: m.push(tuple(m.pop_mark())),
    b"a": lambda m: m.extend([m.stack.pop()]),  # APPEND
    b"e": lambda m: m.extend(m.pop_mark()),  # APPENDS
    b"s": lambda m: m.set_items([m.stack.pop(-2), m.stack.pop()]),  # SETITEM
    b"u": lambda m: m.set_items(m.pop_mark()),  # SETITEMS
    b"q": lambda m: m.memorise(m.number(1)),  # BINPUT
    b"r": lambda m: m.memorise(m.number(4)),  # LONG_BINPUT
    b"\x94": lambda m: m.memorise(len(m.memo)),  # MEMOIZE
    b"h": lambda m: m.push(m.memo[m.number(1)]),  # BINGET
    b"j": lambda m: m.push(m.memo[m.number(4)]),  # LONG_BINGET
    b"c": lambda m: m.find_global(m.line(), m.line()),  # GLOBAL
    b"\x93": _Machine.stack_global,
    b"R": _Machine.reduce,
    b"b": _Machine.build,
}
