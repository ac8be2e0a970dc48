"""Leases, by which the workers of a search know which workers still run."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Heartbeats within the length of a lease, so that some may be late before the lease expires.
_BEATS = 4


def this_worker(device: str = "") -> dict[str, Any]:
    """Return the description of this process that its leases contain.

    Returns:
        ``worker``, a unique name; ``place``, which identifies the machine, its last start and its namespace of process
        numbers; ``pid``; ``born``, the start time of the process by the machine's clock; ``device``.  Texts are empty
        if the system does not provide them.
    """
    pid = os.getpid()
    name = f"{socket.gethostname()}-{pid}-{uuid.uuid4().hex[:6]}"
    return {"worker": name, "place": _place(), "pid": pid, "born": _born(pid), "device": device}


def has_ended(worker: Mapping[str, Any], place: str) -> bool:
    """Return whether a worker's process has ended, as far as a process at `place` can tell."""
    same_place = bool(place) and worker.get("place") == place
    return same_place and bool(worker.get("born")) and _born(int(worker.get("pid", 0))) != worker["born"]


def _place() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()}/{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _born(pid: int) -> str:
    """Return the start time of a process, in the machine's ticks; empty if there is no such process."""
    try:
        # The name of the program, in brackets, may contain spaces.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


@dataclass
class LeaseWatch:
    """Decides which leases have expired, by this process's own clock.

    A lease has expired if its worker is a process of this machine that has ended, or if this process has seen no new
    heartbeat for the length of the lease.  Clocks of different machines are never compared.
    """

    place: str = field(default_factory=_place)
    clock: Callable[[], float] = time.monotonic
    _seen: dict[str, tuple[Any, float]] = field(default_factory=dict)

    def expired(self, key: str, lease: Mapping[str, Any] | None, default: float) -> bool:
        """Return whether a lease has expired.

        Args:
            key: The name of the lease.
            lease: The lease; None if it was never written.
            default: Length of the lease in seconds, if the lease does not say.
        """
        lease = lease or {}
        now, beat = self.clock(), lease.get("beat")
        if key not in self._seen or self._seen[key][0] != beat:
            self._seen[key] = beat, now
        late = now - self._seen[key][1] > float(lease.get("seconds", default))
        return late or bool(lease.get("ended")) or has_ended(lease, self.place)


@contextlib.contextmanager
def renewed(worker: Mapping[str, Any], seconds: float, write: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Hold a lease during a context: write it, renew it from a thread, and end it."""
    beats, done = itertools.count(1), threading.Event()

    def renew(*, ended: bool = False) -> None:
        write({**worker, "beat": next(beats), "time": time.time(), "seconds": seconds, "ended": ended})

    def renew_until_done() -> None:
        while not done.wait(seconds / _BEATS):
            # If the storage is unavailable, the next heartbeat may succeed; the main thread reports the error at its
            # next write.
            with contextlib.suppress(Exception):
                renew()

    renew()
    thread = threading.Thread(target=renew_until_done, name="xpnet-lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        with contextlib.suppress(Exception):  # without this write, the lease expires by itself
            renew(ended=True)
