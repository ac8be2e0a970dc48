"""Tar archives, read in one pass and in bounded memory."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from xpnet.data.readers.compressed import refuse_damage
from xpnet.errors import DataError
from xpnet.utils.file_system import open_regular

# The published archives have 9 members and unpack to 186 MB.
_MOST_MEMBERS, _MOST_BYTES = 1000, 512 * 2**20
_MOST_HEADER = 2**20
_PACKERS = {b"\x1f\x8b": "gzip", b"BZ": "bz2", b"\xfd7": "lzma"}
_BROKEN = (tarfile.TarError, ValueError, OverflowError, RecursionError, ImportError)


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[tarfile.TarFile]:
    """Open a tar archive, plain or packed by gzip, bzip2 or xz; its members can be read once, in their order."""
    sentence = (
        "cannot be read to its end ({error}); it has {size} bytes, the published archive has 170,498,071; "
        "take another copy"
    )
    with refuse_damage(path, sentence, *_BROKEN), open_regular(path, links=True) as file:
        packer = _PACKERS.get(file.read(2))
        file.seek(0)
        stream = _BoundedStream(importlib.import_module(packer).open(file) if packer else file, path)
        with tarfile.open(fileobj=cast(Any, stream), mode="r|", tarinfo=_BoundedInfo) as archive:
            yield archive
        # The compressor's checksum is at the end, behind the last member.
        while stream.read(2**16):
            pass


def members_of(archive: tarfile.TarFile, path: Path) -> Iterator[tarfile.TarInfo]:
    """Yield the members of an archive."""
    size = 0
    for number, member in enumerate(archive):
        size += member.size
        if number >= _MOST_MEMBERS:
            raise DataError(f"{path}: has more than {_MOST_MEMBERS:,} members; CIFAR-10's archive has 9")
        if size > _MOST_BYTES:
            raise _too_large(path)
        yield member


def md5_of(path: Path) -> str:
    """Return the MD5 of a file."""
    with open_regular(path, links=True) as file:
        return hashlib.file_digest(cast(Any, file), lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _too_large(path: Path) -> DataError:
    return DataError(f"{path}: unpacks to more than {_MOST_BYTES:,} bytes; CIFAR-10 has 186 million")


class _BoundedInfo(tarfile.TarInfo):
    """A member's header; refuses records for long names above a limit, of which tarfile would read all bytes."""

    @classmethod
    def frombuf(cls, *arguments: Any, **options: Any) -> _BoundedInfo:
        info = super().frombuf(*arguments, **options)
        if not (info.isreg() or info.isdir()) and info.size > _MOST_HEADER:
            raise DataError(f"a tar archive has a header of {info.size:,} bytes; at most {_MOST_HEADER:,} are read")
        return info


class _BoundedStream:
    """The unpacked bytes of an archive, up to a limit: a small file can unpack to any size."""

    def __init__(self, stream: Any, path: Path) -> None:
        self._stream, self._path, self._left = stream, path, _MOST_BYTES

    def read(self, size: int) -> bytes:
        chunk: bytes = self._stream.read(size)
        self._left -= len(chunk)
        if self._left < 0:
            raise _too_large(self._path)
        return chunk
