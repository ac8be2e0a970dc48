"""The content of safetensors files, with limits on the header beyond those of the safetensors library.

A file is the length of its header in 8 bytes (little endian), the header as JSON, and the tensors without gaps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from xpnet.errors import RunError, XpnetError, one_line
from xpnet.utils.parsing import check_json, json_object

# The header names tensors and has the description of a model, most of which may be names of columns.
MOST_HEADER = 8 * 2**20
_TYPES = ("float32", "float64", "int64")


def broken(called: str, why: str) -> RunError:
    """Return the error for a damaged file."""
    return RunError(f"{called}: is not a whole safetensors file ({one_line(why)}); take another copy of it")


def largest_header(shapes: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str]) -> bytes:
    """Return a header of the largest possible length for a file with these tensors and `metadata`."""
    layout: dict[str, Any] = {
        name: {"dtype": "F32", "shape": shape, "data_offsets": [2**53, 2**53]} for name, shape in shapes.items()
    }
    text = json.dumps({"__metadata__": metadata, **layout}, separators=(",", ":"))
    return text.encode() + b" " * 8  # the most bytes of padding


def check_header(header: bytes, called: str, error: type[XpnetError]) -> None:
    """Refuse to write a header that is too large to be read.

    Raises:
        XpnetError: The header is too large; the error is of class `error`.
    """
    if len(header) > MOST_HEADER:
        raise error(
            f"{called}: its description, of which names are the largest part, has {len(header):,} bytes, and "
            f"{MOST_HEADER:,} are the most that is read of such a file"
        )
    check_json(header, f"{called}: its description", error)


def _header(content: bytes, called: str) -> bytes:
    length, rest = int.from_bytes(content[:8], "little"), max(0, len(content) - 8)
    if len(content) < 8 or length > rest:
        raise broken(called, f"its header claims {length:,} bytes, and the file has {rest:,} behind it")
    if length > MOST_HEADER:
        raise broken(called, f"its header has {length:,} bytes, and may have {MOST_HEADER:,}")
    return content[8 : 8 + length]


def metadata_in(content: bytes, called: str) -> Mapping[str, Any]:
    """Return the metadata in the header of a file.

    Raises:
        RunError: The header is not JSON, or exceeds a limit.
    """
    header = json_object(_header(content, called), f"{called}: is not a whole safetensors file, its header", RunError)
    metadata = header.get("__metadata__")
    return metadata if isinstance(metadata, dict) else {}


def tensors_in(content: bytes, called: str) -> dict[str, NDArray[Any]]:
    """Return the tensors in the content of a file, sorted by name, as separate arrays.

    Raises:
        RunError: The tensors do not match the header exactly, or have types that xpnet does not write.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    check_json(_header(content, called), f"{called}: its header", RunError)
    try:
        tensors = load(content)
    except (SafetensorError, KeyError, ValueError) as error:  # an unknown type is a KeyError, a huge shape a ValueError
        raise broken(called, str(error)) from None
    for name, tensor in tensors.items():
        if tensor.dtype.name not in _TYPES:
            raise broken(called, f"{one_line(name, 60)} is {tensor.dtype}, not one of {', '.join(_TYPES)}")
    return dict(sorted(tensors.items()))  # the library's order differs from call to call
