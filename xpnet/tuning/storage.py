"""Where a search is kept: a journal file, or a database, through Optuna."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xpnet.errors import ConfigError, RunError
from xpnet.tuning.journal import MOST_LINE, operations
from xpnet.utils.file_system import check_utf8, open_regular
from xpnet.utils.locks import try_lock
from xpnet.utils.parsing import check_json

JOURNAL = "study.journal"
# Seconds that a process may hold the journal, which takes milliseconds.
_PATIENCE = 5.0
_TRIES = 8


def open_storage(where: str | Path | None, *, links: bool = True) -> Any:
    """Open a journal file or, by its URL, a database as Optuna's storage.

    Args:
        where: A file, which is made if it does not exist, or a URL such as ``postgresql://user@host/name`` or
            ``sqlite:///file``; None keeps everything in memory.
        links: Whether the file may be a link, as one may that a user names.

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
        if path.exists():  # looked at before a lock appears beside it
            open_regular(path, links=links).close()
        # What a link means is the journal: workers that come by other ways ask for the same lock.
        return JournalStorage(whole_journal(path.resolve() if links else path))
    except OSError as error:
        raise RunError(f"storage = {path}: cannot be opened ({error.strerror}); name another file") from None
    except (ValueError, KeyError) as error:
        raise RunError(f"storage = {path}: is not a journal of a search ({error}); name another file") from None


def _open_database(url: str) -> Any:
    import sqlalchemy.exc

    shown = without_password(url)
    if re.match(r"sqlite(\+\w+)?://(/?$|/:memory:|\?)", url):
        raise ConfigError(f"storage = {shown}: is in memory and ends with this process; name a file, sqlite:///FILE")
    try:
        file = _sqlite_file(url)
        if file is not None and file.exists():  # looked at before SQLite's own journal appears beside it
            open_regular(file, links=True).close()
    except OSError as error:
        raise RunError(f"storage = {shown}: cannot be opened ({error.strerror}); name another file") from None
    try:
        return _with_tables(_with_driver(url))
    except ImportError as error:
        driver = (
            "; pip install '.[postgresql]' in xpnet's source folder brings PostgreSQL's" if "postgres" in url else ""
        )
        raise ConfigError(f"storage = {shown}: its driver is not installed ({error}){driver}") from None
    except (sqlalchemy.exc.ArgumentError, sqlalchemy.exc.NoSuchModuleError) as error:
        raise ConfigError(f"storage = {shown}: is no URL of a database ({_line(error)})") from None
    except (sqlalchemy.exc.SQLAlchemyError, RuntimeError, OSError) as error:
        raise RunError(f"storage = {shown}: cannot be opened ({_line(error)})") from None


def _with_tables(url: str) -> Any:
    """Open a database and make its tables; of workers that begin at once, one does and the others try again."""
    import sqlalchemy.exc
    from optuna.storages import RDBStorage

    for attempt in range(_TRIES):
        try:
            # Connections that the server has closed meanwhile are noticed before they are used.
            return RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
        except (
            sqlalchemy.exc.IntegrityError,
            sqlalchemy.exc.OperationalError,
            sqlalchemy.exc.ProgrammingError,
        ) as error:
            there = re.search("already exists|unique|duplicate|locked", str(error), re.IGNORECASE)
            if there is None or attempt == _TRIES - 1:
                raise
            time.sleep(0.2 * (attempt + 1))
    raise AssertionError


def absolute(where: str) -> str:
    """Return a file or a URL as it is found from any folder.

    Raises:
        RunError: It cannot be kept in a file: it has a NUL, or is not UTF-8.
    """
    if "\0" in where:
        raise RunError(f"storage = {without_password(where)}: has a NUL; name another file")
    found = _absolute(where)
    check_utf8(without_password(found), "storage")
    return found


def _absolute(where: str) -> str:
    if "://" not in where:
        return str(Path(where).resolve())
    found = re.match(r"(sqlite(?:\+\w+)?:///)([^/].*)", where)
    return where if found is None else f"{found[1]}{Path(found[2]).resolve()}"


def check_there(where: str) -> None:
    """Raise :class:`RunError` if a search's storage is a file that is not there any more."""
    path = _sqlite_file(where) if "://" in where else Path(where)
    if path is not None and not path.exists():
        raise RunError(f"{path}: is not there, and with it the search's trials; name its storage, or another folder")


def _sqlite_file(url: str) -> Path | None:
    """Return the file of an SQLite database; None for other databases, which are on servers."""
    found = re.match(r"sqlite(?:\+\w+)?:///(.*?)(?:\?.*)?$", url)
    return None if found is None else Path(found[1])


def close_storage(storage: Any) -> None:
    """Close the connections to a database; anything else needs no closing."""
    engine = getattr(storage, "engine", None)
    if engine is not None:
        storage.scoped_session.remove()
        engine.dispose()


def without_password(url: str) -> str:
    """Return a URL that can be shown and kept."""
    if "://" not in url:
        return url
    scheme, _, rest = url.partition("://")
    place, slash, tail = rest.partition("/")
    if "@" in tail.partition("?")[0]:  # a password with a slash in it
        place, slash, tail = (
            rest.rpartition("@")[0] + "@" + rest.rpartition("@")[2].partition("/")[0],
            *(rest.rpartition("@")[2].partition("/")[1:]),
        )
    user, at, host = place.rpartition("@")
    tail = re.sub(r"([?&])password=[^&]*&?", r"\1", tail).rstrip("?&")
    return f"{scheme}://{user.partition(':')[0]}{at}{host}{slash}{tail}"


@contextmanager
def database_errors() -> Iterator[None]:
    """Turn what a database says in the middle of a search into a sentence."""
    import sqlalchemy.exc
    from optuna.exceptions import StorageInternalError

    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, StorageInternalError) as error:
        # Optuna and SQLAlchemy wrap what the driver says, which alone says what is wrong.
        at: BaseException | None = error
        of_driver: sqlalchemy.exc.DBAPIError | None = None
        while at is not None:
            of_driver = at if isinstance(at, sqlalchemy.exc.DBAPIError) else of_driver
            at = at.__cause__ or at.__context__
        why = _line(error if of_driver is None or of_driver.orig is None else of_driver.orig)
        lost = (sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError)
        if isinstance(of_driver, lost) and not type(of_driver.orig).__module__.startswith("sqlite3"):
            what, then = "the database went away", "when it is there again, --resume goes on from what it holds"
        else:
            what, then = "failed", "--resume goes on from what it holds"
        raise RunError(f"storage: {what} in the middle of the search ({why}); {then}") from error


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
    nobody has ever read, is cut off before the next is written.  A process that was stopped while it held the lock
    is waited for a moment; then lines are added without it, which does no harm, since a line is added whole.
    """
    from optuna.storages.journal import JournalFileBackend

    class WholeJournal(JournalFileBackend):
        def __init__(self) -> None:
            if not path.exists():
                open_regular(path, "ab").close()
            super().__init__(str(path), lock_obj=_NoLock())  # type: ignore[arg-type]
            self.patience = _PATIENCE
            self._begins = [0]  # of each line that was read, and of the next

        def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:  # type: ignore[override]
            number = min(log_number_from, len(self._begins) - 1)
            for operation, end in operations(path, self._begins[number], number + 1):
                number += 1
                if number == len(self._begins):
                    self._begins.append(end)
                if number > log_number_from:
                    yield operation

        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            for log in logs:  # what could not be read again would be lost to all workers
                check_json(json.dumps(log).encode(), f"{path}: what is to be added", RunError, most=MOST_LINE - 1)
            with _locked(path, self.patience) as alone:
                # Who has not let go in that time is not waited for again until the lock has been free.
                self.patience = _PATIENCE if alone else 0.0
                if alone:
                    _cut_unfinished_line(path)
                elif _unfinished(path) is not None:
                    raise RunError(f"{path}: is locked by a process that does not go on; end or continue it")
                lines = [json.dumps(log, separators=(",", ":")) + "\n" for log in logs]
                with open_regular(path, "ab") as file:
                    file.write("".join(lines).encode())
                    file.flush()
                    os.fsync(file.fileno())

    return WholeJournal()


class _NoLock:
    """Stands where Optuna wants a lock; the kernel's is held already."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


@contextmanager
def _locked(path: Path, patience: float) -> Iterator[bool]:
    """Hold the lock of a journal; False if its holder does not go on."""
    where = path.with_name(path.name + ".lock")
    with open_regular(where, "ab") as file:
        end, pause = time.monotonic() + patience, 0.001
        while (alone := try_lock(file, "a search's journal is locked by a file beside it instead")) is False:
            if time.monotonic() > end:
                break
            time.sleep(pause)
            pause = min(2 * pause, 0.05)
        if alone is None:
            with _lock_file(where):
                yield True
        else:
            yield alone  # closing the file lets the lock go


@contextmanager
def _lock_file(path: Path) -> Iterator[None]:
    """Hold Optuna's own lock: a file beside `path`, which others take half a minute after its holder was killed."""
    from optuna.storages.journal import JournalFileOpenLock

    lock = JournalFileOpenLock(str(path))
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _unfinished(path: Path) -> int | None:
    """Return where a last line without its end begins; None if all lines are whole."""
    with open_regular(path) as file:
        size = end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - 4096)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
    return end if end < size else None


def _cut_unfinished_line(path: Path) -> None:
    end = _unfinished(path)
    if end is not None:
        with open_regular(path, "rb+") as file:
            file.truncate(end)
