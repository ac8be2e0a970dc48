"""A run on pictures that are pooled, projected, flipped and moved, from its training to its report."""

from __future__ import annotations

import csv
import json
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest

import xpnet
from xpnet.data import load_data
from xpnet.report.inspection import first_layer
from xpnet.report.page import Gallery, Table
from xpnet.report.records import read_run
from xpnet.report.write import build_page

RUN = [
    *("--data", "patterns:400/100", "--hidden", "8", "--batch-size", "50", "--pool", "2", "--pca", "20"),
    *("--flip", "random", "--shift", "2", "--schedule", "one-cycle", "--label-smoothing", ".1", "--epochs", "2.5"),
    *("--views", "6"),
]


@pytest.fixture
def run(trained) -> Path:
    return trained(*RUN)


@pytest.mark.slow
def test_run_has_the_settings_figures_and_network_that_were_asked_for(run):
    settings = tomllib.loads((run / "config.toml").read_text())
    asked = {"pool": 2, "pca": 20, "pca_eps": 1.0, "flip": "random", "shift": 2, "border": "reflect", "cutout": 0}
    asked |= {"schedule": "one-cycle", "label_smoothing": 0.1, "epochs": 2.5, "views": 6}
    asked |= {"warmup": 0.2, "anneal": "cosine"}
    assert settings | asked == settings
    metrics = json.loads((run / "metrics.json").read_text())
    assert (metrics["epochs"], metrics["steps"], metrics["test_views"]["views"]) == (3, 20, 6)
    assert metrics["seconds"]["transforms"] > 0
    with (run / "history.csv").open() as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == [8, 16, 20]
    network, data = xpnet.load(run), load_data("patterns:400/100")
    assert (network.config.inputs, network.features, network.transform.pool) == (20, 3072, 2)
    for views, key in ((1, "test"), (6, "test_views")):
        p, labels = network.predict_proba(data.test.x, views=views)[0], data.test.labels
        assert metrics[key]["accuracy"] == (p.argmax(axis=1) == labels).mean()
        assert metrics[key]["loss"] == pytest.approx(-np.log(p[np.arange(len(p)), labels]).mean(), rel=1e-4)


def test_evaluate_gives_what_training_reported(command, run):
    metrics = json.loads((run / "metrics.json").read_text())
    for which in ("test", "validation", "train"):
        result = command.json("evaluate", run.name, "--on", which)
        assert result["accuracy"] == metrics[which]["accuracy"]
        assert result["loss"] == pytest.approx(metrics[which]["loss"], rel=1e-5)
    last = max((run / "checkpoints" / "0-1").glob("*.json"))
    assert command.json("evaluate", str(last))["accuracy"] == metrics["test"]["accuracy"]
    other = command.json("evaluate", run.name, "--data", "patterns:100/50")
    assert other["samples"] == len(load_data("patterns:100/50").test)


@pytest.mark.parametrize("option", [["--pool", "4"], ["--pca", "3"], ["--pca-eps", "2"]])
def test_evaluate_has_no_options_for_what_the_network_knows(command, run, option):
    assert option[0] in command("evaluate", run.name, *option, code=2).err


def test_predict_gives_the_networks_probabilities(command, run):
    x = load_data("patterns:400/100").test.x[:7]
    np.save("seven.npy", x)
    result = command.json("predict", run.name, "seven.npy")
    expected = xpnet.load(run).predict_proba(x)[0]
    found = [list(each["probabilities"].values()) for each in result["predictions"]]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    np.save("narrow.npy", np.zeros((3, 20), np.float32))
    assert "the network takes 3,072" in command.refused("predict", run.name, "narrow.npy", notes=True)


@pytest.mark.slow
def test_resume_of_the_finished_run_trains_on_with_more_epochs(command, run):
    assert "is finished" in command("train", "--resume", run.name).err
    constant = [*RUN[:14], "--label-smoothing", ".1", "--views", "6", "--schedule", "constant"]
    whole = command.json("train", *constant, "--epochs", "4", "--out", "whole")
    shorter = command.json("train", *constant, "--epochs", "2", "--out", "shorter")
    assert shorter["steps"] == 16
    longer = command.json("train", "--resume", "shorter", "--epochs", "4", "--allow-changes")
    for key in ("test", "test_views", "validation", "train"):
        assert longer[key] == whole[key], key
    assert Path("shorter/model.safetensors").read_bytes() == Path("whole/model.safetensors").read_bytes()


@pytest.mark.slow
def test_views_of_a_finished_run_may_change_when_it_is_resumed(command, run):
    shutil.rmtree(run)
    command("train", *RUN[:-2], "--out", run.name)
    assert "test_views" not in json.loads((run / "metrics.json").read_text())
    message = command("train", "--resume", run.name, "--views", "2").err
    assert "cannot be resumed" not in message


def test_report_shows_mistakes_and_weights_of_the_raw_pictures(run):
    page = build_page([run])
    sections = {section.name: section for section in page.sections}
    _, gallery = sections["mistakes"].blocks
    assert len(gallery.pictures) > 0
    network, data = xpnet.load(run), load_data("patterns:400/100")
    layer = first_layer(read_run(run), [])
    W = layer.weights
    assert (W.shape, layer.replica, layer.shape) == ((3072, 8), 0, (3, 32, 32))
    np.testing.assert_allclose(W, network.folded().parameters["W1"][0], rtol=1e-6)
    (weights,) = (block for block in sections["weights"].blocks if isinstance(block, Gallery))
    assert len(weights.pictures) == 8
    p = network.predict_proba(data.test.x)[0]
    wrong = np.flatnonzero(p.argmax(axis=1) != data.test.labels)
    worst = wrong[np.argsort(p[wrong, data.test.labels[wrong]], kind="stable")][0]
    assert gallery.pictures[0].alt.startswith(f"Test sample {worst}: ")


def test_evaluate_and_predict_average_over_the_views_that_are_asked_for(command, run):
    metrics, found = json.loads((run / "metrics.json").read_text()), command.json("evaluate", run.name)["views"]
    assert found["accuracy"] == metrics["test_views"]["accuracy"] != metrics["test"]["accuracy"]
    network, x = xpnet.load(run), load_data("patterns:400/100").test.x[:9]
    np.savez("x.npz", x=x)
    predicted = command.json("predict", run.name, "x.npz", "--views", "6")["predictions"]
    p = network.predict_proba(x, views=6)[0]
    np.testing.assert_allclose([one["probability"] for one in predicted], p.max(axis=1), rtol=1e-5)


def test_report_shows_the_figures_averaged_over_views(run):
    metrics = json.loads((run / "metrics.json").read_text())
    (result,) = (section for section in build_page([run]).sections if section.name == "result")
    rows = [row for block in result.blocks if isinstance(block, Table) for row in block.rows]
    (row,) = (row for row in rows if "views" in str(row[0]))
    assert "6 views" in str(row[0])
    assert f"{100 * metrics['test_views']['accuracy']:.2f} %" in str(row[1])


def test_report_of_a_table_of_components_names_raw_features(trained):
    rng = np.random.default_rng(0)
    np.savez("table.npz", x=rng.standard_normal((200, 6)) * [1, 1, 1, 1, 1, 50] + 3, y=np.arange(200) % 3)
    run = trained("--data", str(Path("table.npz").absolute()), "--pca", "2", "--hidden", "4", "--epochs", "2")
    W = first_layer(read_run(run), []).weights
    assert W.shape == (6, 4)
    network = xpnet.load(run)
    np.testing.assert_allclose(W, network.transform.projection @ network.parameters["W1"][0], rtol=1e-5)
    page = build_page([run])
    (mistakes,) = (section for section in page.sections if section.name == "mistakes")
    _, table = mistakes.blocks
    data = load_data("table.npz")
    row, *_, features = (cell.text for cell in table.rows[0])
    x = data.test.x[int(row)]
    z = (x - network.standardiser.mean) / network.standardiser.std
    far = int(np.abs(z).argmax())
    assert features.startswith(f"feature {far}: {x[far]:.4g} ({z[far]:+.1f} std)")


def test_pictures_that_are_not_square_are_trained_on_and_reported(command, pictures):
    settings = [
        "--pool",
        "2",
        "--flip",
        "alternating",
        "--shift",
        "1",
        "--cutout",
        "2",
        "--views",
        "2",
        "--hidden",
        "3",
    ]
    result = command.json(
        "train", "--data", "pictures", *settings, "--epochs", "1.5", "--batch-size", "5", "--out", "r"
    )
    assert result["test_views"]["views"] == 2
    assert xpnet.load("r").transform.image_shape == xpnet.load("r").image_shape
    assert command.json("predict", "r", *pictures)["networks"] == 1
    assert build_page([Path("r")]).panels()


@pytest.mark.slow
def test_other_commands_take_the_settings_of_the_run(command, run):
    assert command.json("gradcheck", *RUN[:4], *RUN[6:10], "--samples", "20", "--label-smoothing", "0.2")["settings"][
        "label_smoothing"
    ] == pytest.approx(0.2)
    assert command.json("lr-range", "--config", run.name, "--steps", "20", "--epochs", "2", "--out", "range")
    command("diagnose", run.name)


@pytest.mark.slow
def test_a_range_test_takes_the_settings_of_pictures_and_labels(command):
    data = ["--data", "patterns:200/50", "--hidden", "4", "--steps", "20", "--pool", "4"]
    losses = set()
    for number, more in enumerate(
        ([], ["--label-smoothing", ".2"], ["--flip", "random", "--shift", "2", "--cutout", "9"])
    ):
        command.json("lr-range", *data, *more, "--out", f"range-{number}")
        losses.add(Path(f"range-{number}/lr_range.csv").read_text().splitlines()[1].split(",", 2)[2])
    assert len(losses) == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--pool", "5"], "pool = 5: does not divide pictures of 32 x 32"),
        (["--pca", "4000"], "pca = 4000: is more than the 3072 features"),
        (["--pca-eps", ".5"], "pca_eps = .5: has no effect without pca"),
        (["--border", "constant"], "border = constant: has no effect without shift"),
        (["--warmup", ".1"], "warmup = .1: has no effect on the schedule triangular"),
        (["--shift", "32"], "shift = 32: must be a whole number"),
        (["--cutout", "32"], "cutout = 32: leaves nothing of pictures of 32 x 32"),
        (["--views", "4"], "views = 4: must be 1, 2 or 6"),
        (["--label-smoothing", "1"], "label_smoothing = 1: must be a finite number"),
        (["--epochs", "0"], "epochs = 0: must be a finite number above 0"),
    ],
)
def test_mistakes_get_one_sentence_and_leave_no_folder(command, options, words):
    assert words in command.refused("train", "--data", "patterns:200/50", *options, "--out", "run", notes=True)
    assert not Path("run").exists()


@pytest.mark.parametrize("option", [["--flip", "random"], ["--shift", "1"], ["--cutout", "1"], ["--views", "2"]])
def test_a_table_has_no_views(command, option):
    np.savez("table.npz", x=np.random.default_rng(0).standard_normal((60, 4)), y=np.arange(60) % 2)
    sentence = command.refused("train", "--data", "table.npz", *option, "--out", "run", notes=True)
    assert f"{option[0][2:]} = {option[1]}: needs pictures, and table has features of another kind" in sentence
    assert not Path("run").exists()
