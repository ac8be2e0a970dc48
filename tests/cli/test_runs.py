"""``xpnet runs``, and the index page of a folder of runs."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
from pathlib import Path

import pytest
from page_checks import Tags
from report_cases import small

import xpnet
from xpnet.cli import main
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
    ("rule", "words"), [("alike", "settings do not differ"), ("few-steps", "few steps"), ("overfits", "overfits")]
)
def test_index_of_runs_says_conclusions_in_words(folder, rule, words):
    metrics = json.loads(Path("many/one/metrics.json").read_text()) | {"conclusion": {"text": "", "rule": rule}}
    Path("many/one/metrics.json").write_text(json.dumps(metrics))
    assert f">{words}</td>" in xpnet.write_report("many").page.read_text()


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
