"""The soak: it harms what it says, and notices what does not hold."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest

from bench.soak import Soak, SoakError, compare, damage, main, soaked, trials
from xpnet.cli import main as xpnet


@pytest.fixture
def run(tmp_path: Path, capsys) -> Path:
    xpnet(["train", "--data", "patterns:300/100", "--hidden", "4", "--epochs", "2", "--out", "run", "--quiet"])
    return tmp_path / "run"


def test_two_runs_are_compared_to_the_last_bit(run: Path):
    twin = run.with_name("twin")
    shutil.copytree(run, twin)
    (twin / "history.csv").write_text((twin / "history.csv").read_text().replace("seconds_training", "seconds_"))
    compare(run, twin)
    model = (twin / "model.safetensors").read_bytes()
    (twin / "model.safetensors").write_bytes(model[:-1] + bytes([model[-1] ^ 1]))
    with pytest.raises(SoakError, match="run, twin: the networks differ"):
        compare(run, twin)
    (twin / "model.safetensors").write_bytes(model)
    metrics = json.loads((twin / "metrics.json").read_text())
    metrics["test"]["loss"] *= 1 + 1e-15
    (twin / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(SoakError, match="run, twin: test is"):
        compare(run, twin)
    rows = (twin / "history.csv").read_text().splitlines()
    (twin / "history.csv").write_text("\n".join(rows[:-1]))
    with pytest.raises(SoakError, match="the histories differ"):
        compare(run, twin)


def test_damage_changes_a_file(tmp_path: Path):
    whole = bytes(range(200))
    soak = Soak(tmp_path, 0)
    seen = set()
    for _ in range(40):
        (tmp_path / "file").write_bytes(whole)
        damage(soak, tmp_path / "file")
        left = (tmp_path / "file").read_bytes() if (tmp_path / "file").exists() else None
        assert left != whole
        seen.add("gone" if left is None else "bit" if len(left) == 200 else "cut" if len(left) < 200 else "bytes")
    assert seen == {"gone", "bit", "cut", "bytes"}
    assert soak.counts["files damaged"] == 40


def test_a_command_that_goes_wrong_is_noticed(tmp_path: Path):
    soak = Soak(tmp_path, 0)
    assert soak.command("train", "--hidden", "none") == 2
    (tmp_path / "numpy.py").write_text("raise ZeroDivisionError\n")  # found before the real one
    with pytest.raises(SoakError, match=r"(?s)^xpnet train --debug: ended with 1: .*ZeroDivisionError"):
        soak.command("train", "--debug")
    assert soak.counts["commands"] == 2


def test_the_trials_of_searches_are_compared_by_their_figures(tmp_path: Path):
    header = "trial,round,state,lambda,validation_accuracy,validation_accuracy_std,seconds,worker\n"
    (tmp_path / "trials.csv").write_text(header + "0,0,complete,0.1,0.5,,3,a\n1,0,complete,0.2,0.25,,3,a\n")
    first = trials(tmp_path)
    (tmp_path / "trials.csv").write_text(header + "4,0,complete,0.2,0.25,,9,b\n1,0,complete,0.1,0.5,,8,c\n")
    assert trials(tmp_path) == first == [("0.1", "0.5", ""), ("0.2", "0.25", "")]
    (tmp_path / "trials.csv").write_text(header + "4,0,complete,0.2,0.25,,9,b\n1,0,complete,0.1,0.51,,8,c\n")
    assert trials(tmp_path) != first


@pytest.mark.slow
def test_a_short_soak_survives(tmp_path: Path, capsys):
    survived = tmp_path / "soak.json"
    assert main(["--seconds", "1", "--seed", "5", "--out", str(survived)]) == 0
    counts = json.loads(survived.read_text())["soak"]["counts"]
    assert {name: counts[f"scenarios: {name}"] for name in ("train", "corrupt", "search")} == dict.fromkeys(
        ("train", "corrupt", "search"), 1
    )
    assert counts["files damaged"] >= 2
    assert counts["runs that ended as if undisturbed"] == counts["searches that found the same"] == 1
    assert f"{counts['commands']:6}  commands" in capsys.readouterr().out


def test_what_does_not_hold_ends_the_soak_and_is_kept(tmp_path: Path, monkeypatch, capsys):
    def broken(soak: Soak) -> None:
        (soak.folder / "left").write_text("evidence")
        raise SoakError("run-1, run-2: the networks differ")

    monkeypatch.setattr("bench.soak.SCENARIOS", {"broken": (broken, 1.0)})
    assert main(["--seconds", "1"]) == 1
    told = capsys.readouterr().out
    assert "did not hold: run-1, run-2: the networks differ" in told
    folder = Path(told.rsplit(": ", 1)[1].strip())
    assert (folder / "left").read_text() == "evidence"
    shutil.rmtree(folder)


def test_scenarios_come_until_the_time_is_up(tmp_path: Path, monkeypatch):
    done: list[str] = []
    monkeypatch.setattr(
        "bench.soak.SCENARIOS", {name: (lambda _, name=name: done.append(name), 0.5) for name in ("one", "two")}
    )
    survived = soaked(0.05, 3, tmp_path, lambda _: None)
    assert {"one", "two"} <= set(done)
    assert survived["counts"]["scenarios: one"] == done.count("one") >= 1
    assert survived["seconds"] >= 0.05


def test_a_signal_that_was_sent_is_counted(tmp_path: Path):
    soak = Soak(tmp_path, 0)
    words = ["train", "--data", "patterns:300/100", "--epochs", "100000", "--save-every", "0", "--out", "run"]
    assert soak.command(*words, after=0.2, number=signal.SIGKILL) == -9
    assert soak.counts["SIGKILL sent"] == 1
