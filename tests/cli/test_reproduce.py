"""``xpnet reproduce`` from the command line."""

from __future__ import annotations

import csv
import importlib
import json
from pathlib import Path

import pytest

import xpnet
from xpnet.reproduction import Runner


@pytest.fixture
def cifar10(monkeypatch):
    """Let a small set pass for CIFAR-10, and train for an epoch or two."""
    importlib.import_module("xpnet.report.inspection")  # which would keep the stand-in, if it were imported later
    data = xpnet.load_data("patterns:300/50")
    monkeypatch.setattr("xpnet.reproduction.runner.QUICK_FACTOR", 300)
    for place in ("xpnet.data", "xpnet.reproduction.runner"):
        monkeypatch.setattr(f"{place}.load_data", lambda source, split: data)


def test_reproduce_lists_all_experiments(command):
    out = command("reproduce", "--list").out
    assert all(name in out for name in ("A.bn3", "B.coarse", "C.sigma", "D.final", "E.pairs"))
    assert "k-layer network: batch normalisation, lambda, initialisation" in out
    listed = command.json("reproduce", "D", "--list")["experiments"]
    names = ["D.gradcheck", "D.model1", "D.model2", "D.coarse", "D.fine", "D.final"]
    assert [row["name"] for row in listed] == names


def test_reproduce_mistakes_get_one_sentence(command):
    sentence = command.refused("reproduce", "A.bn33")
    assert sentence == "A.bn33: is neither a report nor an experiment; did you mean A.bn3?"
    command.refused("reproduce")
    assert "nowhere" in command.refused("reproduce", "A.bn3", "--data", "nowhere", notes=True)
    assert not Path("runs").exists()


@pytest.mark.slow
def test_reproduce_sets_figures_side_by_side(command, cifar10):
    done = command("reproduce", "D.model1", "A.fine", "--quick", "--out", "there", "--json")
    result = json.loads(done.out)
    assert result["quick"] is True
    assert list(result["experiments"]) == ["A.fine", "D.model1"]
    rows = result["experiments"]["D.model1"]
    assert rows[0]["theirs"] == {"mean": 0.4489, "std": None}
    assert rows[0]["ours"]["runs"] == 2
    assert isinstance(rows[0]["within"], bool)
    page = Path("there", "README.md").read_text()
    assert "**Quick**" in page
    assert "![D.model1](D-model1-1.png)" in page
    assert {"D-model1-1.png", "D-model1-1.svg"} <= {path.name for path in Path("there").iterdir()}
    with Path("there", "D-model1-1.csv").open() as file:
        assert {row["line"] for row in csv.DictReader(file)} == {"training", "validation"}
    environment = json.loads(Path("there", "environment.json").read_text())
    assert environment["command"] == "xpnet reproduce D.model1 A.fine --quick --out there --json"
    kept = json.loads(Path("there", "results.json").read_text())
    assert set(kept) == {"A.coarse", "A.fine", "D.model1"}  # the fine search builds on the coarse one
    assert "A.coarse: Coarse search" in done.err
    command.refused("reproduce", "D.model1", "--quick", "--out", "there", notes=True)
    report = command.json("report", "there")
    assert report["kind"] == "reproduction"
    assert "its figures mean nothing" in report["notes"][0]
    assert 'data-chart="D-model1-1-accuracy"' in Path("there", "report.html").read_text()


def test_reproduce_stopped_says_what_is_finished_and_what_is_left(command, cifar10, monkeypatch):
    run_all = Runner.run

    def stopped(self, experiment, *rest):
        if experiment.name == "B.bn3":
            raise KeyboardInterrupt
        return run_all(self, experiment, *rest)

    monkeypatch.setattr(Runner, "run", stopped)
    err = command("reproduce", "B.gradcheck", "B.bn3", "B.bn6", "--quick", "--out", "run", code=130).err
    assert "run has what is finished; what is left: xpnet reproduce B.bn3 B.bn6" in err
    assert "B.gradcheck" in Path("run/results.json").read_text()
