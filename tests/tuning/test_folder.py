"""The files of a search: written now and then, and read back with bounded memory, however many trials there are."""

from __future__ import annotations

import csv
import io
import json
import os

import numpy as np
import pytest

from xpnet.errors import RunError
from xpnet.report import search_file
from xpnet.report.search_file import CURVES, read_search_result
from xpnet.report.search_page import search_page
from xpnet.tuning import Outcome, Trial, folder
from xpnet.tuning.folder import MOST_POINTS, OutcomeFiles, result_json
from xpnet.utils.parsing import read_json


def outcome_of(trials: int, epochs: int, seeds: int = 1) -> Outcome:
    """Return trials with curves of so many epochs."""
    rng = np.random.default_rng(trials)
    made = []
    for number in range(trials):
        curve = tuple((epoch + 1, float(value)) for epoch, value in enumerate(rng.random(epochs)))
        accuracies = tuple(rng.random(seeds).tolist())
        score, point = float(np.mean(accuracies)), {"lambda": float(10 ** rng.uniform(-5, -1))}
        made.append(
            Trial(number, 0, "complete", point, score, accuracies, accuracies, None, epochs, 1.0, curve, "w", 1)
        )
    return Outcome(("lambda",), tuple(range(seeds)), tuple(made))


@pytest.fixture
def part(begin):
    return begin()


@pytest.fixture
def written(part, tmp_path):
    """Return the files of a search, which write an outcome into a folder."""
    return OutcomeFiles(tmp_path, part, {"command": "xpnet search", "device": "cpu"})


@pytest.mark.parametrize(("trials", "epochs"), [(4, 30), (600, 300), (30, 4000)])
def test_search_json_stays_small_however_long_the_curves_are(written, tmp_path, trials, epochs):
    outcome = outcome_of(trials, epochs)
    written.show(outcome)
    found = read_json(tmp_path / "search.json", RunError)  # as any program reads it, within the limits of any JSON
    assert len(found["trials"]) == trials
    points = max(2, MOST_POINTS // trials)
    assert found["curve_points"] == (None if epochs <= points else points)
    for trial, known in zip(found["trials"], outcome.trials, strict=True):
        curve = [(point["epoch"], point["accuracy"]) for point in trial["curve"]]
        assert len(curve) == min(epochs, points)
        assert (curve[0], curve[-1]) == (known.curve[0], known.curve[-1])
        assert set(curve) <= set(known.curve)
        assert {**trial, "curve": []} == {**known.to_json(outcome.seeds), "curve": []}
    assert found["best"] == found["trials"][outcome.best.number]
    rows = list(csv.DictReader(io.StringIO((tmp_path / "trials.csv").read_text())))
    assert (tmp_path / "trials.csv").read_text() == outcome.to_csv()
    assert len(rows) == trials


def test_files_are_rewritten_seldom(written, monkeypatch):
    clock, writes = [0.0], []
    monkeypatch.setattr(folder.time, "monotonic", lambda: clock[0])

    def rewrite(path, _):
        writes.append(path.name)
        clock[0] += 1.0  # three files: three seconds

    monkeypatch.setattr(folder, "rewrite", rewrite)
    outcome = outcome_of(5, 3)
    for _ in range(3000):
        clock[0] += 0.2
        written.show(outcome)
    assert 3 * 8 <= len(writes) <= 3 * 12  # 600 s, and 20 times as much for training as for writing
    written.write_last()
    assert writes[-3:] == ["trials.csv", "search.json", "best.toml"]


def test_outcome_is_reported_seldom_and_at_the_end(begin, monkeypatch):
    reported = []
    monkeypatch.setattr("xpnet.tuning.worker._PAUSES", 1e9)
    begin(trials=6, settings={"max_replicas": 1}).run(on_change=reported.append)
    assert len(reported) == 2
    assert reported[-1].counts()["complete"] == 6


def test_search_json_names_the_workers_at_work_by_their_processes(begin):
    part, seen = begin(trials=2, settings={"max_replicas": 1}), []

    def look(outcome):
        seen.append(result_json(part, outcome, {"command": None}, None)["workers"])

    part.run(on_change=look)
    at_work = [workers for workers in seen if workers]
    assert at_work
    assert all([worker["pid"] for worker in workers] == [os.getpid()] for workers in at_work)
    assert all(workers[0]["device"] == "cpu" for workers in at_work)


def test_trial_that_has_ended_is_made_once(begin):
    reported = []
    begin(trials=4, settings={"max_replicas": 2}).run(on_change=reported.append)
    assert reported[0].counts()["running"] == 2  # told when trials begin, not only when they have ended
    first, last = reported[1], reported[-1]
    done = [trial for trial in first.trials if trial.state == "complete"]
    assert done
    assert all(last.trials[trial.number] is trial for trial in done)


@pytest.mark.parametrize("form", ["a line for each trial", "indented", "one line"])
def test_search_json_is_read_in_every_form(written, tmp_path, form):
    outcome = outcome_of(60, 5, seeds=2)
    written.show(outcome)
    path = tmp_path / "search.json"
    content = json.loads(path.read_text())
    if form != "a line for each trial":
        path.write_text(json.dumps(content, indent=1 if form == "indented" else None))
    found = read_search_result(path)
    assert [trial["trial"] for trial in found["trials"]] == list(range(60))
    for trial, known in zip(found["trials"], content["trials"], strict=True):
        assert trial["settings"] == known["settings"]
        assert trial["validation"]["accuracy"]["mean"] == known["validation"]["accuracy"]["mean"]
        assert "values" not in trial["validation"]["loss"]
    drawn = {trial["trial"]: trial["curve"] for trial in found["trials"] if "curve" in trial}
    ends = {trial["trial"]: trial["curve"][-1]["accuracy"] for trial in content["trials"]}
    assert set(drawn) == set(sorted(ends, key=ends.get)[-CURVES:])
    assert all(curve == content["trials"][number]["curve"] for number, curve in drawn.items())
    assert found["best"] == content["best"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda t: t.replace('"state": "complete"', '"state": 3', 1),
            r"is not a search of xpnet: trials\[0\].state: must",
        ),
        (lambda t: t.replace('"trial": 2,', '"trial": -2,', 1), r"trials\[2\].trial: must be a whole number"),
        (lambda t: t.replace('"round": 0, ', '"round": 0 ', 1), r"search.json: line \d+: is not JSON"),
        (lambda t: t[:-100], "search.json: is not JSON"),
        (lambda t: (old := json.dumps(json.loads(t), indent=1))[: old.index('"trial": 2,')], "the trial has no end"),
        (lambda t: json.dumps(json.loads(t), indent=1)[:-9], r"is not JSON \(.*line \d\d\d "),
        (lambda t: t.replace('"kind": "search"', '"kind": "run"'), "kind: must be search"),
        (lambda t: t.replace('"draw"', '"draw": 1, "draw"', 1), "draw stands twice"),
    ],
)
def test_damaged_search_json_is_named_by_line_or_key(written, tmp_path, change, words):
    written.show(outcome_of(4, 3))
    path = tmp_path / "search.json"
    path.write_text(change(path.read_text()))
    with pytest.raises(RunError, match=words):
        read_search_result(path)


def test_more_trials_than_are_read_is_a_sentence(written, tmp_path, monkeypatch):
    written.show(outcome_of(6, 2))
    monkeypatch.setattr(search_file, "MOST_TRIALS", 5)
    with pytest.raises(RunError, match="has more than 5 trials, the most that are read"):
        read_search_result(tmp_path / "search.json")


@pytest.mark.thorough
def test_page_of_a_large_search_shows_the_best_and_says_so(part, written, tmp_path):
    outcome = outcome_of(2100, 48)
    written.write(outcome, result_json(part, outcome, {"command": "xpnet search"}, None))
    page = search_page(tmp_path, None, "")
    parts = {section.name: section.blocks for section in page.sections}
    note, table = parts["trials"]
    assert "the 1,000 best of 2,100 trials" in note.words
    assert [int(row[0].text) for row in table.rows] == [trial.number for trial in outcome.ranked()[:1000]]
    assert "Of 2,100 trials 2,000 are drawn" in parts["settings-found"][0].words
    (panel,) = parts["settings-found"][1].panels
    assert 2000 <= len(panel.rows) <= 2001
    assert {row["trial"] for row in panel.rows} >= {0, 2099, outcome.best.number}
    note, curves = parts["trial-curves"]
    assert "only some points are drawn" in note.words
    assert len(curves.panels[0].rows) == CURVES * (MOST_POINTS // 2100)
