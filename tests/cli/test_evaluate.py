"""``xpnet evaluate``."""

from __future__ import annotations

import json
from pathlib import Path

import data_files
import numpy as np
import pytest
from command_line import SMALL
from PIL import Image

import xpnet


@pytest.mark.parametrize("runs", [1, 2])
def test_evaluate_gives_what_training_reported(command, trained, runs):
    run = trained(*SMALL, "--runs", str(runs))
    metrics = json.loads((run / "metrics.json").read_text())
    for which in ("test", "validation", "train"):
        result = command.json("evaluate", "run", "--on", which)
        assert {k: result[k] for k in ("accuracy", "loss", "cost")} == metrics[which]
        confusion = np.array(result["confusion"])
        assert confusion.sum() == result["samples"] * runs
        mean = result["accuracy"] if runs == 1 else result["accuracy"]["mean"]
        assert np.trace(confusion) / confusion.sum() == pytest.approx(mean)
        assert list(result["per_class"]) == list(xpnet.load("run").class_names)
        shares = np.diag(confusion) / confusion.sum(axis=1)
        np.testing.assert_allclose(list(result["per_class"].values()), shares, rtol=1e-12)
    command("evaluate", "run", "--figure", "confusion", "--quiet")
    assert ("sums over 2 networks" in Path("confusion.svg").read_text()) == (runs == 2)


def test_evaluate_on_other_data(command, trained):
    trained(*SMALL)
    done = command("evaluate", "run", "--data", "patterns:100/50")
    assert "wide 36°" in done.out
    assert "50 samples" in done.out
    assert "patterns:100/50" in done.err
    command("evaluate", "run/model.safetensors", "--data", "patterns:100/50")


def test_evaluate_standardises_other_data_as_the_network_was_trained(command, trained):
    trained(*SMALL)
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 60, (300, 3072), np.uint8), np.arange(300) % 10
    np.savez("dark.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    result = command.json("evaluate", "run", "--data", "dark.npz")
    probabilities = xpnet.load("run").predict_proba(x)[0]
    assert result["accuracy"] == (probabilities.argmax(axis=1) == y).mean()
    assert result["loss"] == pytest.approx(-np.log(probabilities[np.arange(300), y]).mean(), rel=1e-4)


def test_evaluate_cuts_no_number_of_the_confusion_matrix(command, trained, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    trained(*SMALL, "--runs", "3")
    x = np.tile(np.random.default_rng(0).integers(0, 256, (20, 3072), np.uint8), (200, 1))
    y = np.where(np.arange(4_000) < 10, np.arange(4_000), 3)
    np.savez("many.npz", x_train=x[:20], y_train=np.arange(20) % 10, x_test=x, y_test=y)
    confusion = command.json("evaluate", "run", "--data", "many.npz")["confusion"]
    assert np.max(confusion) > 999
    out = command("evaluate", "run", "--data", "many.npz").out
    assert "\N{HORIZONTAL ELLIPSIS}" not in out
    for true, row in enumerate(confusion):
        line = next(line for line in out.splitlines() if line.strip().startswith(f"{true} "))
        assert line.split()[-10:] == [str(count) for count in row]


def test_evaluate_mistakes_get_one_sentence(command, trained):
    rng = np.random.default_rng(0)
    np.savez("own.npz", x=rng.standard_normal((50, 7)), y=np.arange(50) % 3)
    xpnet.Network(xpnet.NetworkConfig(inputs=7, classes=3)).save("bare.safetensors")
    Path("empty").mkdir()
    trained(*SMALL)
    for arguments, message in (
        (["none"], "none: there is no such run folder or model file"),
        (["empty"], "empty: is not the folder of a finished run"),
        (["run/model.safetensors"], "pass --data"),
        (["run", "--data", "own.npz"], "has 7 features and 3 classes"),
        (["bare.safetensors", "--data", "own.npz"], "does not say how its data was standardised"),
    ):
        assert message in command.refused("evaluate", *arguments)


def test_evaluate_takes_labels_by_name(command, pictures):
    expected = command.json("evaluate", "run", "--on", "all")
    assert expected["samples"] == 60
    Path("pictures/blue").rename("pictures/zz")
    Path("pictures/red").rename("pictures/blue")
    Path("pictures/zz").rename("pictures/red")
    swapped = command.json("evaluate", "run", "--data", "pictures", "--on", "all")
    assert swapped["accuracy"] == pytest.approx(1 - expected["accuracy"])
    Path("pictures/blue").rename("pictures/green")
    sentence = command.refused("evaluate", "run", "--data", "pictures")
    assert "has the class green, which is none of those known: blue, red" in sentence


@pytest.mark.pictures
def test_evaluate_figure_has_what_the_table_says(command, pets):
    result = command.json("evaluate", "run", "--figure", "confusion")
    assert result["figure"] == ["confusion.png", "confusion.svg"]
    text = Path("confusion.svg").read_text()
    assert all(name in text for name in ("cat", "dog", "emu", "true class", "prediction"))
    assert all(f">{count}<" in text for count in np.unique(result["confusion"]))
    assert all(f"{100 * share:.1f} %" in text for share in result["per_class"].values())
    with Image.open("confusion.png") as image:
        assert image.width > 600
    assert "nothing is overwritten" in command.refused("evaluate", "run", "--figure", "confusion")


def test_evaluate_resizes_images_to_those_of_the_network(command, pictures):
    expected = command.json("evaluate", "run", "--on", "all")
    for path in Path("pictures").glob("*/*.png"):
        with Image.open(path) as image:
            large = image.convert("RGBA").resize((16, 12), Image.Resampling.NEAREST)
        large.save(path)
    found = command.json("evaluate", "run", "--data", "pictures", "--on", "all")
    assert found["accuracy"] == pytest.approx(expected["accuracy"], abs=0.05)
    command.refused("evaluate", "run", "--data", "pictures", "--image-size", "5", notes=True)


def test_evaluate_takes_columns_by_name(command, pets):
    expected = command.json("evaluate", "run", "--on", "all")
    names, x, labels = data_files.table(150)
    columns = zip(range(150), *x.T[::-1], labels, strict=True)
    lines = [",".join(map(str, row)) for row in (["extra", *names[::-1], "animal"], *columns)]
    Path("turned.csv").write_text("\n".join(lines))
    turned = command.json("evaluate", "run", "--data", "turned.csv", "--on", "all")
    assert turned["confusion"] == expected["confusion"]
    Path("other.csv").write_text("\n".join(lines).replace("tail", "fur"))
    sentence = command.refused("evaluate", "run", "--data", "other.csv")
    assert "has no column tail, which the network was trained on" in sentence
