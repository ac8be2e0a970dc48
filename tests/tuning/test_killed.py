"""Workers that are killed, or stopped, in the middle of a search: real processes, a journal file, a real PostgreSQL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from xpnet.tuning import open_storage
from xpnet.tuning.storage import close_storage
from xpnet.tuning.trial_queue import TrialQueue, attempts_by_slot

pytestmark = [pytest.mark.slow, pytest.mark.guarantee("searches")]

TRIALS, STEPS = 16, 200
SEARCH = [
    *("search", "lambda", "--data", "patterns:600/100", "--hidden", "30", "--batch-size", "20", "--cycles", "2"),
    *("--n-s", str(STEPS), "--trials", str(TRIALS), "--dtype", "float64"),
    *("--device", "cpu", "--final-runs", "1"),
]
FEW = ("--max-replicas", "2", "--lease", "2")
ENVIRONMENT = {"XPNET_FAST": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class Process:
    """A worker: a process of its own."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "xpnet", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **ENVIRONMENT},
        )
        self.pid = self._process.pid

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    def finish(self) -> dict:
        out, err = self._process.communicate(timeout=120)
        assert self._process.returncode == 0, err
        return json.loads(out)

    def until(self, condition) -> None:
        """Wait for something that happens while the worker is at work."""
        end = time.monotonic() + 60
        while not condition():
            assert self._process.poll() is None, self._process.communicate()[1]
            assert time.monotonic() < end
            time.sleep(0.02)


@pytest.fixture
def queue_of():
    """Return a function that opens the queue of a search; its storage is closed after the test."""
    opened = []

    def queue_of(where: str, study: str) -> TrialQueue:
        opened.append(open_storage(where))
        return TrialQueue(opened[-1], study)

    yield queue_of
    for storage in opened:
        close_storage(storage)


def states(queue: TrialQueue, pid: int | None = None) -> list[str]:
    trials = [t for t in queue.trials() if pid is None or f"-{pid}-" in t.user_attrs.get("worker", "")]
    return [trial.state.name for trial in trials]


def check_whole(queue: TrialQueue, before: dict[int, tuple]) -> list[tuple]:
    """Check that every slot has one result, what was finished has stayed, and nothing runs; return the results."""
    trials = queue.trials()
    assert not {"RUNNING", "WAITING"} & {trial.state.name for trial in trials}
    attempts = attempts_by_slot(trials)
    assert sorted(attempts) == [(0, number) for number in range(TRIALS)]
    for own in attempts.values():
        assert [trial.state.name for trial in own].count("COMPLETE") == 1
    for number, (result, finished) in before.items():
        assert trials[number].user_attrs["result"] == result
        assert trials[number].datetime_complete == finished
    done = [trial for trial in trials if trial.state.name == "COMPLETE"]
    return sorted((t.params["lambda"], *t.user_attrs["result"]["accuracies"]) for t in done)


def finished(queue: TrialQueue) -> dict[int, tuple]:
    done = [trial for trial in queue.trials() if trial.state.name == "COMPLETE"]
    return {trial.number: (trial.user_attrs["result"], trial.datetime_complete) for trial in done}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> list[tuple]:
    """Return the results of the search when nobody is killed, all trials at once."""
    out = str(tmp_path_factory.mktemp("search") / "whole")
    with Process(*SEARCH, "--max-replicas", str(TRIALS), "--final", "none", "--json", "--out", out) as worker:
        result = worker.finish()
    return sorted((t["settings"]["lambda"], *t["validation"]["accuracy"]["values"]) for t in result["trials"])


def in_the_middle(queue: TrialQueue, pid: int | None = None) -> bool:
    """Return whether some trials are complete, and others are being trained."""
    return states(queue, pid).count("COMPLETE") >= 2 and "RUNNING" in states(queue, pid)


@pytest.mark.parametrize("kind", ["journal", "postgresql"])
def test_one_of_two_workers_is_killed(tmp_path, kind, undisturbed, queue_of, request):
    study = f"two-{kind}"
    if kind == "journal":
        where, study, storage = str(tmp_path / "one" / "study.journal"), "one", []
        second = ["search", "--resume", "one", "--max-replicas", "2", "--lease", "2"]
    else:
        where = request.getfixturevalue("postgresql_url")
        storage = ["--storage", where, "--study", study]
        second = [*SEARCH, *FEW, *storage, "--out", "two"]
    with Process(*SEARCH, *FEW, *storage, "--out", "one") as victim:
        victim.until(lambda: Path("one/search.toml").is_file())
        queue = queue_of(where, study)
        victim.until(lambda: states(queue, victim.pid).count("COMPLETE") >= 2)
        with Process(*second, "--json") as other:
            victim.until(lambda: "RUNNING" in states(queue, other.pid) and "RUNNING" in states(queue, victim.pid))
            victim.kill()
            before = finished(queue)
            result = other.finish()
    assert len(before) < TRIALS  # it was in the middle
    assert check_whole(queue, before) == undisturbed
    assert "FAIL" in states(queue, victim.pid)
    assert result["counts"]["complete"] == TRIALS
    assert result["test"]["accuracy"] > 0.2
    assert not queue.workers()


def test_resume_goes_on_at_once_after_the_only_worker_was_killed(undisturbed, queue_of):
    # Its lease is longer than the test: a process of this machine that has ended need not be waited for.
    with Process(*SEARCH, "--max-replicas", "2", "--lease", "10000", "--out", "one") as victim:
        victim.until(lambda: Path("one/search.toml").is_file())
        queue = queue_of("one/study.journal", "one")
        victim.until(lambda: in_the_middle(queue))
    before = finished(queue)
    with Process("search", "--resume", "one", "--json") as worker:
        result = worker.finish()
    assert check_whole(queue, before) == undisturbed
    assert result["run"] == "one"
    assert Path("one/winner/metrics.json").is_file()
    rows = Path("one/trials.csv").read_text().splitlines()
    assert len(rows) == TRIALS + 1
    assert all(row.split(",")[2] == "complete" for row in rows[1:])


def test_a_worker_that_stands_still_loses_its_trials_and_does_no_harm_when_it_wakes(undisturbed, queue_of):
    with Process(*SEARCH, *FEW, "--out", "one", "--json") as still:
        still.until(lambda: Path("one/search.toml").is_file())
        queue = queue_of("one/study.journal", "one")
        still.until(lambda: in_the_middle(queue))
        os.kill(still.pid, signal.SIGSTOP)
        try:
            with Process("search", "--resume", "one", "--json", "--lease", "2") as other:
                other.finish()
            before = finished(queue)
            assert len(before) == TRIALS
        finally:
            os.kill(still.pid, signal.SIGCONT)
        assert still.finish()["counts"]["complete"] == TRIALS
    assert check_whole(queue, before) == undisturbed
