"""Files out of a tar archive, read in one pass and in bounded memory."""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from xpnet.data.readers.packed import is_damage
from xpnet.errors import DataError
from xpnet.utils.file_system import open_regular

_PUBLISHED_BYTES = 170_498_071
# The published archives unpack to 186 MB.  The bound also holds for headers, which tarfile reads whole.
_MOST_BYTES = 512 * 2**20
_MOST_MEMBERS = 1000  # the published archives have 9
_MOST_HEADER = 2**20


def read_archive_files(
    path: Path, wanted: Callable[[str], bool], check: Callable[[str, int], None]
) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of files in a .tar.gz or .tar, in whatever folder of it; last "" and the MD5 of it all.

    Nothing is written to the disk, and links are not followed.

    Args:
        path: The archive.
        wanted: Tells of a name without folders whether the file is read.
        check: Called with name and size of a file before it is read, to refuse it.

    Raises:
        DataError: The archive is cut off, broken, or unpacks to far more than CIFAR-10.
        OSError: The file cannot be opened.
    """
    with open_regular(path, links=True) as file:
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        hashed = _Hashed(file)
        stream = _Bounded(cast(BinaryIO, gzip.GzipFile(fileobj=hashed)) if zipped else hashed, path)
        try:
            with tarfile.open(fileobj=stream, mode="r|", tarinfo=BoundedInfo) as archive:
                for number, member in enumerate(archive):
                    if number >= _MOST_MEMBERS:
                        raise DataError(f"{path}: has more than {_MOST_MEMBERS:,} members; CIFAR-10's archive has 9")
                    name = PurePosixPath(member.name).name
                    if member.isfile() and wanted(name):
                        check(name, member.size)
                        content = io.BytesIO()  # grows where it is; a stream's own read() joins pieces
                        if (file_in := archive.extractfile(member)) is not None:
                            shutil.copyfileobj(file_in, content, 2**18)
                        yield name, content.getvalue()
            # The checksum stands at the end, where the last member is long over.
            while stream.read(2**16):
                pass
        except DataError:
            raise
        except Exception as error:
            if not (is_damage(error) or isinstance(error, (tarfile.TarError, ValueError, OverflowError))):
                raise
            raise DataError(
                f"{path}: cannot be read to its end ({error}); it has {path.stat().st_size:,} bytes, "
                f"the published archive has {_PUBLISHED_BYTES:,}; take another copy"
            ) from None
    yield "", hashed.md5.hexdigest().encode()


class BoundedInfo(tarfile.TarInfo):
    """A member's header, which may not be followed by long names of any length: tarfile reads them whole."""

    @classmethod
    def frombuf(cls, *arguments: Any, **options: Any) -> BoundedInfo:
        """Read a header; see :meth:`tarfile.TarInfo.frombuf`."""
        info = super().frombuf(*arguments, **options)
        if not (info.isreg() or info.isdir()) and info.size > _MOST_HEADER:
            raise DataError(f"a tar archive has a header of {info.size:,} bytes; at most {_MOST_HEADER:,} are read")
        return info


class _Hashed(io.BufferedIOBase):
    """A file whose MD5 is taken as it is read."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file, self.md5 = file, hashlib.md5(usedforsecurity=False)

    def read(self, size: int | None = -1, /) -> bytes:
        part = self._file.read(-1 if size is None else size)
        self.md5.update(part)
        return part

    def readable(self) -> bool:
        return True


class _Bounded(io.BufferedIOBase):
    """A stream that refuses to give more bytes than CIFAR-10 has: a small gzip can unpack to anything."""

    def __init__(self, stream: Any, path: Path) -> None:
        super().__init__()
        self._stream, self._path, self._left = stream, path, _MOST_BYTES

    def read(self, size: int | None = -1, /) -> bytes:
        most = self._left + 1
        part: bytes = self._stream.read(most if size is None or size < 0 else min(size, most))
        self._left -= len(part)
        if self._left < 0:
            raise DataError(f"{self._path}: unpacks to more than {_MOST_BYTES:,} bytes; CIFAR-10 has 186 million")
        return part
