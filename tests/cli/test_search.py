"""``xpnet search`` as a user meets it."""

from __future__ import annotations

import csv
import json
import signal
import tomllib
from pathlib import Path
from types import SimpleNamespace

import command_line
import pytest

from xpnet.cli import main
from xpnet.cli.search_start import command as typed_command
from xpnet.tuning import worker as worker_module
from xpnet.tuning.kept_networks import FolderStore

SMALL = [
    *("--data", "patterns:400/100", "--hidden", "5", "--n-s", "4", "--cycles", "2"),
    *("--trials", "4", "--device", "cpu"),
]


def run(capsys, *arguments, code=0):
    """Run ``xpnet search``, check its exit code, and return its standard output and standard error."""
    found, out, err = command_line.run(capsys, "search", *arguments)
    assert found == code, err
    return SimpleNamespace(out=out, err=err)


def test_search_leaves_its_files(capsys):
    out = run(capsys, "lambda-eta", *SMALL, "--runs", "2", "--coarse-to-fine", "--prune", "median", "--out", "s").out
    folder = Path("s")
    assert "test accuracy of the winner, trained on 360/40" in out
    names = {path.name for path in folder.iterdir()}
    assert names >= {"search.toml", "study.journal", "trials.csv", "search.json", "best.toml", "winner"}
    for figure in ("accuracy-by-lambda", "accuracy-by-eta", "accuracy-by-lambda-and-eta"):
        assert names >= {f"{figure}.{kind}" for kind in ("png", "svg", "csv")}
    assert not [name for name in names if name.endswith(".tmp")]
    found = json.loads((folder / "search.json").read_text())
    assert found["counts"]["complete"] + found["counts"]["pruned"] == 8
    assert found["rounds"] == 2
    assert found["best"]["validation"]["accuracy"]["mean"] == max(
        t["score"] for t in found["trials"] if t["state"] == "complete"
    )
    with (folder / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["trial"]) for row in rows] == list(range(8))
    for row, trial in zip(rows, found["trials"], strict=True):
        assert float(row["lambda"]) == trial["settings"]["lambda"]
        assert float(row["accuracy_seed_1"]) == trial["validation"]["accuracy"]["values"][1]
        assert row["pruned_after"] == ("" if trial["state"] == "complete" else "1")
    best = tomllib.loads((folder / "best.toml").read_text())
    assert best["lambda"] == found["best"]["settings"]["lambda"]
    assert best["eta_max"] == found["best"]["settings"]["eta"]
    winner = json.loads((folder / "winner" / "metrics.json").read_text())
    assert found["test"] == winner["test"]
    assert (found["winner"], found["best_run"], found["trained_again"]) == ("winner", "best", False)
    assert not (folder / "kept").exists()
    main(["train", "--config", "s/best.toml", "--out", "again", "--json"])
    again = json.loads(capsys.readouterr().out)["validation"]["accuracy"]["mean"]
    assert again == pytest.approx(winner["validation"]["accuracy"]["mean"], abs=0.03)  # rounded otherwise


@pytest.mark.parametrize("final", [[], ["--final", "none"], ["--final", "300/50"], ["--final-runs", "3"]])
def test_figures_of_the_winner_are_those_of_its_networks(capsys, final):
    text = run(capsys, "lambda", *SMALL, "--runs", "2", *final, "--out", "s")
    found = json.loads(Path("s/search.json").read_text())
    best, runs = found["best"], ["s/best"] if final else ["s/best", "s/winner"]
    for folder in runs:
        main(["evaluate", folder, "--on", "validation", "--json"])
        given = json.loads(capsys.readouterr().out)
        assert given["accuracy"] == best["validation"]["accuracy"]
        assert given["loss"] == best["validation"]["loss"]
        kept = json.loads(Path(folder, "metrics.json").read_text())
        assert kept["validation"]["loss"] == best["validation"]["loss"]
        history = Path(folder, "history.csv").read_text().splitlines()
        column = history[0].split(",").index("validation_loss")
        assert float(history[-1].split(",")[column]) == pytest.approx(best["validation"]["loss"]["values"][1], rel=1e-5)
        assert Path(folder, "curves.svg").is_file()
    assert f"{100 * best['score']:.2f} %" in Path("s/best.toml").read_text().splitlines()[0]
    assert f"{100 * best['score']:.2f} ±" in text.out
    assert found["best_run"] == "best"
    assert found["trained_again"] == {"none": None}.get("".join(final[1:]), bool(final))
    assert ("trained again" in text.err) == bool(final[1:] and final[1] != "none")
    assert ("trained again on" in text.out) == bool(final[1:] and final[1] != "none")
    test = json.loads(Path("s/best/metrics.json").read_text())["test"]["accuracy"]
    assert test == {"mean": None, "std": None, "values": [None, None]}  # nobody has looked


def test_search_without_kept_networks_goes_on_and_trains_its_winner_again(capsys, monkeypatch):
    """As one of an earlier version: the networks of its finished trials are nowhere."""
    with monkeypatch.context() as patch:
        patch.setattr(FolderStore, "keep", lambda *_: None)
        patch.setattr("xpnet.tuning.search.find_once", lambda *_: None)
        run(capsys, "lambda", *SMALL, "--out", "s", code=130)
    found = run(capsys, "--resume", "s", "--json")
    assert "its networks cannot be had" in found.err
    result = json.loads(found.out)
    assert (result["winner"], result["best_run"], result["trained_again"]) == ("winner", None, True)
    assert result["counts"]["complete"] == 4


def test_resume_of_a_finished_search_prints_the_same_json(capsys):
    found = json.loads(run(capsys, "lambda=0,1e-2", *SMALL[:-4], "--out", "s", "--json").out)
    assert [t["settings"]["lambda"] for t in found["trials"]] == [0.0, 0.01]
    assert found["run"] == "s"
    assert found["command"].startswith("xpnet")
    assert found["environment"]["device"] == "cpu"
    again = json.loads(run(capsys, "--resume", "s", "--json").out)
    assert again["trials"] == found["trials"]
    assert again["test"] == found["test"]
    assert not Path("s/winner-2").exists()


def test_the_table_shows_the_best_first(capsys):
    found = run(capsys, "sigma=0.3,0.001", *SMALL[:-4], "--no-batch-norm", "--final", "none", "--out", "s")
    lines = [line.split() for line in found.out.splitlines()]
    rows = [line for line in lines if line and line[0].isdigit() and len(line) >= 6]
    accuracies = [float(row[3]) for row in rows]
    assert len(rows) == 2
    assert accuracies == sorted(accuracies, reverse=True)
    assert "2 complete" in found.err
    assert json.loads(Path("s/search.json").read_text())["test"] is None


@pytest.mark.slow
def test_database_is_joined_by_its_study(capsys, tmp_path):
    url = f"sqlite:///{tmp_path / 'db'}"
    one = json.loads(run(capsys, "lambda", *SMALL, "--storage", url, "--study", "mine", "--out", "a", "--json").out)
    two = json.loads(run(capsys, "--storage", url, "--study", "mine", "--out", "b", "--json").out)
    assert two["trials"] == one["trials"]
    assert two["test"] == one["test"]
    same = json.loads(run(capsys, "lambda", *SMALL, "--storage", url, "--study", "mine", "--out", "c", "--json").out)
    assert same["trials"] == one["trials"]
    told = run(capsys, "lambda", *SMALL, "--seed", "1", "--storage", url, "--study", "mine", code=2).err
    assert "seed is 0 there, not 1" in told


def test_passwords_stay_out_of_the_folder(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["xpnet", "search", "--storage", "postgresql://me:secret@host/db"])
    assert "secret" not in typed_command()
    assert "me@host" in typed_command()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name what to search"),
        (["lamda"], "did you mean lambda"),
        (["lambda", "--lambda", "0.1"], "lambda is searched; leave it out"),
        (["lambda", "--rounds", "0"], "rounds = 0: must be a whole number of at least 1"),
        (["lambda", "--round-cycles", "1,2"], "has 2 numbers for 1 round;"),
        (["lambda", "--draw", "halton"], "draw = halton: must be random"),
        (["lambda", "--final", "12x"], "12x"),
        (["lambda", "--storage", "nothing://x"], "is no URL of a database"),
        (["lambda", "--resume", "x"], "leave it out"),
        (["--resume", "nowhere"], "is not the folder of a search"),
        (["--study", "x"], "needs the storage it is in"),
        (["lambda", "--hidden", "0"], "hidden"),
    ],
)
def test_wrong_command_is_refused_in_one_line_and_leaves_nothing(capsys, arguments, words):
    found = run(capsys, *arguments, *(SMALL if "lambda" in arguments and "--resume" not in arguments else []), code=2)
    told = [line for line in found.err.splitlines() if line.startswith("xpnet: ")]
    assert len(told) == 1
    assert words in told[0]
    assert found.out == ""
    assert not Path("runs").exists()


def test_joining_worker_cannot_change_the_search(capsys):
    run(capsys, "lambda", *SMALL, "--final", "none", "--out", "s")
    for name, value in {"seed": "3", "trials": "9", "out": "x"}.items():
        assert f"{name} = {value}" in run(capsys, "--resume", "s", f"--{name}", value, code=2).err
    run(capsys, "--resume", "s", "--max-replicas", "2", "--lease", "30", "--device", "cpu")
    Path("s/study.journal").unlink()
    assert "is not there" in run(capsys, "--resume", "s", code=2).err
    Path("s/search.toml").write_text("storage = 3")
    assert "does not describe a search" in run(capsys, "--resume", "s", code=2).err


def test_existing_folder_is_refused_before_anything_is_trained(capsys):
    Path("s").mkdir()
    assert "exists already" in run(capsys, "lambda", *SMALL, "--out", "s", code=2).err


def test_interrupted_search_is_resumed(capsys, monkeypatch):
    real = worker_module.train_population
    monkeypatch.setattr(worker_module, "TOGETHER", {"cpu": 2, "gpu": 2})

    def pressed(*args, **options):
        signal.raise_signal(signal.SIGINT)
        return real(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(worker_module, "train_population", pressed)
        found = run(capsys, "lambda", *SMALL, "--out", "s", code=130)
    assert "xpnet search --resume s goes on" in found.err
    assert json.loads(Path("s/search.json").read_text())["counts"]["running"] == 0
    found = json.loads(run(capsys, "--resume", "s", "--json").out)
    assert found["counts"]["complete"] == 4
    assert found["test"] is not None


@pytest.mark.guarantee("untrusted")
def test_nothing_is_drawn_into_a_winner_that_lies_elsewhere(capsys, monkeypatch):
    """The storage says where the winner is, and a storage may come from anybody."""
    run(capsys, "lambda", *SMALL, "--out", "s")
    outside = Path("outside")
    Path("s/winner").rename(outside)
    (outside / "curves.png").unlink()
    figures = {"test": {"accuracy": 0.5}, "winner": "../outside", "trained_again": False}
    monkeypatch.setattr("xpnet.tuning.search.find_once", lambda *_: figures)
    assert "winner = ../outside: must be the name of a folder in it" in run(capsys, "--resume", "s", code=2).err
    assert not (outside / "curves.png").exists()
