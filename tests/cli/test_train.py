"""``xpnet train`` as a new user would try it."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
from command_line import SMALL, run

import xpnet
from xpnet.cli import main


def test_json_is_one_object_and_the_metrics_of_the_folder(capsys):
    code, out, err = run(capsys, "train", *SMALL, "--json", "--out", "run")
    assert code == 0
    result = json.loads(out)
    assert result == json.loads(Path("run/metrics.json").read_text())
    assert set(result) >= {"test", "validation", "train", "epochs", "steps", "seconds", "device", "run"}
    for which in ("test", "validation", "train"):
        assert set(result[which]) == {"accuracy", "loss", "cost"}
        assert all(isinstance(value, float) for value in result[which].values())
    assert (result["epochs"], result["steps"], result["device"]) == (2, 12, "cpu")
    assert len(result["seconds"]["per_epoch"]) == 2
    assert result["seconds"]["training"] == pytest.approx(sum(result["seconds"]["per_epoch"]))
    assert result["run"] == "run"
    assert "device: cpu" in err
    names = {"config.toml", "environment.json", "history.csv", "metrics.json", "model.safetensors"}
    names |= {"curves.png", "curves.svg", "checkpoints"}
    assert {path.name for path in Path("run").iterdir()} == names


def test_runs_report_mean_and_standard_deviation(capsys):
    _, out, _ = run(capsys, "train", *SMALL, "--runs", "3", "--json")
    result = json.loads(out)
    values = result["test"]["accuracy"]["values"]
    assert result["test"]["accuracy"]["mean"] == pytest.approx(np.mean(values))
    assert result["test"]["accuracy"]["std"] == pytest.approx(np.std(values, ddof=1))
    assert len(values) == 3
    assert Path(result["run"]).parent == Path("runs")


def test_the_config_of_a_run_repeats_it_bit_for_bit(capsys):
    extra = ["--momentum", "0.5", "--nesterov", "--lambda", "0.01", "--batch-size", "70", "--runs", "2", "--seed", "4"]
    run(capsys, "train", *SMALL, *extra, "--out", "first")
    code, _, _ = run(capsys, "train", "--config", "first/config.toml", "--out", "second")
    assert code == 0
    run(capsys, "train", "--config", "first", "--out", "third")

    def history(folder):
        with Path(folder, "history.csv").open() as file:
            return [{k: v for k, v in row.items() if not k.startswith("seconds")} for row in csv.DictReader(file)]

    assert history("first") == history("second") == history("third")
    for name in ("second", "third"):
        assert Path(name, "model.safetensors").read_bytes() == Path("first", "model.safetensors").read_bytes()
        assert Path(name, "config.toml").read_text() == Path("first", "config.toml").read_text()


def test_options_go_before_the_file(capsys):
    Path("c.toml").write_text('data = "patterns:600/100"\nhidden = [8]\ncycles = 1\nn_s = 3\n"lambda" = 0.25\n')
    run(capsys, "train", "--config", "c.toml", "--epochs", "1", "--hidden", "4", "--out", "a")
    settings = tomllib.loads(Path("a/config.toml").read_text())
    assert (settings["hidden"], settings["epochs"], settings["lambda"]) == ([4], 1, 0.25)
    assert "cycles" not in settings
    run(capsys, "train", "--config", "a", "--schedule", "constant", "--eta", "0.1", "--out", "b")
    settings = tomllib.loads(Path("b/config.toml").read_text())
    assert (settings["schedule"], settings["eta"]) == ("constant", 0.1)
    assert not {"n_s", "eta_max", "eta_min", "decay"} & set(settings)


def test_without_data_patterns_are_used_and_it_is_said_how_to_get_cifar10(capsys, monkeypatch):
    code, out, err = run(capsys, "train", "--epochs", "1", "--hidden", "4")
    assert code == 0
    assert "data: patterns, built in, split 9000/1000" in err
    assert "https://www.cs.toronto.edu/~kriz/cifar.html" in err
    assert "test" in out
    assert "accuracy" in out


def test_the_saved_network_gives_the_reported_accuracy(capsys):
    _, out, _ = run(capsys, "train", *SMALL, "--json", "--out", "run")
    net = xpnet.load("run")
    data = xpnet.load_data("patterns:600/100")
    probabilities = net.predict_proba(data.test.x)
    assert (probabilities[0].argmax(axis=1) == data.test.labels).mean() == json.loads(out)["test"]["accuracy"]
    assert net.class_names == data.class_names


def test_quiet_prints_nothing(capsys):
    assert run(capsys, "train", *SMALL, "--quiet") == (0, "", "")


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
        (["--batch-size", "539"], "leaves a batch of one"),
        (["--config", "none.toml"], "config = none.toml: there is no such file"),
        (["--epoch", "3"], "Unknown option: --epoch"),
        (["--hidden"], "--hidden"),
        (["--out", "."], "out = .: exists already"),
        (["--schedule", "constant", "--eta", "1e30", "--no-batch-norm"], "the loss became"),
    ],
)
def test_mistakes_get_one_sentence_and_exit_code_2(capsys, monkeypatch, arguments, message):
    monkeypatch.setitem(sys.modules, "cupy", None)
    given = [*SMALL] if "--data" not in arguments else SMALL[2:]
    for option in ("--hidden", "--epochs"):
        if option in arguments or (option == "--epochs" and "--cycles" in arguments):
            at = given.index(option)
            del given[at : at + 2]
    code, out, err = run(capsys, "train", *given, *arguments)
    assert code == 2
    assert out == ""
    last = err.strip().splitlines()[-1]
    assert last.startswith("xpnet: ")
    assert message in last
    assert "Traceback" not in err
    if "--out" not in arguments and "constant" not in arguments:
        assert not Path("runs").exists()  # nothing was made for a run that could not begin


def test_mistakes_in_a_file_name_the_file(capsys):
    Path("c.toml").write_text("batch_size = 0\n")
    code, _, err = run(capsys, "train", "--config", "c.toml")
    assert (code, err.strip()) == (
        2,
        "xpnet: config = c.toml, line 1: batch_size = 0: must be a whole number of at least 1",
    )
    Path("d.toml").write_text("lamda = 1\n")
    assert (
        "d.toml, line 1: lamda = 1: there is no such setting; did you mean lambda?"
        in run(capsys, "train", "--config", "d.toml")[2]
    )


def test_debug_shows_the_traceback(capsys):
    with pytest.raises(xpnet.XpnetError):
        main(["train", "--batch-size", "0", "--debug"])


def test_a_diverged_run_keeps_its_history(capsys):
    arguments = ["--schedule", "constant", "--eta", "1e30", "--no-batch-norm", "--out", "run"]
    code, _, err = run(capsys, "train", *SMALL, *arguments)
    assert code == 2
    assert re.search(r"the loss became (nan|inf) at step \d+, with learning rate 1e\+30", err)
    assert "run holds the epochs before it" in err
    assert Path("run/history.csv").read_text().startswith("epoch,step,replica,eta,")
    assert not Path("run/model.safetensors").exists()


@pytest.mark.pictures
def test_lists_of_settings_train_as_one_population(capsys):
    lists = ["--lambda", "1e-5,0.1", "--init", "0.1,0.001", "--runs", "2", "--seed", "3"]
    code, out, _ = run(capsys, "train", *SMALL, *lists, "--json", "--out", "run")
    assert code == 0
    result = json.loads(out)
    assert result == json.loads(Path("run/metrics.json").read_text())
    assert [(r["seed"], r["lambda"], r["init"]) for r in result["replicas"]] == [
        (seed, lam, init) for seed in (3, 4) for init in (0.1, 0.001) for lam in (1e-5, 0.1)
    ]
    values = result["test"]["accuracy"]["values"]
    assert [r["test"]["accuracy"] for r in result["replicas"]] == values
    assert result["test"]["accuracy"]["std"] == pytest.approx(np.std(values, ddof=1))
    assert Path("run/curves.png").stat().st_size > 10_000
    assert tomllib.loads(Path("run/config.toml").read_text())["lambda"] == [1e-5, 0.1]
    code, out, _ = run(capsys, "train", "--config", "run", "--json", "--out", "again", "--max-replicas", "3")
    again = json.loads(out)
    np.testing.assert_allclose(again["test"]["loss"]["values"], result["test"]["loss"]["values"], rtol=1e-4)
    code, out, _ = run(capsys, "evaluate", "run", "--json")
    evaluated = json.loads(out)
    np.testing.assert_allclose(evaluated["cost"]["values"], result["test"]["cost"]["values"], rtol=1e-5)
    assert [r["lambda"] for r in evaluated["replicas"]] == [1e-5, 0.1] * 4
    assert [r["accuracy"] for r in evaluated["replicas"]] == values


def test_the_table_of_a_population_has_a_row_for_each_combination(capsys):
    code, out, err = run(capsys, "train", *SMALL, "--lambda", "1e-5,0.01,0.1", "--max-replicas", "2", "--out", "run")
    assert code == 0
    rows = [line.split() for line in out.splitlines() if line.strip().startswith(("1e-05", "0.01", "0.1"))]
    assert [row[0] for row in rows] == ["1e-05", "0.01", "0.1"]
    assert sum("best validation" in line for line in out.splitlines()) == 1
    assert "3 networks train in 2 chunks, one after another: 1, 2" in err


def test_a_replica_that_diverges_is_reported_and_the_others_are_not_lost(capsys):
    arguments = ["--no-batch-norm", "--schedule", "constant", "--eta", "0.01,1e30"]
    code, out, err = run(capsys, "train", *SMALL, *arguments, "--json", "--out", "run")
    assert code == 0
    result = json.loads(out)
    good, bad = result["replicas"]
    assert good["test"]["accuracy"] > 0
    assert bad["test"] == bad["validation"] == {"accuracy": None, "loss": None, "cost": None}
    assert isinstance(bad["diverged_at"], int)
    assert result["diverged"] == 1
    assert re.search(
        r"warning: the loss of replica 1 became \S+ at step \d+, with learning rate 1e\+30.*eta 1e\+30", err
    )
    assert run(capsys, "evaluate", "run")[0] == 0


def test_help_names_every_option(capsys):
    code, out, _ = run(capsys, "train", "--help")
    assert code == 0
    design = """--data --split --hidden --batch-norm --no-batch-norm --bn-alpha --bias-before-bn --init --init-bias
        --lambda --batch-size --dtype --schedule --eta-min --eta-max --n-s --eta --decay --cycles --epochs --momentum
        --nesterov --seed --shuffle-seed --shuffle --runs --max-replicas --train-metrics --device --out --config
        --json --quiet --debug"""
    assert [option for option in design.split() if option not in out] == []
    assert "0.005" in out


def test_ctrl_c_stops_after_the_step_and_saves():
    arguments = ["--data", "patterns:2000/100", "--epochs", "2000", "--json", "--out", "run"]
    process = subprocess.Popen(
        [sys.executable, "-m", "xpnet", "train", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    history = Path("run/history.csv")
    for _ in range(400):
        if history.exists() and history.read_text().count("\n") > 3:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    result = json.loads(out)
    assert result["interrupted"]
    assert result["steps"] < 2000 * 18
    assert "Traceback" not in err
    assert xpnet.load("run").config.hidden == (50, 50)
    assert len(history.read_text().splitlines()) == result["epochs"] + 1
    assert {"metrics.json", "curves.png", "curves.svg"} <= {path.name for path in Path("run").iterdir()}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--stepper", "graph"], "stepper = graph: needs a GPU; on cpu there are plain, split and population"),
        (["--stepper", "split", "--momentum", "0.5"], "stepper = split: does not know the setting momentum"),
        (["--stepper", "odd"], "stepper = odd: must be auto, plain, fused, graph, small, split or population"),
        (["--tf32"], "tf32 = true: is a mode of NVIDIA's GPUs, and this would compute on the CPU"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_a_device_cannot_do_is_found_before_the_folder_is_made(capsys, options, sentence):
    code, out, err = run(capsys, "train", *SMALL, "--device", "cpu", *options)
    assert (code, out) == (2, "")
    assert sentence in err
    assert not Path("runs").exists()


@pytest.mark.parametrize("stepper", ["plain", "population"])
def test_a_stepper_can_be_chosen(capsys, stepper):
    chosen, auto = (
        json.loads(run(capsys, "train", *SMALL, "--dtype", "float64", "--json", "--out", name, *options)[1])
        for name, options in (("a", ["--stepper", stepper]), ("b", []))
    )
    assert chosen["test"]["loss"] == pytest.approx(auto["test"]["loss"], rel=1e-9)
    assert f'stepper = "{stepper}"' in Path("a", "config.toml").read_text()
