"""What the help says of every option holds: its default, whether it takes lists, where results go."""

from __future__ import annotations

import re

import numpy as np
import pytest
from command_line import run

import xpnet
from xpnet.cli import COMMANDS as _COMMANDS
from xpnet.cli import DATA_COMMANDS as _DATA_COMMANDS
from xpnet.config.settings import VARYING, Settings
from xpnet.tuning.config import SearchConfig

COMMANDS = [*([name] for name in _COMMANDS), *(["data", name] for name in _DATA_COMMANDS)]


@pytest.fixture
def options(capsys, monkeypatch):
    """Return a function that gives the help of each option of a command, by name, each on one line."""
    monkeypatch.setenv("COLUMNS", "400")

    def of(*command: str) -> dict[str, str]:
        code, out, _ = run(capsys, *command, "--help")
        assert code == 0
        rows = re.findall(r"^│ (?:\* +)?(\S.*?)  +(\S.*?) *│$", out, re.MULTILINE)
        return {names.split()[0]: f"{names}  {words}" for names, words in rows}

    return of


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_option_with_a_value_names_it_and_its_default(options, command):
    # None of these has a default: what they ask for is done where they are given.
    asked_for = {"--config", "--resume", "--figure", "--figures"}
    found = options(*command)
    assert {"--json", "--quiet", "--debug"} <= found.keys()
    for name, text in found.items():
        names, words = re.split(r"  +", text, maxsplit=1)
        assert text.count("[default:") <= 1, name
        assert not ("|" in names and "[choices:" in words), text
        assert not re.search(r" STR\b| CHOICE\b|\[default: (False|True|None|)\]", text), text
        if not name.startswith("--"):
            continue
        parts = names.split()
        if len(parts) == 1:  # a flag without another form: it is off unless it is given
            assert "[default:" not in words, name
        elif name not in asked_for and (command[0], name) != ("lr-range", "--epochs"):
            assert words.endswith("]"), text
            assert "[default:" in words, text


def test_train_names_every_setting_with_its_default(options):
    found = options("train")
    for name, (_, field) in Settings.fields().items():
        words = found[f"--{name.replace('_', '-')}"]
        assert field.metadata["help"].removesuffix(".") in words
        assert words.endswith(f"[default: {field.metadata['unset']}]") == (field.default is None), name
    assert found["--hidden"].endswith("[default: 50,50]")
    assert found["--batch-norm"].endswith("[default: on]")
    assert found["--eta-min"].endswith("[default: 1e-05]")


@pytest.mark.parametrize("command", [["train"], ["diagnose"], ["search"], ["lr-range"], ["gradcheck"], ["evaluate"]])
def test_lists_are_named_where_they_are_taken_and_nowhere_else(options, command):
    found = options(*command)
    taken = {name.removeprefix("--").replace("-", "_") for name, words in found.items() if "; a list trains" in words}
    assert taken == (set(VARYING) if command[0] in ("train", "diagnose") else set())


def test_what_a_setting_is_where_it_is_not_set():
    """The words of the help beside what becomes of None."""
    unset = {name: field.metadata["unset"] for name, (_, field) in Settings.fields().items() if field.default is None}
    assert unset["cycles"] == "2"
    assert xpnet.TrainConfig(n_s=7).length(100).steps == 2 * 2 * 7
    assert unset["epochs"] == "20, with schedules other than triangular"
    assert xpnet.TrainConfig(schedule="cosine").length(100).epochs == 20
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


def test_what_options_mean_to_other_commands(options):
    evaluate = options("evaluate")
    assert all(evaluate[f"--{name}"].endswith("[default: the run's]") for name in ("data", "split", "image-size"))
    assert "runs/lr-range-TIME" in options("lr-range")["--out"]
    assert "runs/diagnosis-TIME" in options("diagnose")["--out"]
    search = options("search")
    assert search["--resume"].startswith("--resume FOLDER")
    assert "winner" in search["--save-every"]
    assert "winner" in search["--keep"]
    assert "run r" not in options("gradcheck")["--seed"]
    assert all("the training that is suggested" in options("lr-range")[f"--{name}"] for name in ("n-s", "cycles"))


def test_a_command_shows_its_docstring_and_the_list_a_line(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert "The exit code is 0 if they agree and 1 if not." in run(capsys, "gradcheck", "--help")[1]
    listed = run(capsys, "--help")[1]
    assert "exit code" not in listed
    assert "Check the gradients of a network" in listed
    # Paragraphs are wrapped to the terminal, not where the source has its lines.
    paragraph = run(capsys, "search", "--help")[1].split("\n\n")[2]
    assert all(len(line) > 60 for line in paragraph.splitlines()[:-1])
