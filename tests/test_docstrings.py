"""Every public name says what it takes, what it returns and what can go wrong."""

from __future__ import annotations

import inspect
import re

import pytest

import xpnet
from xpnet import errors, tuning
from xpnet.analysis import gradcheck
from xpnet.report import render


def sections(text: str) -> dict[str, str]:
    """Return the sections of a docstring by name; what comes first has the name ""."""
    parts = re.split(r"^(Args|Attributes|Returns|Raises):\n", inspect.cleandoc(text), flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def described(text: str) -> set[str]:
    """Return the names that a section describes."""
    heads = re.findall(r"^    (\S[^:\n]*):", text, re.MULTILINE)
    return {name.strip("* ") for head in heads for name in head.split(",")}


def parameters(thing: object) -> set[str]:
    return set(inspect.signature(thing).parameters) - {"self"}


FUNCTIONS = [name for name in xpnet.__all__ if not inspect.isclass(getattr(xpnet, name))]
CLASSES = [name for name in xpnet.__all__ if inspect.isclass(getattr(xpnet, name)) and name != "XpnetError"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_say_what_they_take_return_and_raise(name):
    function = getattr(xpnet, name)
    found = sections(function.__doc__)
    assert found.keys() >= {"Args", "Returns", "Raises"}
    assert described(found["Args"]) == parameters(function)
    for error in described(found["Raises"]):
        assert issubclass(getattr(errors, error), xpnet.XpnetError)


@pytest.mark.parametrize("name", CLASSES)
def test_classes_say_what_they_are_made_of(name):
    found = sections(getattr(xpnet, name).__doc__)
    # A class that checks and converts what it is made of has arguments; of others they are the attributes.
    said = described(found["Args"] if "Args" in found else found["Attributes"])
    assert parameters(getattr(xpnet, name)) <= said


@pytest.mark.parametrize("name", ["cost_and_gradients", "predict", "predict_proba"])
def test_methods_of_a_network_give_shapes_and_errors(name):
    method = getattr(xpnet.Network, name)
    found = sections(method.__doc__)
    assert described(found["Args"]) == parameters(method)
    assert "(n, d)" in found["Args"]
    assert "(R," in found["Returns"]
    assert "ArrayError" in found["Raises"]


def test_data_and_histories_say_what_they_hold(blobs):
    attributes = described(sections(xpnet.Dataset.__doc__)["Attributes"])
    assert all(hasattr(blobs, name) for name in attributes)
    net = xpnet.Network(xpnet.NetworkConfig(inputs=12, hidden=(4,), classes=4))
    history = xpnet.train(net, blobs, xpnet.TrainConfig(epochs=2)).history
    columns = set(re.findall(r"``(\w+)``", sections(xpnet.History.__doc__)[""])) | {"train_loss"}
    assert columns == set(xpnet.training.history.COLUMNS) - {"replica"}
    assert all(history[name].shape == (2,) for name in columns)
    assert all(hasattr(history, name) for name in described(sections(xpnet.History.__doc__)["Attributes"]))


def test_the_base_of_errors_names_them_and_their_exit_code():
    text = xpnet.XpnetError.__doc__
    for error in {*xpnet.XpnetError.__subclasses__(), render.DrawingError}:
        assert error.__name__ in text
        assert error.exit_code == 2
    assert "exits with: 2" in text


def test_options_that_functions_take_as_keywords_are_there():
    named = set(re.findall(r"``(\w+)``", sections(xpnet.gradcheck.__doc__)["Args"]))
    assert named == parameters(gradcheck.check_network) - {"network", "x", "labels", "lam"}
    named = set(re.findall(r"``(\w+)``", sections(xpnet.search.__doc__)["Args"].partition("**how")[2]))
    assert named == parameters(tuning.SearchConfig)
