"""``xpnet train`` as a new user would try it."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import sys
import threading
import tomllib
from pathlib import Path

import numpy as np
import pytest
from command_line import SMALL

import xpnet
from xpnet.cli import main

FILES = {"config.toml", "environment.json", "history.csv", "metrics.json", "model.safetensors"}
FILES |= {"curves.png", "curves.svg", "checkpoints"}


def config(folder: str) -> dict:
    return tomllib.loads(Path(folder, "config.toml").read_text())


def test_train_json_is_one_object_and_the_metrics_of_the_folder(command):
    done = command("train", *SMALL, "--json", "--out", "run")
    result = json.loads(done.out)
    assert result == json.loads(Path("run/metrics.json").read_text())
    assert set(result) >= {"test", "validation", "train", "epochs", "steps", "seconds", "device", "run"}
    for which in ("test", "validation", "train"):
        assert set(result[which]) == {"accuracy", "loss", "cost"}
        assert all(isinstance(value, float) for value in result[which].values())
    assert (result["epochs"], result["steps"], result["device"]) == (2, 12, "cpu")
    assert len(result["seconds"]["per_epoch"]) == 2
    assert result["seconds"]["training"] == pytest.approx(sum(result["seconds"]["per_epoch"]))
    assert result["run"] == "run"
    assert "device: cpu" in done.err
    assert {path.name for path in Path("run").iterdir()} == FILES


@pytest.mark.parametrize("rounds", [True, False])
def test_train_says_where_bf16_has_no_effect(command, monkeypatch, rounds):
    monkeypatch.setattr("xpnet.runs.experiment.rounds_products", lambda *_: rounds)
    monkeypatch.setattr("xpnet.training.steppers.rounds_products", lambda *_: False)
    done = command("train", *SMALL, "--bf16", "--out", "run")
    assert ("bf16: needs a CPU with AVX-512 BF16, Numba and float32" in done.err) is not rounds
    assert config("run")["bf16"] is True


def test_train_several_runs_report_mean_and_standard_deviation(command):
    result = command.json("train", *SMALL, "--runs", "3")
    accuracy = result["test"]["accuracy"]
    assert accuracy["mean"] == pytest.approx(np.mean(accuracy["values"]))
    assert accuracy["std"] == pytest.approx(np.std(accuracy["values"], ddof=1))
    assert len(accuracy["values"]) == 3
    assert Path(result["run"]).parent == Path("runs")


def test_train_config_of_a_run_repeats_it_bit_for_bit(command, trained):
    extra = ["--momentum", "0.5", "--nesterov", "--lambda", "0.01", "--batch-size", "70", "--runs", "2", "--seed", "4"]
    trained(*SMALL, *extra, out="first")
    command("train", "--config", "first/config.toml", "--out", "second")
    command("train", "--config", "first", "--out", "third")

    def history(folder):
        with Path(folder, "history.csv").open() as file:
            return [{k: v for k, v in row.items() if not k.startswith("seconds")} for row in csv.DictReader(file)]

    assert history("first") == history("second") == history("third")
    for name in ("second", "third"):
        for file in ("model.safetensors", "config.toml"):
            assert Path(name, file).read_bytes() == Path("first", file).read_bytes()


def test_train_options_go_before_the_file(command):
    Path("c.toml").write_text('data = "patterns:600/100"\nhidden = [8]\ncycles = 1\nn_s = 3\n"lambda" = 0.25\n')
    command("train", "--config", "c.toml", "--epochs", "1", "--hidden", "4", "--out", "a")
    settings = config("a")
    assert (settings["hidden"], settings["epochs"], settings["lambda"]) == ([4], 1, 0.25)
    assert "cycles" not in settings
    command("train", "--config", "a", "--schedule", "constant", "--eta", "0.1", "--out", "b")
    settings = config("b")
    assert (settings["schedule"], settings["eta"]) == ("constant", 0.1)
    assert not {"n_s", "eta_max", "eta_min", "decay"} & set(settings)


@pytest.mark.slow
def test_train_without_data_uses_patterns_and_says_how_to_get_cifar10(command):
    done = command("train", "--epochs", "1", "--hidden", "4")
    assert "data: patterns, built in, split 9000/1000" in done.err
    assert "https://www.cs.toronto.edu/~kriz/cifar.html" in done.err
    assert "test" in done.out
    assert "accuracy" in done.out


def test_train_saves_the_network_of_the_reported_accuracy(trained):
    run = trained(*SMALL)
    net, data = xpnet.load(run), xpnet.load_data("patterns:600/100")
    accuracy = (net.predict_proba(data.test.x)[0].argmax(axis=1) == data.test.labels).mean()
    assert accuracy == json.loads((run / "metrics.json").read_text())["test"]["accuracy"]
    assert net.class_names == data.class_names


def test_train_quiet_prints_nothing(command):
    assert command("train", *SMALL, "--quiet") == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch-size", "0"], "batch_size = 0: must be a whole number of at least 1"),
        (["--batch-size", "ten"], "batch_size = ten: must be a whole number of at least 1"),
        (["--lambda", "-1"], "lambda = -1: must be a finite number of at least 0"),
        (["--hidden", "50,-3"], "hidden = 50,-3: must be the sizes"),
        (["--init", "glorot"], "init = glorot: must be he, xavier, or"),
        (["--n-s", "5e"], "n_s = 5e: must be a whole number of steps"),
        (["--cycles", "2", "--epochs", "3"], "set one of them, not both"),
        (["--eta", "0.1"], "eta = 0.1: has no effect on the schedule triangular"),
        (["--split", "half"], "must be 45k, 49k, b1b2, 9k, or N/M"),
        (["--split", "20k"], "must be 45k, 49k, b1b2, 9k, or N/M"),
        (["--split", "45k"], "split = 45k: asks for 50,000 samples"),
        (["--data", "nowhere"], "nowhere: there is no such file or folder"),
        (["--data", "cifar10"], "data = cifar10: is not in "),
        (["--device", "gpu"], "device = gpu: cannot be used: CuPy"),
        (["--device", "cuda"], "device = cuda: must be auto, cpu, gpu or gpu:N"),
        (["--batch-size", "1"], "leaves a batch of one"),
        (["--config", "none.toml"], "config = none.toml: there is no such file"),
        (["--epoch", "3"], "--epoch: xpnet train has no such option; did you mean --epochs?"),
        (["--hidden"], "--hidden"),
        (["--out", "."], "out = .: exists already"),
        (["--device", "cpu", "--stepper", "graph"], "stepper = graph: needs a GPU; on cpu there are plain, split"),
        (["--stepper", "split", "--momentum", "0.5"], "stepper = split: does not know the setting momentum"),
        (
            ["--stepper", "odd"],
            "stepper = odd: must be auto, plain, fused, graph, small, multi, multi-bf16, persistent, split, units",
        ),
        (["--device", "cpu", "--tf32"], "tf32 = true: is a mode of NVIDIA's GPUs, and this would compute on the CPU"),
        (["--schedule", "constant", "--eta", "1e30", "--no-batch-norm"], "the loss became"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_train_mistakes_get_one_sentence_before_there_is_a_folder(command, monkeypatch, arguments, message):
    monkeypatch.setitem(sys.modules, "cupy", None)
    given = [*SMALL]
    for option in {"--data", "--hidden", "--epochs"} & {*arguments, *(["--epochs"] if "--cycles" in arguments else [])}:
        at = given.index(option)
        del given[at : at + 2]
    assert message in command.refused("train", *given, *arguments, notes=True)
    assert Path("runs").exists() == ("constant" in arguments)  # of a training that began


def test_train_mistakes_in_a_file_name_the_file(command):
    Path("c.toml").write_text("batch_size = 0\n")
    sentence = command.refused("train", "--config", "c.toml")
    assert sentence == "config = c.toml, line 1: batch_size = 0: must be a whole number of at least 1"
    Path("d.toml").write_text("lamda = 1\n")
    sentence = command.refused("train", "--config", "d.toml")
    assert "d.toml, line 1: lamda = 1: there is no such setting; did you mean lambda?" in sentence


def test_train_debug_shows_the_traceback():
    with pytest.raises(xpnet.XpnetError):
        main(["train", "--batch-size", "0", "--debug"])


def test_train_diverged_run_keeps_its_history(command):
    rate = ["--schedule", "constant", "--eta", "1e30", "--no-batch-norm"]
    sentence = command.refused("train", *SMALL, *rate, "--out", "run", notes=True)
    assert re.search(r"the loss became (nan|inf) at step \d+, with learning rate 1e\+30", sentence)
    assert "run holds the epochs before it" in sentence
    assert Path("run/history.csv").read_text().startswith("epoch,step,replica,eta,")
    assert not Path("run/model.safetensors").exists()


@pytest.mark.pictures
def test_train_lists_of_settings_are_one_population(command):
    lists = ["--lambda", "1e-5,0.1", "--init", "0.1,0.001", "--runs", "2", "--seed", "3"]
    result = command.json("train", *SMALL, *lists, "--out", "run")
    assert result == json.loads(Path("run/metrics.json").read_text())
    assert [(r["seed"], r["lambda"], r["init"]) for r in result["replicas"]] == [
        (seed, lam, init) for seed in (3, 4) for init in (0.1, 0.001) for lam in (1e-5, 0.1)
    ]
    values = result["test"]["accuracy"]["values"]
    assert [r["test"]["accuracy"] for r in result["replicas"]] == values
    assert result["test"]["accuracy"]["std"] == pytest.approx(np.std(values, ddof=1))
    assert Path("run/curves.png").stat().st_size > 10_000
    assert config("run")["lambda"] == [1e-5, 0.1]
    evaluated = command.json("evaluate", "run")
    np.testing.assert_allclose(evaluated["cost"]["values"], result["test"]["cost"]["values"], rtol=1e-5)
    assert [r["lambda"] for r in evaluated["replicas"]] == [1e-5, 0.1] * 4
    assert [r["accuracy"] for r in evaluated["replicas"]] == values


def test_train_chunks_of_a_population_give_the_same_figures(command, trained):
    lists = ["--lambda", "1e-5,0.1", "--init", "0.1,0.001", "--runs", "2", "--seed", "3"]
    metrics = json.loads((trained(*SMALL, *lists) / "metrics.json").read_text())
    again = command.json("train", "--config", "run", "--out", "again", "--max-replicas", "3")
    np.testing.assert_allclose(again["test"]["loss"]["values"], metrics["test"]["loss"]["values"], rtol=1e-4)


def test_train_table_of_a_population_has_a_row_for_each_combination(command):
    done = command("train", *SMALL, "--lambda", "1e-5,0.01,0.1", "--max-replicas", "2", "--out", "run")
    rows = [line.split() for line in done.out.splitlines() if line.strip().startswith(("1e-05", "0.01", "0.1"))]
    assert [row[0] for row in rows] == ["1e-05", "0.01", "0.1"]
    assert sum("best validation" in line for line in done.out.splitlines()) == 1
    assert "3 networks train in 2 chunks, one after another: 1, 2" in done.err


def test_train_replica_that_diverges_is_reported_and_the_others_are_kept(command):
    rates = ["--no-batch-norm", "--schedule", "constant", "--eta", "0.01,1e30"]
    done = command("train", *SMALL, *rates, "--json", "--out", "run")
    result = json.loads(done.out)
    good, bad = result["replicas"]
    assert good["test"]["accuracy"] > 0
    assert bad["test"] == bad["validation"] == {"accuracy": None, "loss": None, "cost": None}
    assert isinstance(bad["diverged_at"], int)
    assert result["diverged"] == 1
    warning = r"warning: the loss of replica 1 became \S+ at step \d+, with learning rate 1e\+30.*eta 1e\+30"
    assert re.search(warning, done.err)
    command("evaluate", "run")


def test_train_ctrl_c_stops_after_the_step_and_saves(command):
    history, over = Path("run/history.csv").absolute(), threading.Event()

    def press_ctrl_c() -> None:
        while not over.wait(0.01):
            if history.exists() and history.read_text().count("\n") > 3:
                os.kill(os.getpid(), signal.SIGINT)
                return

    keyboard = threading.Thread(target=press_ctrl_c)
    keyboard.start()
    try:
        arguments = ["--data", "patterns:2000/100", "--epochs", "2000", "--save-every", "50", "--out", "run"]
        result = command.json("train", *arguments, code=130)
    finally:
        over.set()
        keyboard.join()
    assert result["interrupted"]
    assert result["steps"] < 2000 * 18
    assert xpnet.load("run").config.hidden == (50, 50)
    assert len(history.read_text().splitlines()) == result["epochs"] + 1
    assert {"metrics.json", "curves.png", "curves.svg"} <= {path.name for path in Path("run").iterdir()}


@pytest.mark.parametrize("stepper", ["plain", "population"])
def test_train_stepper_can_be_chosen(command, trained, stepper):
    small = [*SMALL, "--dtype", "float64"]
    auto = json.loads((trained(*small) / "metrics.json").read_text())
    chosen = command.json("train", *small, "--out", "a", "--stepper", stepper)
    assert chosen["test"]["loss"] == pytest.approx(auto["test"]["loss"], rel=1e-9)
    assert config("a")["stepper"] == stepper
