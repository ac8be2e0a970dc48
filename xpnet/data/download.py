"""Published archives, fetched from the network or taken from a file, and unpacked into the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import string
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from xpnet.config.definitions import DataConfig
from xpnet.data.find import cache_folder
from xpnet.data.formats import read_path
from xpnet.data.published import ARCHIVES, HOME, Archive
from xpnet.data.readers.archive import md5_of, members_of, open_archive
from xpnet.errors import DataError
from xpnet.utils.file_system import open_regular
from xpnet.utils.locks import try_lock

_MOST_DOWNLOAD = 256 * 2**20  # bytes of an archive of unknown size
_PAUSES = (0, 1, 2, 3)  # seconds before each attempt
# A server has stalled if it is silent for so long, or sends fewer bytes per second over a minute.
_SILENT_SECONDS = 30.0
_SLOWEST, _SLOW_SECONDS = 2000, 60.0
_TRY_AGAIN = (408, 429)  # request timeout, too many requests: client errors that may be temporary

# The folder in which a process works, and the file in it that is locked while the process lives.
_WORK, _LOCK = ".fetching-", "lock"
_LEFT = "files of a fetch that was killed stay there"  # on file systems without locks
# Attempts to replace the folder, since other processes may put theirs in its place meanwhile.
_REPLACEMENTS = 100

Progress = Callable[[int, int | None], None]
"""Called with the number of bytes received, and the total number if it is known, else None."""


class Fetched(NamedTuple):
    """A fetched data set: its folder, whether it existed before, and warnings."""

    folder: Path
    already: bool
    notes: tuple[str, ...]


class _TransferError(Exception):
    """A transfer failed, and may succeed when it is tried again."""


def fetch(
    name: str,
    layout: str = "python",
    *,
    source: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Fetched:
    """Fetch a published archive, check it, and unpack it into the cache folder, or the folder ``XPNET_DATA`` names.

    The archive is unpacked beside its place and moved there when it is complete.

    Args:
        name: ``"cifar10"`` or ``"cifar100"``.
        layout: ``"python"``, ``"binary"`` or ``"matlab"``.
        source: The archive's path or URL, or the URL of a folder that has it; None takes the published URL.
        force: Fetch the data even if it exists, and replace it.
        progress: Called as bytes arrive.

    Raises:
        DataError: There is no such archive, it cannot be fetched, or the result is something else.
    """
    archive = ARCHIVES.get((name, layout))
    if archive is None:
        known = ", ".join(f"{data} ({form})" for data, form in ARCHIVES)
        raise DataError(f"{name} ({layout}): is none of those that can be fetched: {known}")
    named = os.environ.get("XPNET_DATA")
    home = Path(named).expanduser() if named else cache_folder()
    if home.exists() and not home.is_dir():
        raise DataError(f"XPNET_DATA = {home}: is a file; name a folder to fetch data into")
    folder = home / archive.folder
    if folder.is_dir() and not force:
        return Fetched(folder, True, ())
    try:
        home.mkdir(parents=True, exist_ok=True)
        with _work_folder(home) as work:
            file, notes = _obtain(archive, source, work, progress)
            unpacked = _unpack(file, archive, work / "unpacked")
            if notes:
                # These are not the published bytes: they are accepted if they can be read.
                read_path(unpacked, DataConfig())
            _move(unpacked, folder, force)
    except OSError as error:
        path = error.filename or home
        raise DataError(
            f"{path}: cannot be written ({error.strerror or error}); check the folder and its space"
        ) from None
    return Fetched(folder, False, notes)


@contextmanager
def _work_folder(home: Path) -> Iterator[Path]:
    """Make a folder for this process alone; remove those of processes that were killed."""
    for left in home.glob(f"{_WORK}*/{_LOCK}"):
        with suppress(OSError), open_regular(left, "r+b") as file:
            if try_lock(file, _LEFT):
                shutil.rmtree(left.parent, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=_WORK, dir=home))
    try:
        # The lock file gets its name only once it is locked, so that no other process finds it unlocked.
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
    if source is not None and not source.lower().startswith(("http://", "https://")):
        path = Path(source).expanduser()
        if not path.is_file():
            raise DataError(f"from = {source}: is no file, and no http or https URL")
        md5 = md5_of(path)
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
    path = work / archive.file
    for pause in _PAUSES:
        time.sleep(pause)
        try:
            _download(url, archive, path, progress)
        except _TransferError as error:
            reason = error
        else:
            return path, ()
    raise DataError(
        f"{url}: could not be fetched in {len(_PAUSES)} attempts ({reason}); try a mirror, or a file that you have, "
        "with --from"
    )


def _download(url: str, archive: Archive, path: Path, progress: Progress | None) -> None:
    """Download the published archive, and no more bytes than it has.

    Raises:
        DataError: The URL does not lead to the archive.
        _TransferError: The transfer was cut off, stalled, or brought other bytes.
    """
    most, digest = archive.size or _MOST_DOWNLOAD, hashlib.md5(usedforsecurity=False)
    with _response(url) as response, path.open("wb") as file:
        claimed = response.headers.get("Content-Length", "")
        total = int(claimed) if claimed.isdecimal() and len(claimed) < 20 else None
        if total is not None and archive.size is not None and total != archive.size:
            raise DataError(
                f"{url}: has {total:,} bytes, and the published {archive.file} {archive.size:,}; check the URL"
            )
        done, begun = 0, time.monotonic()
        for chunk in _parts(response):
            done += len(chunk)
            if done > most:
                raise DataError(f"{url}: sends more than the {most:,} bytes of {archive.file}; check the URL")
            file.write(chunk)
            digest.update(chunk)
            seconds = time.monotonic() - begun
            if seconds > _SLOW_SECONDS and done < _SLOWEST * seconds:
                raise _TransferError(f"only {done:,} bytes came in {seconds:.0f} s")
            if progress is not None:
                progress(done, archive.size or total)
    if total is not None and done < total:
        raise _TransferError(f"cut off after {done:,} of {total:,} bytes")
    if digest.hexdigest() != archive.md5:
        raise _TransferError(
            f"sent other bytes than the published {archive.file}: MD5 {digest.hexdigest()} instead of {archive.md5}"
        )


def _response(url: str) -> Any:
    """Return the server's response; proxies are those of the environment."""
    headers = {"Accept-Encoding": "identity", "User-Agent": "xpnet"}
    try:
        parts = urlsplit(url)
        parts = parts._replace(path=quote(parts.path, string.punctuation), query=quote(parts.query, string.punctuation))
        request = urllib.request.Request(parts.geturl(), headers=headers)
        return urllib.request.urlopen(request, timeout=_SILENT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        if 400 <= error.code < 500 and error.code not in _TRY_AGAIN:
            raise DataError(f"{url}: the server answers {error.code} {error.reason}; check the URL") from None
        raise _TransferError(f"the server answers {error.code} {error.reason}") from None
    except (OSError, HTTPException, ValueError) as error:  # ValueError: of the URL
        raise _TransferError(_reason(error)) from None


def _parts(response: Any) -> Iterator[bytes]:
    """Yield bytes as they arrive, so that a server that sends a few at a time is noticed."""
    try:
        while chunk := response.read1(2**16):
            yield chunk
    except (OSError, HTTPException) as error:
        raise _TransferError(_reason(error)) from None


def _reason(error: BaseException) -> str:
    """Return a network error in a few words."""
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, BaseException):
        error = error.reason
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:160]}" if text else type(error).__name__


def _unpack(path: Path, archive: Archive, into: Path) -> Path:
    """Unpack an archive into a new folder; return the folder of the data set in it."""
    if not hasattr(tarfile, "data_filter"):
        raise DataError("fetching needs Python 3.11.4 or later, whose tarfile refuses paths that leave the archive")
    into.mkdir()
    with open_archive(path) as tar:
        for member in members_of(tar, path):
            if not (member.isfile() or member.isdir()):
                raise DataError(f"{path}: holds {member.name!r}, which is no plain file; take another copy")
            try:
                tar.extract(member, into, filter="data")
            except tarfile.FilterError as error:
                raise DataError(f"{path}: holds a path that leaves the archive ({error}); take another copy") from None
    folder = into / archive.folder
    if not folder.is_dir():
        raise DataError(f"{path}: has no folder {archive.folder}; it is not {archive.file}")
    return folder


def _move(unpacked: Path, folder: Path, force: bool) -> None:
    """Move the complete folder to its place; if several processes do so at once, the last one wins."""
    for number in range(_REPLACEMENTS):
        if force:
            with suppress(FileNotFoundError):
                folder.rename(unpacked.parent.parent / f"replaced-{number}")  # deleted with the work folder
        try:
            unpacked.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
            # Another process was faster; its folder is as good, unless this process must replace it.
            if not force:
                return
        else:
            return
    raise DataError(f"{folder}: is put back by others again and again; fetch it when they have ended")
