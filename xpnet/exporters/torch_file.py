"""PyTorch's file of tensors, as ``torch.save`` writes it, without PyTorch.

It is a ZIP archive: ``data.pkl`` is a pickle of an ordered dictionary that calls PyTorch's function for each tensor,
and ``data/NUMBER`` are the bytes of each tensor.  The pickle is written opcode by opcode, so it names PyTorch's
functions without having them; ``torch.load(weights_only=True)`` reads it.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_STORAGES = {"float32": "FloatStorage", "int64": "LongStorage"}
_FOLDER = "archive"
_ALIGNMENT = 64  # of the bytes of tensors in the file, so that it can be mapped into memory


def torch_bytes(state: Mapping[str, NDArray[Any]]) -> bytes:
    """Return the content of a file whose ``torch.load`` is an ordered dictionary of tensors."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        _put(archive, "data.pkl", _pickle(state))
        _put(archive, "byteorder", b"little")
        for number, array in enumerate(state.values()):
            little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
            _put(archive, f"data/{number}", little.tobytes())
        _put(archive, "version", b"3\n")
    return content.getvalue()


def _put(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(f"{_FOLDER}/{name}")  # with a fixed date: equal models are equal files
    before = archive.fp.tell() + zipfile.sizeFileHeader + len(entry.filename) + 4  # type: ignore[union-attr, attr-defined]
    padding = -before % _ALIGNMENT
    entry.extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
    archive.writestr(entry, data)


def _pickle(state: Mapping[str, NDArray[Any]]) -> bytes:
    empty = _global("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE
    out = [pickle.PROTO + b"\x02", empty, pickle.MARK]
    for number, (name, array) in enumerate(state.items()):
        storage = [
            *(_text("storage"), _global("torch", _STORAGES[str(array.dtype)])),
            *(_text(str(number)), _text("cpu"), _whole(array.size)),
        ]
        strides = [stride // array.itemsize for stride in np.empty(array.shape, array.dtype).strides]
        tensor = [
            _tuple(storage) + pickle.BINPERSID,
            _whole(0),
            _tuple([_whole(n) for n in array.shape]),
            _tuple([_whole(n) for n in strides]),
            pickle.NEWFALSE,
            empty,
        ]
        out += [_text(name), _global("torch._utils", "_rebuild_tensor_v2"), _tuple(tensor), pickle.REDUCE]
    return b"".join([*out, pickle.SETITEMS, pickle.STOP])


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _text(value: str) -> bytes:
    encoded = value.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(encoded)) + encoded


def _whole(value: int) -> bytes:
    if value < 2**31:
        return pickle.BININT + struct.pack("<i", value)
    return pickle.LONG1 + b"\x09" + value.to_bytes(9, "little")


def _tuple(items: list[bytes]) -> bytes:
    return pickle.MARK + b"".join(items) + pickle.TUPLE
