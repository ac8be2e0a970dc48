"""Threads that compute differences, chunk by chunk, until they are done or stopped."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from xpnet.analysis.gradcheck.fast_differences import FastDifferences
from xpnet.analysis.gradcheck.problem import Evaluate, Flags, Floats, Indices, Problem, naive_slopes

_MOST_THREADS = 4


class Workers:
    """Evaluates slopes of one problem in threads; NumPy lets them run beside each other.

    Attributes:
        stopped: Whether `should_stop` said so.
    """

    def __init__(
        self,
        problem: Problem,
        method: str,
        threads: int | None = None,
        progress: Callable[[int], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        self.stopped = False
        self._progress = progress
        self._should_stop = should_stop
        self._stop = threading.Event()
        self._fast = FastDifferences(problem)
        self._evaluate: Evaluate = self._fast if method == "fast" else partial(naive_slopes, problem)
        self._threads = threads or min(_MOST_THREADS, _cores())

    def __enter__(self) -> Workers:
        from threadpoolctl import threadpool_limits

        # The products are small, and BLAS threads of several threads get in each other's way.
        self._limit = threadpool_limits(1, user_api="blas")
        self._pool = ThreadPoolExecutor(self._threads)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._pool.shutdown(cancel_futures=True)
        self._limit.restore_original_limits()

    def slopes(
        self, name: str, flat: Indices, plus: Floats, minus: Floats, *, whole: bool = False
    ) -> tuple[Floats, Flags]:
        """Return slopes and kinks of a tensor's entries, in order.

        After an interruption these are those of the first entries alone; with `whole`, there is no
        interruption and no progress.
        """
        size = self._fast.chunk(name)

        def compute(start: int) -> tuple[Floats, Flags] | None:
            if self._stop.is_set() and not whole:
                return None
            chunk = slice(start, start + size)
            return self._evaluate(name, flat[chunk], plus[chunk], minus[chunk])

        parts = []
        for part in self._pool.map(compute, range(0, len(flat), size)):
            if part is None:
                break
            parts.append(part)
            if not whole:
                self._tell(len(part[0]))
        if not parts:
            return np.empty(0), np.empty(0, bool)
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    def _tell(self, count: int) -> None:
        if self._progress is not None:
            self._progress(count)
        if not self.stopped and self._should_stop is not None and self._should_stop():
            self.stopped = True
            self._stop.set()


def _cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on every system
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
