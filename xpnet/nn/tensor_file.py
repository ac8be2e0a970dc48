"""Where the tensors of a safetensors file are: its header, held against the file before anything is made of it.

The format: the header's length in 8 bytes, the header as JSON, and the tensors, without gaps, in little endian.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.errors import RunError, XpnetError, one_line
from xpnet.utils import schema
from xpnet.utils.parsing import check_json, json_object

# The header names tensors, and holds the description of a model, of which the names of columns are the largest part.
MOST_HEADER = 8 * 2**20
TYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8"), "I64": np.dtype("<i8")}
_TENSOR = schema.record(
    {
        "dtype": schema.one_of(*TYPES),
        "shape": schema.items(schema.whole(0), most=3),
        "data_offsets": schema.items(schema.whole(0), length=2),
    },
    closed=True,
)


class Place(NamedTuple):
    """Where a tensor is: its name, type and shape; places are in the order of the file."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


def broken(called: str, why: str) -> RunError:
    """Return the error of a file that is not whole."""
    return RunError(f"{called}: is not a whole safetensors file ({why}); take another copy of it")


def check_length(length: int, size: int, called: str) -> None:
    """Raise :class:`RunError` unless a file of `size` bytes can have a header of `length`."""
    if size < 8 or length > size - 8:
        raise broken(called, f"its header claims {length:,} bytes, and the file has {max(0, size - 8):,} behind it")
    if length > MOST_HEADER:
        raise broken(called, f"its header has {length:,} bytes, and may have {MOST_HEADER:,}")


def header_of(shapes: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str]) -> bytes:
    """Return a header that is as long as that of a file can be, by the tensors' shapes and what it says of itself."""
    layout: dict[str, Any] = {
        name: {"dtype": "F32", "shape": shape, "data_offsets": [2**53, 2**53]} for name, shape in shapes.items()
    }
    text = json.dumps({"__metadata__": metadata, **layout}, separators=(",", ":"))
    return text.encode() + b" " * 8  # as many bytes as it may be filled up with


def check_header(header: bytes, called: str, error: type[XpnetError]) -> None:
    """Refuse a header that is too large to be read, which is not to be written either.

    Raises:
        XpnetError: Of the kind `error`: it is.
    """
    if len(header) > MOST_HEADER:
        raise error(
            f"{called}: its description, of which names are the largest part, has {len(header):,} bytes, and "
            f"{MOST_HEADER:,} are the most that is read of such a file"
        )
    check_json(header, f"{called}: its description", error)


def layout_of(header: bytes, called: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a header says of each tensor, and of the file as a whole.

    Raises:
        RunError: It is no header.
    """
    layout = json_object(header, f"{called}: is not a whole safetensors file, its header", RunError)
    about = layout.pop("__metadata__", {})
    schema.check(layout, schema.mapping(_TENSOR), f"{called}: is not a whole safetensors file, its header", RunError)
    return layout, about if isinstance(about, dict) else {}


def places_of(layout: Mapping[str, Any], held: int, called: str) -> list[Place]:
    """Return where the tensors are; they fill the `held` bytes behind the header without gaps.

    Raises:
        RunError: They do not.
    """
    places, at = [], 0
    for name, about in sorted(layout.items(), key=lambda item: item[1]["data_offsets"]):
        place = Place(name, TYPES[about["dtype"]], tuple(about["shape"]))
        begin, end = about["data_offsets"]
        wanted = math.prod(place.shape) * place.dtype.itemsize
        if begin != at or end - begin != wanted:
            why = f"{one_line(name, 60)} takes {wanted:,} bytes, and is said to be at {begin:,} to {end:,}"
            raise broken(called, why)
        if not wanted and max(place.shape, default=0) > held:
            raise broken(called, f"{one_line(name, 60)} has the shape {place.shape}, and nothing in it")
        places.append(place)
        at = end
    if at != held:
        raise broken(called, f"its tensors take {at:,} bytes, and the file holds {held:,}")
    return places


def tensors_in(content: bytes, called: str) -> dict[str, NDArray[Any]]:
    """Return the tensors in the content of a file, as arrays of their own.

    Raises:
        RunError: It is not a whole safetensors file.
    """
    length = int.from_bytes(content[:8], "little")
    check_length(length, len(content), called)
    at = 8 + length
    layout, _ = layout_of(content[8:at], called)
    tensors = {}
    for name, dtype, shape in places_of(layout, len(content) - at, called):
        count = math.prod(shape)
        numbers = np.frombuffer(content, dtype, count, at) if count else np.empty(0, dtype)
        tensors[name] = numbers.reshape(shape).copy()
        at += count * dtype.itemsize
    return tensors
