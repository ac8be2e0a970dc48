"""The setting `activation` on the command line: runs, what resumes and repeats them, checks and searches."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import xpnet

RUN = ("--data", "patterns:300/60", "--hidden", "6", "--activation", "gelu", "--batch-size", "50", "--epochs", "3")


@pytest.mark.slow
def test_run_with_an_activation_is_described_evaluated_and_diagnosed(command, trained):
    folder = trained(*RUN)
    assert 'activation = "gelu"' in (folder / "config.toml").read_text()
    metrics = json.loads((folder / "metrics.json").read_text())
    evaluated = command.json("evaluate", str(folder))
    assert evaluated["accuracy"] == metrics["test"]["accuracy"]
    done = command("diagnose", str(folder), "--out", "diagnosis")
    assert "with BN and gelu" in done.out
    assert "bit for bit" in done.out
    assert "dead, inactive: not measured, since outputs of gelu" in done.out
    found = json.loads(Path("diagnosis/diagnosis.json").read_text())
    assert found["measures"]["dead"][0][0] == [None, None]


def test_resumed_run_has_the_bits_of_an_uninterrupted_one(command, trained):
    trained(*RUN, "--save-every", "1", "--keep", "5", out="whole")
    shorter = trained(*RUN, "--save-every", "1", "--keep", "5", out="short")
    (shorter / "metrics.json").unlink()
    (shorter / "model.safetensors").unlink()
    last = max(shorter.glob("checkpoints/*/step-*.json"))
    for file in (last, last.with_suffix(".safetensors")):
        file.unlink()
    command("train", "--resume", str(shorter))
    one, other = xpnet.load("whole"), xpnet.load("short")
    for name, p in one.parameters.items():
        np.testing.assert_array_equal(other.parameters[name], p)


def test_gradcheck_names_the_activation(command):
    done = command("gradcheck", *RUN[:6], "--samples", "10", "--features", "12")
    assert "with BN and gelu" in done.out + done.err
    assert "passed" in done.out


@pytest.mark.slow
def test_search_tries_activations(command):
    options = ["--data", "patterns:300/60", "--hidden", "5", "--batch-size", "50", "--n-s", "4", "--cycles", "1"]
    found = command.json(
        "search", "activation=relu,tanh", "lambda", *options, "--trials", "4", "--out", "found", "--rounds", "1"
    )
    tried = {trial["settings"]["activation"] for trial in json.loads(Path("found/search.json").read_text())["trials"]}
    assert tried == {"relu", "tanh"}
    assert found


def test_range_of_activations_is_refused(command):
    sentence = command.refused("search", "activation=relu..tanh", "--data", "patterns:300/60", "--out", "found")
    assert sentence.startswith("search activation=relu..tanh: must be one of")
    sentence = command.refused("search", "activation=1..2", "--data", "patterns:300/60", "--out", "found")
    assert sentence == "search activation=1..2: has no range; list values, such as relu,leaky-relu"
