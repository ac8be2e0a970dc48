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
        RunError: The file cannot be written.
    """
    with _write_errors(path):
        replace_whole(path, content)


def replace_whole(path: Path, content: bytes) -> None:
    """Replace a file so that, even after a crash of the machine, it has either the new or the old content.

    Raises:
        OSError: The file cannot be written, or `path` is a folder, a device or a pipe.
    """
    # A rename would replace even /dev/null by a file.  Links are replaced, not followed.
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
    """Yield a new file beside `path`; it is deleted at the end, unless it has been renamed.

    Raises:
        OSError: The file cannot be written, or the name of `path` is not possible for a file.
    """
    if not _is_name(path):
        raise OSError(errno.EINVAL, "is no name that a file can have")
    # Processes on different machines or containers that share a folder may have equal process numbers.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        # Remove an existing file first: in an untrusted folder, it might be a link that leads out of the folder.
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
    """Return whether the name of `path` is possible for a file."""
    try:
        return bool(path.name and "\0" not in str(path) and os.fsencode(path))
    except UnicodeEncodeError:
        return False
