"""Where a search is kept: a journal file, or a database, through Optuna."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xpnet.errors import ConfigError, RunError

JOURNAL = "study.journal"


def open_storage(where: str | Path | None) -> Any:
    """Open a journal file or, by its URL, a database as Optuna's storage.

    Args:
        where: A file, which is made if it does not exist, or a URL such as ``postgresql://user@host/name`` or
            ``sqlite:///file``; None keeps everything in memory.

    Raises:
        ConfigError: The URL is not understood, or its driver is not installed.
        RunError: The file or the database cannot be opened.
    """
    _quiet()
    if where is None:
        from optuna.storages import InMemoryStorage

        return InMemoryStorage()
    text = str(where)
    if "://" in text:
        return _open_database(text)
    from optuna.storages import JournalStorage

    path = Path(where)
    try:
        return JournalStorage(whole_journal(path))
    except OSError as error:
        raise RunError(f"storage = {path}: cannot be opened ({error.strerror}); name another file") from None
    except (ValueError, KeyError) as error:
        raise RunError(f"storage = {path}: is not a journal of a search ({error}); name another file") from None


def _open_database(url: str) -> Any:
    import sqlalchemy.exc
    from optuna.storages import RDBStorage

    shown = without_password(url)
    try:
        # Connections that the server has closed meanwhile are noticed before they are used.
        return RDBStorage(_with_driver(url), engine_kwargs={"pool_pre_ping": True})
    except ImportError as error:
        driver = " ; pip install 'xpnet[postgresql]' brings PostgreSQL's" if "postgres" in url else ""
        raise ConfigError(f"storage = {shown}: its driver is not installed ({error}){driver}") from None
    except (sqlalchemy.exc.ArgumentError, sqlalchemy.exc.NoSuchModuleError) as error:
        raise ConfigError(f"storage = {shown}: is no URL of a database ({_line(error)})") from None
    except (sqlalchemy.exc.SQLAlchemyError, RuntimeError, OSError) as error:
        raise RunError(f"storage = {shown}: cannot be opened ({_line(error)})") from None


def without_password(url: str) -> str:
    """Return a URL that can be shown and kept."""
    return re.sub(r"(://[^/@:]*):[^@]*@", r"\1@", url)


@contextmanager
def database_errors() -> Iterator[None]:
    """Turn what a database says in the middle of a search into a sentence."""
    import sqlalchemy.exc
    from optuna.exceptions import StorageInternalError

    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, StorageInternalError) as error:
        raise RunError(
            f"storage: failed in the middle of the search ({_line(error)}); --resume goes on from what it holds"
        ) from error


def _with_driver(url: str) -> str:
    """Name the PostgreSQL driver that is installed, where the URL names none."""
    from importlib.util import find_spec

    scheme, _, rest = url.partition("://")
    if scheme in ("postgresql", "postgres"):
        for driver in ("psycopg", "psycopg2"):
            if find_spec(driver) is not None:
                return f"postgresql+{driver}://{rest}"
    return url


def _line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0].rstrip(".")[:300] if str(error).strip() else type(error).__name__


def _quiet() -> None:
    """Keep Optuna from telling of every trial."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)


def whole_journal(path: Path) -> Any:
    """Return a journal file that a process which was killed leaves usable.

    Optuna's own locks are files, which a killed process leaves behind, and a line that it had not finished would
    spoil the next one.  This lock is the kernel's, which ends with the process, and an unfinished last line, which
    nobody has ever read, is cut off before the next is written.
    """
    from optuna.storages.journal import JournalFileBackend

    class WholeJournal(JournalFileBackend):
        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            with _locked(path):
                _cut_unfinished_line(path)
                super().append_logs(logs)

    return WholeJournal(str(path), lock_obj=_NoLock())  # type: ignore[arg-type]


class _NoLock:
    """Stands where Optuna wants a lock; the kernel's is held already."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:  # where there is no such lock, Optuna's
        from optuna.storages.journal import JournalFileOpenLock

        lock = JournalFileOpenLock(str(path))
        lock.acquire()
        try:
            yield
        finally:
            lock.release()
        return
    with path.with_name(path.name + ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)


def _cut_unfinished_line(path: Path) -> None:
    with path.open("r+b") as file:
        size = end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - 4096)
            file.seek(start)
            piece = file.read(end - start)
            newline = piece.rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            file.truncate(end)
