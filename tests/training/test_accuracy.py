"""The accuracies of the reports' networks, trained from the command line on the real images.

PyTorch, trained the same way on the same images, reaches .530 +- .003 with BN (three seeds) and .533 without
(one seed; ours lie about .528) with 3 layers; with 9 layers .513 with BN (one seed), and without BN .479 +- .013
over five seeds, between .466 and .497: there three of ours can be expected within .03 of that mean, and no closer.
"""

from __future__ import annotations

import json

import pytest
from examples import thorough

from xpnet.cli import main

NINE = "50,30,20,20,10,10,10,10"


@pytest.mark.cifar
@pytest.mark.slow
@pytest.mark.parametrize(
    ("hidden", "norm", "expected", "tolerance"),
    [
        ("50,50", "--batch-norm", 0.530, 0.010),
        ("50,50", "--no-batch-norm", 0.533, 0.013),
        (NINE, "--batch-norm", 0.513, 0.015),
        (NINE, "--no-batch-norm", 0.479, 0.030),
    ],
)
def test_networks_of_the_reports_reach_their_accuracy(capsys, cifar, hidden, norm, expected, tolerance):
    settings = ["--split", "45k", "--lambda", "0.005", "--n-s", "2250", "--cycles", "2", "--runs", "3"]
    main(["train", "--data", str(cifar), "--hidden", hidden, norm, *settings, "--json"])
    result = json.loads(capsys.readouterr().out)
    assert (result["epochs"], result["steps"]) == (20, 9000)
    assert result["test"]["accuracy"]["mean"] == pytest.approx(expected, abs=tolerance)


@thorough
@pytest.mark.cifar
def test_train_without_data_takes_cifar10(capsys, cifar, monkeypatch):
    monkeypatch.setenv("XPNET_DATA", str(cifar))
    main(["train", "--split", "9k", "--epochs", "3", "--json"])
    captured = capsys.readouterr()
    assert "data: cifar10, from " in captured.err
    assert json.loads(captured.out)["test"]["accuracy"] > 0.3


@pytest.mark.slow
def test_three_layer_network_passes_75_percent_on_patterns(capsys):
    main(["train", "--data", "patterns:6000/1000", "--json"])
    assert json.loads(capsys.readouterr().out)["test"]["accuracy"] > 0.75


@pytest.mark.slow
def test_linear_classifier_stays_under_60_percent_on_patterns(capsys):
    for lam in ("0.01", "0.1"):
        main(["train", "--data", "patterns", "--hidden", "", "--lambda", lam, "--eta-max", "0.01", "--json"])
        assert json.loads(capsys.readouterr().out)["test"]["accuracy"] < 0.6
