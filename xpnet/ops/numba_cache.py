"""A disk cache of Numba's compiled code that many processes can read and write at once.

Numba's own cache lists its files in an index.  If two processes compile a function for different types at once, both
read the index before either writes it, and take the same file name; from then on every process finds the code for one
type under the other type.  Here the name of a file depends on everything that its content depends on, so there is no
index.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import pickle
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache
from numba.core.registry import cpu_target
from numba.core.serialize import dumps

from xpnet.errors import ConfigError
from xpnet.utils.atomic_files import replace_whole
from xpnet.utils.file_system import open_regular
from xpnet.utils.memory import free_addresses

_DIGEST = hashlib.sha256().digest_size
# Bytes of address space that Numba takes at its first call.
_LOADED = 100 * 2**20


@lru_cache(maxsize=1)
def load() -> None:
    """Load the libraries that Numba would otherwise load at the first call of a compiled function, during a training.

    Raises:
        ConfigError: The address space is too small.
    """
    free = free_addresses()
    if free is not None and free < _LOADED:
        raise ConfigError(
            f"memory: what Numba loads takes {_LOADED / 2**20:,.0f} MB of addresses, of which this process may have "
            f"{max(0, free) / 2**20:,.0f} more (ulimit -v); allow it more, or go without Numba: XPNET_FAST=0"
        )
    with _without_blas():
        for name in ("numpy.ma", "numba.core.runtime.context", "numba.np.arraymath"):
            importlib.import_module(name)
    cpu_target.target_context.refresh()
    cpu_target.typing_context.refresh()


@contextlib.contextmanager
def _without_blas() -> Iterator[None]:
    """Keep Numba from loading ``scipy.linalg`` to see whether it is there: a fifth of a second, for nothing here.

    Whoever compiles a product of Numba's loads it then: Numba asks again at each use.
    """
    linalg: Any = importlib.import_module("numba.np.linalg")
    asked = linalg.ensure_blas
    linalg.ensure_blas = lambda: None
    try:
        yield
    finally:
        linalg.ensure_blas = asked


class CodeCache(FunctionCache):
    """Numba's cache of one function, with a file for each signature."""

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        files = CodeFiles(
            Path(self._cache_path), self._impl.filename_base, _sources(Path(function.__code__.co_filename))
        )
        self._cache_file: Any = files

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the cached code of a signature; the first call of every compiled function gets here."""
        load()
        return super().load_overload(sig, target_context)


def _sources(file: Path) -> str:
    """Return a digest of the sources of a function: its own file, and all whose functions and constants it may use.

    These are the files beside it and the operations.  Numba itself compares only the time and size of the function's
    own file, and an installer may set any time.
    """
    return hashlib.sha256(file.read_bytes() + _sources_in(file.parent) + _sources_of_operations()).hexdigest()


def _sources_of_operations() -> bytes:
    return _sources_in(Path(__file__).parent)


@lru_cache
def _sources_in(folder: Path) -> bytes:
    """Return a digest of the sources in a folder."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(folder.glob("*.py")))).digest()


class CodeFiles:
    """The files of a function: a checksum, then the compiled code as Numba serialises it.

    Code that cannot be read is compiled again; code that cannot be written is not cached.
    """

    def __init__(self, folder: Path, name: str, source: str) -> None:
        self._folder, self._name = folder, name
        self._source = _short((numba.__version__, source))

    def load(self, key: Any) -> Any:
        """Return the cached code of a key; None if it is missing or damaged."""
        try:
            with open_regular(self._path(key)) as file:
                content = file.read()
        except OSError:
            return None
        body = content[_DIGEST:]
        return pickle.loads(body) if hashlib.sha256(body).digest() == content[:_DIGEST] else None

    def save(self, key: Any, data: Any) -> None:
        """Write the code of a key, and delete code of older sources."""
        body = dumps(data)
        with contextlib.suppress(OSError):
            replace_whole(self._path(key), hashlib.sha256(body).digest() + body)
        for path in self._folder.glob(f"{self._name}.*.code"):
            if not path.name.startswith(f"{self._name}.{self._source}-"):
                with contextlib.suppress(OSError):
                    path.unlink()

    def flush(self) -> None:
        """Delete all code of the function."""
        for path in self._folder.glob(f"{self._name}.*.code"):
            path.unlink(missing_ok=True)

    def _path(self, key: Any) -> Path:
        return self._folder / f"{self._name}.{self._source}-{_short(key)}.code"


def _short(key: Any) -> str:
    return hashlib.sha256(repr(key).encode()).hexdigest()[:20]
