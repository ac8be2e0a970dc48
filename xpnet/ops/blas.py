"""Matrix products with alpha and beta by NumPy's own BLAS, and control of its threads.

NumPy calls BLAS only with alpha = 1 and beta = 0.  C <- alpha A B + beta C in one call is a gradient step on the
weights, (1 - 2 eta lambda) W - x' g, without a separate pass over W.  The functions are looked up in the library that
NumPy has loaded, so there is one pool of threads.  If they cannot be found (another BLAS, another system), callers use
NumPy instead.
"""

from __future__ import annotations

import contextvars
import ctypes
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.backend import Array
from xpnet.utils.memory import usable_cores

# Prefix and suffix of the symbols, and the size of their integers.
_NAMES = (
    ("scipy_", "64_", ctypes.c_int64),
    ("", "64_", ctypes.c_int64),
    ("scipy_", "", ctypes.c_int),
    ("", "", ctypes.c_int),
)
_ROW_MAJOR, _AS_IT_IS, _TRANSPOSED = 101, 111, 112


class Blas:
    """Entry points of one BLAS library.

    Attributes:
        sgemm, dgemm: C functions ``cblas_?gemm``.
        wide: Whether their integers have 64 bits.
    """

    def __init__(self, library: Any, prefix: str, suffix: str, integer: Any) -> None:
        self.wide = integer is ctypes.c_int64
        self.sgemm = self._gemm(getattr(library, f"{prefix}cblas_sgemm{suffix}"), integer, ctypes.c_float)
        self.dgemm = self._gemm(getattr(library, f"{prefix}cblas_dgemm{suffix}"), integer, ctypes.c_double)
        self._set = getattr(library, f"{prefix}openblas_set_num_threads{suffix}", None)
        self._get = getattr(library, f"{prefix}openblas_get_num_threads{suffix}", None)

    @staticmethod
    def _gemm(function: Any, integer: Any, real: Any) -> Any:
        pointer = ctypes.c_void_p
        function.argtypes = [ctypes.c_int] * 3 + [integer] * 3 + [real, pointer, integer, pointer, integer, real]
        function.argtypes += [pointer, integer]
        function.restype = None
        return function

    def add_product(self, x: Array, g: Array, W: Array, alpha: float, beta: float) -> None:
        """Compute W <- alpha x' g + beta W in place, for x (n, d), g (n, m), W (d, m) of one floating type.

        Each matrix may have gaps between its rows, but not within them; see :func:`rows_contiguous`.
        """
        size = W.itemsize
        (n, d), m = x.shape, g.shape[1]
        (self.sgemm if size == 4 else self.dgemm)(
            _ROW_MAJOR, _TRANSPOSED, _AS_IT_IS, d, m, n,
            alpha, x.ctypes.data, x.strides[0] // size, g.ctypes.data, g.strides[0] // size,
            beta, W.ctypes.data, W.strides[0] // size,
        )  # fmt: skip

    @property
    def threads(self) -> int | None:
        """Number of threads in the library's pool; None if the library cannot tell."""
        return None if self._get is None or self._set is None else int(self._get())

    @threads.setter
    def threads(self, count: int) -> None:
        if self._set is not None:
            self._set(ctypes.c_int(count))


def rows_contiguous(a: Array) -> bool:
    """Return whether BLAS can read the matrix without a copy: the elements of a row are contiguous."""
    return bool(a.strides[1] == a.itemsize and (a.shape[0] == 1 or a.strides[0] >= a.shape[1] * a.itemsize))


@lru_cache(maxsize=1)
def numpy_blas() -> Blas | None:
    """Return the BLAS that NumPy computes with, or None if its functions cannot be found."""
    from threadpoolctl import threadpool_info

    np.ones((2, 2), np.float32) @ np.ones((2, 2), np.float32)  # loads BLAS
    for pool in threadpool_info():
        # SciPy has a BLAS of its own; a second pool of threads would compete with NumPy's.
        if pool["user_api"] != "blas" or "scipy.libs" in Path(pool["filepath"]).parts:
            continue
        try:
            library = ctypes.CDLL(pool["filepath"])
        except OSError:
            continue
        for prefix, suffix, integer in _NAMES:
            if hasattr(library, f"{prefix}cblas_sgemm{suffix}"):
                blas = Blas(library, prefix, suffix, integer)
                return blas if _is_correct(blas) else None
    return None


def _is_correct(blas: Blas) -> bool:
    """Return whether the functions compute products correctly, since the size of their integers is a guess."""
    draw = np.random.default_rng(0)
    for dtype in ("float32", "float64"):
        x, g, W = (draw.standard_normal(shape).astype(dtype) for shape in ((3, 5), (3, 2), (5, 2)))
        expected = 0.5 * W - x.T @ g
        blas.add_product(x, g, W, -1.0, 0.5)
        if not np.allclose(W, expected, rtol=1e-4):
            return False
    return True


def blas_threads() -> int:
    """Return how many threads NumPy's BLAS uses outside of :func:`one_blas_thread`, at most one for each core."""
    blas = numpy_blas()
    with _lock:  # while another thread enters one_blas_thread, BLAS might seem to have one thread
        allowed = _before if _inside else blas.threads if blas is not None else None
    cores = usable_cores()
    return max(1, min(cores, allowed or cores))


_lock = threading.Lock()
_inside, _before = 0, 1


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Restrict BLAS to one thread, the thread that calls it.

    Contexts may be nested and entered by several threads; the last one to exit restores BLAS's threads.
    """
    global _inside, _before
    blas = numpy_blas()
    if blas is None or blas.threads is None:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1, user_api="blas"):
            yield
        return
    with _lock:
        if _inside == 0:
            _before = blas.threads
            blas.threads = 1
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                blas.threads = _before


def on_all_cores(jobs: Sequence[Callable[[], Any]], threads: int | None = None) -> list[Any]:
    """Run independent jobs on as many threads as BLAS has, one BLAS thread each; return their results in order.

    BLAS's own threads stay asleep, even if there is one job: after their last product they would keep a core busy, up
    to a tenth of a second.
    """
    threads = min(threads or blas_threads(), len(jobs))
    if threads <= 1:
        with one_blas_thread():
            return [job() for job in jobs]
    with one_blas_thread(), ThreadPoolExecutor(threads) as pool:
        # Settings such as np.errstate belong to a context, which a new thread does not inherit.
        futures = [pool.submit(contextvars.copy_context().run, job) for job in jobs]
        return [future.result() for future in futures]
