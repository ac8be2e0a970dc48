"""``xpnet report`` as a new user would try it."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from command_line import SMALL
from PIL import Image


def accuracy(run: str):
    return json.loads(Path(run, "metrics.json").read_text())["test"]["accuracy"]


def test_report_makes_a_page_beside_the_files_of_a_run(command, trained):
    trained(*SMALL)
    assert command("report", "run").out.startswith("page: run/report.html (")
    page = Path("run/report.html").read_text()
    assert page.count('id="vega"') == 1
    assert f"{100 * accuracy('run'):.2f} %" in page
    for part in ("result", "curves", "classes", "mistakes", "weights", "timing", "settings", "environment", "again"):
        assert f'<section id="{part}"' in page
    assert "xpnet train --config run" in page
    # Nothing is overwritten.
    assert command.json("report", "run")["page"] == "run/report_2.html"
    assert Path("run/report.html").read_text() == page
    sentence = command.refused("report", "run", "--out", "run/report.html")
    assert sentence == "out = run/report.html: exists already, and nothing is overwritten; type --out run/report_3.html"


@pytest.mark.parametrize("more", [(), ("--runs", "2"), ("--lambda", "0,0.1", "--runs", "2")])
def test_report_of_a_run_before_its_first_epoch_is_a_page(command, trained, more):
    trained(*SMALL, *more)
    trained(*SMALL, *more, out="other")
    header = Path("run/history.csv").read_text().splitlines(keepends=True)[0]
    Path("run/history.csv").write_text(header)
    Path("run/metrics.json").unlink()
    assert "did not end" in command("report", "run").err
    assert '<section id="settings"' in Path("run/report.html").read_text()
    command("report", "run", "other", "--out", "both.html")
    assert '<section id="curves"' in Path("both.html").read_text()


@pytest.mark.slow
@pytest.mark.pictures
def test_report_writes_figures_as_png_svg_and_csv(command, trained):
    trained(*SMALL, "--runs", "2")
    found = command.json("report", "run", "--figures", "figures", "--out", "new/folder")
    assert found["page"] == "new/folder/report.html"
    names = {Path(path).name for path in found["figures"]}
    for stem in ("loss", "cost", "accuracy", "learning-rate", "confusion", "seconds", "accuracy-by-seed"):
        assert {f"{stem}.png", f"{stem}.svg", f"{stem}.csv"} <= names
    with Image.open("figures/loss.png") as image:
        assert image.width > 1000
    assert "currentColor" not in Path("figures/loss.svg").read_text()
    with Path("figures/loss.csv").open() as file, Path("run/history.csv").open() as history:
        (mean,) = (r for r in csv.DictReader(file) if (r["epoch"], r["line"]) == ("2.0", "validation"))
        values = [float(row["validation_loss"]) for row in csv.DictReader(history) if row["epoch"] == "2"]
    assert float(mean["loss"]) == pytest.approx(sum(values) / 2)
    assert float(mean["loss, mean + std"]) - float(mean["loss"]) == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert "figures = figures: exists already" in command.refused("report", "run", "--figures", "figures")
    assert "figures = none: names a new folder here" in command.refused("report", "run", "--figures", "none")
    assert not Path("run/report.html").exists()


def test_report_compares_runs_of_several_seeds(command, trained):
    trained(*SMALL, "--runs", "3", out="a")
    trained(*SMALL, "--runs", "3", "--lambda", "0.5", out="b")
    name = re.match(r"page: (report-[\d_-]+\.html)", command("report", "a", "b").out)
    page = Path(name[1]).read_text()
    assert "paired t test over 3 seeds that both have" in page
    assert "<td>lambda</td>" in page
    assert "Holm" in page
    for run in ("a", "b"):
        values = accuracy(run)
        assert f"{100 * values['mean']:.2f} ± {100 * values['std']:.2f} %" in page


def test_report_compares_single_runs_sample_by_sample_where_there_is_data(command, trained):
    trained(*SMALL, out="a")
    trained(*SMALL, "--lambda", "0.5", out="b")
    trained("--data", "patterns:700/150", *SMALL[2:], out="c")
    command("report", "a", "b", "--out", "same.html")
    page = Path("same.html").read_text()
    wrong = re.search(r"exact test: (\d+) of 100 samples right only in the second, (\d+) only in the first", page)
    assert (int(wrong[1]) - int(wrong[2])) / 100 == pytest.approx(accuracy("b") - accuracy("a"))
    assert "One seed each says nothing about the spread over seeds" in page
    assert "The runs name different data" not in page
    command("report", "a", "c", "--out", "other.html")
    page = Path("other.html").read_text()
    assert "binomial, on 100 and 150 samples as if they were different ones" in page
    assert "The runs name different data" in page


def test_report_without_the_data_lacks_a_section(command):
    rng = np.random.default_rng(0)
    np.savez("mine.npz", x=rng.standard_normal((200, 5)), y=np.arange(200) % 3)
    command("train", "--data", "mine.npz", "--epochs", "2", "--hidden", "4", "--out", "run")
    Path("mine.npz").rename("moved.npz")

    def page(*arguments: str) -> str:
        return Path(command.json("report", "run", *arguments)["page"]).read_text()

    text = page()
    assert "Confusion matrix and mistakes need the data, which cannot be read" in text
    assert 'id="weights"' in text
    text = page("--data", "moved.npz")
    assert 'data-chart="confusion"' in text
    assert "features farthest from their mean" in text
    # Other samples under the same name are noticed.
    np.savez("moved.npz", x=rng.standard_normal((200, 5)) + 1, y=np.arange(200) % 3)
    assert "The data is not what the run was tested on" in page("--data", "moved.npz")
    text = page("--data", "patterns:100/50")
    assert "has 3072 features and 10 classes, but the network takes 5" in text


def test_report_mistakes_get_one_sentence(command, trained):
    sentence = command.refused("report", "nowhere")
    assert sentence.startswith("nowhere: there is no such folder; it can be the folder of a run")
    command.refused("report")
    trained(*SMALL)
    Path("search").mkdir()
    Path("search/search.json").write_text("{}")
    assert command.refused("report", "run", "search") == "search: is a search; only runs are compared, name it alone"
    assert "search.json: is not a search of xpnet" in command.refused("report", "search")
