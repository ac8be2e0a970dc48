"""Published archives, fetched from the network or taken from a file, and unpacked into the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

from xpnet.config.definitions import DataConfig
from xpnet.data.find import cache_folder
from xpnet.data.formats import read_path
from xpnet.data.published import ARCHIVES, HOME, Archive
from xpnet.data.readers.archive import BoundedInfo
from xpnet.data.readers.packed import is_damage
from xpnet.errors import DataError
from xpnet.utils.file_system import open_regular
from xpnet.utils.locks import try_lock

_MOST_DOWNLOAD = 256 * 2**20  # of an archive whose size is not known
_MOST_UNPACKED, _MOST_MEMBERS = 512 * 2**20, 1000
_ATTEMPTS = 4
# A server that says nothing for so long, or sends fewer bytes a second over a minute, has stalled.
_CONNECT_SECONDS, _SILENT_SECONDS = 15.0, 30.0
_SLOWEST, _SLOW_SECONDS = 2000, 60.0

# Where a process works, and the file in it that is locked while the process lives.
_WORK, _LOCK = ".fetching-", "lock"
_LEFT = "what a fetch that was killed has left stays there"  # where there are no locks
# Others may put the folder back as often as this while it is replaced.
_REPLACEMENTS = 100

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are there, and how many there will be, where that is known."""


class Fetched(NamedTuple):
    """What came of it: the folder, whether it was there before, and what should be known about it."""

    folder: Path
    already: bool
    notes: tuple[str, ...]


class _RefusedError(Exception):
    """Trying again would not help."""


def fetch(
    name: str,
    layout: str = "python",
    *,
    source: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Fetched:
    """Fetch a published archive, check it, and unpack it into the cache folder, or the folder ``XPNET_DATA`` names.

    Nothing is there until all of it is: the archive is unpacked beside its place and moved there as a whole.

    Args:
        name: ``"cifar10"`` or ``"cifar100"``.
        layout: ``"python"``, ``"binary"`` or ``"matlab"``.
        source: A file, the URL of one, or the URL of a folder that holds it; None takes the published place.
        force: Fetch it although it is there, and replace it.
        progress: Told how far it is.

    Raises:
        DataError: There is no such archive, it cannot be had, or what came is something else.
    """
    archive = _archive(name, layout)
    home = _home()
    folder = home / archive.folder
    if folder.is_dir() and not force:
        return Fetched(folder, True, ())
    try:
        home.mkdir(parents=True, exist_ok=True)
        with _work_folder(home) as work:
            path, notes = _obtain(archive, source, work, progress)
            unpacked = _unpack(path, archive, work / "unpacked")
            if notes:
                # Not the published bytes: well formed is what can be read.
                read_path(unpacked, DataConfig())
            _move(unpacked, folder, force)
    except OSError as error:
        where = error.filename or home
        raise DataError(
            f"{where}: cannot be written ({error.strerror or error}); check the folder and its space"
        ) from None
    return Fetched(folder, False, notes)


def _archive(name: str, layout: str) -> Archive:
    archive = ARCHIVES.get((name, layout))
    if archive is None:
        known = ", ".join(f"{data} ({form})" for data, form in ARCHIVES)
        raise DataError(f"{name} ({layout}): is none of those that can be fetched: {known}")
    return archive


def _home() -> Path:
    named = os.environ.get("XPNET_DATA")
    home = Path(named).expanduser() if named else cache_folder()
    if home.exists() and not home.is_dir():
        raise DataError(f"XPNET_DATA = {home}: is a file; name a folder to fetch data into")
    return home


@contextmanager
def _work_folder(home: Path) -> Iterator[Path]:
    """Make a folder of this process alone; those of processes that were killed are taken away."""
    for left in home.glob(f"{_WORK}*/{_LOCK}"):
        with suppress(OSError), open_regular(left, "r+b") as file:
            if try_lock(file, _LEFT):
                shutil.rmtree(left.parent, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=_WORK, dir=home))
    try:
        # It has its name only when it is locked, so that nobody finds it free.
        with (work / "new").open("wb") as file:
            try_lock(file, _LEFT)
            (work / "new").rename(work / _LOCK)
            yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _obtain(
    archive: Archive, source: str | None, work: Path, progress: Progress | None
) -> tuple[Path, tuple[str, ...]]:
    """Return the archive's file, and a warning where it is not the published one."""
    if source is not None and urlsplit(source).scheme not in ("http", "https"):
        path = Path(source).expanduser()
        if not path.is_file():
            raise DataError(f"from = {source}: is no file, and no http or https URL")
        md5 = _md5(path)
        if md5 == archive.md5:
            return path, ()
        warning = (
            f"warning: {path}: is not the published {archive.file} (its MD5 is {md5}, that one's {archive.md5}): "
            "taken as a recompressed or changed copy"
        )
        return path, (warning,)
    url = source or HOME
    if not url.endswith((".gz", ".tgz", ".tar")):
        url = f"{url.rstrip('/')}/{archive.file}"
    return _download(url, archive, work, progress), ()


def _md5(path: Path) -> str:
    with open_regular(path, links=True) as file:
        return hashlib.file_digest(cast(Any, file), lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _download(url: str, archive: Archive, work: Path, progress: Progress | None) -> Path:
    """Download a file whose checksum is known; what is cut off, stalls or is wrong is tried again."""
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")
    keeper = pooch.create(
        path=work,
        base_url="",
        registry={archive.file: f"md5:{archive.md5}"},
        urls={archive.file: url},
        retry_if_failed=_ATTEMPTS - 1,
    )
    receive = _Receiver(archive, progress)
    try:
        return Path(keeper.fetch(archive.file, downloader=receive))
    except _RefusedError as error:
        raise DataError(f"{url}: {error}") from None
    except requests.exceptions.RequestException as error:
        raise DataError(
            f"{url}: could not be fetched in {_ATTEMPTS} attempts ({_reason(error)}); try a mirror, or a file that you "
            "have, with --from"
        ) from None
    except ValueError:
        raise DataError(
            f"{url}: sent other bytes than the published {archive.file}, {_ATTEMPTS} times "
            f"(MD5 {receive.md5} instead of {archive.md5}); try a mirror with --from"
        ) from None


def _reason(error: BaseException) -> str:
    """Return what is at the bottom of an error of requests, in a few words."""
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:160]}" if text else type(error).__name__


class _Receiver:
    """Writes what a server sends to a file, no more than the archive has."""

    def __init__(self, archive: Archive, progress: Progress | None) -> None:
        self._archive, self._progress = archive, progress
        self.md5 = ""

    def __call__(self, url: str, output: Any, _keeper: Any, check_only: bool = False) -> bool | None:
        import requests

        if check_only:
            return None
        most, digest = self._archive.size or _MOST_DOWNLOAD, hashlib.md5(usedforsecurity=False)
        with (
            requests.get(
                url,
                stream=True,
                timeout=(_CONNECT_SECONDS, _SILENT_SECONDS),
                headers={"Accept-Encoding": "identity"},
            ) as response,
            Path(output).open("wb") as file,
        ):
            if 400 <= response.status_code < 500 and response.status_code not in (408, 429):
                raise _RefusedError(f"the server answers {response.status_code} {response.reason}; check the URL")
            response.raise_for_status()
            claimed = response.headers.get("Content-Length", "")
            total = int(claimed) if claimed.isdecimal() else None
            if total is not None and self._archive.size is not None and total != self._archive.size:
                raise _RefusedError(
                    f"has {total:,} bytes, and the published {self._archive.file} {self._archive.size:,}; check the URL"
                )
            done, begun = 0, time.monotonic()
            for part in _parts(response.raw):
                done += len(part)
                if done > most:
                    raise _RefusedError(f"sends more than the {most:,} bytes of {self._archive.file}; check the URL")
                file.write(part)
                digest.update(part)
                self._check_speed(done, time.monotonic() - begun)
                if self._progress is not None:
                    self._progress(done, self._archive.size or total)
            self.md5 = digest.hexdigest()
            if total is not None and done < total:
                raise requests.exceptions.ConnectionError(f"cut off after {done:,} of {total:,} bytes")
        return None

    @staticmethod
    def _check_speed(done: int, seconds: float) -> None:
        import requests

        if seconds > _SLOW_SECONDS and done < _SLOWEST * seconds:
            raise requests.exceptions.Timeout(f"only {done:,} bytes came in {seconds:.0f} s")


def _parts(raw: Any) -> Iterator[bytes]:
    """Yield what comes as it comes, so that one byte at a time is seen as such."""
    import requests
    import urllib3

    read = getattr(raw, "read1", None) or raw.read
    try:
        while part := read(2**16):
            yield part
    except urllib3.exceptions.HTTPError as error:
        raise requests.exceptions.ConnectionError(error) from error


def _unpack(path: Path, archive: Archive, into: Path) -> Path:
    """Unpack an archive into a new folder; return the folder of the data set in it."""
    if not hasattr(tarfile, "data_filter"):
        raise DataError("fetching needs Python 3.11.4 or later, whose tarfile refuses what leads out of an archive")
    into.mkdir()
    size = 0
    try:
        with (
            open_regular(path, links=True) as file,
            tarfile.open(fileobj=file, mode="r:*", tarinfo=BoundedInfo) as tar,
        ):
            for number, member in enumerate(tar, start=1):
                size += member.size
                if number > _MOST_MEMBERS or size > _MOST_UNPACKED:
                    raise DataError(
                        f"{path}: unpacks to more than {_MOST_MEMBERS:,} files or {_MOST_UNPACKED:,} bytes; "
                        "the published archive has 9 files and 186 million"
                    )
                if not (member.isfile() or member.isdir()):
                    raise DataError(f"{path}: holds {member.name!r}, which is no plain file; take another copy")
                tar.extract(member, into, filter="data")
            # The checksum of gzip stands at the end, where the last member is long over.
            while tar.fileobj is not None and (part := tar.fileobj.read(2**16)):
                size += len(part)
                if size > _MOST_UNPACKED:
                    raise DataError(f"{path}: goes on after its last file; take another copy")
    except tarfile.FilterError as error:
        raise DataError(f"{path}: holds what leads out of it ({error}); take another copy") from None
    except DataError:
        raise
    except Exception as error:
        if not (is_damage(error) or isinstance(error, (tarfile.TarError, ValueError, OverflowError))):
            raise
        raise DataError(f"{path}: is broken or no archive ({error}); take another copy") from None
    folder = into / archive.folder
    if not folder.is_dir():
        raise DataError(f"{path}: has no folder {archive.folder}; it is not {archive.file}")
    return folder


def _move(unpacked: Path, folder: Path, force: bool) -> None:
    """Put the folder in its place, whole; of processes that replace it at once, the last one's stays."""
    for number in range(_REPLACEMENTS):
        if force:
            with suppress(FileNotFoundError):
                folder.rename(unpacked.parent.parent / f"replaced-{number}")  # goes with the work folder
        try:
            unpacked.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
            # Another process was faster, which is as good unless this one was told to replace what is there.
            if not force:
                return
        else:
            return
    raise DataError(f"{folder}: is put back by others again and again; fetch it when they have ended")
