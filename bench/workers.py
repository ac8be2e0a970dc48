"""Measures how much of their time the workers of a search lose to the storage that they share.

python -m bench workers --out bench/results/DATE-workers.json     # all of the table, two or three minutes
python -m bench workers --storage URL --workers 4,8               # a database of your own

A first search trains 200 networks of different sizes, by 1, 2 and 4 workers.  A second one has 16 workers whose trials
only wait, so they need no processor: they stand for machines of a cluster.  Measured are the seconds that each worker
spends in calls of the storage, and how much of the whole time is left for its trials.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.machine import describe, probe
from bench.results import BenchError, write
from xpnet import Network, NetworkConfig, TrainConfig, train
from xpnet.analysis.step_benchmark import summary
from xpnet.backend import get_backend
from xpnet.cli.workers import shares
from xpnet.config.settings import Settings
from xpnet.data import load_data
from xpnet.errors import MissingExtraError
from xpnet.training.device_data import to_device
from xpnet.tuning import Search, SearchConfig, Space, open_storage
from xpnet.tuning.storage import JOURNAL, close_storage, without_password
from xpnet.tuning.trial_queue import Slot
from xpnet.tuning.worker import SearchWorker
from xpnet.utils.extras import need

_SETTINGS = {"data": "patterns:2000/200", "hidden": [20], "epochs": 4, "cycles": None}
_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
# Seconds after which a worker that says nothing has died.
_PATIENCE = 600.0


class Clock:
    """A storage; `seconds` counts the time that the thread which made this spends in its calls."""

    def __init__(self, storage: Any) -> None:
        self._storage, self._thread, self.seconds = storage, threading.get_ident(), 0.0

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._storage, name)
        if not callable(value) or threading.get_ident() != self._thread:  # the lease has a thread of its own
            return value

        def timed(*arguments: Any, **named: Any) -> Any:
            begin = time.perf_counter()
            try:
                return value(*arguments, **named)
            finally:
                self.seconds += time.perf_counter() - begin

        return timed


class TimedWorker(SearchWorker):
    """A worker that counts the seconds that it spends on its trials, without those in the storage.

    Trials wait for `waiting` seconds instead of being trained, if that is given.
    """

    useful = 0.0
    waiting: float | None = None

    def _train(self, claims: Sequence[Slot]) -> None:
        begin = time.perf_counter() - self.queue.storage.seconds
        if self.waiting is None:
            super()._train(claims)
        else:
            for slot in claims:
                self._wait(slot, self.waiting)
        self.useful += time.perf_counter() - self.queue.storage.seconds - begin

    def _wait(self, slot: Slot, seconds: float) -> None:
        time.sleep(seconds)
        score = 1 / (1 + self.queue.number(slot))
        entry = {"score": score, "accuracies": [score], "losses": [1.0], "epochs": 1, "seconds": seconds}
        self.queue.finish(slot, score, entry | {"curve": [[1, score]]})


@dataclass(frozen=True)
class Plan:
    """What is measured: a search of `trials` by `workers`; each trial waits for `waiting` seconds, or is trained."""

    workers: int
    trials: int
    waiting: float | None = None


def work(storage: str, study: str, plan: Plan, cores: set[int], barrier: Any, results: Any) -> None:
    """Work on a search until it is finished; put the seconds for trials, in the storage, and of everything."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    opened = open_storage(storage)
    clock = Clock(opened)
    search = Search.join(clock, study, {}, get_backend("cpu"))
    data = to_device(search.data, search.backend, "float32")
    if plan.waiting is None:  # a first training compiles or loads code
        train(Network(NetworkConfig(inputs=data.data.inputs, hidden=(20,))), data.data, TrainConfig(epochs=1))
    worker = TimedWorker(search.rounds, search.queue, data, 1)
    worker.waiting = plan.waiting
    barrier.wait()
    clock.seconds = 0.0
    begin = time.perf_counter()
    worker.run(60.0)
    results.put((worker.useful, clock.seconds, time.perf_counter() - begin))
    close_storage(opened)


def searched(storage: str, plan: Plan) -> dict[str, Any]:
    """Search with workers; return the share of their time in the storage, as a row of results, and other figures."""
    study = f"{plan.workers}-{time.time_ns()}"
    space, settings = Space.of("width=20..100"), Settings.from_mapping(_SETTINGS)
    opened, data = open_storage(storage), load_data(settings.data)
    how = SearchConfig(trials=plan.trials, final="none")
    search = Search.start(space, settings, how, data, get_backend("cpu"), opened, study)
    search.queue.plan(search.rounds.slots(0, space))
    close_storage(opened)
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(plan.workers), context.Queue()
    each = shares(plan.workers)
    with _threads(len(each[0])):
        processes = [
            context.Process(target=work, args=(storage, study, plan, cores, barrier, results)) for cores in each
        ]
        for process in processes:
            process.start()
    found = [results.get(timeout=_PATIENCE) for _ in processes]
    for process in processes:
        process.join()
        if process.exitcode:
            raise BenchError(f"a worker has ended with exit code {process.exitcode}")
    useful, stored, took = (list(column) for column in zip(*found, strict=True))
    wall = max(took)
    return summary([seconds / wall for seconds in stored]) | {
        "workers": plan.workers,
        "trials": plan.trials,
        "waiting": plan.waiting,
        "wall": wall,
        "stored": sum(stored) / (plan.workers * wall),
        "useful": sum(useful) / (plan.workers * wall),
        "ms_a_trial": 1000 * sum(stored) / plan.trials,
    }


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Give the processes that are started meanwhile `count` threads for products."""
    before = dict(os.environ)
    os.environ.update(dict.fromkeys(_THREADS, str(count)))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def storages(options: argparse.Namespace, stack: ExitStack) -> dict[str, str]:
    """Return the storages to measure, by name: the one asked for, or a journal and a PostgreSQL server of our own."""
    if options.storage is not None:
        return {without_password(options.storage): options.storage}
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="xpnet-bench-"))
    found = {"journal": str(Path(folder, JOURNAL))}
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
    postgresql = importlib.import_module("postgresql")
    programs = postgresql.binaries()
    try:
        need("postgresql", "a database")
    except MissingExtraError:
        programs = None
    if programs is None:
        print("without PostgreSQL: its server, or the extra postgresql, is not installed")
    else:
        found["PostgreSQL"] = stack.enter_context(postgresql.server(programs))
    return found


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the result of all searches."""
    plans = {"trained": [Plan(count, options.trials) for count in options.workers]}
    plans["waiting"] = [Plan(options.waiting, options.trials, options.seconds)] if options.waiting else []
    words = {
        "trained": "trials train networks of 20 to 100 units for 4 epochs of 2,000 samples",
        "waiting": f"trials wait for {options.seconds:g} s",
    }
    result: dict[str, Any] = {"command": _command(options), "machine": describe(), "probe_before": probe()}
    begin, cases = time.perf_counter(), {}
    with ExitStack() as stack:
        there = storages(options, stack)
        for case, some in plans.items():
            rows = {}
            for plan in some:
                for name, storage in there.items():
                    row = rows[f"{name}, {plan.workers}"] = {"storage": name} | searched(storage, plan)
                    print(
                        f"{case:8} {name:11} {plan.workers:3} workers, {plan.trials} trials: {row['wall']:6.1f} s, "
                        f"{100 * row['stored']:5.2f} % of it in the storage ({row['ms_a_trial']:.1f} ms a trial), "
                        f"{100 * row['useful']:5.1f} % for trials; load {os.getloadavg()[0]:.1f}",
                        flush=True,
                    )
            if rows:
                cases[case] = {"what": words[case], "unit": "share", "reference": None, "rows": rows}
    result["suites"] = {"workers": {"cases": cases, "seconds": time.perf_counter() - begin}}
    return result | {"probe_after": probe()}


def _command(options: argparse.Namespace) -> str:
    parser, words = _parser(), ["python -m bench workers"]
    for action in parser._actions:
        value = getattr(options, action.dest, None)
        if action.dest in ("out", "help") or value == action.default:
            continue
        shown = ",".join(map(str, value)) if isinstance(value, list) else value
        words.append(f"--{action.dest} {'URL' if action.dest == 'storage' else shown}")
    return " ".join(words)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench workers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    numbers = [1, 2, 4]
    parser.add_argument("--workers", type=_numbers, default=numbers, help="numbers of processes that train [1,2,4]")
    parser.add_argument("--waiting", type=int, default=16, help="processes whose trials wait; 0: none [16]")
    parser.add_argument("--trials", type=int, default=200, help="trials of each search [200]")
    parser.add_argument("--seconds", type=float, default=1.0, help="seconds that a trial waits [1]")
    parser.add_argument("--storage", help="URL of a database [a journal, and a PostgreSQL server if one is installed]")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write the result to a new file")
    return parser


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    options = _parser().parse_args(arguments)
    result = measure(options)
    if options.out is not None:
        write(options.out, result)
        print(f"written: {options.out}; python -m bench page puts it into docs/clusters.md")
    return 0
