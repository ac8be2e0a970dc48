"""``xpnet train --cv`` and ``xpnet search --cv``."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from command_line import SMALL

import xpnet
from xpnet.cli import cross_validation
from xpnet.cli.tables import folds_in_words
from xpnet.training.population import Population


def test_train_cv_puts_the_figures_of_the_folds_beside_those_of_the_network(command):
    plain = command.json("train", *SMALL, "--out", "plain")
    result = command.json("train", *SMALL, "--cv", "3", "--out", "run")
    assert result["test"] == plain["test"]
    assert json.loads(Path("run/metrics.json").read_text())["cv"] == result["cv"]
    settings = xpnet.Settings.from_mapping(tomllib.loads(Path("run/config.toml").read_text()))
    assert (settings.run.cv, settings.run.stratify) == (3, True)
    data = xpnet.load_data(settings.data)
    expected = xpnet.cross_validate(Population.of(settings, data.inputs, data.classes), data, 3)
    accuracy = result["cv"]["accuracy"]
    assert result["cv"]["folds"] == 3
    assert accuracy["values"] == expected.accuracies[0].tolist()
    assert accuracy["mean"] == pytest.approx(np.mean(accuracy["values"]))
    assert accuracy["std"] == pytest.approx(np.std(accuracy["values"], ddof=1))


def test_train_cv_prints_the_accuracy_on_each_fold(command):
    printed = command("train", *SMALL, "--cv", "3", "--runs", "2", "--out", "run").out
    values = np.array(json.loads(Path("run/metrics.json").read_text())["cv"]["accuracy"]["values"]).reshape(2, 3)
    means = ", ".join(f"{100 * mean:.2f}" for mean in values.mean(axis=0))
    assert f"accuracy on each fold, in %: {means}\n" in printed
    some = {"folds": 25, "accuracy": {"values": [None, *[0.5] * 24]}}
    assert folds_in_words(some).endswith(f": -{', 50.00' * 19}, and 5 more, which metrics.json has")


def test_train_cv_of_several_networks_has_the_figures_of_each(command):
    options = ("--lambda", "0.1,0.01", "--runs", "2", "--cv", "2", "--no-stratify")
    result = command.json("train", *SMALL, *options)
    by_network = [entry["cv"]["accuracy"]["values"] for entry in result["replicas"]]
    assert [len(values) for values in by_network] == [2] * 4
    assert result["cv"]["accuracy"]["values"] == [value for values in by_network for value in values]
    printed = command("train", *SMALL, *options).out
    assert "folds" in printed
    assert "best folds" in printed


def test_train_cv_that_is_interrupted_is_resumed_with_the_same_figures(command, monkeypatch):
    whole = command.json("train", *SMALL, "--cv", "3", "--out", "whole")
    original = cross_validation.cross_validate

    def interrupted(*arguments, callbacks, **options):
        callbacks[-1]._interrupt.pressed = True
        return original(*arguments, callbacks=callbacks, **options)

    monkeypatch.setattr(cross_validation, "cross_validate", interrupted)
    stopped = command("train", *SMALL, "--cv", "3", "--out", "run", "--json", code=130)
    assert json.loads(stopped.out) == {"interrupted": True, "run": "run"}
    assert "go on with: xpnet train --resume run" in stopped.err
    assert not Path("run/metrics.json").exists()
    monkeypatch.setattr(cross_validation, "cross_validate", original)
    assert command.json("train", "--resume", "run")["cv"] == whole["cv"]


def test_train_cv_keeps_its_figures_while_the_network_trains_and_refuses_damaged_ones(command, monkeypatch):
    command("train", *SMALL, "--cv", "3", "--out", "run")
    before = json.loads(Path("run/metrics.json").read_text())
    Path("run/metrics.json").unlink()
    monkeypatch.setattr(cross_validation, "cross_validate", None)
    assert command.json("train", "--resume", "run")["cv"] == before["cv"]
    Path("run/metrics.json").unlink()
    figures = json.loads(Path("run/cv.json").read_text())
    for damaged in (json.dumps({**figures, "losses": [[0.5]]}), "{}"):
        Path("run/cv.json").write_text(damaged)
        assert "run/cv.json" in command("train", "--resume", "run", code=2).err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--cv", "1"), "cv = 1: must be a whole number of at least 2"),
        (("--cv", "2.5"), "cv = 2.5: must be a whole number of at least 2"),
        (("--cv", "600"), "cv = 600: the training set has 540 rows"),
        (("--cv", "100"), "cv = 100: the class "),
        (("--cv", "2", "--drop-last", "--batch-size", "300"), "cv = 2: batch_size = 300: larger than the 270 training"),
        (("--no-stratify",), "stratify = false: has no effect without cv"),
        (("--resume", "run", "--cv", "4"), "run: cannot be resumed with cv = 4 (it has 3)"),
    ],
)
def test_train_cv_that_does_not_fit_is_refused_in_a_sentence(command, options, sentence):
    if "--resume" in options:
        command("train", *SMALL, "--cv", "3", "--out", "run")
    else:
        options = (*SMALL, *options, "--out", "new")
    done = command("train", *options, code=2)
    assert sentence in done.err
    assert not Path("new").exists()


def test_search_cv_scores_trials_by_the_mean_over_the_folds_and_trains_the_winner_on_all_rows(command):
    options = SMALL
    result = command.json("search", "lambda=0.001,0.1", *options, "--cv", "3", "--out", "found")
    folds = command.json("train", *options, "--lambda", "0.001,0.1", "--cv", "3")
    for trial, entry in zip(result["trials"], folds["replicas"], strict=True):
        assert trial["validation"]["accuracy"]["mean"] == pytest.approx(entry["cv"]["accuracy"]["mean"], abs=0.02)
    assert result["trained_again"]
    assert result["best_run"] is None
    winner = tomllib.loads(Path("found/best.toml").read_text())
    assert "cv" not in winner
    assert command("search", "lambda", *SMALL, "--cv", "3", "--prune", "median", code=2).err.count("cv = 3, prune") == 1
    assert "rows, which are fewer" in command("search", "lambda", *SMALL, "--cv", "3000", code=2).err


@pytest.fixture
def wide():
    """Write a data set of 12 correlated features, and one in which only the first row has a third feature."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(130, 12)) @ rng.normal(size=(12, 12)), np.arange(130) % 3
    np.savez("wide.npz", x=x + y[:, None], y=y)
    few = np.zeros((99, 3))
    few[:, :2], few[0, 2] = rng.normal(size=(99, 2)), 1
    np.savez("few.npz", x=few, y=np.arange(99) % 2)
    return ("--cv", "3", "--hidden", "4", "--epochs", "1", "--batch-size", "10")


def test_search_cv_gives_each_transform_its_own_folds(command, wide):
    options = ("--data", "wide.npz", "--split", "100/10", *wide)
    result = command.json("search", "pca=4,9", "pca_eps=0.1,2", *options, "--final", "none")
    assert len(result["trials"]) == 4
    for trial in result["trials"]:
        transform = [f"--{name.replace('_', '-')}={trial['settings'][name]}" for name in ("pca", "pca_eps")]
        folds = command.json("train", *options, *transform)["cv"]
        assert trial["validation"]["accuracy"]["mean"] == pytest.approx(folds["accuracy"]["mean"], abs=1e-3)
        assert trial["validation"]["loss"]["mean"] == pytest.approx(folds["loss"]["mean"], rel=1e-3)


def test_search_cv_leaves_out_a_trial_whose_folds_have_fewer_components(command, wide):
    options = ("--data", "few.npz", "--split", "80/5", *wide, "--final", "none")
    result = command.json("search", "pca=2,3", *options)
    assert [trial["state"] for trial in result["trials"]] == ["complete", "failed"]
