"""Shared archives of runs, and runs that are repeated from them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from report_cases import small

import xpnet
from xpnet.cli import main
from xpnet.config.settings import read_config
from xpnet.errors import ConfigError
from xpnet.runs.share import shared_archive


def archive(members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile("made.zip", "w") as made:
        for name, content in members.items():
            made.writestr(name, content)
    return Path("made.zip")


def test_shared_archive_repeats_the_run_and_warns_of_other_data(capsys: pytest.CaptureFixture[str]):
    run = small(out="first")
    path = Path("shared.zip")
    path.write_bytes(shared_archive([run], b"a page"))
    assert shared_archive([run], b"a page") == path.read_bytes()
    with zipfile.ZipFile(path) as made:
        names = set(made.namelist())
        read_me = made.read("README.txt").decode()
    files = ("config.toml", "metrics.json", "history.csv", "environment.json", "data.json")
    assert names == {"report.html", "README.txt", *(f"first/{name}" for name in files)}
    assert "xpnet train --config THIS_FILE.zip" in read_me
    assert "check sum" in read_me
    assert read_config(path) == read_config(run)
    capsys.readouterr()
    main(["train", "--config", str(path), "--out", "again", "--json"])
    again = capsys.readouterr()
    assert json.loads(again.out)["test"] == json.loads((run / "metrics.json").read_text())["test"]
    assert "is not that of the shared run" not in again.err
    main(["train", "--config", str(path), "--data", "patterns:600/199", "--epochs", "1", "--out", "other"])
    assert "warning: the data is not that of the shared run: check sum = " in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.pictures
def test_report_zip_has_the_page_of_several_runs(capsys: pytest.CaptureFixture[str]):
    small(out="one")
    small(out="deep/one")
    main(["report", "one", "deep/one", "--zip", "--out", "both.zip", "--json"])
    assert json.loads(capsys.readouterr().out)["page"] == "both.zip"
    with zipfile.ZipFile("both.zip") as made:
        assert {"one-1/config.toml", "one-2/config.toml"} <= set(made.namelist())
        assert b"<!DOCTYPE html>" in made.read("report.html")
    found = xpnet.write_report("one", share=True)
    assert found.page == Path("one/report.zip")


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"a/config.toml": b"lambda = 1", "b/config.toml": b"lambda = 2"}, "holds 2 runs; unpack it"),
        ({"readme": b""}, "holds no config.toml"),
        ({"config.toml": b"\xff"}, "config.toml is not text"),
        ({"config.toml": b"lambda"}, "config.toml: is not TOML"),
        ({"config.toml": b" " * 2_000_000}, "is larger than a shared study can be"),
        ({"config.toml": b"lambd = 1"}, "did you mean lambda"),
    ],
)
def test_archive_that_is_no_shared_study_is_refused(members, words, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        main(["train", "--config", str(archive(members)), "--out", "run"])
    assert end.value.code == 2
    assert words in capsys.readouterr().err
    assert not Path("run").exists()


def test_damaged_archive_is_refused():
    path = archive({"config.toml": b"lambda = 0.1\n" * 100})
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ConfigError, match="is no ZIP archive, or is damaged"):
        read_config(path)


def test_share_of_a_folder_of_runs_is_refused():
    Path("many").mkdir()
    small(out="many/one")
    with pytest.raises(ConfigError, match="an archive holds runs"):
        xpnet.write_report("many", share=True)
