"""Names that are not UTF-8: refused where files would hold them, before anything is trained, and read elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xpnet.cli import command_line, typed

NAME = os.fsdecode(b"r\xff")
SMALL = ["--data", "patterns:200/40", "--hidden", "3", "--device", "cpu"]
TABLE = ["--data", "x.csv", "--hidden", "3", "--device", "cpu", "--batch-size", "6"]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have names in UTF-8 alone")


def table() -> None:
    Path("x.csv").write_text("a,b,label\n" + "".join(f"{i},{i % 3},{i % 2}\n" for i in range(40)))


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (["train", *SMALL, "--epochs", "1", "--out", NAME], "out"),
        (["train", "--resume", NAME], "resume"),
        (["lr-range", *SMALL, "--steps", "20", "--out", NAME], "out"),
        (["diagnose", *SMALL, "--epochs", "1", "--out", NAME], "out"),
        (["diagnose", NAME, "--out", "d"], "run"),
        (["search", "lambda=0,1", *SMALL, "--out", NAME], "out"),
        (["search", "lambda=0,1", *SMALL, "--storage", NAME], "storage"),
        (["search", "lambda=0,1", *SMALL, "--storage", f"sqlite:///{NAME}"], "storage"),
        (["search", "lambda=0,1", *SMALL, "--storage", f"postgresql://me:secret@host/{NAME}"], "storage"),
        (["search", "lambda=0,1", *SMALL, "--study", NAME], "study"),
        (["search", "--resume", NAME], "resume"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else value,
)
def test_name_that_files_cannot_hold_is_refused_before_anything_is_made(command, arguments, key):
    err = command(*arguments, code=2).err
    assert f"xpnet: {key} = " in err
    assert "secret" not in err
    assert r"r\udcff: is not UTF-8, and the files that hold this name are; take another" in err
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", *TABLE, "--epochs", "1", "--out", "made"],
        ["lr-range", *TABLE, "--steps", "20", "--out", "made"],
        ["search", "lambda=0,1", *TABLE, "--cycles", "1", "--n-s", "4", "--out", "made"],
    ],
    ids=lambda value: value[0],
)
def test_data_in_such_a_folder_is_refused_before_anything_is_made(command, monkeypatch, arguments):
    Path(NAME).mkdir()
    monkeypatch.chdir(NAME)
    table()
    err = command(*arguments, code=2).err
    assert "xpnet: data = " in err
    assert "UTF-8" in err.splitlines()[-1]
    assert [path.name for path in Path().iterdir()] == ["x.csv"]


@pytest.mark.slow
def test_working_in_such_a_folder_writes_files_that_are_read_from_outside(command, monkeypatch):
    Path(NAME).mkdir()
    monkeypatch.chdir(NAME)
    table()
    command("train", *SMALL, "--epochs", "1", "--out", "run")
    command("search", "lambda=0,1e-3", *SMALL, "--cycles", "1", "--n-s", "4", "--final", "none", "--out", "search")
    command("train", "--resume", "run")
    command("diagnose", *TABLE, "--epochs", "1", "--out", "d")
    command("data", "info", "x.csv")
    for path in (*Path().rglob("*.json"), *Path().rglob("*.toml")):
        assert "\\udc" not in path.read_text(encoding="utf-8")
    monkeypatch.chdir("..")
    for folder in ("run", "search"):
        command("report", f"{NAME}/{folder}")
        assert (Path(NAME) / folder / "report.html").read_text(encoding="utf-8")
    Path(NAME).rename("again")
    command("report", "again/run", "--out", os.fsdecode(b"page\xff.html"))
    command.json("evaluate", "again/run")


@pytest.mark.thorough
def test_command_line_with_such_a_name_is_kept_as_it_can_be_typed(command):
    Path(os.fsdecode(b"it's\xff\\.toml")).write_text('hidden = [3]\ndata = "patterns:200/40"\nepochs = 1\n')
    given = ["train", "--config", os.fsdecode(b"it's\xff\\.toml"), "--out", "a run"]
    command(*given)
    line = json.loads(Path("a run/environment.json").read_text())["command"]
    assert line == command_line() == r"xpnet train --config $'it\x27s\xff\x5c.toml' --out 'a run'"
    command("report", "a run")
    shell = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True)
    assert shell.stdout.split(b"\0")[:-1] == [os.fsencode(argument) for argument in ["xpnet", *given]]


def test_typed_quotes_for_a_shell():
    assert typed("xpnet", "a b", "naïve", "x") == "xpnet 'a b' 'naïve' x"


def test_predict_takes_images_of_such_names(command):
    for name in ("a", "b"):
        (Path("images") / name).mkdir(parents=True)
        for number in range(8):
            pixels = np.random.default_rng(number).integers(0, 256, (4, 4), np.uint8)
            Image.fromarray(pixels).save(Path("images") / name / os.fsdecode(b"%d\xff.png" % number))
    small = ["--hidden", "2", "--batch-size", "4", "--epochs", "1", "--split", "10/4"]
    command("train", "--data", "images", *small, "--out", "run")
    found = command.json("predict", "run", os.fsdecode(b"images/a/0\xff.png"))
    assert os.fsdecode(b"images/a/0\xff.png") in json.dumps(found, ensure_ascii=False)
