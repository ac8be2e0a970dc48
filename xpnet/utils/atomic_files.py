"""Files that are written completely or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from xpnet.errors import RunError
from xpnet.utils.file_system import put_new, sync_folder


def write_new(path: Path, content: bytes) -> None:
    """Write a file that must not exist yet, completely or not at all.

    Raises:
        RunError: The file exists, or cannot be written.
    """
    with _write_errors(path):
        try:
            with _temporary(path, content) as temporary:
                put_new(temporary, path)
        except FileExistsError:
            raise RunError(f"{path}: exists already; nothing is overwritten, name another file") from None


def rewrite(path: Path, content: bytes) -> None:
    """Write a file that may exist already, completely or not at all.

    Raises:
        RunError: It cannot be written.
    """
    with _write_errors(path):
        replace_whole(path, content)


def replace_whole(path: Path, content: bytes) -> None:
    """Write a file that survives a crash of the machine, or stays as it was before.

    Raises:
        OSError: It cannot be written, or there is a folder, a device or a pipe of this name.
    """
    # A rename would put a file in the place of /dev/null.  Links are replaced, and not followed.
    if _is_name(path) and path.exists() and not (path.is_file() or path.is_symlink()):
        raise OSError(errno.EINVAL, "is no file, and is not replaced")
    with _temporary(path, content, synchronise=True) as temporary:
        temporary.replace(path)
        sync_folder(path.parent)


@contextlib.contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror}); check the folder and the space left") from None


@contextlib.contextmanager
def _temporary(path: Path, content: bytes, *, synchronise: bool = False) -> Iterator[Path]:
    """Write a new file beside `path`; it is deleted at the end, unless it has been renamed.

    Raises:
        OSError: It cannot be written, or no file can have the name of `path`.
    """
    if not _is_name(path):
        raise OSError(errno.EINVAL, "is no name that a file can have")
    # Processes of several machines, or containers, that share a folder may have the same number.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        # An old file goes, since a link in somebody else's folder would lead out of it.
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as file:
            file.write(content)
            if synchronise:
                file.flush()
                os.fsync(file.fileno())
        yield temporary
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _is_name(path: Path) -> bool:
    """Return whether a file can have this name."""
    try:
        return bool(path.name and "\0" not in str(path) and os.fsencode(path))
    except UnicodeEncodeError:
        return False
