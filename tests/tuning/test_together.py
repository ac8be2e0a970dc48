"""A search that is read while workers write its folder, and workers that begin it at the same moment."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import together
from together import Caller, ready

pytestmark = [pytest.mark.slow, pytest.mark.guarantee("concurrency")]

TINY = ["--data", "patterns:300/100", "--hidden", "4", "--device", "cpu", "--quiet"]
SMALL = [*TINY, "--n-s", "6", "--cycles", "2", "--max-replicas", "1"]


@pytest.fixture
def callers() -> Iterator[list[Caller]]:
    with ready("train", *TINY, "--epochs", "1", "--out", folder=Path("warm")) as made:
        yield made


def test_a_search_is_reported_while_two_workers_write_it(callers, harm):
    trials, (first, second, reader) = harm.times(12, 60), callers
    first.ask("search", "lambda", *SMALL, "--trials", trials, "--out", "found")
    while not Path("found", "search.toml").is_file():
        assert not first.has_ended()
    second.ask("search", "--resume", "found", "--quiet")
    told, asked, seen = [], 0, 0
    while not (first.has_ended() and second.has_ended()):
        if Path("found", "search.json").is_file():
            assert len(json.loads(Path("found", "search.json").read_text())["trials"]) == trials
            with Path("found", "trials.csv").open() as file:
                rows = list(csv.DictReader(file))
            assert len(rows) == trials
            assert all(None not in row and None not in row.values() for row in rows)
            seen += 2
        if asked == len(told):
            reader.ask("report", "found", "--quiet", "--out", f"{asked}.html")
            asked += 1
        if reader.has_ended():
            told.append(reader.answer())
    told += [reader.answer() for _ in range(asked - len(told))]
    assert [worker.answer().code for worker in (first, second)] == [0, 0]
    assert all(one.code == 0 or "found" in one.sentence for one in told), told
    assert any(one.code == 0 for one in told)
    found = json.loads(Path("found", "search.json").read_text())
    assert (found["counts"]["complete"], found["winner"]) == (trials, "winner")
    assert not list(Path("found").glob(".*.tmp"))
    harm.did("readings of a search while two workers wrote it", seen + len(told))


def test_of_searches_that_want_one_folder_one_gets_it(callers, harm):
    command = ["search", "lambda", *SMALL, "--trials", "2", "--final", "none", "--out", "same"]
    done = together.at_once(callers, *([*command, "--seed", seed] for seed in range(len(callers))))
    (winner,) = (seed for seed, one in enumerate(done) if one.code == 0)
    assert all(one.code == 0 or "out = same: exists already" in one.sentence for one in done)
    found = json.loads(Path("same", "search.json").read_text())
    assert found["settings"].get("seed", 0) == winner
    assert found["counts"]["complete"] == 2
    harm.did("searches begun at once in a folder that another got", len(done) - 1)
