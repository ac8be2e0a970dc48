"""Compressed files: gzip, and members of zip files, unpacked piece by piece."""

from __future__ import annotations

import contextlib
import copy
import gzip
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO, cast

from xpnet.errors import DataError
from xpnet.utils.file_system import open_regular

# Deflate cannot compress by a factor of more than 1032: a larger claim is false.
_MOST_BYTES, _MOST_RATIO, _LARGE = 64 * 2**30, 1100, 2**30
# LZMA allocates a window of the size that the file claims; zipfile writes 8 MB.
_MOST_WINDOW = 32 * 2**20


def is_damage(error: BaseException) -> bool:
    """Return whether an error of zlib, gzip, bz2, lzma or zstd says that packed bytes are broken."""
    if isinstance(error, OSError):
        return error.errno is None  # with an errno it comes from the system
    # By name: a Python may have been built without these two modules.
    return isinstance(error, (EOFError, zlib.error)) or type(error).__name__ in ("LZMAError", "ZstdError")


@contextlib.contextmanager
def refuse_damage(path: Path, sentence: str, *broken: type[Exception]) -> Iterator[None]:
    """Raise a DataError for damaged packed bytes; its `sentence` may contain ``{error}`` and ``{size}``.

    `broken` are further exceptions that mean damage.
    """
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        if not (is_damage(error) or isinstance(error, broken)):
            raise
        raise DataError(f"{path}: {sentence.format(error=error, size=f'{path.stat().st_size:,}')}") from None


@contextlib.contextmanager
def open_unzipped(path: Path) -> Iterator[BinaryIO]:
    """Open a file, and unzip it if its content is gzipped."""
    sentence = "is a broken gzip file ({error}); take another copy"
    with refuse_damage(path, sentence), open_regular(path, links=True) as file:
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        yield cast(BinaryIO, gzip.GzipFile(fileobj=file)) if zipped else file


@contextlib.contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip file."""
    # RuntimeError: encrypted; NotImplementedError: packed in an unknown way.
    broken = (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, OverflowError, struct.error)
    sentence = "is cut off or not a .npz file ({error}); it has {size} bytes"
    with (
        refuse_damage(path, sentence, *broken),
        open_regular(path, links=True) as file,
        zipfile.ZipFile(file) as zipped,
    ):
        yield zipped


def check_claims(members: dict[str, zipfile.ZipInfo], path: Path) -> None:
    """Refuse members that claim more bytes than the limit, or than their packed bytes can hold."""
    total = sum(info.file_size for info in members.values())
    if total > _MOST_BYTES:
        raise DataError(f"{path}: its arrays claim {total:,} bytes; at most {_MOST_BYTES:,} are read")
    for name, info in members.items():
        possible = info.compress_type in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
        if info.file_size > _LARGE and info.file_size > _MOST_RATIO * info.compress_size and not possible:
            raise DataError(
                f"{path}: {name} claims {info.file_size:,} bytes packed into {info.compress_size:,}, "
                "which is not possible; take another copy"
            )


def open_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> AbstractContextManager[BinaryIO]:
    """Open a member of a zip file; it is unpacked only as far as it is read.

    zipfile itself does so only for deflate; with other methods it unpacks any number of bytes at a time.
    """
    if info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return cast(BinaryIO, archive.open(info))
    return cast(AbstractContextManager[BinaryIO], _open_packed(archive, info))


@contextlib.contextmanager
def _open_packed(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[_Member]:
    packed = copy.copy(info)
    packed.compress_type, packed.file_size = zipfile.ZIP_STORED, info.compress_size
    del packed.CRC  # this checksum is that of the unpacked bytes
    with archive.open(packed) as stream:
        if info.compress_type == zipfile.ZIP_BZIP2:
            import bz2

            yield _Member(bz2.BZ2File(stream), info)
        elif info.compress_type == zipfile.ZIP_LZMA:
            yield _Member(_open_lzma(cast(BinaryIO, stream), info), info)
        else:
            raise NotImplementedError(f"{info.filename} is packed in the way {info.compress_type}, which is not read")


def _open_lzma(stream: BinaryIO, info: zipfile.ZipInfo) -> Any:
    import lzma

    head = stream.read(9)  # version, the length of what follows, a byte of three numbers, the window
    if len(head) < 9 or head[2:4] != b"\5\0" or head[4] >= 9 * 5 * 5:
        raise EOFError("LZMA without its properties")
    numbers = {"lc": head[4] % 9, "lp": head[4] // 9 % 5, "pb": head[4] // 45}
    window = min(int.from_bytes(head[5:9], "little"), max(info.file_size, 4096))
    if window > _MOST_WINDOW:
        raise NotImplementedError(
            f"{info.filename} is packed with a window of {window:,} bytes; pack it in another way"
        )
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": max(window, 4096), **numbers}]
    return lzma.LZMAFile(stream, format=lzma.FORMAT_RAW, filters=filters)


class _Member:
    """A member's bytes, compared with its size and its checksum."""

    def __init__(self, unpacked: Any, info: zipfile.ZipInfo) -> None:
        self._unpacked, self._info, self._left, self._crc = unpacked, info, info.file_size, 0

    def read(self, size: int) -> bytes:
        chunk: bytes = self._unpacked.read(min(size, self._left))
        self._left -= len(chunk)
        self._crc = zlib.crc32(chunk, self._crc)
        if not self._left and self._crc != self._info.CRC:
            raise zipfile.BadZipFile(f"Bad CRC-32 for file {self._info.filename!r}")
        return chunk
