"""The share of time that workers lose to their storage: workers that train, and workers that wait."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from bench.page import slots
from bench.results import newest
from bench.workers import Clock, main


class Storage:
    """A storage whose calls take a moment."""

    engine = None

    def write(self) -> str:
        time.sleep(0.02)
        return "written"


def test_clock_counts_the_seconds_in_calls_of_a_storage():
    clock = Clock(Storage())
    assert clock.engine is None
    assert clock.write() == "written"
    assert clock.seconds >= 0.02


@pytest.mark.slow
def test_workers_that_train_and_wait_lose_a_share_of_their_time(capsys, monkeypatch):
    monkeypatch.setenv("XPNET_FAST", "0")
    line = ["--workers", "1", "--waiting", "2", "--trials", "6", "--seconds", "0.2", "--out", "w.json"]
    assert main([*line, "--storage", "sqlite:///trials.db"]) == 0
    assert "waiting  sqlite:///trials.db   2 workers, 6 trials:" in capsys.readouterr().out
    cases = json.loads(Path("w.json").read_text())["suites"]["workers"]["cases"]
    for case, workers in (("trained", 1), ("waiting", 2)):
        (row,) = cases[case]["rows"].values()
        assert (row["workers"], row["trials"], len(row["values"])) == (workers, 6, workers)
        assert 0 < row["stored"] < row["stored"] + row["useful"] <= 1
    assert cases["waiting"]["rows"]["sqlite:///trials.db, 2"]["wall"] >= 0.6
    table = slots(newest(Path()))["workers"]
    assert "| wait | 2 | sqlite:///trials.db | " in table
    assert "; 6 trials wait for 0.2 s." in table
    assert "`python -m bench workers --workers 1 --waiting 2 --trials 6 --seconds 0.2 --storage URL`" in table
