"""Commands where an optional package is missing: they say so before they work, or go without."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import xpnet
from xpnet.errors import MissingExtraError
from xpnet.report.write import build_page
from xpnet.utils.extras import EXTRAS

SMALL = ("--data", "patterns:100/20", "--hidden", "3", "--epochs", "1", "--batch-size", "20")
MODULES = {"postgresql": ("psycopg", "psycopg2")} | {name: tuple(extra.packages) for name, extra in EXTRAS.items()}
MODULES["postgresql"] += ("psycopg2",)


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch):
    """Return a function that makes the modules of extras look as if they were not installed."""

    def hide(*extras: str) -> None:
        for module in (module for extra in extras for module in MODULES[extra]):
            monkeypatch.setitem(sys.modules, module, None)

    return hide


@pytest.mark.parametrize(
    ("extra", "arguments"),
    [
        ("search", ["search", "lambda", *SMALL, "--out", "new"]),
        ("search", ["search", "--resume", "run"]),
        ("figures", ["report", "run"]),
        *(("figures", ["train", *SMALL, "--figures", kind, "--out", "new"]) for kind in ("png", "svg", "all")),
        ("figures", ["train", "--config", "pictures.toml", "--out", "new"]),
        ("figures", ["lr-range", *SMALL, "--figures", "png", "--out", "new"]),
        ("figures", ["diagnose", *SMALL, "--figures", "svg", "--out", "new"]),
        ("figures", ["search", "lambda", *SMALL, "--figures", "all", "--out", "new"]),
        ("figures", ["reproduce", "A.bn3", "--quick", "--figures", "all", "--out", "new"]),
        ("figures", ["gradcheck", *SMALL[:4], "--figure", "new"]),
        ("figures", ["evaluate", "run", "--figure", "new"]),
        ("figures", ["data", "info", "patterns:100/20", "--figure", "new"]),
        ("images", ["train", "--data", "pictures", "--out", "new"]),
        ("images", ["predict", "run", "pictures/red/0.png"]),
        ("parquet", ["train", "--data", "table.parquet", "--out", "new"]),
        ("postgresql", ["search", "lambda", *SMALL, "--storage", "postgresql://localhost/x", "--out", "new"]),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else value,
)
def test_command_that_lacks_an_extra_names_it_and_leaves_nothing(
    command, trained, shared_pictures, without, extra, arguments
):
    trained(*SMALL)
    if "pictures" in " ".join(arguments):
        shutil.copytree(shared_pictures, "pictures")
    Path("pictures.toml").write_text('figures = "all"\n')
    Path("table.parquet").write_bytes(b"PAR1" + bytes(20))
    before = sorted(Path().rglob("*"))
    without(extra)
    sentence = command.refused(*arguments, notes=True)
    assert f"not installed: pip install 'xpnet[{extra}]'" in sentence
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("extra", ["search", "figures"])
def test_functions_that_lack_an_extra_raise_an_import_error(without, extra, blobs):
    without(extra)
    with pytest.raises(MissingExtraError, match=rf"pip install 'xpnet\[{extra}\]'"):
        xpnet.search("lambda", blobs) if extra == "search" else xpnet.write_report("run")


def test_run_without_what_draws_is_complete_and_drawn_later(command, without, monkeypatch):
    with monkeypatch.context() as absent:
        for module in MODULES["figures"]:
            absent.setitem(sys.modules, module, None)
        done = command("train", *SMALL, "--out", "run")
    line = "figures: none; pip install 'xpnet[figures]' brings what draws them, xpnet report draws them later"
    assert done.err.splitlines().count(line) == 1
    assert {path.name for path in Path("run").iterdir()} == {
        "checkpoints",
        "config.toml",
        "environment.json",
        "history.csv",
        "metrics.json",
        "model.safetensors",
    }
    assert {"loss", "accuracy"} <= {panel.name for panel in build_page([Path("run")]).panels()}


@pytest.mark.parametrize(
    ("figures", "files"),
    [
        ("none", []),
        ("png", ["curves.png"]),
        ("svg", ["curves.svg"]),
        ("all", ["curves.png", "curves.svg"]),
        ("auto", ["curves.png", "curves.svg"]),
    ],
)
def test_figures_are_of_the_kinds_that_are_asked_for(command, figures, files):
    done = command("train", *SMALL, "--figures", figures, "--out", "run")
    assert sorted(path.name for path in Path("run").glob("curves*")) == files
    assert "figures" not in done.err
    assert f'figures = "{figures}"' in Path("run/config.toml").read_text()


def test_figures_of_other_commands_are_of_the_kinds_that_are_asked_for(command):
    command("lr-range", *SMALL, "--steps", "20", "--figures", "svg", "--out", "range")
    command("diagnose", *SMALL, "--figures", "png", "--out", "layers")
    found = command.json("search", "lambda=1e-4,1e-3", *SMALL, "--figures", "svg", "--out", "search")
    assert sorted(path.name for path in Path("range").iterdir() if path.suffix in (".png", ".svg")) == ["lr_range.svg"]
    assert [path.name for path in Path("layers").glob("diagnosis.[ps]*")] == ["diagnosis.png"]
    drawn = {path.relative_to("search").as_posix() for path in Path("search").rglob("*.[ps][nv]g")}
    assert drawn == {"accuracy-by-lambda.svg", f"{found['winner']}/curves.svg", "best/curves.svg"}


def test_resumed_run_keeps_no_curves_of_its_first_part(command, trained):
    trained(*SMALL)
    assert sorted(path.name for path in Path("run").glob("curves*")) == ["curves.png", "curves.svg"]
    command("train", "--resume", "run", "--epochs", "2", "--allow-changes", "--figures", "svg")
    assert [path.name for path in Path("run").glob("curves*")] == ["curves.svg"]
    before = Path("run/curves.svg").read_bytes()
    command("train", "--resume", "run", "--epochs", "3", "--allow-changes", "--figures", "svg")
    assert Path("run/curves.svg").read_bytes() != before


def test_info_lists_extras_and_how_to_install_them(command, without):
    without("parquet", "images")
    result = command.json("info")["extras"]
    assert list(result) == list(EXTRAS)
    assert result["parquet"] == {"installed": False, "brings": "Parquet files as data", "packages": {"pyarrow": None}}
    assert result["search"]["installed"]
    assert result["search"]["packages"]["optuna"]
    out = command("info").out
    assert "pip install 'xpnet[images,parquet]' adds what is missing" in out
    assert all(extra.brings in out for extra in EXTRAS.values())


# Commands in a process that finds none of the optional packages.
BARE = """
import importlib.abc, sys

class Nothing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {absent!r}:
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Nothing())
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *given: None if name in {absent!r} else real(name, *given)
from xpnet.cli import main
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_default_install_trains_resumes_checks_compares_and_predicts(command):
    absent = sorted({module for modules in MODULES.values() for module in modules} | {"coverage", "pandas"})

    def run(*arguments: str) -> str:
        program = BARE.format(absent=absent)
        done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("train", *SMALL, "--runs", "2", "--lambda", "0,0.01", "--out", "run")
    run("train", "--resume", "run", "--epochs", "2", "--allow-changes")
    run("train", *SMALL, "--cv", "2", "--out", "folds")
    np.savez("x.npz", x=xpnet.load_data("patterns:100/20").test.x)
    for arguments in (
        ["evaluate", "run"],
        ["predict", "run", "x.npz"],
        ["diagnose", *SMALL],
        ["lr-range", *SMALL, "--steps", "20"],
    ):
        assert run(*arguments)
    assert "passed" in run("gradcheck", *SMALL[:4], "--samples", "10")
    assert "optuna" in run("info")
