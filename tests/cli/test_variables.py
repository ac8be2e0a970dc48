"""Environment variables for settings: what goes before what, and what is refused."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from command_line import SMALL, CommandLine, code_of

from xpnet.cli.options import read_settings
from xpnet.cli.parser import make_parser
from xpnet.cli.variables import variable
from xpnet.config.settings import Settings


def settings_of(*arguments: str, config: Path | None = None) -> dict[str, object]:
    """Return the settings of xpnet train with some arguments."""
    _, bound, _ = make_parser().parse_args(["train", *arguments])
    return read_settings(bound.arguments.get("options"), config).to_mapping()


@pytest.mark.parametrize(
    ("line", "environment", "file", "expected"),
    [
        ([], {}, "", ("seed", 0)),
        ([], {}, "seed = 1", ("seed", 1)),
        ([], {"XPNET_SEED": "2"}, "seed = 1", ("seed", 2)),
        (["--seed", "3"], {"XPNET_SEED": "2"}, "seed = 1", ("seed", 3)),
        ([], {"XPNET_SEED": ""}, "seed = 1", ("seed", 1)),
        ([], {"XPNET_LAMBDA": "0,0.1"}, "", ("lambda", [0.0, 0.1])),
        ([], {"XPNET_BATCH_NORM": "off"}, "", ("batch_norm", False)),
        (["--batch-norm"], {"XPNET_BATCH_NORM": "0"}, "", ("batch_norm", True)),
        ([], {"XPNET_NESTEROV": "Yes", "XPNET_MOMENTUM": "0.5"}, "", ("nesterov", True)),
        # What has no effect any more gives way, as a file's settings do.
        (["--schedule", "triangular"], {"XPNET_SCHEDULE": "constant", "XPNET_ETA": "0.2"}, "", ("eta_max", 0.1)),
        ([], {"XPNET_SCHEDULE": "triangular"}, 'schedule = "constant"\neta = 0.2', ("eta_max", 0.1)),
    ],
)
def test_setting_comes_from_the_line_then_a_variable_then_the_file(monkeypatch, line, environment, file, expected):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    Path("own.toml").write_text(file)
    name, value = expected
    assert settings_of(*line, config=Path("own.toml"))[name] == value


def test_train_writes_the_settings_of_variables_into_its_folder(monkeypatch):
    monkeypatch.setenv("XPNET_HIDDEN", "3")
    monkeypatch.setenv("XPNET_DATASET", "patterns:600/100")
    assert code_of("train", "--epochs", "1", "--quiet", "--out", "run") == 0
    written = tomllib.loads(Path("run/config.toml").read_text())
    assert (written["hidden"], written["data"]) == ([3], "patterns:600/100")


def test_every_setting_has_a_variable_of_its_own():
    names = [variable(name) for name in Settings.fields()]
    assert len(set(names)) == len(names)
    assert {"XPNET_DEVICE", "XPNET_SEED", "XPNET_DATASET"} <= set(names)
    assert "XPNET_DATA" not in names, "is the folder of published data sets"


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("XPNET_SEED", "abc", "seed = abc: must be a whole number of at least 0 (XPNET_SEED sets it)"),
        ("XPNET_BATCH_NORM", "maybe", "batch_norm = maybe: must be true or false (XPNET_BATCH_NORM sets it)"),
        ("XPNET_ETA", "0.1", "eta_max, n_s (XPNET_ETA sets it)"),
        ("XPNET_SEDE", "1", "XPNET_SEDE = 1: there is no such variable; did you mean XPNET_SEED?"),
        ("XPNET_DEVICES", "cpu", "XPNET_DEVICES = cpu: there is no such variable; did you mean XPNET_DEVICE?"),
    ],
)
def test_wrong_variable_gets_one_sentence(command: CommandLine, monkeypatch, name, value, sentence):
    monkeypatch.setenv(name, value)
    assert command.refused("train", "--data", "patterns:600/100").endswith(sentence)
    assert not Path("runs").exists()


def test_variable_that_is_somebody_elses_is_reported_once_and_has_no_effect(command: CommandLine, monkeypatch):
    monkeypatch.setenv("XPNET_HOME", "/opt/xpnet")
    monkeypatch.setenv("XPNET_TEST_CIFAR", "/data")
    assert command("recipes").err == "warning: XPNET_HOME: is no variable of xpnet, and has no effect\n"
    assert command("recipes", "-q").err == ""
    assert command("--version").err == ""


def test_run_that_exists_keeps_its_settings_but_for_the_device(command: CommandLine, trained, monkeypatch):
    trained(*SMALL)
    for name, value in (("SEED", "5"), ("SPLIT", "10/10"), ("EPOCHS", "9"), ("DATASET", "nowhere"), ("DEVICE", "cpu")):
        monkeypatch.setenv(f"XPNET_{name}", value)
    assert "is finished" in command("train", "--resume", "run").err
    assert command.json("evaluate", "run")["samples"] == 100
    monkeypatch.setenv("XPNET_DEVICE", "gpu:99")
    assert "device = gpu:99" in command.refused("evaluate", "run")
    assert "(XPNET_DEVICE sets it)" in command.refused("evaluate", "run")
    assert "XPNET" not in command.refused("evaluate", "run", "--device", "gpu:98")
