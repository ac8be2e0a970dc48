"""Reads TensorBoard's event files, by their format alone."""

from __future__ import annotations

import struct
from pathlib import Path


def masked_crc(data: bytes) -> int:
    """Return the check sum of a record, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def fields(data: bytes) -> list[tuple[int, int | bytes]]:
    """Return the fields of a protocol buffer: their numbers and values."""

    def varint(at: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            value, shift, at = value | (data[at] & 127) << shift, shift + 7, at + 1
            if data[at - 1] < 128:
                return value, at

    found, at = [], 0
    while at < len(data):
        key, at = varint(at)
        if key & 7 == 0:
            value, at = varint(at)
        else:
            size, at = varint(at) if key & 7 == 2 else ({1: 8, 5: 4}[key & 7], at)
            value, at = data[at : at + size], at + size
        found.append((key >> 3, value))
    return found


def events(folder: Path) -> dict[str, dict[int, float]]:
    """Return the values of each tag by step, as TensorBoard shows the files of a folder."""
    shown: dict[str, dict[int, float]] = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        data, first = path.read_bytes(), True
        while data:
            length, of_length = struct.unpack("<QI", data[:12])
            content, (of_content,) = data[12 : 12 + length], struct.unpack("<I", data[12 + length : 16 + length])
            assert (of_length, of_content) == (masked_crc(data[:8]), masked_crc(content))
            data, event = data[16 + length :], dict(fields(content))
            assert not first or event[3] == b"brain.Event:2"
            first = False
            if event.get(7) == b"\x08\x01":  # a session starts at this step
                shown = {tag: {s: v for s, v in of.items() if s < event[2]} for tag, of in shown.items()}
            for _, value in fields(event.get(5, b"")):
                one = dict(fields(value))
                shown.setdefault(one[1].decode(), {})[event[2]] = struct.unpack("<f", one[2])[0]
    return shown
