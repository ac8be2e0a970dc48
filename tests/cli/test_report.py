"""``xpnet report`` as a new user would try it."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from command_line import SMALL, run
from PIL import Image


def test_a_run_becomes_a_page_beside_its_files(capsys):
    run(capsys, "train", *SMALL, "--out", "run")
    code, out, _ = run(capsys, "report", "run")
    assert code == 0
    assert out.startswith("page: run/report.html (")
    page = Path("run/report.html").read_text()
    assert page.count('id="vega"') == 1
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert f"{100 * metrics['test']['accuracy']:.2f} %" in page
    for part in ("result", "curves", "classes", "mistakes", "weights", "timing", "settings", "environment", "again"):
        assert f'<section id="{part}"' in page
    assert "xpnet train --config run" in page
    # Nothing is overwritten.
    before = Path("run/report.html").read_bytes()
    code, out, _ = run(capsys, "report", "run", "--json")
    assert json.loads(out)["page"] == "run/report_2.html"
    assert Path("run/report.html").read_bytes() == before
    code, _, err = run(capsys, "report", "run", "--out", "run/report.html")
    assert (code, err) == (
        2,
        "xpnet: out = run/report.html: exists already; name another file, nothing is overwritten\n",
    )


@pytest.mark.pictures
def test_figures_are_png_svg_and_csv(capsys):
    run(capsys, "train", *SMALL, "--runs", "2", "--out", "run")
    code, out, _ = run(capsys, "report", "run", "--figures", "figures", "--out", "new/folder", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["page"] == "new/folder/report.html"
    names = {Path(path).name for path in found["figures"]}
    for stem in ("loss", "cost", "accuracy", "learning-rate", "confusion", "seconds", "accuracy-by-seed"):
        assert {f"{stem}.png", f"{stem}.svg", f"{stem}.csv"} <= names
    with Image.open("figures/loss.png") as image:
        assert image.width > 1000
    assert "currentColor" not in Path("figures/loss.svg").read_text()
    with Path("figures/loss.csv").open() as file:
        rows = list(csv.DictReader(file))
    with Path("run/history.csv").open() as file:
        history = list(csv.DictReader(file))
    values = [float(row["validation_loss"]) for row in history if row["epoch"] == "2"]
    mean = next(row for row in rows if row["epoch"] == "2.0" and row["line"] == "validation")
    assert float(mean["loss"]) == pytest.approx(sum(values) / 2)
    assert float(mean["loss, mean + std"]) - float(mean["loss"]) == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    code, _, err = run(capsys, "report", "run", "--figures", "figures")
    assert code == 2
    assert "figures = figures: exists already" in err
    assert not Path("run/report.html").exists()


def test_runs_are_compared(capsys):
    run(capsys, "train", *SMALL, "--runs", "3", "--out", "a")
    run(capsys, "train", *SMALL, "--runs", "3", "--lambda", "0.5", "--out", "b")
    code, out, _ = run(capsys, "report", "a", "b")
    assert code == 0
    name = re.match(r"page: (report-[\d_-]+\.html)", out)
    page = Path(name[1]).read_text()
    assert "paired t test over 3 seeds that both have" in page
    assert "<td>lambda</td>" in page
    assert "Holm" in page
    for name in ("a", "b"):
        values = json.loads(Path(name, "metrics.json").read_text())["test"]["accuracy"]
        assert f"{100 * values['mean']:.2f} ± {100 * values['std']:.2f} %" in page


def test_single_runs_are_compared_sample_by_sample_where_there_is_data(capsys):
    runs = {"a": SMALL, "b": [*SMALL, "--lambda", "0.5"], "c": ["--data", "patterns:700/150", *SMALL[2:]]}
    for name, extra in runs.items():
        assert run(capsys, "train", *extra, "--out", name)[0] == 0
    run(capsys, "report", "a", "b", "--out", "same.html")
    page = Path("same.html").read_text()
    wrong = re.search(r"exact test: (\d+) of 100 samples right only in the second, (\d+) only in the first", page)
    test = [json.loads(Path(name, "metrics.json").read_text())["test"]["accuracy"] for name in ("a", "b")]
    assert (int(wrong[1]) - int(wrong[2])) / 100 == pytest.approx(test[1] - test[0])
    assert "One seed each says nothing about the spread over seeds" in page
    assert "The runs name different data" not in page
    run(capsys, "report", "a", "c", "--out", "other.html")
    page = Path("other.html").read_text()
    assert "binomial, on 100 and 150 samples as if they were different ones" in page
    assert "The runs name different data" in page


def test_data_that_is_gone_costs_one_line(capsys):
    import numpy as np

    rng = np.random.default_rng(0)
    np.savez("mine.npz", x=rng.standard_normal((200, 5)), y=np.arange(200) % 3)
    run(capsys, "train", "--data", "mine.npz", "--epochs", "2", "--hidden", "4", "--out", "run")
    Path("mine.npz").rename("moved.npz")
    assert run(capsys, "report", "run")[0] == 0
    page = Path("run/report.html").read_text()
    assert "Confusion matrix and mistakes need the data, which cannot be read" in page
    assert 'id="weights"' in page
    assert run(capsys, "report", "run", "--data", "moved.npz")[0] == 0
    page = Path("run/report_2.html").read_text()
    assert 'data-chart="confusion"' in page
    assert "features farthest from their mean" in page
    # Other samples under the same name are found out.
    np.savez("moved.npz", x=rng.standard_normal((200, 5)) + 1, y=np.arange(200) % 3)
    run(capsys, "report", "run", "--data", "moved.npz")
    assert "The data is not what the run was tested on" in Path("run/report_3.html").read_text()
    run(capsys, "report", "run", "--data", "patterns:100/50")
    assert "has 3072 features and 10 classes, but the network takes 5" in Path("run/report_4.html").read_text()


def test_wrong_folders_are_one_sentence(capsys):
    code, out, err = run(capsys, "report", "nowhere")
    assert (code, out) == (2, "")
    assert err.startswith("xpnet: nowhere: there is no such folder; it can be the folder of a run")
    assert run(capsys, "report")[0] == 2
    run(capsys, "train", *SMALL, "--out", "run")
    Path("search").mkdir()
    Path("search/search.json").write_text("{}")
    code, _, err = run(capsys, "report", "run", "search")
    assert code == 2
    assert err == "xpnet: search: is a search; only runs are compared, name it alone\n"
    code, _, err = run(capsys, "report", "search")
    assert "search.json: is not a search of xpnet" in err
    assert len(err.splitlines()) == 1
