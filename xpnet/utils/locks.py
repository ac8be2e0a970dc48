"""Locks between processes: one at a time, let go by the system when a process ends, however it ends.

They are advisory: a process that does not ask is not kept out.  Where there are none (no ``fcntl``, or a file system
without locks, which is told once) everybody is let in, as if alone.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from xpnet.errors import RunError
from xpnet.utils.file_system import go_without, open_regular

# What the system says where a file system has no locks.
_WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EBADF}


def try_lock(file: IO[Any], instead: str = "nothing keeps a second process out of this folder") -> bool | None:
    """Take the lock of a file that is open for writing; return whether that could be had, None where there are none.

    The lock goes when the file is closed, or its process ends.  Programs that this process starts do not inherit it.

    Args:
        file: The file.
        instead: What the message says of a file system without locks: what follows, or what is done instead.
    """
    try:
        import fcntl
    except ImportError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise
        go_without("locks", Path(file.name).parent, error, instead)
        return None
    return True


@contextlib.contextmanager
def only_one(path: Path, refusal: str) -> Iterator[None]:
    """Hold the lock of a file that is there, such as ``config.toml`` of a run folder, or refuse.

    The file is neither read nor changed, and nothing is left beside it.

    Args:
        path: The file; who replaces it by another lets a second process in.
        refusal: What the error says if another process has the lock: what it does there, and what would be right.

    Raises:
        RunError: Another process has it, or the file cannot be opened for writing.
    """
    try:
        file = open_regular(path, "rb+")
    except OSError as error:
        raise RunError(f"{path}: cannot be opened for writing ({error.strerror or error})") from None
    with file:
        if try_lock(file) is False:
            raise RunError(refusal)
        if not _is_still(path, os.fstat(file.fileno())):
            raise RunError(refusal)
        yield


def _is_still(path: Path, opened: os.stat_result) -> bool:
    """Return whether a file is the one that was opened: nobody asks for the lock of one that was replaced."""
    try:
        return os.path.samestat(opened, path.stat())
    except FileNotFoundError:
        return False
