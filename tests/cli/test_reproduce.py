"""``xpnet reproduce`` from the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from command_line import run

import xpnet


@pytest.fixture
def cifar10(monkeypatch):
    """Let a small set pass for CIFAR-10."""
    data = xpnet.load_data("patterns:600/100")
    monkeypatch.setattr("xpnet.reproduction.runner.QUICK_FACTOR", 100)
    for place in ("xpnet.data", "xpnet.reproduction.runner"):
        monkeypatch.setattr(f"{place}.load_data", lambda source, split: data)


def test_the_list_names_all_experiments(capsys):
    code, out, _ = run(capsys, "reproduce", "--list")
    assert code == 0
    for name in ("A.bn3", "B.coarse", "C.sigma", "D.final", "E.pairs"):
        assert name in out
    listed = json.loads(run(capsys, "reproduce", "D", "--list", "--json")[1])["experiments"]
    assert "k-layer network: batch normalisation, lambda, initialisation" in out
    assert [row["name"] for row in listed] == [
        *("D.gradcheck", "D.model1", "D.model2", "D.coarse", "D.fine", "D.final")
    ]


def test_wrong_names_are_one_sentence(capsys):
    code, out, err = run(capsys, "reproduce", "A.bn33")
    assert (code, out) == (2, "")
    assert err == "xpnet: A.bn33: is neither a report nor an experiment; did you mean A.bn3?\n"
    assert run(capsys, "reproduce")[0] == 2
    code, _, err = run(capsys, "reproduce", "A.bn3", "--data", "nowhere")
    assert code == 2
    assert "nowhere" in err
    assert not Path("runs").exists()


def test_experiments_are_run_and_set_side_by_side(capsys, cifar10):
    code, out, err = run(capsys, "reproduce", "D.model1", "A.fine", "--quick", "--out", "there", "--json")
    assert code == 0, err
    result = json.loads(out)
    assert result["quick"] is True
    assert list(result["experiments"]) == ["A.fine", "D.model1"]
    rows = result["experiments"]["D.model1"]
    assert rows[0]["theirs"] == {"mean": 0.4489, "std": None}
    assert rows[0]["ours"]["runs"] == 2
    assert isinstance(rows[0]["within"], bool)
    page = Path("there", "README.md").read_text()
    assert "**Quick**" in page
    assert "![D.model1](D-model1-1.png)" in page
    assert Path("there", "D-model1-1.png").exists()
    assert Path("there", "D-model1-1.svg").exists()
    with Path("there", "D-model1-1.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["line"] for row in rows} == {"training", "validation"}
    environment = json.loads(Path("there", "environment.json").read_text())
    assert environment["command"] == "xpnet reproduce D.model1 A.fine --quick --out there --json"
    kept = json.loads(Path("there", "results.json").read_text())
    assert set(kept) == {"A.coarse", "A.fine", "D.model1"}  # the fine search builds on the coarse one
    assert "A.coarse: Coarse search" in err
    assert run(capsys, "reproduce", "D.model1", "--quick", "--out", "there")[0] == 2
    code, out, err = run(capsys, "report", "there", "--json")
    assert code == 0, err
    assert json.loads(out)["kind"] == "reproduction"
    assert "its figures mean nothing" in json.loads(out)["notes"][0]
    html = Path("there", "report.html").read_text()
    assert 'data-chart="D-model1-1-accuracy"' in html


def test_a_reproduction_that_is_stopped_says_what_is_there_and_what_is_left(capsys, cifar10, monkeypatch):
    from xpnet.reproduction import Runner

    whole = Runner.run

    def stopped(self, experiment, *rest):
        if experiment.name == "B.bn3":
            raise KeyboardInterrupt
        return whole(self, experiment, *rest)

    monkeypatch.setattr(Runner, "run", stopped)
    code, _, said = run(capsys, "reproduce", "B.gradcheck", "B.bn3", "B.bn6", "--quick", "--out", "run")
    assert code == 130
    assert "run has what is finished; what is left: xpnet reproduce B.bn3 B.bn6" in said
    assert "B.gradcheck" in Path("run/results.json").read_text()
