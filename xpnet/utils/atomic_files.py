"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path
from typing import BinaryIO

from xpnet.errors import RunError
from xpnet.utils.file_system import put_new, sync_folder


def write_new(path: Path, content: bytes) -> None:
    """Write a file that must not exist yet, whole or not at all.

    Raises:
        RunError: The file exists, or cannot be written.
    """
    temporary = None
    try:
        temporary = _beside(path)
        with _opened_anew(temporary) as file:
            file.write(content)
        put_new(temporary, path)
    except FileExistsError:
        raise RunError(f"{path}: exists already; nothing is overwritten, name another file") from None
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror}); check the folder and the space left") from None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    """Name a file that is written before it takes the place of another.

    Processes of several machines, or containers, that share a folder may have the same number.

    Raises:
        OSError: No file can have that name.
    """
    try:
        possible = path.name and "\0" not in str(path) and os.fsencode(path)
    except UnicodeEncodeError:
        possible = False
    if not possible:
        raise OSError(errno.EINVAL, "is no name that a file can have")
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def rewrite(path: Path, content: bytes) -> None:
    """Write a file that may be there already, whole or not at all.

    Raises:
        RunError: It cannot be written.
    """
    try:
        replace_whole(path, content)
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror}); check the folder and the space left") from None


def replace_whole(path: Path, content: bytes) -> None:
    """Write a file that is there after a crash of the machine, or is as it was before.

    Raises:
        OSError: It cannot be written, or what is there is a folder, a device or a pipe.
    """
    temporary = _beside(path)
    # A rename would put a file in the place of /dev/null.  Links are replaced, and not followed.
    if path.exists() and not (path.is_file() or path.is_symlink()):
        raise OSError(errno.EINVAL, "is no file, and is not replaced")
    try:
        with _opened_anew(temporary) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _opened_anew(path: Path) -> BinaryIO:
    """Open a new file; what has its name goes, since a link in a stranger's folder would lead out of it."""
    path.unlink(missing_ok=True)
    return path.open("xb")
