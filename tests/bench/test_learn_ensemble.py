"""Finished runs as one ensemble, and its part of the page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from bench_cases import MACHINE, PROBE
from command_line import CommandLine

import xpnet
from bench import machine
from bench.__main__ import main
from bench.learn import ensemble, page, published
from bench.learn.rungs import tflop
from bench.results import newest, read
from xpnet.analysis.prediction import predict

DATA = "patterns:400/60"
FEW = ["--pool", "4", "--pca", "10", "--hidden", "8", "--epochs", "1", "--flip", "random", "--shift", "1"]


@pytest.fixture(autouse=True)
def _no_probe(monkeypatch):
    monkeypatch.setattr(machine, "probe", lambda: PROBE)
    monkeypatch.setattr(machine, "describe", lambda: MACHINE)


def trained(capsys, name: str, *more: str) -> Path:
    CommandLine(capsys)("train", "--data", DATA, "--split", "300/100", *FEW, "--figures", "none", "--out", name, *more)
    return Path(name)


@pytest.fixture
def runs(capsys) -> list[Path]:
    return [trained(capsys, f"m{seed}", "--seed", str(seed)) for seed in (3, 4)]


def test_ensemble_is_the_mean_of_the_probabilities_of_its_members(runs, capsys):
    assert main(["learn", "--ensemble", *map(str, runs), "--shared", "0.5", "--data", DATA, "--out", "out.json"]) == 0
    assert "six views: members " in capsys.readouterr().out
    result = read(Path("out.json"))
    assert result["command"] == "python -m bench learn --data DATA --ensemble m3 m4 --shared 0.5"
    case = result["suites"]["learn-ensemble"]["cases"]["ensemble"]
    test = xpnet.load_data(DATA, "300/100").test
    for row, views in zip(case["rows"].values(), (1, 6), strict=True):
        first, second = (predict(xpnet.load(run), test.x, views) for run in runs)
        wrong = [100 * float(np.mean(p.argmax(1) != test.labels)) for p in (first, second, first + second)]
        assert row["values"] == pytest.approx(wrong[:2], rel=1e-5)
        assert row["first"] == pytest.approx([wrong[0], wrong[2]], rel=1e-5)
    settings = {"pool": 4, "pca": 10, "hidden": "8", "epochs": 1}
    found = [(member["name"], member["networks"], member["tflop"]) for member in case["members"]]
    whole = tflop(settings, 3)
    assert found == [("m3", 1, pytest.approx(whole, rel=1e-5)), ("m4", 1, pytest.approx(whole / 2, rel=1e-5))]


def test_networks_of_a_run_have_the_weight_of_others(capsys, runs):
    both = trained(capsys, "both", "--seed", "3", "--runs", "2")
    found = ensemble.ensemble([both, runs[0]], DATA, 0.0, lambda _: None)["cases"]["ensemble"]
    test = xpnet.load_data(DATA).test
    two, one = (predict(xpnet.load(run), test.x) for run in (both, runs[0]))
    assert found["what"] == "3 networks, averaged"
    assert found["rows"]["one view"]["first"][1] == 100 * np.mean((2 * two + one).argmax(1) != test.labels)
    assert found["members"][0]["tflop"] == 2 * found["members"][1]["tflop"]


def test_runs_that_are_not_finished_are_refused(runs, capsys):
    Path("empty").mkdir()
    assert main(["learn", "--ensemble", str(runs[0]), "empty", "--data", DATA, "--out", "out.json"]) == 2
    assert "empty: is no finished run of xpnet train" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["m3"], "--ensemble: names a run twice"),
        (["m4", "--shared", "1"], "--shared 1: m4 was trained for 1 epochs; take fewer"),
        (["m4", "--shared", "nan"], "--shared nan: m4 was trained for 1 epochs; take fewer"),
    ],
    ids=str,
)
@pytest.mark.thorough
def test_ensembles_that_make_no_sense_are_refused(runs, capsys, more, sentence):
    assert main(["learn", "--ensemble", str(runs[0]), *more, "--data", DATA, "--out", "out.json"]) == 2
    assert sentence in capsys.readouterr().err


def measured() -> dict:
    """Return an ensemble and a ladder that were never measured."""
    rows = {}
    for name, best in (("one view", 25.0), ("six views", 24.0)):
        figures = dict.fromkeys(("median", "min", "q1", "q3"), best + 2)
        rows[name] = figures | {"values": [best + 2, best + 3], "first": [best + 2, best]}
    members = [{"name": name, "networks": 1, "tflop": spent} for name, spent in (("m0", 60.0), ("m1", 30.0))]
    case = {"what": "2 networks", "unit": "% wrong", "reference": None, "rows": rows, "members": members}
    session = {"command": "python -m bench learn", "date": "2026-01-02", "commit": "abc1234", "probe_before": PROBE}
    suites = {ensemble.NAME: {"session": 0, "cases": {"ensemble": case}}}
    return {"format": "xpnet-bench-2", "machine": MACHINE, "sessions": [session], "suites": suites}


def rungs() -> dict:
    """Return a ladder whose error falls by half for four times the arithmetic, but for a short rung."""
    found = [(0.1, 0.40), (4.0, 0.60), (16.0, 0.80), (64.0, 0.90)]
    return {f"fast-{n}": {"tflop": t, "rows": {"xpnet": {"accuracy_six_views": a}}} for n, (t, a) in enumerate(found)}


def test_promise_is_a_power_law_through_the_long_rungs():
    law = ensemble.promise(rungs(), "accuracy_six_views")
    assert law == (pytest.approx(80.0), pytest.approx(0.5))
    assert law.accuracy(256.0) == pytest.approx(95.0)
    assert law.needed(95.0) == pytest.approx(256.0)


def test_page_tells_of_members_and_of_the_whole(monkeypatch):
    Path("one.json").write_text(json.dumps(measured()))
    results = newest(Path())
    monkeypatch.setattr(published, "members", lambda: ({"m0": "`--seed 0`", "m1": "`--seed 1`"}, "Before.", "After."))
    assert page._as_long_as_it_takes({}) == []
    ladder = {"learn": (Path("ladder.json"), {"suites": {"learn": {"cases": rungs()}}})}
    text = "".join(page._as_long_as_it_takes(results | ladder))
    assert "| `--seed 0` | 1 | 73.00 | 74.00 | 60 | 73.00 | 74.00 |" in text
    assert "| `--seed 1` | 1 | 72.00 | 73.00 | 90 | **75.00** | **76.00** |" in text
    assert "\n\nBefore.\n\n|" in text
    assert "|\n\nAfter.\n\n" in text
    assert "fall by 29.3 % of themselves for each doubling of the arithmetic, from 10 TFLOP on by 29.3 %" in text
    assert "and 78.6 % (Z-Lin) with some 10 to 10." in text
    assert "| **75.0; 76.0** | xpnet, 2 networks: one view; six views | this page | measured |" in published.others(
        results
    )
