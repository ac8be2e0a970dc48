"""Leases: how the workers of a search know which of them still run."""

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

# Beats in the length of a lease: some may be late without its being lost.
_BEATS = 4


def this_worker(device: str = "") -> dict[str, Any]:
    """Describe this process, as its leases do.

    Returns:
        ``worker``, a name that no other worker has; ``place``, the machine since its start and its space of process
        numbers; ``pid``; ``born``, when the process began by the machine's clock; ``device``.  Texts are empty where
        the system does not say.
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
    """Return when a process began, in the machine's ticks; empty if there is no such process."""
    try:
        # The name of the program, in brackets, may hold spaces.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


@dataclass
class LeaseWatch:
    """Tells which leases have expired, by this process's own clock.

    A lease has expired when its worker is a process of this machine that has ended, or when no new beat has been seen
    for the length of the lease: clocks of different machines are never compared.
    """

    place: str = field(default_factory=_place)
    clock: Callable[[], float] = time.monotonic
    _seen: dict[str, tuple[Any, float]] = field(default_factory=dict)

    def expired(self, key: str, lease: Mapping[str, Any] | None, default: float) -> bool:
        """Return whether a lease has expired.

        Args:
            key: Its name.
            lease: The lease; None if it was never written.
            default: Its length in seconds, where it does not say.
        """
        lease = lease or {}
        now, beat = self.clock(), lease.get("beat")
        if key not in self._seen or self._seen[key][0] != beat:
            self._seen[key] = beat, now
        late = now - self._seen[key][1] > float(lease.get("seconds", default))
        return late or bool(lease.get("ended")) or has_ended(lease, self.place)


@contextlib.contextmanager
def renewed(worker: Mapping[str, Any], seconds: float, write: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Hold a lease: write it now, renew it from a thread, and end it."""
    beats, done = itertools.count(1), threading.Event()

    def renew(*, ended: bool = False) -> None:
        write({**worker, "beat": next(beats), "time": time.time(), "seconds": seconds, "ended": ended})

    def renew_until_done() -> None:
        while not done.wait(seconds / _BEATS):
            # A storage that is away for a moment is no reason to end: the next beat may reach it, and the main thread
            # reports what is wrong when it has something to write.
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
        with contextlib.suppress(Exception):  # it expires by itself where this cannot be written
            renew(ended=True)
