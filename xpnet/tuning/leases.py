"""Who is at work on a search: workers, and the leases by which others know that they still are."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# A beat every so many parts of a lease: some may be late without its being lost.
_BEATS = 4


@dataclass(frozen=True)
class Worker:
    """A process that trains trials of a search.

    Attributes:
        name: Its own among all workers.
        place: The machine, since when it runs, and where process numbers mean the same; empty if that is not known.
        pid: Its process number there.
        born: When the process began, by the machine's clock; empty if that is not known.
        device: What it computes on.
    """

    name: str
    place: str
    pid: int
    born: str
    device: str

    @classmethod
    def here(cls, device: str = "") -> Worker:
        """Return this process as a worker."""
        pid = os.getpid()
        name = f"{socket.gethostname()}-{pid}-{uuid.uuid4().hex[:6]}"
        return cls(name, _place(), pid, _born(pid), device)

    def is_gone(self, place: str) -> bool:
        """Return whether the process has ended, as far as a process at `place` can tell."""
        if not self.place or self.place != place:
            return False
        if self.born:
            return _born(self.pid) != self.born
        return False


def _place() -> str:
    """Name the machine since its start, and the space of process numbers; empty where there is no such name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()}/{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _born(pid: int) -> str:
    """Return when a process began, in the machine's ticks; empty if there is none."""
    try:
        # The name of the program, in brackets, may hold spaces.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


@dataclass
class LeaseWatch:
    """Tells which leases have expired, by this process's own clock.

    A lease has expired when its worker is a process of this machine that has ended, or when no beat has been seen
    for as long as it is good for: clocks of different machines are never compared.
    """

    place: str = field(default_factory=_place)
    clock: Callable[[], float] = time.monotonic
    _seen: dict[str, tuple[Any, float]] = field(default_factory=dict)

    def expired(self, key: str, lease: Mapping[str, Any] | None, default: float) -> bool:
        """Return whether a lease has expired; `key` names it, None stands for one that was never written."""
        now = self.clock()
        beat = None if lease is None else lease.get("beat")
        if key not in self._seen or self._seen[key][0] != beat:
            self._seen[key] = beat, now
        if lease is None:
            return now - self._seen[key][1] > default
        if lease.get("ended"):
            return True
        if _worker(lease).is_gone(self.place):
            return True
        good_for = float(lease.get("seconds", default))
        return now - self._seen[key][1] > good_for


def _worker(lease: Mapping[str, Any]) -> Worker:
    texts = (str(lease.get(name, "")) for name in ("place", "born", "device"))
    place, born, device = texts
    return Worker(str(lease.get("worker", "")), place, int(lease.get("pid", 0)), born, device)


class Lease:
    """What a worker renews while it lives, in a thread of its own."""

    def __init__(self, worker: Worker, seconds: float, write: Callable[[dict[str, Any]], None]) -> None:
        self.worker, self.seconds = worker, seconds
        self._write, self._beat = write, 0
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Lease:
        self._renew()
        self._thread = threading.Thread(target=self._renew_until_the_end, name="xpnet-lease", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        if self._thread is not None:
            self._thread.join()
        with contextlib.suppress(Exception):  # it expires by itself where this cannot be written
            self._renew(ended=True)

    def _renew_until_the_end(self) -> None:
        while not self._end.wait(self.seconds / _BEATS):
            # A storage that is away for a moment is no reason to end: the next beat may reach it, and the
            # main thread will say what is wrong when it has something to write.
            with contextlib.suppress(Exception):
                self._renew()

    def _renew(self, *, ended: bool = False) -> None:
        self._beat += 1
        worker = self.worker
        self._write(
            {
                "worker": worker.name,
                "place": worker.place,
                "pid": worker.pid,
                "born": worker.born,
                "device": worker.device,
                "beat": self._beat,
                "time": time.time(),
                "seconds": self.seconds,
                "ended": ended,
            }
        )
