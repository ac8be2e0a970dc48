"""Folders are known by what is in them, and broken ones are one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from report_cases import search, small

import xpnet
from xpnet.errors import ConfigError, RunError
from xpnet.report.blocks import curves, settings_text
from xpnet.report.records import kind_of, read_run
from xpnet.report.search_page import search_page
from xpnet.report.write import write_report


def test_a_run_is_read_back_to_the_last_bit():
    folder = small("--lambda", "0.001,0.1", "--runs", "2", out="run")
    assert kind_of(folder) == "run"
    record = read_run(folder)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert record.figures("test", "accuracy").tolist() == metrics["test"]["accuracy"]["values"]
    assert [row["lambda"] for row in record.replicas] == [0.001, 0.1, 0.001, 0.1]
    assert [members for _, members in record.combinations()] == [[0, 2], [1, 3]]
    assert record.history["train_loss"].shape == (3, 4)
    means = [np.mean(record.figures("validation", "accuracy")[members]) for _, members in record.combinations()]
    assert record.best() == record.combinations()[int(np.argmax(means))]
    np.testing.assert_array_equal(record.initial_eta, [1e-5] * 4)
    assert metrics["samples"] == {"train": 540, "validation": 60, "test": 200}
    assert record.environment["device"] == "cpu"
    assert record.environment["command"].startswith("xpnet train --data patterns:600/200 --epochs 3")
    assert record.environment["xpnet"] == xpnet.__version__
    assert "numpy" in record.environment["packages"]


def test_what_a_stopped_run_left_is_read():
    folder = small("--runs", "2", out="run")
    for name in ("metrics.json", "model.safetensors", "environment.json"):
        (folder / name).unlink()
    text = (folder / "history.csv").read_text()
    (folder / "history.csv").write_text(text[: text.rindex(",")])  # cut off in its last line
    record = read_run(folder)
    assert record.history["epoch"].tolist() == [1, 2]
    assert record.metrics is None
    assert "did not end" in record.notes[0]
    assert np.isnan(record.figures("test", "accuracy")).all()


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("metrics.json", "{", "is not JSON"),
        ("metrics.json", "[]", "holds a list, not an object"),
        ("history.csv", "a,b\n1,2\n", "lacks the columns"),
        ("history.csv", None, "line 2, eta: must be a number"),
        ("config.toml", "lambada = 1", "there is no such setting"),
        ("model.safetensors", "none", "is not a whole safetensors file"),
    ],
)
def test_broken_files_are_one_sentence(name, content, sentence):
    folder = small(out="run")
    content = (folder / name).read_text().replace("0.", "x.") if content is None else content
    (folder / name).write_text(content)
    with pytest.raises((RunError, ConfigError), match=sentence) as error:
        read_run(folder)
    assert name in str(error.value)


def test_other_folders_are_refused():
    Path("empty").mkdir()
    with pytest.raises(RunError, match=r"has neither config.toml nor search.json nor results.json"):
        kind_of(Path("empty"))
    with pytest.raises(RunError, match="there is no such folder"):
        kind_of(Path("none"))
    Path("file").write_text("")
    with pytest.raises(RunError, match="is a file"):
        kind_of(Path("file"))
    assert kind_of(search(Path("found"))) == "search"


def test_a_broken_search_is_one_sentence():
    folder = search(Path("found"))
    path = folder / "search.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"trials": [{"trial": 0}]}))
    with pytest.raises(RunError, match=r"search.json: is not a search of xpnet: trials\[0\]: has no settings"):
        search_page(folder, None, "")
    path.write_text(json.dumps(content | {"space": []}))
    with pytest.raises(
        RunError, match=r"search.json: is not a search of xpnet: space: must be an object, and is a list"
    ):
        search_page(folder, None, "")


@pytest.mark.guarantee("concurrency")
@pytest.mark.parametrize("replicas", [1, 3])
def test_a_history_that_is_being_written_has_whole_epochs(replicas, harm):
    folder = small("--runs", str(replicas), out="run")
    whole, content = read_run(folder).history, (folder / "history.csv").read_bytes()
    for name in ("metrics.json", "model.safetensors"):
        (folder / name).unlink()
    ends = [at + 1 for at, byte in enumerate(content) if byte == ord("\n")][::replicas]  # of the header, and of epochs
    cuts = range(ends[0], len(content) + 1, harm.times(9, 1))  # the header is there when the file is
    for cut in cuts:
        (folder / "history.csv").write_bytes(content[:cut])
        history = read_run(folder).history
        epochs = sum(end <= cut for end in ends[1:])
        for column, values in whole.items():
            np.testing.assert_array_equal(history[column], values[:epochs])
    harm.did("cuts of a history that was being written", len(cuts))


def test_a_page_of_a_run_without_an_epoch_yet():
    folder = small(out="run")
    for name in ("metrics.json", "model.safetensors"):
        (folder / name).unlink()
    header = (folder / "history.csv").read_text().splitlines(keepends=True)[0]
    (folder / "history.csv").write_text(header)
    assert "did not end" in write_report(folder).notes[0]


def test_settings_in_words_have_four_digits():
    values = {"lambda": 0.02046263811498788, "hidden": [50, 30], "batch_norm": True}
    assert settings_text(values) == "lambda = 0.02046, hidden = 50, 30, batch_norm = yes"


@pytest.mark.parametrize(
    ("settings", "first"),
    [
        (("--eta-min", "1e-4,1e-3"), [1e-4, 1e-3]),
        (("--schedule", "cosine", "--eta", "0.1", "--eta-min", "1e-4,1e-3"), [0.1, 0.1]),
        (("--schedule", "decay", "--eta", "0.01,0.02"), [0.01, 0.02]),
    ],
)
def test_the_learning_rate_on_the_page_is_that_of_the_curves(settings, first):
    record = read_run(small(*settings, out="run"))
    assert record.initial_eta.tolist() == first
    for r in range(2):
        panel = curves(record, [r]).panels[-1]
        assert [row["x"] for row in panel.rows] == [0, 1, 2, 3]
        assert [row["y"] for row in panel.rows] == [first[r], *record.history["eta"][:, r]]
