"""Unusual numbers on the command line: files that can be read, or one sentence and exit code 2."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import xpnet
from xpnet.report import render

pytestmark = pytest.mark.guarantee("numbers")
SMALL = ["--data", "patterns:300/50", "--epochs", "2", "--hidden", "8", "--out", "run"]


def strict(text: str):
    """Read JSON as the standard has it: without NaN and infinities."""

    def refuse(constant: str):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def rows():
    with Path("run/history.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch-size", "1"], "batch_size = 1: leaves a batch of one of the 270 training samples"),
        (["--batch-size", "999", "--drop-last"], "drop_last leaves no batch"),
        (["--split", "300/0"], "split = '300/0': must be 45k"),
        (["--init", "1e300"], "init = 1e+300: gives W1 numbers of"),
        (["--init", "1e-60"], "init = 1e-60: gives W1 numbers of"),
        (["--init", "he,1e300"], "init = 1e+300: gives W1 numbers of"),
        (["--init-bias", "1e300", "--dtype", "float32"], "init_bias = 1e+300: gives b2 numbers of"),
        (["--lambda", "inf"], "lambda = inf: must be a finite number of at least 0"),
        (["--lambda", "nan"], "lambda = nan: must be a finite number of at least 0"),
        (["--schedule", "constant", "--eta", "0"], "eta = 0: must be a finite number above 0"),
        (["--eta-max", "1e400"], "eta_max = 1e400: must be a finite number above 0"),
    ],
)
def test_train_impossible_numbers_are_refused_without_a_folder(command, arguments, message):
    assert message in command.refused("train", *SMALL, *arguments, notes=True)
    assert not Path("run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--schedule", "constant", "--eta", "1e30"], "with learning rate 1e+30 and lambda 0.005, whose product must"),
        (["--lambda", "1e30"], "the numbers outgrew their floating type at step 1, with learning rate 0.0"),
        (["--init", "1e30"], "the numbers outgrew their floating type at step 0, with learning rate 1e-05; a smaller"),
        (["--init", "1e30", "--runs", "2"], "of replica 0 outgrew their floating type at step 0"),
        (["--init", "1e30", "--no-batch-norm"], "the loss became nan at step 0"),
    ],
)
def test_train_overflow_is_one_sentence_and_keeps_the_folder(command, arguments, message):
    sentence = command.refused("train", *SMALL, *arguments, notes=True)
    assert message in sentence
    assert "run holds the epochs before it" in sentence
    assert rows() == []


@pytest.mark.slow
def test_train_costs_beyond_the_largest_number_are_written_and_left_out_of_figures(command, monkeypatch, charts):
    monkeypatch.setattr(render, "svg", lambda spec: json.dumps(render.drawable(spec)))
    lam = ["--schedule", "constant", "--eta", "1e-315", "--lambda"]
    out = command("train", *SMALL, *lam, "1e308", "--json").out
    assert strict(out) == strict(Path("run/metrics.json").read_text())
    assert strict(out)["test"]["cost"] is None
    assert 1 < strict(out)["test"]["loss"] < 5
    assert [float(row["train_cost"]) for row in rows()] == [np.inf, np.inf]
    strict(Path("run/curves.svg").read_text())
    command("report", "run")
    assert strict(command("evaluate", "run", "--json").out)["cost"] is None
    # Several, of which one's squares alone are too large for a standard deviation.
    several = [*SMALL[:-1], "several", *lam, "1e308,1e306,0", "--runs", "2"]
    costs = [entry["test"]["cost"] for entry in strict(command("train", *several, "--json").out)["replicas"]]
    assert [cost is None for cost in costs] == [True, False, False, True, False, False]
    command("report", "several")


def test_where_all_but_one_network_diverge_every_command_goes_on_with_that_one(command):
    rates = ["--schedule", "constant", "--eta", "0.1,1e30,1e35", "--no-batch-norm"]
    done = command("train", *SMALL, *rates, "--json")
    assert done.err.count("it was left out from there on") == 2
    result = strict(done.out)
    assert result["diverged"] == 2
    figures = [entry["test"]["accuracy"] for entry in result["replicas"]]
    assert figures[1:] == [None, None]
    assert result["test"]["accuracy"] == {"mean": figures[0], "std": None, "values": figures}
    assert {row["train_loss"] for row in rows() if row["replica"] != "0"} == {"nan"}
    net = xpnet.load("run")
    assert [bool(np.isnan(net.parameters["W1"][r]).all()) for r in range(3)] == [False, True, True]
    assert strict(command("evaluate", "run", "--json").out)["accuracy"]["values"] == figures
    command("report", "run")
    repeated = strict(command("diagnose", "run", "--json").out)["repeats_run"]
    assert repeated == {"identical": True, "largest_difference": 0}
