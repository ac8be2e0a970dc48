"""What is done to files and processes, and the bounds that xpnet must keep meanwhile."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

# Of the processor, so that other processes have no part; and of the clock, for what would wait without an end.
SECONDS, SECONDS_WAITED = 10, 120
MEMORY = 450 * 2**20


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Let what is inside take little more memory than there is now, and a few seconds."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * os.sysconf("SC_PAGE_SIZE") + MEMORY, before[1]))
    begun = time.process_time()
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert time.process_time() - begun < SECONDS


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Return a file with one to three harms: bits, numbers, cuts, pieces doubled, moved or lost."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        if not data:
            break
        # What is at the beginning and at the end says most about the rest.
        spot = int(rng.integers(len(data)))
        if rng.random() < 0.6:
            spot = min(int(rng.exponential(60)), len(data) - 1)
            spot = len(data) - 1 - spot if rng.random() < 0.3 else spot
        length = int(rng.integers(1, 9))
        harm = rng.integers(7)
        if harm == 0:
            data[spot] ^= 1 << int(rng.integers(8))
        elif harm == 1:
            data[spot : spot + length] = rng.bytes(length)
        elif harm == 2:
            number = int(rng.choice([0, 1, 2**7, 2**15, 2**31 - 1, 2**31, 2**32 - 1]))
            data[spot : spot + 4] = number.to_bytes(4, "little" if rng.random() < 0.5 else "big")
        elif harm == 3:
            del data[spot:]
        elif harm == 4:
            del data[spot : spot + length]
        elif harm == 5:
            data[spot:spot] = data[: int(rng.integers(1, 200))]
        else:
            data[spot:spot] = rng.bytes(length)
    return bytes(data)


@contextlib.contextmanager
def not_waited_for() -> Iterator[None]:
    """Let what is inside raise where it waits, say for somebody who writes into a pipe."""

    def end(*_: object) -> None:
        raise TimeoutError("waited")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, SECONDS_WAITED)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run_python(code: str, *arguments: object, **environment: str) -> str:
    """Return what a program prints in a process of its own, whose memory is its own too."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        # Each thread works in memory of its own; machines have as many as they like.
        env={**os.environ, "OPENBLAS_NUM_THREADS": "2", **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
