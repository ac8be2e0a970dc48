"""Reading the pickles of CIFAR-10 without trusting them.

A pickle is a program.  This reader knows only the instructions and the globals that the published
files use (dictionaries, lists, strings, whole numbers, NumPy's array reconstruction), and it builds
nothing of NumPy's from them: the globals stand for small recorders, and an array is made from the
recorded bytes after its type and size have been checked.  Everything else is refused before it runs.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from typing import Any, ClassVar

import numpy as np

from xpnet.errors import DataError

_INSTRUCTIONS = {
    *("PROTO", "FRAME", "STOP", "MARK", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD", "NONE", "NEWTRUE", "NEWFALSE"),
    *("BININT", "BININT1", "BININT2", "LONG1", "SHORT_BINSTRING", "BINSTRING", "SHORT_BINBYTES", "BINBYTES"),
    *("SHORT_BINUNICODE", "BINUNICODE", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
    *("EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "SETITEM", "SETITEMS"),
    *("BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET", "MEMOIZE"),
}
_RECONSTRUCT = {("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")}


def read_pickle(content: bytes, where: str) -> Any:
    """Return what a pickle holds: dictionaries, lists, byte strings, whole numbers and uint8 arrays.

    Args:
        content: The file's bytes.
        where: The file's name, for messages.

    Raises:
        DataError: The pickle is cut off, holds an instruction or a global that CIFAR-10's files do not
            have, or describes an array that it does not hold.
    """
    try:
        return _plain(_Unpickler(_Whole(content, where), where).load())
    except DataError:
        raise
    except Exception as error:  # the stack machine fails in many ways on bytes that are no pickle
        raise DataError(
            f"{where}: is not a pickle as CIFAR-10's Python version has them ({type(error).__name__}: {error}); "
            "take another copy of the file"
        ) from None


class _Whole(io.BytesIO):
    """A file that says what is missing instead of returning less than was asked for."""

    def __init__(self, content: bytes, where: str) -> None:
        super().__init__(content)
        self._size = len(content)
        self._where = where

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > self._size - self.tell():
            raise DataError(
                f"{self._where}: is cut off: it has {self._size:,} bytes and needs at least "
                f"{self.tell() + size:,}; take another copy of the file"
            )
        return super().read(size)

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        if not line.endswith(b"\n"):
            raise DataError(f"{self._where}: is cut off after {self._size:,} bytes; take another copy of the file")
        return line


class _Recorder:
    """Stands for a global: being called and being given a state is written down, and nothing else happens."""

    __slots__ = ("arguments", "name", "state")

    def __init__(self, name: str, arguments: tuple[Any, ...] | None = None) -> None:
        self.name = name
        self.arguments = arguments
        self.state: Any = None

    def __call__(self, *arguments: Any) -> _Recorder:
        if self.arguments is not None or self.name not in ("_reconstruct", "dtype"):
            raise ValueError(f"{self.name} is called where the published files do not call it")
        return _Recorder(self.name, arguments)

    def __setstate__(self, state: Any) -> None:
        if self.arguments is None:
            raise ValueError(f"{self.name} is given a state")
        self.state = state

    # A recorder must not be a key: its hash would be that of an object about to be replaced.
    __hash__ = None  # type: ignore[assignment]


class _Unpickler(pickle._Unpickler):
    """The unpickler in Python, whose memory grows with the file and not with what the file claims."""

    dispatch: ClassVar = {
        ord(op.code): pickle._Unpickler.dispatch[ord(op.code)] for op in pickletools.opcodes if op.name in _INSTRUCTIONS
    }

    def __init__(self, file: _Whole, where: str) -> None:
        super().__init__(file, encoding="bytes")
        self._where = where

    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) in _RECONSTRUCT or (module, name) in {("numpy", "ndarray"), ("numpy", "dtype")}:
            return _Recorder(name)
        raise DataError(
            f"{self._where}: asks for the global {module}.{name}, which no CIFAR-10 file needs; "
            "it was not run, do not use this file"
        )


def _plain(value: Any, depth: int = 0) -> Any:
    """Return `value` with recorded arrays made real; `value` must be of plain types otherwise."""
    if depth > 4:
        raise ValueError("it is nested deeper than the published files")
    if isinstance(value, _Recorder):
        return _array(value)
    if isinstance(value, dict):
        return {_key(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list) and any(isinstance(item, (list, dict, tuple, _Recorder)) for item in value):
        return [_plain(item, depth + 1) for item in value]
    return value


def _key(key: Any) -> str:
    if isinstance(key, bytes):
        key = key.decode("ascii", "replace")
    if not isinstance(key, str):
        raise ValueError(f"it has the key {key!r}")
    return key


def _array(record: _Recorder) -> np.ndarray[Any, Any]:
    """Return the array that a recorded reconstruction describes."""
    if record.name != "_reconstruct" or not isinstance(record.state, tuple) or len(record.state) != 5:
        raise ValueError("an array is not described as the published files do")
    _, shape, dtype, fortran, content = record.state
    code = dtype.arguments[0] if isinstance(dtype, _Recorder) and dtype.arguments else None
    if code not in (b"u1", "u1"):
        raise ValueError(f"an array has the type {code!r} where the published files have u1")
    if fortran or not isinstance(content, bytes) or not isinstance(shape, tuple):
        raise ValueError("an array is not described as the published files do")
    if not all(isinstance(n, int) and 0 <= n < 2**31 for n in shape):
        raise ValueError(f"an array has the shape {shape}")
    size = 1
    for n in shape:
        size *= n
    if size != len(content):
        raise ValueError(f"an array of shape {shape} needs {size:,} bytes and has {len(content):,}")
    return np.frombuffer(content, np.uint8).reshape(shape)
