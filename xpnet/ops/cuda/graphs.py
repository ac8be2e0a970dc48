"""CUDA graphs: launches that are recorded once, and then repeated by a single launch."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any


class Graph:
    """Captured launches, with the memory that they alone use."""

    def __init__(self, xp: Any, graph: Any, pool: Any) -> None:
        self._graph = graph
        # Not at the end of the process, which frees all memory anyway.
        weakref.finalize(self, _drop, xp, xp.cuda.runtime.getDevice(), pool).atexit = False

    def launch(self) -> None:
        """Launch the graph on the current stream."""
        self._graph.launch()


# Memory pools, with their devices, of dropped graphs that are still in use, for example by an error's frames.
_dropped: list[tuple[Any, int, Any]] = []


def _drop(xp: Any, device: int, pool: Any) -> None:
    """Free the memory of a graph's pool: CuPy's pools keep their blocks after the pool itself is dropped."""
    _dropped.append((xp, device, pool))
    for held in tuple(_dropped):
        xp, device, pool = held
        with xp.cuda.Device(device):
            pool.free_all_blocks()
            if pool.total_bytes() == 0 and held in _dropped:  # a garbage collection in between may have removed it
                _dropped.remove(held)


@lru_cache(maxsize=8)
def _capture_stream(xp: Any, device: int) -> Any:
    """Return the device's stream for captures, not the default one; always the same, as cuBLAS keeps its address."""
    return xp.cuda.Stream(non_blocking=True)


def captured(xp: Any, body: Callable[[], None]) -> Graph:
    """Return a graph of all that `body` launches on the current stream; nothing is executed.

    `body` must have run before, so that its kernels are loaded, and may neither wait for the device nor copy
    from or to the host.  Its allocations come from a pool of the graph's own, because even memory that `body` frees is
    written whenever the graph is launched.
    """
    pool, device = xp.cuda.MemoryPool(), xp.cuda.runtime.getDevice()
    stream = _capture_stream(xp, device)
    try:
        with stream, xp.cuda.using_allocator(pool.malloc):
            stream.begin_capture()
            try:
                body()
            except BaseException:
                with suppress(Exception):  # report the first error, not this one
                    stream.end_capture()  # makes the stream usable again; the captured graph is discarded
                raise
            graph = stream.end_capture()
        graph.upload(stream)
        stream.synchronize()
    except BaseException:
        with suppress(Exception):
            _drop(xp, device, pool)
        raise
    return Graph(xp, graph, pool)
