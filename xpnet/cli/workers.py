"""Workers of a search that are started together: processes on this machine, or jobs of a cluster.

The first worker has the terminal: it begins the search, shows it and prints its result.  Once the search's folder is
there, the others join it, and write what they say to files in the folder.  This process only watches them: it passes
signals on to all, and reports workers that end before the search does.  Their trials are taken over by the others.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from xpnet.cli.console import Output
from xpnet.errors import ConfigError, RunError, one_line
from xpnet.tuning.folder import SEARCH
from xpnet.tuning.search_identity import OWN
from xpnet.utils.file_system import open_regular
from xpnet.utils.memory import usable_cores

LOGS = "workers"
MOST_WORKERS = 1024
# Variables by which libraries learn how many threads they may have.
_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_SECONDS_BETWEEN_LOOKS = 0.1
# After this many signals, workers are not asked any more.
_PATIENCE = 3
# The signals that end a command.  SIGHUP: the terminal has gone.
_ENDING = ("SIGINT", "SIGTERM", "SIGHUP")


def devices_of(device: str | None, workers: int | None) -> list[str | None]:
    """Return the device of each worker, from a list of devices such as ``gpu:0,gpu:1``; None is not asked for.

    Raises:
        ConfigError: There are too many workers, fewer workers than devices, or a device has no name.
    """
    if workers is not None and not 1 <= workers <= MOST_WORKERS:
        raise ConfigError(f"workers = {workers}: must be a whole number of at least 1 and at most {MOST_WORKERS}")
    if device is None:
        return [None] * (workers or 1)
    devices = [part.strip() for part in device.split(",")]
    if not all(devices):
        raise ConfigError(f"device = {device}: must be auto, cpu, gpu or gpu:N, or several, such as gpu:0,gpu:1")
    count = workers or len(devices)
    if count < len(devices):
        raise ConfigError(f"workers = {count}, device = {device}: leaves a device without a worker; name fewer devices")
    return [devices[number % len(devices)] for number in range(count)]


def without(arguments: Sequence[str], *options: str) -> list[str]:
    """Return a command line without some options that have values."""
    left, skip = [], False
    for argument in arguments:
        if skip:
            skip = False
        elif argument in options:
            skip = True
        elif argument.partition("=")[0] not in options:
            left.append(argument)
    return left


def joining(folder: Path, own: Mapping[str, Any], lease: Any, storage: str | None) -> list[str]:
    """Return the command line by which a worker joins a search, with its own settings."""
    line = ["search", "--resume", str(folder)]
    for name, value in own.items():
        option = name.replace("_", "-")
        if name in OWN and name != "device":
            line.append(f"--{'' if value else 'no-'}{option}" if isinstance(value, bool) else f"--{option}={value}")
    line += [] if lease is None else [f"--lease={lease}"]
    return line + ([] if storage is None else [f"--storage={storage}"])


@dataclass
class Worker:
    """A process that works on a search, from 1 on; the log is None for the first one, which has the terminal."""

    number: int
    device: str | None
    process: subprocess.Popen[bytes]
    log: Path | None

    @property
    def name(self) -> str:
        """The worker in words."""
        return f"worker {self.number}" + ("" if self.device is None else f" ({self.device})")

    def last_words(self) -> str:
        """Return the last line of the worker's log, as far as there is one."""
        if self.log is None:
            return ""
        with contextlib.suppress(OSError), open_regular(self.log) as file:
            file.seek(max(0, self.log.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").strip().splitlines()
            return (
                f"; its log, {self.log}, ends with: {one_line(lines[-1], 300)}" if lines else f"; its log: {self.log}"
            )
        return ""


@dataclass
class LocalWorkers:
    """The workers of a search on this machine.

    Attributes:
        devices: The device of each worker.
        first: The command line of the first worker, without a device.
        others: The command line of the others.
        folder: The folder of the search, which the first worker makes.
        output: Where to report.
    """

    devices: Sequence[str | None]
    first: list[str]
    others: list[str]
    folder: Path
    output: Output
    _running: list[Worker] = field(default_factory=list)
    _signals: list[int] = field(default_factory=list)

    def run(self) -> int:
        """Start all workers and watch them until the last one has ended; return the exit code.

        Raises:
            RunError: All workers have ended before the search was finished.
        """
        with self._passing_signals_on():
            try:
                return self._run()
            finally:
                for worker in self._running:  # after an error of this process
                    worker.process.kill()

    def _run(self) -> int:
        began = (self.folder / SEARCH).is_file()
        first = self._start(1, self.first)
        waiting = list(range(2, len(self.devices) + 1))
        codes: dict[int, int] = {}
        while self._running:
            if waiting and not self._signals and first.process.poll() is None and (self.folder / SEARCH).is_file():
                for number in waiting:
                    self._start(number, self.others)
                self.output.note(f"{len(self.devices)} workers; what the others say is in {self.folder / LOGS}")
                waiting = []
            for worker in [one for one in self._running if one.process.poll() is not None]:
                self._running.remove(worker)
                codes[worker.number] = worker.process.returncode
                self._report(worker, made=began or (self.folder / SEARCH).is_file())
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        if self._signals:
            return 128 + self._signals[0]
        if codes[1] >= 0:
            return codes[1]
        if 0 not in codes.values():
            raise RunError(f"{self.folder}: all workers have ended; xpnet search --resume {self.folder} goes on")
        # The first worker was killed, and the others have finished the search: one more shows the result.
        shown = [flag for flag in self.first if flag in ("--json", "--quiet", "-q", "--verbose", "-v")]
        return self._start(1, [*self.others, *shown]).process.wait()

    def _start(self, number: int, arguments: Sequence[str]) -> Worker:
        device = self.devices[number - 1]
        line = [sys.executable, "-m", "xpnet", *arguments, *([] if device is None else ["--device", device])]
        share = shares(len(self.devices))[number - 1]
        environment = dict.fromkeys(_THREADS, str(len(share))) | dict(os.environ)
        log = None if number == 1 else self.folder / LOGS / f"{number}.txt"
        with contextlib.ExitStack() as stack:
            file: BinaryIO | None = None
            if log is not None:
                log.parent.mkdir(exist_ok=True)
                file = stack.enter_context(open_regular(log, "ab"))
            stack.enter_context(_on_cores(share))
            # In a session of its own, Ctrl-C in the terminal does not reach it: this process passes it on.
            process = subprocess.Popen(
                line,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=environment,
                start_new_session=True,
            )
        worker = Worker(number, device, process, log)
        self._running.append(worker)
        if self._signals:  # one that came while it was started
            process.terminate()
        return worker

    def _report(self, worker: Worker, *, made: bool) -> None:
        """Report a worker that has ended before the search, whose trials others take over."""
        code = worker.process.returncode
        if code == 0 or self._signals or not made or (worker.number == 1 and code > 0):
            return
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        left = {0: "none is left", 1: "the other one goes on, and trains its trials again"}.get(
            len(self._running), f"{len(self._running)} others go on, and train its trials again"
        )
        self.output.note(f"warning: {worker.name} was ended {how}; {left}{worker.last_words()}")

    @contextlib.contextmanager
    def _passing_signals_on(self) -> Iterator[None]:
        """Pass on the signals that end a command; after several of them, kill the workers."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def pass_on(number: int, _: Any) -> None:
            self._signals.append(number)
            for worker in self._running:
                if worker.process.poll() is None:
                    passed = signal.SIGINT if number == signal.SIGINT else signal.SIGTERM
                    worker.process.send_signal(passed) if len(self._signals) < _PATIENCE else worker.process.kill()

        numbers = [getattr(signal, name) for name in _ENDING if hasattr(signal, name)]
        before = {number: signal.getsignal(number) for number in numbers}
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:  # as nohup does
                signal.signal(number, pass_on)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def shares(count: int) -> list[set[int]]:
    """Return the cores of each of `count` workers: all are dealt out; of more workers than cores, several share one."""
    every = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(usable_cores()))
    if count >= len(every):
        return [{every[number % len(every)]} for number in range(count)]
    return [set(every[number * len(every) // count : (number + 1) * len(every) // count]) for number in range(count)]


@contextlib.contextmanager
def _on_cores(share: set[int]) -> Iterator[None]:
    """Let processes that are started within this block run on some cores."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, share)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
