"""CUDA graphs: launches that are recorded once and then repeated by a single one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any


class Graph:
    """Launches that were captured, with the memory that they alone use."""

    def __init__(self, graph: Any, pool: Any) -> None:
        self._graph, self._pool = graph, pool

    def launch(self) -> None:
        """Launch all of it on the current stream."""
        self._graph.launch()


@cache
def _capture_stream(xp: Any, device: int) -> Any:
    """Return the stream of a device that captures, which must not be the default one; cuBLAS keeps its address."""
    return xp.cuda.Stream(non_blocking=True)


def captured(xp: Any, body: Callable[[], None]) -> Graph:
    """Return what `body` launches on the current stream as a graph; none of it is executed.

    `body` must have run before, so that its kernels are loaded, and may neither wait for the device nor copy
    from or to the host.  What it allocates comes from a pool of the graph's own: memory that is freed within
    `body` is still written whenever the graph is launched.
    """
    pool = xp.cuda.MemoryPool()
    stream = _capture_stream(xp, xp.cuda.runtime.getDevice())
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
    return Graph(graph, pool)
