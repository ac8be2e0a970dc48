"""PNG files of small pictures, without a library for images."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Types of colour, by the number of channels.
_GRAY, _RGB = 0, 2
# Filters of rows: a byte as it is, less the one to its left, less the one above (PNG specification, section 9).
_NONE, _SUB, _UP = 0, 1, 2


def png(planes: NDArray[np.uint8]) -> bytes:
    """Return a picture as a PNG file.

    Args:
        planes: Channel planes (1, height, width) of gray or (3, height, width) of red, green and blue.
    """
    channels, height, width = planes.shape
    pixels = planes.transpose(1, 2, 0).reshape(height, width * channels)
    left, above = np.zeros_like(pixels), np.zeros_like(pixels)
    left[:, channels:], above[1:] = pixels[:, :-channels], pixels[:-1]
    filtered = {_NONE: pixels, _SUB: pixels - left, _UP: pixels - above}  # bytes, which wrap around
    rows = (np.insert(values, 0, kind, axis=1).tobytes() for kind, values in filtered.items())
    smallest = min((zlib.compress(content, 9) for content in rows), key=len)
    head = struct.pack(">IIBBBBB", width, height, 8, _GRAY if channels == 1 else _RGB, 0, 0, 0)
    return _SIGNATURE + _chunk(b"IHDR", head) + _chunk(b"IDAT", smallest) + _chunk(b"IEND", b"")


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
