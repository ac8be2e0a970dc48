"""The storage of a search, through Optuna: memory, a journal file, or a database."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from xpnet.errors import ConfigError, RunError
from xpnet.tuning.journal import journal_backend
from xpnet.utils.extras import need
from xpnet.utils.file_system import check_utf8, open_regular

JOURNAL = "study.journal"
_TRIES = 8
_POSTGRESQL = ("psycopg", "psycopg2")  # drivers, the first of them from the extra


def open_storage(location: str | Path | None, *, links: bool = True) -> Any:
    """Return an Optuna storage for a journal file or, by its URL, a database.

    Args:
        location: A file, which is created if it does not exist, or a URL such as ``postgresql://user@host/name`` or
            ``sqlite:///file``; None keeps everything in memory.
        links: Whether the file may be a link, as files that users name may be.

    Raises:
        ConfigError: The URL is invalid, or its driver is not installed.
        RunError: The file or the database cannot be opened.
        MissingExtraError: Optuna, or the driver for PostgreSQL, is not installed.
    """
    need("search", "a search")
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # otherwise Optuna would report every trial
    if location is None:
        return optuna.storages.InMemoryStorage()
    if "://" in str(location):
        return _open_database(str(location))
    path = Path(location)
    try:
        if path.exists():  # checked before a lock file appears beside it
            open_regular(path, links=links).close()
        # Resolve links, so that workers with other paths to the same journal use the same lock.
        return optuna.storages.JournalStorage(journal_backend(path.resolve() if links else path))
    except OSError as error:
        raise RunError(f"storage = {path}: cannot be opened ({error.strerror}); name another file") from None
    except (ValueError, KeyError) as error:
        raise RunError(f"storage = {path}: is not a journal of a search ({error}); name another file") from None


def _open_database(url: str) -> Any:
    shown = without_password(url)
    if re.match(r"sqlite(\+\w+)?://(/?$|/:memory:|\?)", url):
        raise ConfigError(f"storage = {shown}: is in memory and ends with this process; name a file, sqlite:///FILE")
    try:
        file = _sqlite_file(url)
        if file is not None and file.exists():  # checked before SQLite's own journal appears beside it
            open_regular(file, links=True).close()
    except OSError as error:
        raise RunError(f"storage = {shown}: cannot be opened ({error.strerror}); name another file") from None
    if _needs_a_driver(url) and not any(map(find_spec, _POSTGRESQL)):
        need("postgresql", f"storage = {shown}: PostgreSQL")
    import sqlalchemy.exc

    try:
        return _with_tables(_with_driver(url))
    except ImportError as error:
        raise ConfigError(f"storage = {shown}: its driver is not installed ({error})") from None
    except (sqlalchemy.exc.ArgumentError, sqlalchemy.exc.NoSuchModuleError) as error:
        raise ConfigError(f"storage = {shown}: is no URL of a database ({_first_line(error)})") from None
    except (sqlalchemy.exc.SQLAlchemyError, RuntimeError, OSError) as error:
        raise RunError(f"storage = {shown}: cannot be opened ({_first_line(error)})") from None


def _with_tables(url: str) -> Any:
    """Open a database and create its tables; if several workers begin at once, one succeeds and the others retry."""
    import sqlalchemy.exc as sql
    from optuna.storages import RDBStorage

    for attempt in range(1, _TRIES + 1):
        try:
            # Detect connections that the server has closed before they are used.
            return RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
        except (sql.IntegrityError, sql.OperationalError, sql.ProgrammingError) as error:
            if attempt == _TRIES or not re.search("already exists|unique|duplicate|locked", str(error), re.IGNORECASE):
                raise
            time.sleep(0.2 * attempt)
    raise AssertionError


def absolute(location: str) -> str:
    """Return a file or a URL in a form that is valid in any working folder.

    Raises:
        RunError: A file cannot hold `location`: it has a NUL, or is not UTF-8.
    """
    if "\0" in location:
        raise RunError(f"storage = {without_password(location)}: has a NUL; name another file")
    if "://" not in location:
        location = str(Path(location).resolve())
    elif relative := re.match(r"(sqlite(?:\+\w+)?:///)([^/].*)", location):
        location = f"{relative[1]}{Path(relative[2]).resolve()}"
    check_utf8(without_password(location), "storage")
    return location


def check_exists(location: str) -> None:
    """Raise :class:`RunError` if a search's storage is a file that no longer exists."""
    path = _sqlite_file(location) if "://" in location else Path(location)
    if path is not None and not path.exists():
        raise RunError(f"{path}: is not there, and with it the search's trials; name its storage, or another folder")


def _sqlite_file(url: str) -> Path | None:
    """Return the file of an SQLite database; None for other databases, which run on servers."""
    found = re.match(r"sqlite(?:\+\w+)?:///(.*?)(?:\?.*)?$", url)
    return None if found is None else Path(found[1])


def close_storage(storage: Any) -> None:
    """Close the connections to a database; other storages need not be closed."""
    if (engine := getattr(storage, "engine", None)) is not None:
        storage.scoped_session.remove()
        engine.dispose()


def without_password(url: str) -> str:
    """Return a URL without its password, to show and to store."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    server, slash, path = rest.partition("/")
    if "@" in path.partition("?")[0]:  # the password contains a slash
        login, _, rest = rest.rpartition("@")
        host, slash, path = rest.partition("/")
        server = f"{login}@{host}"
    login, at, host = server.rpartition("@")
    path = re.sub(r"([?&])password=[^&]*&?", r"\1", path).rstrip("?&")
    return f"{scheme}://{login.partition(':')[0]}{at}{host}{slash}{path}"


@contextmanager
def database_errors() -> Iterator[None]:
    """Turn a database error during a search into an error of one sentence."""
    try:
        yield
    except Exception as error:
        if "sqlalchemy" not in sys.modules:  # which only a database loads
            raise
        import sqlalchemy.exc as sql
        from optuna.exceptions import StorageInternalError

        if not isinstance(error, (sql.SQLAlchemyError, StorageInternalError)):
            raise
        # Optuna and SQLAlchemy wrap the driver's error, which has the actual reason.
        cause: BaseException | None = error
        of_driver: sql.DBAPIError | None = None
        while cause is not None:
            of_driver = cause if isinstance(cause, sql.DBAPIError) else of_driver
            cause = cause.__cause__ or cause.__context__
        why = _first_line(error if of_driver is None or of_driver.orig is None else of_driver.orig)
        failed, then = "failed", "--resume goes on from what it holds"
        lost = isinstance(of_driver, (sql.OperationalError, sql.InterfaceError))
        if lost and of_driver is not None and not type(of_driver.orig).__module__.startswith("sqlite3"):
            failed, then = "the database went away", f"when it is there again, {then}"
        raise RunError(f"storage: {failed} in the middle of the search ({why}); {then}") from error


def _with_driver(url: str) -> str:
    """Return the URL with the installed PostgreSQL driver, if it does not name a driver."""
    rest = url.partition("://")[2]
    drivers = _POSTGRESQL if _needs_a_driver(url) else ()
    return next((f"postgresql+{driver}://{rest}" for driver in drivers if find_spec(driver) is not None), url)


def _needs_a_driver(url: str) -> bool:
    """Return whether a URL is of PostgreSQL, and leaves the driver to us."""
    return url.partition("://")[0] in ("postgresql", "postgres")


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0].rstrip(".")[:300] if str(error).strip() else type(error).__name__
