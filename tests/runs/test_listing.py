"""Lists of runs: what they tell, how far a run is, conditions and order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import xpnet
from xpnet.errors import ConfigError, RunError
from xpnet.runs.conditions import Condition, selected
from xpnet.runs.experiment import alone_in
from xpnet.runs.folder import write_config, write_environment, write_metrics
from xpnet.runs.listing import data_set, differing
from xpnet.training.history import COLUMNS


def made(
    name: str, *, accuracy: float | None = 0.5, epochs: int = 4, when: str = "2026-11-29 10:00:00", **settings: Any
):
    """Make the files of a run that a list reads; without an accuracy it has not ended."""
    folder = Path("runs", name)
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / ".lock").touch()
    given = {"data": "patterns", "hidden": [8], "epochs": 4, "lambda": 0.01, **settings}
    write_config(folder, given)
    write_environment(folder, {"date": f"{when} +0000"})
    rows = [[e, 10 * e, 0, 0.1, 1.0, 1.1, 0.4, 1.2, 1.3, 0.3 + e / 100, 0.5, 0.1] for e in range(1, epochs + 1)]
    text = "".join(",".join(map(str, row)) + "\n" for row in [list(COLUMNS), *rows])
    (folder / "history.csv").write_text(text)
    if accuracy is not None:
        figures = {"accuracy": accuracy, "loss": 1.0, "cost": 1.1}
        sets = dict.fromkeys(("train", "validation", "test"), figures)
        write_metrics(
            folder, {**sets, "epochs": epochs, "steps": 9, "interrupted": False, "seconds": {"training": 2.5}}
        )
    return folder


def test_list_runs_tells_when_what_and_how_good():
    made("b", accuracy=0.6, hidden=[50, 20], batch_norm=False)
    made("group/a", when="2026-11-28 10:00:00", split="50/10")
    first, second = xpnet.list_runs()
    assert (first.name, first.when, first.data, first.network) == (
        "group/a",
        "2026-11-28 10:00:00",
        "patterns 50/10",
        "8 BN",
    )
    assert (second.network, second.figures["test"], second.seconds, second.progress) == ("50-20", 0.6, 2.5, "finished")
    assert json.loads(json.dumps(second.to_json()))["settings"]["hidden"] == [50, 20]


def test_list_runs_of_a_run_that_did_not_end_tells_how_far_it_is():
    folder = made("one", accuracy=None, epochs=3)
    (entry,) = xpnet.list_runs()
    assert (entry.progress, entry.figures) == (
        "unfinished, epoch 3 of 4",
        {"train": 0.4, "validation": pytest.approx(0.33)},
    )
    with alone_in(folder):
        assert xpnet.list_runs()[0].progress == "training, epoch 3 of 4"
    assert xpnet.list_runs()[0].state == "unfinished"
    (folder / "history.csv").write_text("epoch\n1,two\n")
    assert xpnet.list_runs()[0].state == "damaged"


def test_list_runs_of_a_population_has_the_figures_of_its_best_combination():
    folder = made("one", runs=2, **{"lambda": [0.1, 0.2]})
    metrics = json.loads((folder / "metrics.json").read_text())
    values = [0.2, 0.7, 0.3, 0.5]
    accuracy = {"mean": 0.425, "std": 0.2, "values": values}
    rows = [{"seed": s, "lambda": lam} for s in (0, 1) for lam in (0.1, 0.2)]
    metrics["validation"] |= {"accuracy": accuracy}
    metrics["replicas"] = [
        row | {which: {"accuracy": v, "loss": 1 - v, "cost": 1.0} for which in ("train", "validation", "test")}
        for row, v in zip(rows, values, strict=True)
    ]
    write_metrics(folder, metrics)
    (entry,) = xpnet.list_runs()
    assert (entry.networks, entry.figures["test"], entry.figures["test_loss"]) == (4, pytest.approx(0.6), 0.4)
    assert (entry.best, entry.members) == ({"lambda": 0.2}, (1, 3))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("/data/cifar-10-batches-py", "CIFAR-10"),
        ("cifar100", "CIFAR-100"),
        ("x/cifar-10-python.tar.gz", "CIFAR-10"),
        ("a/cifar-10-mine", "cifar-10-mine"),
        ("patterns:10/20", "patterns:10/20"),
        ("tumours.csv", "tumours.csv"),
    ],
)
def test_data_set_is_named_in_short(data: str, words: str):
    assert data_set(data) == words


def test_list_runs_with_a_damaged_run_lists_the_others():
    made("good")
    (made("bad") / "config.toml").write_text("lambda = ")
    (made("worse") / "metrics.json").write_text("{")
    states = {entry.name: entry.state for entry in xpnet.list_runs()}
    assert states == {"good": "finished", "bad": "damaged", "worse": "damaged"}
    assert "is not TOML" in next(entry.note for entry in xpnet.list_runs() if entry.name == "bad")


def test_list_runs_without_a_folder_is_refused():
    with pytest.raises(RunError, match="there is no such folder"):
        xpnet.list_runs("nowhere")


def test_differing_settings_are_those_with_several_values():
    made("a", **{"lambda": 0.1}, schedule="constant", eta=0.3)
    made("b", **{"lambda": 0.2}, eta_max=0.1)
    made("c", **{"lambda": 0.2}, eta_max=0.1, dropout=0.2)
    assert differing(xpnet.list_runs()) == ["lambda"]


@pytest.mark.parametrize(
    ("text", "value", "holds"),
    [
        ("lambda<0.01", 0.005, True),
        ("lambda < 1e-3", 0.005, False),
        ("test>=50%", 0.5, True),
        ("hidden=50,50", [50, 50], True),
        ("lambda=0.1", [0.1, 0.2], True),
        ("lambda!=0.1", [0.1, 0.2], False),
        ("batch-norm=true", True, True),
        ("data~CIFAR", "cifar-10 45k", True),
        ("schedule=cosine", "constant", False),
        ("eta>0.1", None, False),
        ("eta!=0.1", None, True),
    ],
)
def test_condition_compares_numbers_lists_and_text(text: str, value: Any, holds: bool):
    assert Condition.of(text).holds(value) is holds


def test_selected_filters_and_sorts_with_missing_values_last():
    made("a", accuracy=0.4)
    made("b", accuracy=None)
    made("c", accuracy=0.6, **{"lambda": 0.5})
    entries = xpnet.list_runs()
    assert [one.name for one in selected(entries, (), "-test")] == ["c", "a", "b"]
    assert [one.name for one in selected(entries, ["lambda<0.1", "state=finished"], "test")] == ["a"]
    assert [one.name for one in selected(entries, (), "-name")] == ["c", "b", "a"]
    with pytest.raises(ConfigError, match="did you mean lambda"):
        selected(entries, ["lambd<1"])
    with pytest.raises(ConfigError, match=r"where = lambda: must be NAME<VALUE"):
        selected(entries, ["lambda"])
