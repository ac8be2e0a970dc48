"""``--patience`` and ``--restore``: what a run says and keeps of networks that stopped."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

import xpnet
from xpnet.report.records import read_run
from xpnet.report.run_page import run_page

ROUGH = ["--data", "patterns:600/100", "--hidden", "8", "--schedule", "constant", "--eta", "0.3", "--epochs", "12"]


def test_train_with_patience_says_when_networks_stopped_and_what_they_have(command):
    options, runs = ["--patience", "2", "--restore", "best", "--runs", "3", "--out", "run"], 3
    done = command("train", *ROUGH, *options)
    metrics = json.loads(Path("run/metrics.json").read_text())
    stopped = metrics["stopped"]
    assert [len(epochs) for epochs in stopped.values()] == [runs, runs]
    assert metrics["epochs"] == max(epoch or 12 for epoch in stopped["epochs"])
    assert any(stopped["epochs"])
    assert "stopped after epoch" in done.out
    with Path("run/history.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["validation_accuracy"] != "nan"]
    for r, (end, best) in enumerate(zip(stopped["epochs"], stopped["weights"], strict=True)):
        own = [float(row["validation_accuracy"]) for row in rows if row["replica"] == str(r)]
        assert len(own) == (end or 12)
        assert own[best - 1] == max(own)
        assert metrics["validation"]["accuracy"]["values"][r] == max(own)
        assert (metrics["replicas"][r]["stopped_after"], metrics["replicas"][r]["weights_of"]) == (end, best)
    net, data = xpnet.load("run"), xpnet.load_data("patterns:600/100")
    hits = (net.predict(data.test.x) == data.test.labels).mean(axis=1)
    np.testing.assert_allclose(metrics["test"]["accuracy"]["values"], hits)
    record = read_run(Path("run"))
    assert any("networks stopped after epoch" in note for note in record.notes)
    page = repr(run_page(record, None, "today"))
    assert "stopped after epoch" in page
    assert "weights of epoch" in page


def test_train_whose_networks_have_all_stopped_is_finished(command):
    command("train", *ROUGH, "--patience", "1", "--out", "run", "--quiet")
    assert "is finished" in command("train", "--resume", "run").err
    sentence = command.refused("train", "--resume", "run", "--epochs", "20", "--allow-changes", notes=True)
    assert (
        "nothing is left to train with epochs = 20 (it has 12): all its networks have stopped; train a new" in sentence
    )
