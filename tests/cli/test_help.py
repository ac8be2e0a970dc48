"""What the help says of every option holds: its default, whether it takes lists, where results go."""

from __future__ import annotations

import re

import numpy as np
import pytest

import xpnet
from xpnet.cli.commands import COMMANDS, DATA_COMMANDS
from xpnet.config.settings import VARYING, Settings
from xpnet.tuning.search_config import SearchConfig


@pytest.fixture
def options(command, monkeypatch):
    """Return a function that gives the help of each option of a command, by name, each on one line."""
    monkeypatch.setenv("COLUMNS", "400")

    def of(*words: str) -> dict[str, str]:
        out = command(*words, "--help").out
        rows = re.findall(r"^│ (?:\* +)?(\S.*?)  +(\S.*?) *│$", out, re.MULTILINE)
        return {names.split()[0]: f"{names}  {text}" for names, text in rows}

    return of


@pytest.mark.parametrize(
    "words", [[name] for name in COMMANDS] + [["data", name] for name in DATA_COMMANDS], ids=" ".join
)
def test_help_of_every_option_with_a_value_names_it_and_its_default(options, words):
    # None of these has a default: what they ask for is done where they are given.
    asked_for = {"--config", "--recipe", "--resume", "--figure", "--figures"}
    found = options(*words)
    assert {"--json", "--quiet", "--debug"} <= found.keys()
    for name, text in found.items():
        names, help_text = re.split(r"  +", text, maxsplit=1)
        assert text.count("[default:") <= 1, name
        assert not ("|" in names and "[choices:" in help_text), text
        assert not re.search(r" STR\b| CHOICE\b|\[default: (False|True|None|)\]", text), text
        if not name.startswith("--"):
            continue
        if (
            len([word for word in names.split() if not re.fullmatch("-[a-z]", word)]) == 1
        ):  # a flag without another form: it is off unless it is given
            assert "[default:" not in help_text, name
        elif name not in asked_for and (words[0], name) != ("lr-range", "--epochs"):
            assert help_text.endswith("]"), text
            assert "[default:" in help_text, text


def test_help_of_train_names_every_setting_with_its_default(options):
    found = options("train")
    for name, (_, field) in Settings.fields().items():
        text = found[f"--{name.replace('_', '-')}"]
        assert field.metadata["help"].removesuffix(".") in text
        assert text.endswith(f"[default: {field.metadata['unset']}]") == (field.default is None), name
    for name, default in (("hidden", "50,50"), ("batch-norm", "on"), ("eta-min", "1e-05")):
        assert found[f"--{name}"].endswith(f"[default: {default}]")


@pytest.mark.parametrize("name", ["train", "diagnose", "search", "lr-range", "gradcheck", "evaluate"])
def test_help_names_lists_where_they_are_taken_and_nowhere_else(options, name):
    taken = {option for option, text in options(name).items() if "; a list trains" in text}
    expected = {f"--{setting.replace('_', '-')}" for setting in VARYING}
    assert taken == (expected if name in ("train", "diagnose") else set())


def test_help_of_unset_settings_says_what_none_becomes():
    unset = {name: field.metadata["unset"] for name, (_, field) in Settings.fields().items() if field.default is None}
    assert unset["cycles"] == "2"
    assert xpnet.TrainConfig(n_s=7).length(100).steps == 2 * 2 * 7
    assert unset["epochs"] == "set by cycles; 20 for other schedules"
    assert xpnet.TrainConfig(schedule="cosine").length(100).epochs == 20
    assert unset["lambda"] == "0.005 with sgd, else 0"
    assert unset["beta2"] == "0.999 with adamw, 0.99 with lion"
    defaults = {name: xpnet.TrainConfig(optimiser=name) for name in ("sgd", "adamw", "lion")}
    assert [config.lam for config in defaults.values()] == [0.005, 0, 0]
    assert [defaults[name].beta1 for name in ("adamw", "lion")] == [float(unset["beta1"])] * 2
    assert [defaults[name].beta2 for name in ("adamw", "lion")] == [0.999, 0.99]
    assert unset["data"] == "cifar10 if it is found, else patterns"
    assert xpnet.load_data().name == "patterns"
    assert unset["split"] == "45k for CIFAR, else 90 % and 10 %"
    assert unset["test_fraction"] == "a tenth, where there is no test set"
    x, labels = np.random.default_rng(0).standard_normal((200, 3)), np.arange(200) % 2
    assert xpnet.data_from_arrays(x, labels).counts == {"train": 162, "validation": 18, "test": 20}
    seeded = xpnet.data_from_arrays(x, labels, seed=int(unset["data_seed"]))
    assert np.array_equal(seeded.train.x, xpnet.data_from_arrays(x, labels).train.x)
    assert SearchConfig().count(None) == 20
    assert SearchConfig().count(6) == 6


def test_help_says_what_options_mean_to_other_commands(options):
    evaluate = options("evaluate")
    assert all(evaluate[f"--{name}"].endswith("[default: the run's]") for name in ("data", "split", "image-size"))
    lr_range = options("lr-range")
    assert "runs/lr-range-TIME" in lr_range["--out"]
    assert all("the training that is suggested" in lr_range[f"--{name}"] for name in ("n-s", "cycles"))
    assert {"--from", "--to", "--steps", "--spacing"} <= lr_range.keys()
    assert "--eta-max" not in lr_range
    assert "runs/diagnosis-TIME" in options("diagnose")["--out"]
    search = options("search")
    assert search["--resume"].startswith("--resume FOLDER")
    assert "winner" in search["--save-every"]
    assert "winner" in search["--keep"]
    assert "run r" not in options("gradcheck")["--seed"]


def test_help_of_a_command_is_its_docstring_and_in_the_list_a_line(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert "The exit code is 0 if they agree and 1 if not." in command("gradcheck", "--help").out
    listed = command("--help").out
    assert "exit code" not in listed
    assert "Check the gradients of a network" in listed
    # Paragraphs are wrapped to the terminal, not where the source has its lines.
    paragraph = command("search", "--help").out.split("\n\n")[2]
    assert all(len(line) > 60 for line in paragraph.splitlines()[:-1])


def test_help_of_a_narrow_terminal_breaks_choices_between_their_names(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    choices = Settings.fields()["stepper"][1].metadata["metavar"].split("|")
    lines = command("train", "--help").out.partition("--stepper")[2].splitlines()
    shown = [line[4:32].strip() for line in lines[1:7]]
    assert [name for line in shown for name in line.strip("|").split("|")][: len(choices)] == choices
    last = next(at for at, line in enumerate(shown) if line.endswith(choices[-1]))
    assert all(line.endswith("|") for line in shown[:last])
