"""``--class-weight`` and ``--weight``: trained with, checked, resumed and used by the commands that follow."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

SMALL = ["--hidden", "6", "--epochs", "2", "--batch-size", "20", "--quiet"]


@pytest.fixture
def uneven() -> list[str]:
    """Write a table of two classes, one of them rare, and return the options that read it."""
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 5 == 0
    x = rng.standard_normal((200, 3)) + 1.2 * labels[:, None]
    rows = [
        f"{a:.4f},{b:.4f},{c:.4f},{w},{'rare' if y else 'usual'}"
        for (a, b, c), y, w in zip(x, labels, 1 + np.arange(200) % 3, strict=True)
    ]
    Path("t.csv").write_text("\n".join(["a,b,c,w,label", *rows]))
    return ["--data", "t.csv"]


def test_train_with_weights_writes_them_and_later_commands_read_them(command, uneven):
    command("train", *uneven, *SMALL, "--weight", "w", "--class-weight", "1,4", "--out", "run")
    settings = Path("run/config.toml").read_text()
    assert 'weight = "w"' in settings
    assert "class_weight" in settings
    command("train", "--config", "run", "--out", "again", "--quiet")
    assert Path("run/model.safetensors").read_bytes() == Path("again/model.safetensors").read_bytes()
    metrics = json.loads(Path("run/metrics.json").read_text())
    found = command.json("evaluate", "run")
    assert found["accuracy"] == metrics["test"]["accuracy"]
    assert "is finished" in command("train", "--resume", "run").err
    sentence = command.refused("train", "--resume", "run", "--class-weight", "1,5")
    assert "cannot be resumed with class_weight = [1.0, 5.0] (it has [1.0, 4.0])" in sentence


def test_gradcheck_checks_a_weighted_cost(command, uneven):
    options = ["--hidden", "5", "--samples", "40", "--class-weight", "balanced", "--weight", "w"]
    found = command.json("gradcheck", *uneven, *options)
    assert found["passed"]
    assert found["settings"]["weighted"]
    assert not command.json("gradcheck", *uneven, *options[:4])["settings"]["weighted"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ["--class-weight", "1,2,3"],
            "class_weight: has 3 numbers for the 2 classes of t; give one for each, in the or",
        ),
        (
            ["--class-weight", "1,-2"],
            "class_weight = 1,-2: must be balanced, or a finite number of at least 0 for each",
        ),
        (["--class-weight", "0,0"], "class_weight = 0,0: must be balanced"),
        (["--class-weight", "even"], "class_weight = even: must be balanced"),
        (["--weight", "label"], "weight = label: t.csv: column 4 (label) has the labels"),
        (["--weight", "a"], "t.csv: column 0 (a) has the weight -"),
    ],
)
def test_weights_that_are_none_are_one_sentence(command, uneven, options, sentence):
    assert sentence in command.refused("train", *uneven, *SMALL, *options, notes=True)
    assert not Path("runs").exists()
