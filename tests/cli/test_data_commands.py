"""``xpnet data info`` and ``xpnet data fetch``, and what a run folder keeps of the data's settings."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import cifar_files
import data_files
import numpy as np
import pytest
from command_line import run
from PIL import Image


def info(capsys, *arguments: str) -> dict:
    code, out, err = run(capsys, "data", "info", *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def test_info_counts_everything(capsys):
    x = np.tile([[1.0, 0.0, 7.5], [1.0, 5.0, 7.5], [1.0, -2.0, 7.5], [1.0, 3.0, 7.5]], (10, 1))
    x[:, 1] += np.arange(40) // 8  # each sample twice, but for what is moved below
    x[39, 1] = 99
    y = np.arange(40) % 2
    y[[4, 5]] = y[[5, 4]]
    np.savez("m.npz", x=x, y=y, x_test=np.concatenate([x[:4], x[:1], [[2, 2, 2]]]), y_test=[0, 1, 0, 1, 0, 1])
    result = info(capsys, "m.npz")
    assert result["samples"] == {"training and validation": 40, "test": 6}
    assert result["classes"] == [
        {"class": "0", "training and validation": 20, "test": 3},
        {"class": "1", "training and validation": 20, "test": 3},
    ]
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
def test_info_for_people(capsys):
    data_files.write_images(Path("pictures"))
    Path("pictures/red/broken.png").write_text("x")
    code, out, err = run(capsys, "data", "info", "pictures", "--figure", "seen")
    assert code == 0
    assert "left out 1 file: red/broken.png (no image)" in err
    for text in ("folder of images", "images of 6 x 8 pixels, 3 channels", "0 blue", "1 red", "seen.png", "broken.png"):
        assert text in out
    picture = np.asarray(Image.open("seen.png").convert("RGB")).astype(int)
    reds = (picture[..., 0] > 140) & (picture[..., 2] < 70)
    blues = (picture[..., 2] > 140) & (picture[..., 0] < 70)
    assert reds.any()
    assert blues.any()
    assert np.flatnonzero(blues.any(axis=1)).max() < np.flatnonzero(reds.any(axis=1)).min()  # a row for each class
    assert "data:image/png" in Path("seen.svg").read_text()
    code, _, err = run(capsys, "data", "info", "pictures", "--figure", "seen")
    assert (code, "nothing is overwritten" in err) == (2, True)


def test_info_of_a_table_and_of_what_is_built_in(capsys):
    data_files.write_csv(Path("pets.csv"))
    code, out, _ = run(capsys, "data", "info", "pets.csv", "--target", "animal", "--figure", "pets")
    assert code == 0
    assert "CSV table" in out
    assert "height" in Path("pets.svg").read_text()
    assert info(capsys)["name"] == "patterns"
    code, _, err = run(capsys, "data", "info", "pets.csv")
    assert code == 2
    assert "needs --target" in err


def test_the_settings_of_the_data_are_repeated(capsys):
    data_files.write_csv(Path("pets.csv"), 90)
    arguments = ["--data", "pets.csv", "--target", "animal", "--test-fraction", "0.3", "--data-seed", "4"]
    code, _, err = run(capsys, "train", *arguments, "--epochs", "2", "--batch-size", "9", "--out", "run")
    assert code == 0, err
    config = tomllib.loads(Path("run/config.toml").read_text())
    assert {name: config.get(name) for name in ("target", "test_fraction", "data_seed", "header", "in_memory")} == {
        "target": "animal",
        "test_fraction": 0.3,
        "data_seed": 4,
        "header": None,
        "in_memory": "auto",
    }
    run(capsys, "train", "--config", "run", "--out", "again")
    assert Path("run/model.safetensors").read_bytes() == Path("again/model.safetensors").read_bytes()
    result = json.loads(run(capsys, "evaluate", "run", "--json")[1])
    assert result["samples"] == 27
    assert result["accuracy"] == json.loads(Path("run/metrics.json").read_text())["test"]["accuracy"]


@pytest.mark.parametrize("command", ["gradcheck", "lr-range", "diagnose"])
def test_every_command_takes_the_settings_of_the_data(capsys, command):
    data_files.write_images(Path("pictures"), 40)
    extra = ["--samples", "20", "--hidden", "4"] if command == "gradcheck" else ["--batch-size", "10"]
    extra += ["--epochs", "1"] if command == "diagnose" else []
    code, _, err = run(capsys, command, "--data", "pictures", "--image-size", "3x4", "--image-mode", "gray", *extra)
    assert code == 0, err
    code, _, err = run(capsys, command, "--data", "pictures", "--target", "x")
    assert code == 2
    assert "target = x: has no effect on pictures" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--image-size", "big"], "image_size = big: must be a number of pixels, or HEIGHTxWIDTH"),
        (["--image-size", "5x5x5"], "image_size = 5x5x5: must be"),
        (["--image-size", "0"], "image_size = 0: must be"),
        (["--test-fraction", "1.5"], "test_fraction = 1.5: must be a finite number above 0 and below 1"),
        (["--labels", "medium"], "labels = medium: must be fine or coarse"),
        (["--in-memory", "disk"], "in_memory = disk: must be auto, raw or float"),
    ],
)
def test_settings_out_of_range(capsys, arguments, message):
    code, _, err = run(capsys, "train", *arguments)
    assert code == 2
    assert message in err


def test_labels_that_are_no_settings_for_patterns(capsys):
    code, _, err = run(capsys, "train", "--labels", "coarse")
    assert code == 2
    assert "labels = coarse: has no effect on patterns" in err


def test_fetch_from_a_file(capsys, tmp_path, monkeypatch):
    folder = cifar_files.write_folder(tmp_path / "made" / "cifar-10-batches-py")
    archive = cifar_files.write_archive(tmp_path / "made" / "a.tar.gz", folder)
    monkeypatch.setenv("XPNET_DATA", str(tmp_path / "data"))
    code, out, err = run(capsys, "data", "fetch", "cifar10", "--from", str(archive))
    assert code == 0
    assert len(err.splitlines()) == 1
    assert "is not the published cifar-10-python.tar.gz" in err
    assert f"cifar10 is there now: {tmp_path}/data/cifar-10-batches-py" in out
    result = json.loads(run(capsys, "data", "fetch", "--from", str(archive), "--json")[1])
    assert result["already_there"] is True
    assert info(capsys, "cifar10")["samples"] == {"training and validation": 100, "test": 20}
    code, _, err = run(capsys, "data", "fetch", "cifar10", "--layout", "matlab", "--from", "nothing")
    assert (code, err.strip()) == (2, "xpnet: from = nothing: is no file, and no http or https URL")


def test_fetch_shows_how_far_it_is(capsys):
    from xpnet.cli.data import _Bar

    with _Bar(shown=True) as bar:
        bar(50, 100)
        bar(100, 100)
    assert "100/100" in capsys.readouterr().err.replace(".0", "").replace(" ", "")


def test_search_takes_the_settings_of_the_data(capsys):
    data_files.write_csv(Path("pets.csv"), 90)
    arguments = ["--data", "pets.csv", "--target", "animal", "--batch-size", "9", "--drop-last", "--hidden", "4"]
    code, out, err = run(
        capsys, "search", "lambda", *arguments, "--epochs", "1", "--trials", "2", "--out", "s", "--json"
    )
    assert code == 0, err
    assert json.loads(out)["settings"]["target"] == "animal"
    assert tomllib.loads(Path("s/winner/config.toml").read_text())["target"] == "animal"
