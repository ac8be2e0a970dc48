"""Files out of a tar archive, read in one pass and in bounded memory."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from xpnet.errors import DataError

_PUBLISHED_BYTES = 170_498_071
# The published archive unpacks to 186 MB.  The bound also holds for headers, which tarfile reads whole.
_MOST_BYTES = 512 * 2**20


def read_archive_files(path: Path, names: tuple[str, ...], check: Callable[[str, int], None]) -> dict[str, bytes]:
    """Return the contents of the files called `names` in a .tar.gz or .tar, in whatever folder of it.

    Nothing is written to the disk, and links are not followed.

    Args:
        path: The archive.
        names: Names without folders.
        check: Called with name and size of a file before it is read, to refuse it.

    Raises:
        DataError: The archive is cut off, broken, or unpacks to far more than CIFAR-10.
        OSError: The file cannot be opened.
    """
    files = {}
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        stream = _Bounded(cast(BinaryIO, gzip.GzipFile(fileobj=file)) if zipped else file, path)
        try:
            with tarfile.open(fileobj=stream, mode="r|") as archive:
                for member in archive:
                    name = PurePosixPath(member.name).name
                    if name in names and member.isfile():
                        check(name, member.size)
                        content = archive.extractfile(member)
                        files[name] = b"" if content is None else content.read()
            # The checksum stands at the end, where the last member is long over.
            while stream.read(2**16):
                pass
        except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(
                f"{path}: cannot be read to its end ({error}); it has {path.stat().st_size:,} bytes, "
                f"the published archive has {_PUBLISHED_BYTES:,}; take another copy"
            ) from None
    return files


class _Bounded(io.BufferedIOBase):
    """A stream that refuses to give more bytes than CIFAR-10 has: a small gzip can unpack to anything."""

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        super().__init__()
        self._stream, self._path, self._left = stream, path, _MOST_BYTES

    def read(self, size: int | None = -1, /) -> bytes:
        most = self._left + 1
        part = self._stream.read(most if size is None or size < 0 else min(size, most))
        self._left -= len(part)
        if self._left < 0:
            raise DataError(f"{self._path}: unpacks to more than {_MOST_BYTES:,} bytes; CIFAR-10 has 186 million")
        return part
