"""Journals from anybody: a damaged line is named, and nothing in a journal runs."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harms import bounded, mutated
from harms_of_text import mutated_text, mutated_values, overwrite
from search_cases import small_search

import xpnet
from xpnet.backend import get_backend
from xpnet.cli.search_display import trials_table
from xpnet.data import Dataset
from xpnet.errors import RunError, XpnetError
from xpnet.training.device_data import to_device
from xpnet.tuning import Search, open_storage
from xpnet.tuning.journal import operations
from xpnet.tuning.winner import winner_settings
from xpnet.tuning.worker import SearchWorker

linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space are Linux's")


def joined(path: Path, data: Dataset) -> Any:
    """Take part in the search of a journal, without training anything; return how it stands."""
    there = Search.join(open_storage(path), "study", {}, get_backend("cpu"), load=lambda _: data)
    worker = SearchWorker(there.rounds, there.queue, to_device(data, there.backend, "float32"))
    for number in range(there.rounds.config.rounds):
        space = there.rounds.space_of(number, worker.outcome().trials)
        there.queue.know(there.rounds.slots(number, space))
    outcome = worker.outcome()
    winner_settings(there.rounds, outcome)
    trials_table(outcome, 10)
    return outcome, outcome.to_csv()


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Return a data set with nothing to learn."""
    x = np.random.default_rng(0).standard_normal((300, 4)).astype(np.float32)
    return xpnet.data_from_arrays(x, np.arange(300) % 3, split="200/50")


@pytest.fixture(scope="module")
def content(tmp_path_factory, data) -> bytes:
    """Return the journal of a finished search."""
    path = tmp_path_factory.mktemp("journal") / "j"
    how = {"trials": 4, "draw": "tpe", "prune": "median"}
    small_search(data, ["lambda", "width=3,4"], open_storage(path), **how).run()
    return path.read_bytes()


@pytest.fixture
def journal(tmp_path, content) -> Path:
    """Return the path of a journal of a finished search."""
    (tmp_path / "j").write_bytes(content)
    return tmp_path / "j"


@linux
@pytest.mark.guarantee("fuzz", "untrusted")
def test_mutated_journal_is_refused_in_one_line(journal, data, harm):
    whole = journal.read_bytes()
    lines = [json.loads(line) for line in whole.splitlines()]
    joined(journal, data)
    refused, count = 0, harm.times(60, 4_000)
    for number in range(count):
        harm.did("mutated journals of searches")
        rng = np.random.default_rng([number, 5])
        if number % 4 == 0:
            content = mutated(whole, rng)
        elif number % 4 == 1:
            content = mutated_text(whole, rng)
        else:
            content = b"".join(json.dumps(line).encode() + b"\n" for line in mutated_values(lines, rng))
        overwrite(journal, content)
        words = "nothing was wrong"
        with bounded():
            try:
                joined(journal, data)
            except XpnetError as error:
                words = str(error)
                refused += 1
        assert len(words.splitlines()) == 1, number
    assert count / 4 < refused < count


def line_of(journal: Path, code: int) -> tuple[int, dict[str, Any]]:
    """Return the first line of an operation, with its number from 1."""
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    return next((number, line) for number, line in enumerate(lines, 1) if line["op_code"] == code)


CHOICES = '{"name": "CategoricalDistribution", "attributes": {"choices": [3, 4]}}'


@pytest.mark.parametrize(
    ("code", "change", "words"),
    [
        (0, {"directions": [9]}, r"directions\[0\]: must be a whole number of at least 0 and at most 2, and is 9"),
        (0, {"directions": [1, 1]}, "directions: must have 1 values, and has 2"),
        (0, {"op_code": 99}, "op_code: must be a whole number of at least 0 and at most 9, and is 99"),
        (2, {"user_attr": {"about": {"format": 1}}}, "user_attr.about: has no space"),
        (2, {"user_attr": {"lease:a": {"worker": "a", "beat": "x"}}}, "beat: must be a whole number"),
        (2, {"user_attr": {"a": 1, "b": 2}}, "user_attr: must have one attribute, and has 2"),
        (2, {"study_id": [0]}, "study_id: must be a whole number"),
        (4, {"datetime_start": "yesterday"}, "datetime_start: must be a moment"),
        (4, {"user_attrs": {"slot": [0]}}, "user_attrs.slot: must have 2 values, and has 1"),
        (4, {"params": {"lambda": 0.1}, "distributions": {}}, "params: lambda has no distribution"),
        (4, {"distributions": {"lambda": "{}"}}, "distributions.lambda: is not the range or the list of a setting"),
        (5, {"distribution": CHOICES, "param_value_internal": 7}, "must be a place in a list of 2, and is 7"),
        (6, {"state": 7}, "state: must be a whole number of at least 0 and at most 4"),
        (6, {"state": 1, "datetime_complete": None}, "datetime_complete: must be text, and is null"),
        (6, {"values": [1, 2]}, "values: must have 1 values"),
        (8, {"user_attr": {"result": {"score": 0.5}}}, "user_attr.result: has no accuracies"),
        (8, {"user_attr": {"result": {"test": 0.5}}}, "user_attr.result: "),
    ],
)  # fmt: skip
def test_damaged_line_is_named_with_its_key(journal, code, change, words):
    number, line = line_of(journal, code)
    lines = journal.read_text().splitlines()
    lines[number - 1] = json.dumps(line | change)
    journal.write_text("\n".join(lines) + "\n")
    with pytest.raises(RunError, match=f"is not a journal of a search, line {number}: .*{words}"):
        open_storage(journal)


def test_damaged_last_line_is_not_taken_for_an_unfinished_one(journal, data):
    """Its end is there, so it was whole once; whoever wrote behind it would spoil the journal for all."""
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-3] + b"\n")
    with pytest.raises(RunError, match=f"line {len(whole.splitlines())}: is not JSON"):
        joined(journal, data)


def test_unfinished_line_that_another_worker_replaces_meanwhile_is_read_later(journal):
    lines = journal.read_bytes().splitlines(keepends=True)
    before, last = b"".join(lines[:-1]), lines[-1]
    journal.write_bytes(before + b'{"op_code":5,"wor')
    found = operations(journal, 0, 1)
    end = next(found)[1]
    with journal.open("rb+") as file:
        file.truncate(len(before))
        file.seek(len(before))
        file.write(last)
    ends = [end, *(end for _, end in found)]
    assert ends[-1] == len(before)
    assert [operation for operation, _ in operations(journal, ends[-1], len(lines))] == [json.loads(last)]


@pytest.mark.parametrize(
    ("lost", "words"), [("result", "has no accuracies"), ('"param_name":"width"', "has lambda, and")]
)
def test_finished_trial_without_one_of_its_lines_is_named(journal, data, lost, words):
    lines = journal.read_text().splitlines()
    place = next(number for number, line in enumerate(lines) if lost in line)
    journal.write_text("\n".join([*lines[:place], *lines[place + 1 :]]) + "\n")
    with pytest.raises(RunError, match=rf"trial \d: .*{words}.*its storage is damaged"):
        joined(journal, data)


class Attack:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> Any:
        return Path("hacked").touch, ()


@pytest.mark.guarantee("untrusted")
def test_state_of_cma_es_in_a_journal_is_not_unpickled(tmp_path, begin):
    """Optuna's own sampler unpickles what it finds in a trial's attributes."""
    pytest.importorskip("cmaes")
    path, how = tmp_path / "j", {"draw": "cmaes", "trials": 12}
    begin(["lambda", "eta=0.01..0.1"], open_storage(path), **how).run()
    lines = path.read_text().splitlines()
    assert "optimizer" not in "".join(lines)  # and none is written
    state = {"cma:optimizer:0": pickle.dumps(Attack()).hex()}
    attack = {"op_code": 9, "worker_id": "w", "trial_id": 0, "system_attr": state}
    done = next(n for n, line in enumerate(lines) if '"op_code":6' in line and '"state":1' in line)
    lines.insert(done, json.dumps(attack))
    kept = [line for line in lines if json.loads(line).get("trial_id", 0) < 9]
    path.write_text("\n".join(kept) + "\n")
    again = begin(["lambda", "eta=0.01..0.1"], open_storage(path), **how)
    again.queue.watch.clock = iter(range(0, 10**9, 1000)).__next__
    assert again.run().outcome.counts()["complete"] == 12
    assert not Path("hacked").exists()
