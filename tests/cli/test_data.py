"""``xpnet data info`` and ``xpnet data fetch``, and the settings of the data in other commands and in a run folder."""

from __future__ import annotations

import io
import json
import sys
import tomllib
from pathlib import Path

import cifar_files
import data_files
import numpy as np
import pytest
from PIL import Image


def test_info_counts_everything(command):
    x = np.tile([[1.0, 0.0, 7.5], [1.0, 5.0, 7.5], [1.0, -2.0, 7.5], [1.0, 3.0, 7.5]], (10, 1))
    x[:, 1] += np.arange(40) // 8  # each sample twice, but for what is moved below
    x[39, 1] = 99
    y = np.arange(40) % 2
    y[[4, 5]] = y[[5, 4]]
    np.savez("m.npz", x=x, y=y, x_test=np.concatenate([x[:4], x[:1], [[2, 2, 2]]]), y_test=[0, 1, 0, 1, 0, 1])
    result = command.json("data", "info", "m.npz")
    assert result["samples"] == {"training and validation": 40, "test": 6}
    assert result["classes"] == [{"class": name, "training and validation": 20, "test": 3} for name in "01"]
    assert result["values"]["training and validation"] == {"min": -2.0, "max": 99.0, "mean": pytest.approx(x.mean())}
    assert result["constant_features"] == {"count": 2, "first": [0, 2]}
    labels: dict[tuple, set] = {}
    for row, label in zip(x.tolist(), y.tolist(), strict=True):
        labels.setdefault(tuple(row), set()).add(label)
    several = sum(len(found) > 1 for found in labels.values())
    assert several > 0
    assert result["duplicates"]["training and validation"] == 40 - len(labels)
    assert result["duplicates"]["different ones that have several labels"] == several
    assert result["duplicates"]["test"] == 1
    assert result["duplicates"]["test samples that are in training and validation"] == 5
    assert (result["features"], result["dtype"], result["image_shape"]) == (3, "float64", None)
    assert (result["test_set"], result["bytes"]) == ("its own", 46 * 3 * 8)


@pytest.mark.pictures
def test_info_for_people_has_facts_and_a_figure(command):
    data_files.write_images(Path("pictures"))
    Path("pictures/red/broken.png").write_text("x")
    done = command("data", "info", "pictures", "--figure", "seen")
    assert "left out 1 file: red/broken.png (no image)" in done.err
    facts = "folder of images", "images of 6 x 8 pixels, 3 channels", "0 blue", "1 red", "seen.png", "broken.png"
    assert all(text in done.out for text in facts)
    picture = np.asarray(Image.open("seen.png").convert("RGB")).astype(int)
    reds = (picture[..., 0] > 140) & (picture[..., 2] < 70)
    blues = (picture[..., 2] > 140) & (picture[..., 0] < 70)
    assert reds.any()
    assert blues.any()
    assert np.flatnonzero(blues.any(axis=1)).max() < np.flatnonzero(reds.any(axis=1)).min()  # a row for each class
    assert "data:image/png" in Path("seen.svg").read_text()
    assert "nothing is overwritten" in command.refused("data", "info", "pictures", "--figure", "seen")


def test_info_of_a_table_and_of_the_built_in_set(command):
    data_files.write_csv(Path("pets.csv"))
    assert "CSV table" in command("data", "info", "pets.csv", "--target", "animal", "--figure", "pets").out
    assert "height" in Path("pets.svg").read_text()
    assert command.json("data", "info")["name"] == "patterns"
    assert "needs --target" in command.refused("data", "info", "pets.csv")


def test_train_keeps_the_settings_of_the_data(command):
    data_files.write_csv(Path("pets.csv"), 90)
    data = ["--data", "pets.csv", "--target", "animal", "--test-fraction", "0.3", "--data-seed", "4"]
    command("train", *data, "--epochs", "2", "--batch-size", "9", "--hidden", "8", "--out", "run")
    expected = {"target": "animal", "test_fraction": 0.3, "data_seed": 4, "header": None, "in_memory": "auto"}
    config = tomllib.loads(Path("run/config.toml").read_text())
    assert {name: config.get(name) for name in expected} == expected
    command("train", "--config", "run", "--out", "again")
    assert Path("run/model.safetensors").read_bytes() == Path("again/model.safetensors").read_bytes()
    result = command.json("evaluate", "run")
    assert result["samples"] == 27
    assert result["accuracy"] == json.loads(Path("run/metrics.json").read_text())["test"]["accuracy"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["gradcheck", "--samples", "20", "--hidden", "2", "--coverage", "20"],
        ["lr-range", "--batch-size", "10", "--steps", "20", "--hidden", "4"],
        ["diagnose", "--batch-size", "10", "--epochs", "1", "--hidden", "4"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_every_command_takes_the_settings_of_the_data(command, arguments):
    data_files.write_images(Path("pictures"), 40)
    command(*arguments, "--data", "pictures", "--image-size", "3x4", "--image-mode", "gray")
    sentence = command.refused(arguments[0], "--data", "pictures", "--target", "x", notes=True)
    assert "target = x: has no effect on pictures" in sentence


def test_search_takes_the_settings_of_the_data(command):
    data_files.write_csv(Path("pets.csv"), 90)
    data = ["--data", "pets.csv", "--target", "animal", "--batch-size", "9", "--drop-last", "--hidden", "4"]
    result = command.json("search", "lambda", *data, "--epochs", "1", "--trials", "2", "--out", "s")
    assert result["settings"]["target"] == "animal"
    assert tomllib.loads(Path("s/winner/config.toml").read_text())["target"] == "animal"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--image-size", "big"], "image_size = big: must be a number of pixels, or HEIGHTxWIDTH"),
        (["--image-size", "5x5x5"], "image_size = 5x5x5: must be"),
        (["--image-size", "0"], "image_size = 0: must be"),
        (["--test-fraction", "1.5"], "test_fraction = 1.5: must be a finite number above 0 and below 1"),
        (["--labels", "medium"], "labels = medium: must be fine or coarse"),
        (["--labels", "coarse"], "labels = coarse: has no effect on patterns"),
        (["--in-memory", "disk"], "in_memory = disk: must be auto, raw or float"),
    ],
)
def test_train_settings_of_the_data_out_of_range_are_refused(command, arguments, message):
    assert message in command.refused("train", *arguments, notes=True)


def test_fetch_takes_a_file(command, tmp_path, monkeypatch):
    folder = cifar_files.write_folder(tmp_path / "made" / "cifar-10-batches-py")
    archive = str(cifar_files.write_archive(tmp_path / "made" / "a.tar.gz", folder))
    monkeypatch.setenv("XPNET_DATA", str(tmp_path / "data"))
    done = command("data", "fetch", "cifar10", "--from", archive)
    assert len(done.err.splitlines()) == 1
    assert "is not the published cifar-10-python.tar.gz" in done.err
    assert f"cifar10 is there now: {tmp_path}/data/cifar-10-batches-py" in done.out
    assert command.json("data", "fetch", "--from", archive)["already_there"] is True
    assert command.json("data", "info", "cifar10")["samples"] == {"training and validation": 100, "test": 20}
    sentence = command.refused("data", "fetch", "cifar10", "--layout", "matlab", "--from", "nothing")
    assert sentence == "from = nothing: is no file, and no http or https URL"


def test_fetch_shows_how_far_it_is_on_a_terminal(command, monkeypatch):
    def fetch(*_, progress, **__):
        progress(50, 100)
        progress(100, 100)
        raise SystemExit

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("xpnet.data.download.fetch", fetch)
    monkeypatch.setattr(sys, "stderr", Terminal())
    command("data", "fetch")
    assert "100/100" in sys.stderr.getvalue().replace(".0", "").replace(" ", "")
