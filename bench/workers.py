"""Measures how much of their time the workers of a search lose to the storage that they share.

python -m bench workers --workers 16 --trials 320 --seconds 1 [--storage URL]

The trials of these workers only wait, so they need no processor: all other time between the first claim and the last
result is lost, to the storage, to its locks, and to processors if there are fewer of them than workers.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xpnet.backend import get_backend
from xpnet.config.settings import Settings
from xpnet.data import load_data
from xpnet.training.device_data import to_device
from xpnet.tuning import Search, SearchConfig, Space, open_storage
from xpnet.tuning.storage import JOURNAL, close_storage
from xpnet.tuning.trial_queue import Slot
from xpnet.tuning.worker import SearchWorker

_STUDY = "waiting"
# Seconds after which a worker that says nothing has died.
_PATIENCE = 600.0


class WaitingWorker(SearchWorker):
    """A worker whose trials wait; `waited` counts the seconds."""

    waited = 0.0
    seconds = 1.0

    def _train(self, claims: Sequence[Slot]) -> None:
        for slot in claims:
            time.sleep(self.seconds)
            self.waited += self.seconds
            score = 1 / (1 + self.queue.number(slot))
            entry = {"score": score, "accuracies": [score], "losses": [1.0], "epochs": 1, "seconds": self.seconds}
            self.queue.finish(slot, score, entry | {"curve": [[1, score]]})


def work(storage: str, seconds: float, barrier: Any, results: Any) -> None:
    """Work on the search until it is finished; put the seconds that were waited, and those that it took."""
    opened = open_storage(storage)
    search = Search.join(opened, _STUDY, {}, get_backend("cpu"))
    worker = WaitingWorker(search.rounds, search.queue, to_device(search.data, search.backend, "float32"), 1)
    worker.seconds = seconds
    barrier.wait()
    begin = time.perf_counter()
    worker.run(60.0)
    results.put((worker.waited, time.perf_counter() - begin))
    close_storage(opened)


def share_lost(storage: str, workers: int, trials: int, seconds: float) -> tuple[float, float]:
    """Return the share of the workers' time that was not waited, and the seconds of the whole search."""
    space, settings = Space.of("lambda"), Settings.from_mapping({"data": "patterns:100/20", "hidden": [2]})
    opened, data = open_storage(storage), load_data(settings.data)
    how = SearchConfig(trials=trials, final="none")
    search = Search.start(space, settings, how, data, get_backend("cpu"), opened, _STUDY)
    search.queue.plan(search.rounds.slots(0, space))
    close_storage(opened)
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(workers), context.Queue()
    processes = [context.Process(target=work, args=(storage, seconds, barrier, results)) for _ in range(workers)]
    for process in processes:
        process.start()
    found = [results.get(timeout=_PATIENCE) for _ in processes]
    for process in processes:
        process.join()
    wall = max(took for _, took in found)
    return 1 - sum(waited for waited, _ in found) / (workers * wall), wall


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench workers", description=__doc__)
    parser.add_argument("--workers", type=int, default=16, help="processes [16]")
    parser.add_argument("--trials", type=int, default=320, help="trials [320]")
    parser.add_argument("--seconds", type=float, default=1.0, help="seconds that a trial waits [1]")
    parser.add_argument("--storage", help="URL of a database [a journal in a temporary folder]")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="xpnet-bench-") as folder:
        storage = options.storage or str(Path(folder, JOURNAL))
        lost, wall = share_lost(storage, options.workers, options.trials, options.seconds)
    least = options.seconds * -(-options.trials // options.workers)
    print(
        f"{options.workers} workers, {options.trials} trials of {options.seconds:g} s: {wall:.1f} s, at least "
        f"{least:.1f} s; {100 * lost:.1f} % of the workers' time lost; load {os.getloadavg()[0]:.1f} on "
        f"{os.cpu_count()} cores"
    )
    return 0
