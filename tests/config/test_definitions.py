"""Every setting out of its range is refused with its name, its value and what would be right."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

import xpnet
from xpnet.cli.manual import commands
from xpnet.config.fields import setting_name
from xpnet.config.settings import Settings
from xpnet.errors import ConfigError
from xpnet.tuning.search_config import SearchConfig

WRONG = [
    ("hidden", "50,x", "the sizes of the hidden layers, each from 1 to 1,000,000, such as 50,50"),
    ("hidden", "50,0", "the sizes of the hidden layers"),
    ("hidden", [1.5], "the sizes of the hidden layers"),
    ("batch_norm", "yes", "true or false"),
    ("bn_alpha", 1, "a finite number of at least 0 and below 1"),
    ("bn_eps", 0, "a finite number above 0"),
    ("init", "lecun", "he, xavier, or a standard deviation above 0"),
    ("init", -0.1, "he, xavier, or a standard deviation above 0"),
    ("init_bias", -1, "a finite number of at least 0"),
    ("lambda", -1e-3, "a finite number of at least 0"),
    ("lambda", "a", "a finite number of at least 0"),
    ("lambda", "nan", "a finite number of at least 0"),
    ("batch_size", 0, "a whole number of at least 1"),
    ("batch_size", 2.5, "a whole number of at least 1"),
    ("batch_size", True, "a whole number of at least 1"),
    ("batch_size", "1e400", "a whole number of at least 1"),
    ("schedule", "linear", "triangular, decay, constant, cosine, one-cycle, cosine-restarts or coslog4"),
    ("eta_min", -1, "a finite number of at least 0"),
    ("eta_max", 0, "a finite number above 0"),
    ("n_s", "5epochs", "a whole number of steps of at least 1, or of epochs, such as 5ep"),
    ("n_s", 0, "a whole number of steps"),
    ("cycles", 0, "a whole number of at least 1"),
    ("epochs", "x", "a finite number above 0"),
    ("epochs", 0, "a finite number above 0"),
    ("epochs", 1e300, "a number above 0 and at most 2^53"),
    ("momentum", 1, "a finite number of at least 0 and below 1"),
    ("seed", -1, "a whole number of at least 0"),
    ("shuffle_seed", -1, "a whole number of at least 0"),
    ("shuffle", "own", "shared or independent"),
    ("runs", 0, "a whole number of at least 1"),
    ("train_metrics", "none", "running or full"),
    ("dtype", "float16", "float32 or float64"),
    ("data", " ", "a name or a path"),
]


@pytest.mark.parametrize(("name", "value", "wanted"), WRONG)
def test_wrong_values(name, value, wanted):
    shown = str(value).lower() if isinstance(value, bool) else str(value)
    with pytest.raises(ConfigError, match=re.escape(f"{name} = {shown}: must be {wanted}")):
        Settings.from_mapping({name: value})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cycles": 2, "epochs": 3}, "cycles = 2 and epochs = 3: set one of them"),
        ({"cycles": 2, "schedule": "constant"}, "cycles = 2: the schedule constant has no cycles"),
        ({"eta_min": 0.5, "eta_max": 0.1}, "eta_min = 0.5, eta_max = 0.1: eta_min must be at most eta_max"),
        ({"eta_min": 0.5, "eta": 0.1, "schedule": "cosine"}, "eta_min must be at most eta"),
        ({"nesterov": True}, "nesterov = true: needs a momentum above 0"),
        ({"eta": 0.5}, "eta = 0.5: has no effect on the schedule triangular, which is set by eta_min, eta_max, n_s"),
        ({"schedule": "decay", "eta_max": 0.5}, "eta_max = 0.5: has no effect on the schedule decay"),
        ({"bias_before_bn": True, "batch_norm": False}, "bias_before_bn = true: has no meaning without batch_norm"),
        ({"in_memory": "raw", "pool": 2}, "in_memory = raw: has no effect with pool or pca"),
        ({"in_memory": "raw", "pca": 3}, "in_memory = raw: has no effect with pool or pca"),
        ({"lamda": 1}, "lamda = 1: there is no such setting; did you mean lambda?"),
        ({"xyzzy": 1}, "xyzzy = 1: there is no such setting; known are data, split, target"),
    ],
)
def test_settings_at_odds(values, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        Settings.from_mapping(values)


def test_text_and_values_mean_the_same():
    text = {"hidden": "50, 30", "lambda": "1e-3", "n_s": "3ep", "init": "0.1", "seed": "7", "bn_alpha": "0.5"}
    values = {"hidden": [50, 30], "lambda": 0.001, "n_s": "3ep", "init": 0.1, "seed": 7, "bn_alpha": 0.5}
    assert Settings.from_mapping(text) == Settings.from_mapping(values)
    assert Settings.from_mapping({"hidden": ""}).network["hidden"] == ()


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"schedule": "cosine", "eta": 0.2, "epochs": 5, "momentum": 0.9, "nesterov": True, "data": "patterns:500"},
        {"batch_norm": False, "hidden": [], "lambda": [0.1, 0.2], "runs": 2, "shuffle": "shared", "init": 0.01},
    ],
)
def test_settings_survive_being_written_down(values):
    settings = Settings.from_mapping(values)
    again = Settings.from_mapping(settings.to_mapping())
    assert again.to_mapping() == settings.to_mapping()
    assert again.train == settings.train
    assert again.network_config(7, 3) == settings.network_config(7, 3)


def test_lists_are_read_alike_from_text_and_from_a_file():
    text = Settings.from_mapping({"lambda": "1e-5, 1e-4", "init": "he,0.01", "momentum": "0.9"})
    lists = Settings.from_mapping({"lambda": [1e-5, 1e-4], "init": ["he", 0.01], "momentum": [0.9]})
    assert text == lists
    assert text.varying == {"lambda": (1e-5, 1e-4), "init": ("he", 0.01)}
    assert text.train.lam == 1e-5
    assert text.train.momentum == 0.9
    assert len(text.replicas()) == 4


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lambda": "1e-5,abc"}, "lambda = 1e-5,abc: each value must be a finite number of at least 0"),
        ({"lambda": "1e-5,"}, "lambda = 1e-5,: each value must be a finite number of at least 0"),
        ({"lambda": [0.1, 0.1]}, r"lambda = \[0\.1, 0\.1\]: has 0\.1 twice"),
        ({"init": []}, "init = \\[\\]: is empty"),
        ({"seed": "1,2", "runs": 2}, "give a list of seeds, or runs, not both"),
        ({"eta_min": "1e-3,0.5", "eta_max": "0.1,1"}, "eta_min = 0.5, eta_max = 0.1: eta_min must be at most eta_max"),
        ({"momentum": "0,0.9", "nesterov": True}, "needs a momentum above 0"),
        ({"batch_size": "10,20"}, "batch_size = 10,20: must be a whole number"),
        ({"eta": "0.1,0.2"}, "eta = 0.1,0.2: has no effect on the schedule triangular"),
        ({"max_replicas": 0}, "max_replicas = 0: must be a whole number of at least 1"),
    ],
)
def test_lists_that_cannot_be_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        Settings.from_mapping(values)


def test_settings_are_frozen_and_typed():
    config = xpnet.NetworkConfig(inputs=3, hidden=[4, 5])
    assert config.hidden == (4, 5)
    with pytest.raises(AttributeError):
        config.inputs = 4
    with pytest.raises(ConfigError, match="classes = 1: must be a whole number of at least 2"):
        xpnet.NetworkConfig(inputs=3, classes=1)


def test_numpys_numbers_are_numbers():
    config = xpnet.TrainConfig(batch_size=np.int64(5), lam=np.array([0.1, 0.2]), eta_max=np.float32(0.5))
    assert (config.batch_size, config.lam, config.eta_max) == (5, (0.1, 0.2), 0.5)
    with pytest.raises(ConfigError, match=r"lambda = \[0\.1, 'a'\]: must be a finite number of at least 0"):
        xpnet.TrainConfig(lam=[0.1, "a"])


def test_a_whole_number_beyond_all_is_told_its_limit():
    with pytest.raises(
        ConfigError, match=r"seed = 99999999999999999999: must be a whole number of at least 0 and at most 2\^53"
    ):
        xpnet.Settings.from_mapping({"seed": 99999999999999999999})


def test_in_words_lambda_has_four_digits_and_the_file_all():
    settings = Settings.from_mapping({"lambda": 0.02046263811498788})
    assert settings.in_words(3072, 10) == "3072-50-50-10 with BN, lambda = 0.02046"
    assert settings.to_mapping()["lambda"] == 0.02046263811498788


def test_every_name_is_the_same_in_python_toml_and_on_the_command_line_but_for_lambda():
    fields = {name: field for name, (_, field) in Settings.fields().items()}
    fields |= {setting_name(field): field for field in dataclasses.fields(SearchConfig)}
    assert {name: field.name for name, field in fields.items() if field.name != name} == {"lambda": "lam"}
    options = {option for one in commands() for group in one.groups.values() for option in group}
    names = {option.names.split()[0].rstrip(",").removeprefix("--").replace("-", "_") for option in options}
    assert fields.keys() <= names


def test_names_of_settings_of_data_are_taken_by_the_functions_that_have_others():
    assert xpnet.load_data(data="patterns:60/20").name == "patterns"
    x, labels = np.random.default_rng(0).standard_normal((40, 3)), np.arange(40) % 2
    two = [xpnet.data_from_arrays(x, labels, **seed).train.x for seed in ({"seed": 3}, {"data_seed": 3})]
    assert np.array_equal(*two)
