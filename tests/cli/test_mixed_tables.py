"""Commands on a table of numbers, booleans and categories with missing cells, from training to prediction."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import data_files
import numpy as np
import pytest

import xpnet

SIZES = ("--hidden", "6", "--batch-size", "20", "--drop-last", "--epochs", "4", "--numeric", "robust")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a table of people, with a column of identifiers."""
    people = data_files.people(200)
    columns = {"id": [f"p{i}" for i in range(200)], **people}
    return data_files.write_columns(tmp_path_factory.mktemp("data") / "people.csv", columns)


@pytest.fixture
def run(trained: Callable[..., Path], table: Path) -> Path:
    """Return a run on the table without its identifiers, in the folder "run"."""
    return trained("--data", str(table), "--drop-columns", "id", *SIZES)


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open() as file:
        return list(csv.DictReader(file))


def written(name: str, rows: list[dict[str, str]], columns: list[str]) -> str:
    with Path(name).open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return name


def probabilities(command, *arguments: str) -> list[float]:
    found = command.json("predict", "run", *arguments)["predictions"]
    return [p["probabilities"]["rich"] for p in found]


def test_predict_matches_columns_by_name_and_categories_by_text(command, run, table):
    rows, columns = rows_of(table)[:20], ["age", "job", "member", "height"]
    expected = probabilities(command, written("some.csv", rows, columns))
    assert len(set(expected)) > 10
    assert probabilities(command, written("other.csv", rows, ["height", "more", "job", "age", "member"])) == expected
    assert probabilities(command, written("one.csv", rows[3:4], columns)) == pytest.approx(expected[3:4])
    network = xpnet.load("run")
    named = {name: [row[name] or None for row in rows] for name in columns}
    named |= {name: [None if v is None else float(v) for v in named[name]] for name in ("age", "height")}
    np.testing.assert_allclose(network.predict_proba(named)[0, :, 1], expected, rtol=1e-6)
    unseen = [row | {"job": "astronaut", "age": ""} for row in rows]
    assert np.isfinite(probabilities(command, written("unseen.csv", unseen, columns))).all()


def test_first_line_of_texts_that_may_name_columns_is_told(command):
    Path("t.csv").write_text("colour,size\n" + "red,small\nblue,large\nred,large\n" * 9)
    sentence = "t.csv: its first line is a sample; if it names columns, pass --header"
    assert sentence in command.json("data", "info", "t.csv", "--target", "1")["notes"]
    for named in (("--target", "1", "--header"), ("--target", "size")):
        result = command.json("data", "info", "t.csv", *named)
        assert (result["feature_names"], result["notes"]) == (["colour"], [])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"age": "old"}, "t.csv: line 2, column 0 (age): 'old' is not a finite number"),
        ({"member": "0.5"}, "t.csv: column 2 (member): holds numbers, where the training data has booleans"),
        ({"job": "17"}, "t.csv: column 1 (job): holds numbers, where the training data has categories such as baker"),
        ({"height": "true"}, ""),
    ],
)
def test_predict_refuses_columns_of_another_kind_in_one_sentence(command, run, table, change, message):
    rows = rows_of(table)[:9]
    rows = [row | change if i == 0 or "job" in change or "member" in change else row for i, row in enumerate(rows)]
    name = written("t.csv", rows, ["age", "job", "member", "height"])
    if message:
        assert message in command.refused("predict", "run", name)
    else:
        assert "height" in command.refused("predict", "run", name)
    np.save("a.npy", np.ones((3, 4)))
    assert "a.npy: column 1: holds numbers, where" in command.refused("predict", "run", "a.npy")
    short = written("short.csv", rows, ["age", "job", "member"])
    assert "has no column height, which the network was trained on" in command.refused("predict", "run", short)


def test_evaluate_on_the_same_table_elsewhere_is_the_same(command, run, table):
    own = command.json("evaluate", "run", "--on", "all")
    other = written("moved.csv", rows_of(table), ["height", "label", "id", "member", "job", "age"])
    assert command.json("evaluate", "run", "--on", "all", "--data", other)["accuracy"] == own["accuracy"]
    numbers = [row | {"job": "1"} for row in rows_of(table)]
    written("numbers.csv", numbers, ["height", "label", "member", "job", "age"])
    sentence = command.refused("evaluate", "run", "--data", "numbers.csv")
    assert "column job: holds numbers, where the training data has categories such as baker, clerk, smith" in sentence


def test_info_says_what_becomes_of_every_column(command, table):
    result = command.json("data", "info", str(table))
    refused = {column["column"]: column["becomes"] for column in result["columns"]}
    assert refused["id"].startswith("refused: ")
    assert refused["id"].endswith("leave the column out with --drop-columns id")
    assert refused["age"] == "undecided: another column is refused"
    columns = command.json("data", "info", str(table), "--drop-columns", "id", "--numeric", "ple")["columns"]
    age, job, member, height = columns
    assert (age["kind"], age["missing"]) == ("number", sum(not row["age"] for row in rows_of(table)))
    assert age["becomes"].startswith("2 inputs: piecewise linear between quantiles, 4")
    assert job["inputs"] == [f"job = {name}" for name in ("missing", "baker", "clerk", "smith", "other")]
    assert (member["becomes"], height["inputs"][0]) == ("1 input: 0 or 1, standardised", "height [0]")
    said = command("data", "info", str(table), "--drop-columns", "id").out
    assert "5 inputs: missing, baker, clerk, ..., other" in said


def test_training_that_goes_on_ends_as_one_that_was_not_stopped(command, run, table):
    command("train", "--config", "run", "--epochs", "2", "--schedule", "constant", "--out", "short")
    command("train", "--config", "run", "--epochs", "4", "--schedule", "constant", "--out", "whole")
    command("train", "--resume", "short", "--epochs", "4", "--allow-changes")
    assert Path("short/model.safetensors").read_bytes() == Path("whole/model.safetensors").read_bytes()
    about = json.loads(next(Path("whole/checkpoints").rglob("*.json")).read_text())["checkpoint"]
    assert about["network"]["encoder"]["kinds"] == "ncbn"
    assert about["settings"]["drop_columns"] == ["id"]


def test_target_of_a_regression_is_told(command, table):
    assert "this is a regression target" in command.refused(
        "gradcheck", "--data", str(table), "--target", "height", notes=True
    )


@pytest.mark.slow
def test_populations_checks_and_reports_work_on_such_tables(command, table):
    data = ("--data", str(table), "--drop-columns", "id", "--hidden", "4")
    assert command.json("gradcheck", *data, "--samples", "12", "--numeric", "quantile")["passed"]
    result = command.json(
        "train", *data, "--epochs", "1", "--lambda", "0,0.1", "--runs", "2", "--pca", "3", "--out", "r"
    )
    assert len(result["replicas"]) == 4
    command("report", "r")
    assert "job = " in Path("r/report.html").read_text() or "height" in Path("r/report.html").read_text()
