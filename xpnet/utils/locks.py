"""File locks for one process at a time; the system releases them when the process ends for any reason.

The locks are advisory: they do not stop a process that does not ask for them.  On a file system without locks, which is
reported once, every process gets the lock.  Files with content are locked; a library for locks would empty or delete
them, and on Windows would keep readers out.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from xpnet.errors import RunError
from xpnet.utils.file_system import go_without, open_regular

# Errors of file systems that have no locks.
_WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EBADF}
# On Windows, others cannot read a locked byte, so the locked byte lies behind the end of every file.
_BYTE_ON_WINDOWS = 2**30
# Tries to get a lock that somebody may hold for an instant only, and the seconds between them.
_TRIES, _PAUSE = 5, 0.02


def try_lock(file: IO[Any], instead: str = "nothing keeps a second process out of this folder") -> bool | None:
    """Lock a file that is open for writing; return whether this succeeded, or None on a file system without locks.

    The lock ends when the file is closed or the process ends.  Programs that this process starts do not inherit it.

    Args:
        file: The file.
        instead: The consequence of missing locks, or the substitute, for the message.
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

    The file is neither read nor changed, and no other file is created.

    Args:
        path: The file.  If a process replaces it by another file, a second process can lock that one.
        refusal: The error message if another process has the lock: what that process does, and a remedy.

    Raises:
        RunError: Another process has the lock, or the file cannot be opened for writing.
    """
    try:
        file = open_regular(path, "rb+")
    except OSError as error:
        raise RunError(f"{path}: cannot be opened for writing ({error.strerror or error})") from None
    with file:
        if _try_lock_again(file) is False or not _is_still(path, os.fstat(file.fileno())):
            raise RunError(refusal)
        yield


def _try_lock_again(file: IO[Any]) -> bool | None:
    """Lock a file as :func:`try_lock` does, also if a list of runs looks at this moment whether somebody holds it."""
    for _ in range(_TRIES):
        if (locked := try_lock(file)) is not False:
            return locked
        time.sleep(_PAUSE)
    return False


def _is_still(path: Path, opened: os.stat_result) -> bool:
    """Return whether `path` still names the opened file, since the lock of a replaced file has no effect."""
    try:
        return os.path.samestat(opened, path.stat())
    except FileNotFoundError:
        return False
