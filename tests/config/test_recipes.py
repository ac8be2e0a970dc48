"""Recipes, and their list."""

from __future__ import annotations

import pytest

from xpnet.config import recipes as module
from xpnet.config.recipes import recipe, recipes
from xpnet.config.settings import Settings
from xpnet.errors import ConfigError


def test_every_recipe_is_valid():
    for name, one in recipes().items():
        assert one.name == name
        assert Settings.from_mapping(one.settings).to_mapping()


def test_recipe_with_a_base_replaces_some_of_its_settings():
    longer, base = recipe("fast-65").settings, recipe("fast-60").settings
    assert longer == {**base, "hidden": "512,256", "epochs": 20, "shift": 2}
    assert recipe("best").settings["batch_size"] == 500
    assert "label_smoothing" not in recipe("report-56").settings


def test_figures_that_were_reached_are_of_recipes():
    known = {"accuracy", "accuracy_six_views", "seconds", "tflop", "seeds", "where"}
    reached = module._read("recipes_reached.toml")
    assert reached.keys() <= recipes().keys()
    assert all(figures.keys() == known for figures in reached.values())


def test_unknown_recipe_names_a_close_one():
    with pytest.raises(ConfigError, match="did you mean fast-60"):
        recipe("fast60")
