"""What a search may vary, and how it is written."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpnet.config.definitions import DataConfig
from xpnet.errors import ConfigError
from xpnet.tuning.searchable import KINDS
from xpnet.tuning.space import Dimension, Space, stacks


@pytest.mark.parametrize(
    ("text", "name", "low", "high", "log", "values"),
    [
        ("lambda", "lambda", 1e-5, 1e-1, True, ()),
        ("lambda=1e-4..1e-2", "lambda", 1e-4, 1e-2, True, ()),
        ("lambda=lin:0..0.01", "lambda", 0.0, 0.01, False, ()),
        ("lambda=0..0.01", "lambda", 0.0, 0.01, False, ()),
        ("momentum=0..0.9", "momentum", 0.0, 0.9, False, ()),
        ("dropout=0..0.4", "dropout", 0.0, 0.4, False, ()),
        ("input-dropout=0,0.2", "input_dropout", None, None, False, (0.0, 0.2)),
        ("momentum=log:0.1..0.9", "momentum", 0.1, 0.9, True, ()),
        ("lambda=1e-3,1e-4", "lambda", None, None, True, (1e-3, 1e-4)),
        ("width=20..80", "width", 20.0, 80.0, True, ()),
        ("depth=1,2,4", "depth", None, None, False, (1, 2, 4)),
        ("sigma=0.1,0.001", "sigma", None, None, True, (0.1, 0.001)),
        ("batch-size=50,100", "batch_size", None, None, True, (50, 100)),
        ("n-s=2ep,500", "n_s", None, None, True, ("2ep", 500)),
    ],
)
def test_how_a_dimension_is_written(text, name, low, high, log, values):
    (dimension,) = Space.of(text).dimensions
    assert (dimension.name, dimension.log, dimension.values) == (name, log, values)
    if low is None:
        assert math.isnan(dimension.low)
    else:
        assert (dimension.low, dimension.high) == (low, high)
    # What it says of itself is read back as the same.
    assert repr(Space.of(dimension.text()).dimensions[0]) == repr(dimension)


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_has_a_range_that_can_be_trained(name):
    schedule = {"decay": "decay", "epochs": "decay", "warmup": "one-cycle"}.get(name)
    base = {"n_s": 10} if schedule is None and name != "n_s" else {"schedule": schedule or "triangular"}
    optimiser = "adamw" if name in ("beta1", "beta2", "adam_eps", "weight_decay") else "sgd"
    Space.of(name).check(base | {"optimiser": optimiser} | ({"pca": 5} if name == "pca_eps" else {}))


def test_two_at_once_and_mappings():
    assert Space.of("lambda-eta").names == ("lambda", "eta")
    assert Space.of("batch-size").names == ("batch_size",)
    space = Space.of({"lambda": (1e-5, 1e-1), "width": [50, 100], "momentum": None, "eta": "0.01..0.1"})
    assert space.names == ("lambda", "width", "momentum", "eta")
    assert space.dimensions[1].values == (50, 100)
    assert space.size is None
    assert Space.of({"width": [50, 100], "lambda": [0, 1e-3, 1e-2]}).size == 6


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("lamda", "did you mean lambda"),
        ("colour", "there are lambda, eta"),
        ("lambda=", "NAME=LOW..HIGH"),
        ("lambda=1..", "NAME=LOW..HIGH"),
        ("lambda=a..b", "NAME=LOW..HIGH"),
        ("lambda=2..1", "lower end"),
        ("lambda=log:0..1", "starts above 0"),
        ("lambda=log:1,2", "NAME=LOW..HIGH"),
        ("lambda=nan..1", "lower end"),
        ("lambda=0.1,x", "each value must be"),
        ("lambda=0.1,0.1", "each of them once"),
        ("lambda=-1,1", "each value must be"),
        ("width=1.5..3", "whole number"),
        ("width=0,3", "at least 1"),
        (["lambda", "lambda"], "set twice"),
        (["eta", "eta_max"], "set twice"),
        (["sigma", "init"], "set twice"),
        ([], "name what to search"),
        ({"lambda": 3}, "must be a pair"),
        ({"lambda": [[1]]}, "each value must be one value"),
        (None, "must be a text"),
        (3, "must be a text"),
    ],
)
def test_what_is_not_understood_is_said_in_a_sentence(given, words):
    with pytest.raises(ConfigError, match=words):
        Space.of(given)


def test_points_become_settings():
    space = Space.of(["lambda", "eta", "sigma", "width", "depth"])
    point = {"lambda": 0.01, "eta": 0.2, "sigma": 0.1, "width": 30, "depth": 3}
    settings = space.settings(point, {"seed": 4, "hidden": [50, 50]})
    assert settings == {"seed": 4, "hidden": [30, 30, 30], "lambda": 0.01, "eta_max": 0.2, "init": 0.1}
    for schedule, setting in (("constant", "eta"), ("cosine", "eta"), ("one-cycle", "eta_max")):
        base = {"schedule": schedule}
        assert Space.of("eta").settings({"eta": 0.2}, base) == {**base, setting: 0.2}
    # Of width and depth, the one that is not searched is as it is set.
    assert Space.of("depth").settings({"depth": 3}, {"hidden": [20]})["hidden"] == [20, 20, 20]
    assert Space.of("width").settings({"width": 7}, {})["hidden"] == [7, 7]


def test_what_is_searched_cannot_be_set_too():
    Space.of("lambda").refuse({"eta_max": 0.1})
    for space, name in (("lambda", "lambda"), ("eta", "eta_max"), ("sigma", "init"), ("cycles", "epochs")):
        with pytest.raises(ConfigError, match="cannot be set"):
            Space.of(space).refuse({name: 1})


def test_ends_that_cannot_be_trained_are_found_with_their_names():
    with pytest.raises(ConfigError, match=r"search momentum=lin:0\.0\.\.1\.5: momentum = 1\.5"):
        Space.of("momentum=0..1.5").check({})
    with pytest.raises(ConfigError, match="eta_min must be at most eta_max"):
        Space.of("eta=1e-7..0.1").check({"eta_min": 1e-5})
    with pytest.raises(ConfigError, match=r"warmup = 0\.05: has no effect on the schedule triangular"):
        Space.of("warmup").check({})
    with pytest.raises(ConfigError, match=r"label_smoothing = 1\.0: must be"):
        Space.of("label_smoothing=0..1").check({})


def test_what_stacks():
    assert {name for name in KINDS if stacks(name)} == {
        *("lambda", "eta", "eta_max", "eta_min", "momentum", "label_smoothing", "sigma", "init"),
        *("dropout", "input_dropout", "beta1", "beta2", "adam_eps", "weight_decay", "lr_first", "lr_bn"),
        "decay_bn",
    }


@given(st.floats(-1e3, 1e4))
def test_rounding_stays_within_the_range(value):
    dimension = Dimension.of("width", (3, 70))
    assert 3 <= dimension.rounded(value) <= 70
    assert isinstance(dimension.rounded(value), int)


def test_data_of_a_search_is_read_without_the_transforms_that_trials_have():
    config = DataConfig(data="patterns:60/20", pool=2, pca=5, pca_eps=0.1)
    assert Space.of("pca=5,9").data_settings(config) == DataConfig(data="patterns:60/20")
    assert Space.of("lambda").data_settings(config) == config
