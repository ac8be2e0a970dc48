"""File locks: one process at a time, released by the system when the process ends, however it ends.

They are advisory: a process that does not ask is not kept out.  On a file system without locks, which is reported once,
every process is let in, as if alone.  What is locked is a file with content: a library for locks would empty or delete
it, and keep readers out on Windows.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from xpnet.errors import RunError
from xpnet.utils.file_system import go_without, open_regular

# Errors of file systems that have no locks.
_WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EBADF}
# On Windows a locked byte cannot be read by others, so this one lies behind the end of every file that is locked.
_BYTE_ON_WINDOWS = 2**30


def try_lock(file: IO[Any], instead: str = "nothing keeps a second process out of this folder") -> bool | None:
    """Lock a file that is open for writing; return whether that worked, or None on a file system without locks.

    The lock ends when the file is closed, or its process ends.  Programs that this process starts do not inherit it.

    Args:
        file: The file.
        instead: What is done without locks, or what follows, for the message.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(file.fileno(), _BYTE_ON_WINDOWS, os.SEEK_SET)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # the latter on Windows and some network mounts
        return False
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise
        go_without("locks", Path(file.name).parent, error, instead)
        return None
    return True


@contextlib.contextmanager
def only_one(path: Path, refusal: str) -> Iterator[None]:
    """Hold the lock of an existing file, such as ``config.toml`` of a run folder, or refuse.

    The file is neither read nor changed, and no other file is made.

    Args:
        path: The file.  A process that replaces it by another file lets a second process in.
        refusal: The error message if another process has the lock: what it does, and what would be right.

    Raises:
        RunError: Another process has it, or the file cannot be opened for writing.
    """
    try:
        file = open_regular(path, "rb+")
    except OSError as error:
        raise RunError(f"{path}: cannot be opened for writing ({error.strerror or error})") from None
    with file:
        if try_lock(file) is False or not _is_still(path, os.fstat(file.fileno())):
            raise RunError(refusal)
        yield


def _is_still(path: Path, opened: os.stat_result) -> bool:
    """Return whether a path still names the file that was opened: the lock of a replaced file keeps nobody out."""
    try:
        return os.path.samestat(opened, path.stat())
    except FileNotFoundError:
        return False
