"""Readers of text files that may be hostile or damaged, with limits of size, encoding and depth.

Results are plain: finite numbers, text that can be encoded, lists and objects of a few levels.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xpnet.errors import XpnetError, one_line
from xpnet.utils.file_system import open_handle

# Settings take a page of text; results of thousands of networks take some MB.
MOST_TOML = 2**20
MOST_JSON = 32 * 2**20
# Every value takes up to 250 bytes of memory during reading.
MOST_VALUES = 1_000_000
# Nested levels of lists and objects, parts of a dotted key, and digits of a number.
DEPTH = 16
DIGITS = 300
# Python's reader takes hours for a key of 100,000 parts.
_LONG_KEY = re.compile(
    r"""(?<![\w-])(?:(?:[\w-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){%d}""" % DEPTH  # noqa: UP031
)


@contextlib.contextmanager
def opened(path: Path, error: type[XpnetError], called: str, *, links: bool = False) -> Iterator[tuple[io.FileIO, int]]:
    """Open a file; yield it with its size.

    Raises:
        XpnetError: Of the kind `error`: it is missing, is no file but a folder, a device or a pipe, is a link although
            `links` are not followed, or cannot be read.
    """
    try:
        handle = open_handle(path, os.O_RDONLY, links=links)
        with io.FileIO(handle) as file:
            yield file, os.fstat(handle).st_size
    except FileNotFoundError:
        raise error(f"{called}: there is no such file") from None
    except OSError as reason:
        raise error(f"{called}: cannot be read ({reason.strerror})") from None
    except ValueError as reason:  # a path with a NUL in it
        if isinstance(reason, XpnetError):  # some XpnetErrors are ValueErrors too
            raise
        raise error(f"{called}: is no path of a file ({reason})") from None


def read_bytes(path: Path, most: int, error: type[XpnetError], called: str = "", *, links: bool = False) -> bytes:
    """Return the content of a file with at most `most` bytes.

    Args:
        path: The file.
        most: Largest size.
        error: The kind of error to raise.
        called: Name of the file in messages; its path if not given.
        links: Whether the file may be a link, as files that users name may be.

    Raises:
        XpnetError: Of the kind `error`: it is missing, is no file but a folder, a device or a pipe, or is larger.
    """
    called = called or str(path)
    with opened(path, error, called, links=links) as (file, size):
        content = _read(file, most + 1) if size <= most else None
    if content is None or len(content) > most:
        raise error(f"{called}: is larger than {most:,} bytes, the most that is read of such a file")
    return content


def _read(file: io.FileIO, most: int) -> bytes:
    """Return up to `most` bytes of a file, in several reads, as the system returns at most 2 GiB at a time."""
    parts, left = [], most
    while left and (part := file.read(min(left, 2**30))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def read_text(path: Path, most: int, error: type[XpnetError], called: str = "", *, links: bool = False) -> str:
    """Return the content of a file as text; see :func:`read_bytes`.

    Raises:
        XpnetError: Of the kind `error`: it cannot be read, or is not UTF-8; the message names the line.
    """
    content = read_bytes(path, most, error, called, links=links)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as reason:
        line = content.count(b"\n", 0, reason.start) + 1
        raise error(f"{called or path}: is not text in UTF-8 (line {line}, {reason.reason})") from None


def read_toml(path: Path, error: type[XpnetError], called: str = "", *, links: bool = False) -> dict[str, Any]:
    """Return the content of a TOML file.

    Raises:
        XpnetError: Of the kind `error`: it cannot be read, is not TOML, or goes beyond a limit.
    """
    called = called or str(path)
    return toml_of(read_text(path, MOST_TOML, error, called, links=links), error, called)


def toml_of(text: str, error: type[XpnetError], called: str) -> dict[str, Any]:
    """Return the content of a TOML file whose text this is.

    Raises:
        XpnetError: Of the kind `error`: it is not TOML, or goes beyond a limit.
    """
    if long := _LONG_KEY.search(text):
        line = text.count("\n", 0, long.start()) + 1
        raise error(f"{called}: line {line} has a key of more than {DEPTH} parts")
    try:
        return dict(_plain(tomllib.loads(text)))
    except tomllib.TOMLDecodeError as reason:
        raise error(f"{called}: is not TOML ({one_line(str(reason), 200)})") from None
    except RecursionError:
        raise error(f"{called}: has more than {DEPTH} levels of lists and tables in each other") from None
    except (ValueError, OverflowError) as reason:
        raise error(f"{called}: {_sentence(reason)}") from None


def read_json(path: Path, error: type[XpnetError]) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        XpnetError: Of the kind `error`: it cannot be read, is not JSON, does not hold an object, or goes beyond a
            limit.
    """
    return json_object(read_bytes(path, MOST_JSON, error), str(path), error)


def check_json(content: bytes, called: str, error: type[XpnetError], *, most: int | None = None) -> None:
    """Refuse JSON text that is too large to be read again, before it is written.

    Raises:
        XpnetError: Of the kind `error`: it has more bytes than `most` (those of a file if not given), or too many
            values.
    """
    most = MOST_JSON if most is None else most
    if len(content) > most:
        raise error(f"{called}: has {len(content):,} bytes, and {most:,} are the most that is read of such a file")
    if sum(content.count(sign) for sign in (b",", b"[", b"{")) > MOST_VALUES:
        raise error(f"{called}: holds more than {MOST_VALUES:,} values, the most that is read of such a file")


def json_bytes(value: Any, called: str, error: type[XpnetError], *, indent: int | None = None) -> bytes:
    """Return JSON text that :func:`read_json` reads.

    Raises:
        XpnetError: Of the kind `error`: it would be too large.
    """
    content = (json.dumps(value, indent=indent) + "\n").encode()
    check_json(content, called, error)
    return content


def toml_bytes(values: Mapping[str, Any], called: str, error: type[XpnetError], *, head: str) -> bytes:
    """Return TOML text, below a comment, that :func:`read_toml` reads.

    Raises:
        XpnetError: Of the kind `error`: it would be too large.
    """
    import tomli_w

    content = f"# {head}\n{tomli_w.dumps(dict(values))}".encode()
    if len(content) > MOST_TOML:
        raise error(f"{called}: has {len(content):,} bytes, and {MOST_TOML:,} are the most that is read of such a file")
    return content


def json_object(content: bytes, called: str, error: type[XpnetError]) -> dict[str, Any]:
    """Return the object that JSON text holds; see :func:`read_json`."""
    check_json(content, called, error, most=max(MOST_JSON, len(content)))
    try:
        parsed = json.loads(content.decode("utf-8"), object_pairs_hook=_once)
        if not isinstance(parsed, dict):
            raise error(f"{called}: holds a {type(parsed).__name__}, not an object; take another copy of it")
        return dict(_plain(parsed))
    except UnicodeDecodeError as reason:
        line = content.count(b"\n", 0, reason.start) + 1
        raise error(f"{called}: is not JSON (line {line} is not UTF-8, {reason.reason})") from None
    except json.JSONDecodeError as reason:
        raise error(f"{called}: is not JSON ({reason}); take another copy of it") from None
    except RecursionError:
        raise error(f"{called}: has more than {DEPTH} levels of lists and objects in each other") from None
    except ValueError as reason:
        raise error(f"{called}: {_sentence(reason)}; take another copy of it") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object as a dictionary; refuse repeated keys."""
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1) if len(keys) < 1000 else "one"
        raise ValueError(f"{one_line(twice, 60)} stands twice in one object")
    return values


def _sentence(reason: Exception) -> str:
    if "set_int_max_str_digits" in str(reason):  # Python's own limit
        return f"has a number of more than {DIGITS} digits"
    return str(reason)


def _plain(parsed: Any) -> Any:
    """Return a parsed value if it is plain: not too deep, with finite numbers and text that can be encoded.

    Raises:
        ValueError: The value is not plain; the message names the key.
    """
    stack: list[tuple[Any, tuple[Any, ...]]] = [(parsed, ())]
    while stack:
        value, keys = stack.pop()
        if len(keys) > DEPTH:
            raise ValueError(f"{key_of(keys)} has more than {DEPTH} levels in each other")
        if isinstance(value, dict):
            for key in value:
                _check_text(key, keys, "a key that is no text")
            stack += [(item, (*keys, key)) for key, item in value.items()]
        elif isinstance(value, list):
            stack += [(item, (*keys, index)) for index, item in enumerate(value)]
        elif isinstance(value, str):
            _check_text(value, keys, "text that is none")
        elif isinstance(value, float) and value - value != 0:
            raise ValueError(f"{key_of(keys)} = {value}: must be a finite number")
        elif isinstance(value, int) and abs(value) >= 10**DIGITS:
            raise ValueError(f"{key_of(keys)} is a number of more than {DIGITS} digits")
    return parsed


def _check_text(text: str, keys: Sequence[Any], kind: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{key_of(keys) or 'it'} holds {kind}: half of a character") from None


def key_of(keys: Sequence[Any]) -> str:
    """Return the position of a value in the usual notation: ``trials[3].settings.lambda``."""
    parts = (f"[{key}]" if isinstance(key, int) else f".{one_line(str(key), 60)}" for key in keys)
    return "".join(parts).removeprefix(".")
