"""``xpnet runs``, and the index page of a folder of runs."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import shutil
from pathlib import Path

import pytest
from page_checks import Tags
from report_cases import small

import xpnet
from xpnet.cli import main
from xpnet.report.runs_page import runs_page
from xpnet.runs.experiment import alone_in


@pytest.fixture
def folder() -> Path:
    """Return a folder of two runs and a damaged one."""
    Path("many").mkdir()
    small(out="many/one")
    shutil.copytree("many/one", "many/deep/two")
    text = Path("many/deep/two/config.toml").read_text()
    Path("many/deep/two/config.toml").write_text(text.replace("lambda = 0.005", "lambda = 0.5"))
    shutil.copytree("many/one", "many/bad")
    Path("many/bad/metrics.json").write_text("[")
    return Path("many")


def test_runs_command_prints_a_table_json_and_csv(folder, capsys: pytest.CaptureFixture[str]):
    main(["runs", "many"])
    printed = capsys.readouterr().out
    assert all(words in printed for words in ("deep/two", "lambda", "0.005", "finished", "3 runs", "damaged: many/bad"))
    main(["runs", "many", "--json", "--where", "lambda>0.1", "--sort", "-test"])
    (only,) = json.loads(capsys.readouterr().out)["runs"]
    assert (only["name"], only["state"], only["epochs"]) == ("deep/two", "finished", 3)
    assert only["figures"]["test"] == json.loads(Path("many/one/metrics.json").read_text())["test"]["accuracy"]
    main(["runs", "many", "--csv", "--sort", "name"])
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["name"] for row in rows] == ["bad", "deep/two", "one"]
    assert rows[1]["lambda"] == "0.5"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "nowhere: there is no such folder"),
        (["many", "--where", "size<3"], "there is no value size of runs"),
        (["many", "--csv", "--json"], "leave --json and --watch out"),
    ],
)
def test_runs_command_refuses_in_one_sentence(folder, arguments, words, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        main(["runs", *arguments])
    assert end.value.code == 2
    assert words in capsys.readouterr().err


def test_runs_watch_ends_when_no_run_trains(folder, capsys: pytest.CaptureFixture[str]):
    main(["runs", "many", "--watch"])
    assert "no run in many is being trained" in capsys.readouterr().err


def test_runs_watch_follows_a_run_to_its_end(folder, monkeypatch, capsys: pytest.CaptureFixture[str]):
    metrics = Path("many/one/metrics.json")
    content = metrics.read_text()
    metrics.unlink()
    with contextlib.ExitStack() as training:
        training.enter_context(alone_in(Path("many/one")))
        looks = iter((lambda: None, training.close))  # it trains on, and has ended at the second look
        monkeypatch.setattr("time.sleep", lambda _: next(looks)() or (metrics.write_text(content) if metrics else None))
        main(["runs", "many", "--watch", "--json"])
    (entry,) = json.loads(capsys.readouterr().out)["runs"]
    assert (entry["name"], entry["state"]) == ("one", "finished")


@pytest.mark.parametrize(
    ("rule", "words"), [("alike", "differences may be chance"), ("few-steps", "few steps"), ("overfits", "overfits")]
)
def test_index_of_runs_says_conclusions_in_words(folder, rule, words):
    metrics = json.loads(Path("many/one/metrics.json").read_text()) | {"conclusion": {"text": "", "rule": rule}}
    Path("many/one/metrics.json").write_text(json.dumps(metrics))
    assert f">{words}</td>" in xpnet.write_report("many").page.read_text()


def test_index_of_runs_has_a_table_for_each_data_set_and_figures_with_their_setting(folder):
    small("--lambda", "0.001,50", "--runs", "2", out="many/lists")
    config = Path("many/deep/two/config.toml")
    config.write_text(re.sub("data = .*", 'data = "/somewhere/cifar-10-batches-py"', config.read_text()))
    metrics = json.loads(Path("many/lists/metrics.json").read_text())
    (folder / "lists").rename(folder / "winner")
    (folder / "search.json").touch()
    page = runs_page(folder, "report.html", "")
    first, second, damaged, *texts = page.sections[0].blocks
    assert [len(first.rows), len(second.rows), len(damaged.rows)] == [2, 1, 1]
    assert second.caption.startswith("1 run on CIFAR-10; ± is the standard error")
    assert ", the oldest first; ± is" in first.caption
    one, lists = (dict(zip(first.head, row, strict=True)) for row in first.rows)
    assert lists["lambda"].text == "0.001 of 0.001,50"
    assert (lists["runs"].text, one["runs"].text, lists["conclusion"].text != "") == ("2 each", "1", True)
    best = [row["validation"]["accuracy"] for row in metrics["replicas"] if row["lambda"] == 0.001]
    assert lists["validation accuracy"].sort == pytest.approx(sum(best) / 2)
    assert lists["accuracy by epoch"].curve[-1] == pytest.approx(sum(best) / 2)
    error = 100 * (p := sum(best) / 2) ** 0.5 * (1 - p) ** 0.5 / metrics["samples"]["validation"] ** 0.5
    assert lists["validation accuracy"].text == f"{100 * p:.1f} ± {error:.1f} %"
    assert one["accuracy by epoch"].scale == lists["accuracy by epoch"].scale
    said = [text.words for text in texts]
    assert said[:3] == [
        "Of a search (many), winner has the same networks with test figures.",
        "None of these runs has a page yet: make one with",
        "xpnet report many/deep/two",
    ]


def test_index_of_runs_tells_from_where_an_accuracy_fell(folder):
    metrics = json.loads(Path("many/one/metrics.json").read_text()) | {
        "conclusion": {"text": "", "rule": "far-below-best"}
    }
    metrics["validation"]["accuracy"] = 0.01
    Path("many/one/metrics.json").write_text(json.dumps(metrics))
    cells = [cell.text for row in runs_page(folder, "", "").sections[0].blocks[0].rows for cell in row]
    assert any(re.fullmatch(r"fell from \d+\.\d to 1\.0 %", text) for text in cells)


def test_report_of_a_folder_of_runs_is_an_index_with_curves_and_links(folder):
    Path("many/one/report.html").touch()
    found = xpnet.write_report("many")
    assert (found.kind, found.page) == ("runs", Path("many/report.html"))
    text = found.page.read_text()
    tags = Tags(text)
    links = [a["href"] for a in tags.all("a") if not a["href"].startswith("#")]
    assert links == ["one/report.html"]
    assert (found.page.parent / links[0]).is_file()
    assert text.count("<polyline") == 2
    shown = "".join(tags.text)
    assert "bad is damaged: many/bad/metrics.json" in shown
    assert "3 runs, 1 damaged, 2 finished" in shown
    with pytest.raises(xpnet.XpnetError, match="is a folder of runs; only runs are compared"):
        xpnet.write_report("many", "many/one", out="page.html")
