"""Functions that open only regular files, and that do without features that a file system lacks.

Opening a pipe waits until a process writes into it, and a link in an untrusted folder may lead out of the folder. FAT
and many network mounts have no hard links, some cannot synchronise folders, and some have no locks.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

from xpnet.errors import RunError

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
# Errors for a folder that cannot be synchronised; PostgreSQL and SQLite ignore them, too.
_NO_SYNC = {errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EISDIR, errno.EACCES}


def open_handle(path: Path, flags: int, *, links: bool) -> int:
    """Open a regular file, as :func:`os.open` does, without waiting.

    Args:
        path: The file.
        flags: Flags for :func:`os.open`.
        links: Whether `path` may be a link.  Files that users name may be links; files within a folder that xpnet
        writes may not.

    Returns:
        The descriptor.

    Raises:
        OSError: The file cannot be opened, or is a folder, a pipe, a socket, a device, or a link that is not allowed.
    """
    flags |= getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | (0 if links else getattr(os, "O_NOFOLLOW", 0))
    if not links and not hasattr(os, "O_NOFOLLOW") and path.is_symlink():
        raise _link(path)
    try:
        handle = os.open(path, flags, 0o666)
    except OSError as error:
        if not links and path.is_symlink():
            raise _link(path) from None
        if error.errno == errno.ENXIO:  # a pipe without a reader, or a socket, opened for writing
            raise _no_file(path, path.stat().st_mode) from None
        raise
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        raise _no_file(path, mode)
    return handle


def open_regular(path: Path, mode: str = "rb", *, links: bool = False, buffering: int = -1) -> BinaryIO:
    """Open a regular file for bytes, as :func:`open` does, without waiting; see :func:`open_handle`."""
    name = os.fspath(path)  # text, which NumPy keeps for a file that it maps
    return cast(BinaryIO, open(name, mode, buffering, opener=lambda _, flags: open_handle(path, flags, links=links)))


def _link(path: Path) -> OSError:
    why = "it is a link, which may lead out of its folder; put the file itself in its place"
    return OSError(errno.ELOOP, why, str(path))


def _no_file(path: Path, mode: int) -> OSError:
    kind = _KINDS.get(stat.S_IFMT(mode), "something else")
    return OSError(errno.EINVAL, f"it is {kind}, and must be a regular file", str(path))


def put_new(temporary: Path, path: Path) -> None:
    """Rename a complete file to `path`, which must not exist yet.

    Without hard links, an empty file reserves the name until the complete file replaces it; if the process is killed in
    between, the empty file stays.

    Raises:
        FileExistsError: `path` exists.
        OSError: The file cannot get this name.
    """
    try:
        # A hard link fails if the name is taken; a rename would silently replace the file.
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError as error:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        try:
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        go_without("hard links", path.parent, error, "files are renamed instead")


def sync_folder(folder: Path) -> None:
    """Write a rename or a new folder to the disk, if the file system can synchronise folders."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:  # the folder may be writable but not readable
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
        risk = "after a crash of the machine the newest files may be missing"
        go_without("synchronised folders", folder, error, risk)
    finally:
        os.close(handle)


def _log(words: str) -> None:
    import logging

    logging.getLogger("xpnet").warning(words)


tell: Callable[[str], None] = _log
"""Called with sentences about features that a file system lacks: the log ``xpnet``, or the command line."""
reported: set[tuple[int, str]] = set()
"""Pairs of a file system, by device, and a feature that :data:`tell` was already called for."""


def go_without(feature: str, folder: Path, error: OSError, instead: str) -> None:
    """Report, once for each file system, a feature that it lacks.

    Args:
        feature: The feature.
        folder: A folder in the file system.
        error: The system's error.
        instead: What xpnet does instead, or the consequence.
    """
    try:
        key = folder.stat().st_dev, feature
    except OSError:
        key = 0, feature
    if key not in reported:
        reported.add(key)
        tell(f"{folder}: its file system has no {feature} ({error.strerror or error}); {instead}")


def check_utf8(name: str | Path, called: str) -> None:
    """Refuse a name that JSON and TOML files cannot hold.

    Raises:
        RunError: The name is not UTF-8.
    """
    try:
        str(name).encode()
    except UnicodeEncodeError:
        raise RunError(
            f"{called} = {name}: is not UTF-8, and the files that hold this name are; take another"
        ) from None


def unused(path: Path) -> Path:
    """Return a path beside `path`, with a number at the end of its name, at which there is nothing."""
    at = path if path.name not in ("", "..") else path.absolute().resolve()
    stem, suffix = (at.name, "") if at.is_dir() else (at.stem, at.suffix)
    return next(new for n in itertools.count(2) if not os.path.lexists(new := at.with_name(f"{stem}_{n}{suffix}")))
