"""``xpnet lr-range`` as a new user would try it."""

from __future__ import annotations

import csv
import json
import tomllib
from pathlib import Path

import numpy as np
import pytest

import xpnet

SMALL = ["--data", "patterns:300/50", "--hidden", "8", "--lambda", "0"]
SHORT = [*SMALL, "--steps", "150", "--from", "1e-5"]


def config(folder: str = "test") -> dict:
    return tomllib.loads(Path(folder, "config.toml").read_text())


@pytest.mark.thorough
def test_lr_range_json_is_one_object_and_agrees_with_the_folder(command):
    done = command("lr-range", *SHORT, "--json", "--out", "test")
    result = json.loads(done.out)
    found = result["suggestion"]
    assert found["eta_min"] < found["eta_max"]
    assert result["folder"] == "test"
    assert "range test: patterns" in done.err
    files = {"config.toml", "lr_range.csv", "lr_range.png", "lr_range.svg"}
    assert {path.name for path in Path("test").iterdir()} == files
    assert (config()["eta_min"], config()["eta_max"]) == (found["eta_min"], found["eta_max"])
    with Path("test/lr_range.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in rows] == result["losses"]
    assert [float(row["eta"]) for row in rows] == result["rates"]
    # It is what Python gives.
    data = xpnet.load_data("patterns:300/50")
    network = xpnet.NetworkConfig(inputs=data.features, hidden=(8,), classes=data.classes)
    test = xpnet.lr_range(network, data, xpnet.TrainConfig(lam=0), from_=1e-5, steps=150)
    assert test.losses[:, 0].tolist() == result["losses"]
    assert test.suggestion.eta_max == found["eta_max"]
    text = Path("test/lr_range.svg").read_text()
    assert all(word in text for word in ("learning rate", "loss", "accuracy", f"to {found['eta_max']:g}"))


def test_lr_range_suggestion_is_ready_to_use_and_trains(command):
    out = command("lr-range", *SHORT, "--runs", "2", "--n-s", "6", "--cycles", "1", "--out", "test").out
    (options,) = [line.split() for line in out.splitlines() if line.startswith("--eta-min")]
    settings = config()
    assert options == ["--eta-min", f"{settings['eta_min']:g}", "--eta-max", f"{settings['eta_max']:g}"]
    lines = [line for line in out.splitlines() if line.startswith("eta_m")]
    assert tomllib.loads("\n".join(lines)) == {name: settings[name] for name in ("eta_min", "eta_max")}
    assert "of 2 networks by themselves: eta_min" in out
    assert (settings["n_s"], settings["cycles"], settings["runs"]) == (6, 1, 2)
    assert command.json("train", "--config", "test", "--out", "run")["steps"] == 12
    again = config("run")
    assert {name: again[name] for name in settings} == settings


def test_lr_range_runs_are_a_population(command):
    result = command.json("lr-range", *SMALL, "--steps", "40", "--runs", "3", "--seed", "2")
    assert result["seeds"] == [2, 3, 4]
    assert np.shape(result["losses"]) == (result["steps"], 3)
    assert len(result["each"]["eta_max"]["values"]) == 3
    assert Path(result["folder"]).parent == Path("runs")


@pytest.mark.slow
def test_lr_range_takes_settings_of_a_file_and_replaces_its_schedule(command):
    Path("c.toml").write_text('data = "patterns:300/50"\nhidden = [4]\nschedule = "cosine"\neta = 0.1\nepochs = 3\n')
    command("lr-range", "--config", "c.toml", *SHORT[4:], "--out", "test")
    settings = config()
    assert (settings["schedule"], settings["epochs"], settings["hidden"]) == ("triangular", 3, [4])
    assert "eta" not in settings


def test_lr_range_without_a_suggestion_says_what_to_change(command):
    arguments = [*SMALL, "--steps", "30", "--to", "1e-5"]
    out = command("lr-range", *arguments, "--out", "test").out
    assert "no suggestion: the loss began at" in out
    assert "raise --to" in out
    assert "--eta-min" not in out
    assert not Path("test/config.toml").exists()
    assert command.json("lr-range", *arguments)["suggestion"] is None


def test_lr_range_overwrites_nothing_and_is_quiet(command):
    Path("test").mkdir()
    sentence = command.refused("lr-range", *SMALL, "--out", "test", notes=True)
    assert sentence == "out = test: exists already, and nothing is overwritten; type --out test_2"
    assert list(Path("test").iterdir()) == []
    assert command("lr-range", *SMALL, "--steps", "20", "--quiet") == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "0"], "from = 0.0: must be a finite number above 0"),
        (["--from", "2", "--to", "1"], "from = 2, to = 1: from must be below to"),
        (["--steps", "3"], "steps = 3: must be a whole number of at least 20"),
        (["--steps", "ten"], "steps"),
        (["--spacing", "cubic"], "spacing = cubic: must be log or linear"),
        (["--eta-max", "1"], "--eta-max: xpnet lr-range has no such option"),
        (["--lambda", "0,1"], "lambda = [0.0, 1.0]: must be one value for xpnet lr-range"),
        (["--batch-size", "1"], "leaves a batch of one"),
        (["--config", "lists.toml"], "eta_max = [0.1, 0.2]: the test finds the rates; leave eta_max out"),
        (["--config", "cosine.toml", "--cycles", "2"], "cycles = 2: the schedule cosine has no cycles; set epochs"),
        (["--no-batch-norm", "--init", "1e30", "--out", "x"], "the loss was not finite at the lowest rate"),
    ],
)
def test_lr_range_mistakes_get_one_sentence(command, arguments, message):
    Path("lists.toml").write_text("eta_max = [0.1, 0.2]\n")
    Path("cosine.toml").write_text('schedule = "cosine"\n')
    given = SMALL[:4] if "--lambda" in arguments else SMALL
    assert message in command.refused("lr-range", *given, *arguments, notes=True)
    assert not Path("runs").exists()
