"""Harm that is done to text, and to what it says: tokens, numbers, lines and values that are something else."""

from __future__ import annotations

import copy
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

_TOKEN = re.compile(rb"[A-Za-z_][A-Za-z0-9_.:-]*|-?[0-9][0-9.eE+-]*|\"(?:[^\"\\]|\\.)*\"|[\[\]{}=,:\n]")
# What stands in the place of a token: numbers out of range, other types, and what parsers and terminals stumble over.
_ODD = (
    *(
        b"-1",
        b"0",
        b"1e999",
        b"-1e308",
        b"NaN",
        b"nan",
        b"inf",
        b"Infinity",
        b"1.5",
        b"9" * 30,
        b"9" * 400,
        b"0x" + b"f" * 2000,
    ),
    *(b"true", b"null", b'""', b'"x"', b"[]", b"{}", b"[1, [2]]", b'{"a": 1}', b"[" * 50, b"{" * 50, b"2026-01-31"),
    *(
        b"\0",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b'"\\ud800"',
        b'"\\u0000"',
        b'"\x1b[2J"',
        b"'",
        b'"""',
        b"\r",
        b"../..",
        b"a" * 5000,
    ),
    *(b"__proto__", b"{{ 7 * 7 }}", b'"<script>"', b"1000000000", b"1e-400", b"\n\n", b"#"),
)


def mutated_text(content: bytes, rng: np.random.Generator) -> bytes:
    """Return text with one to three harms: tokens replaced, lost, swapped or doubled, and lines as well."""
    for _ in range(rng.integers(1, 4)):
        found = list(_TOKEN.finditer(content))
        if not found:
            break
        one, other = (found[int(i)] for i in rng.integers(len(found), size=2))
        odd = _ODD[int(rng.integers(len(_ODD)))]
        harm = rng.integers(6)
        if harm < 2:
            content = content[: one.start()] + odd + content[one.end() :]
        elif harm == 2:
            content = content[: one.start()] + content[one.end() :]
        elif harm == 3:
            content = content[: one.start()] + other[0] + content[one.end() :]
        elif harm == 4:
            content = content[: one.end()] + odd + content[one.end() :]
        else:
            lines = content.split(b"\n")
            a, b = (int(i) for i in rng.integers(len(lines), size=2))
            lines[a : a + 1] = [] if rng.random() < 0.3 else [lines[b], lines[a]]
            content = b"\n".join(lines)
    return content


# What stands in the place of a value where the syntax stays whole.
_VALUES = (
    *(-1, 0, 1, 2, 3, 7, 0.5, -0.5, 1e-300, 1e300, -1e308, 2**31, 2**53 + 1, 10**250, 10**9, True, False, None),
    *("", "x", "a\0b", "\x1b[31m", "<b>", "../..", "nan", "1e5", "5ep", "a" * 3000, "{{7}}", "\u202e", "[bold]"),
    *([], {}, [1], [[1, 2], [3]], {"mean": 1, "std": 2, "values": [1]}, {"a": []}, [None], ["x"], [0] * 300),
)


def mutated_values(found: Any, rng: np.random.Generator) -> Any:
    """Return a copy of what was parsed with one to three values changed, lost, doubled, or under another key."""
    found = copy.deepcopy(found)
    for _ in range(rng.integers(1, 4)):
        places = _places(found)
        if not places:
            break
        holder, key = places[int(rng.integers(len(places)))]
        harm = rng.integers(6)
        if harm < 3:
            holder[key] = copy.deepcopy(_VALUES[int(rng.integers(len(_VALUES)))])
        elif harm == 3:
            del holder[key]
        elif harm == 4:
            other, at = places[int(rng.integers(len(places)))]
            holder[key] = copy.deepcopy(other[at])
        elif isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        else:
            holder[str(_VALUES[int(rng.integers(len(_VALUES)))])[:40] or "x"] = holder.pop(key)
    return found


def _places(found: Any) -> list[tuple[Any, Any]]:
    """Return every value in nested lists and dictionaries, as what holds it and its key there."""
    places, left = [], [found]
    while left:
        holder = left.pop()
        for key, value in holder.items() if isinstance(holder, dict) else enumerate(holder):
            places.append((holder, key))
            if isinstance(value, (dict, list)):
                left.append(value)
    return places


def overwrite(path: Path, content: bytes) -> None:
    """Write a file in its place: where it is done ten thousand times, making files anew takes most of the time."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    os.write(handle, content)
    os.ftruncate(handle, len(content))
    os.close(handle)
