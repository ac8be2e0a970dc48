"""CUDA graphs: launches that are recorded once, and then repeated by a single launch."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any


class Graph:
    """Captured launches, with the memory that only they use."""

    def __init__(self, xp: Any, graph: Any, pool: Any) -> None:
        self._graph = graph
        # Not at the end of the process, which frees all memory anyway.
        weakref.finalize(self, _drop, xp, xp.cuda.runtime.getDevice(), pool).atexit = False

    def launch(self) -> None:
        """Launch all of it on the current stream."""
        self._graph.launch()


# Memory pools of dropped graphs, with their devices, that something still uses: frames of an error.
_dropped: list[tuple[Any, int, Any]] = []


def _drop(xp: Any, device: int, pool: Any) -> None:
    """Free the memory of a graph's pool: CuPy's pools keep their blocks after the pool itself is dropped."""
    _dropped.append((xp, device, pool))
    for held in tuple(_dropped):
        xp, device, pool = held
        with xp.cuda.Device(device):
            pool.free_all_blocks()
            if pool.total_bytes() == 0 and held in _dropped:  # a collection in between may have dropped others
                _dropped.remove(held)


@lru_cache(maxsize=8)
def _capture_stream(xp: Any, device: int) -> Any:
    """Return the stream of a device that captures, which must not be the default one; cuBLAS keeps its address."""
    return xp.cuda.Stream(non_blocking=True)


def captured(xp: Any, body: Callable[[], None]) -> Graph:
    """Return what `body` launches on the current stream as a graph; none of it is executed.

    `body` must have run before, so that its kernels are loaded, and may neither wait for the device nor copy
    from or to the host.  What it allocates comes from a pool of the graph's own: memory that is freed within
    `body` is still written whenever the graph is launched.
    """
    pool, device = xp.cuda.MemoryPool(), xp.cuda.runtime.getDevice()
    stream = _capture_stream(xp, device)
    try:
        with stream, xp.cuda.using_allocator(pool.malloc):
            stream.begin_capture()
            try:
                body()
            except BaseException:
                with suppress(Exception):  # the first error is the one to tell
                    stream.end_capture()  # leaves the stream usable; what was captured is of no use
                raise
            graph = stream.end_capture()
        graph.upload(stream)
        stream.synchronize()
    except BaseException:
        with suppress(Exception):
            _drop(xp, device, pool)
        raise
    return Graph(xp, graph, pool)
