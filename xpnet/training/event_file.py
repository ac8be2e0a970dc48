"""TensorBoard's event files, written here: a few bytes of framing around small protocol buffers.

A record is the length of its data (8 bytes), a check sum of these, the data, and a check sum of it, as TFRecord files
have them; the data is a message ``Event`` of TensorFlow's ``event.proto``.  The package tensorboardX writes the same,
but needs a thread, whose death on a full disk blocks a training, and imports PyTorch where it is installed.
"""

from __future__ import annotations

import functools
import struct
import time
from collections.abc import Mapping
from pathlib import Path

from xpnet.utils.file_system import open_regular

# Of the polynomial of CRC-32C (Castagnoli), reflected.
_POLYNOMIAL = 0x82F63B78
_MASK = 0xA282EAD8


class EventFile:
    """A new event file in a folder, which is made if need be; later records are appended one call at a time.

    Args:
        folder: The folder, which TensorBoard shows as one run.

    Raises:
        OSError: The file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(10_000):  # several may begin within a second
            self._path = folder / f"events.out.tfevents.{int(time.time())}.xpnet.{number}"
            if not self._path.exists():
                break
        # The version, and the sign that what earlier files of the folder have from step 0 on is replaced.
        self._append(_event(_field(3, b"brain.Event:2")) + _event(_number(2, 0) + _field(7, _number(1, 1))))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add values at a step, by tag.

        Raises:
            OSError: They cannot be written.
        """
        summary = b"".join(
            _field(1, _field(1, tag.encode()) + b"\x15" + struct.pack("<f", value)) for tag, value in values.items()
        )
        self._append(_event(_number(2, step) + _field(5, summary)))

    def _append(self, records: bytes) -> None:
        # Opened for each: a population of thousands has as many files.
        with open_regular(self._path, "ab") as file:
            file.write(records)


def _event(content: bytes) -> bytes:
    """Return an event of this moment as a record."""
    data = b"\x09" + struct.pack("<d", time.time()) + content
    length = struct.pack("<Q", len(data))
    return length + _checksum(length) + data + _checksum(data)


def _field(number: int, content: bytes) -> bytes:
    """Return a field of bytes, a text or a message."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    """Return a field with a whole number of at least 0."""
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


@functools.cache
def _table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return tuple(table)


def _checksum(data: bytes) -> bytes:
    """Return the masked CRC-32C of data."""
    table, crc = _table(), 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 255]
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF)
