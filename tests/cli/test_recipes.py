"""``xpnet recipes``."""

from __future__ import annotations

import json
import shlex

import pytest

from xpnet.cli.options import given
from xpnet.cli.parser import make_parser
from xpnet.cli.recipes import recipe_hint
from xpnet.config.recipes import recipe, recipes
from xpnet.config.settings import Settings


def test_list_of_recipes_fits_in_100_columns_and_can_be_typed(command):
    lines = command("recipes").out.splitlines()
    assert max(map(len, (line.rstrip() for line in lines))) <= 100
    text = "\n".join(lines)
    assert "\N{NO-BREAK SPACE}" not in text
    block = text.partition("fast-60: ")[2].partition("fast-65: ")[0]
    words = shlex.split(block.partition("\n")[2])
    _, bound, _ = make_parser(["train"]).parse_args(["train", *words], exit_on_error=False, print_error=False)
    assert Settings.from_mapping(given(bound.arguments["options"])) == Settings.from_mapping(recipe("fast-60").settings)
    listed = json.loads(command("recipes", "--json").out)
    assert listed["fast-60"]["settings"]["epochs"] == recipe("fast-60").settings["epochs"]


def hint(name="cifar10", **changes):
    return recipe_hint(Settings.from_mapping(changes), name)


def test_training_of_cifar_10_with_default_settings_names_a_recipe():
    (sentence,) = hint(seed=3)
    assert sentence.startswith(f"--recipe fast-65 reaches {100 * recipe('fast-65').reached['accuracy']:.0f} % in ")
    assert "; xpnet recipes lists more" in sentence
    assert hint("mnist") == hint(hidden=(20,)) == hint(epochs=3) == []


def test_training_without_a_recipe_does_not_open_the_files_of_recipes(monkeypatch):
    def closed(name):
        raise PermissionError(name)

    recipes.cache_clear()
    monkeypatch.setattr("xpnet.config.recipes._read", closed)
    assert hint("patterns") == hint(epochs=3) == []
    with pytest.raises(PermissionError):
        hint()
