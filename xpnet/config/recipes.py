"""Recipes: settings that were measured together, and what they reach."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from xpnet.config.fields import shown
from xpnet.errors import ConfigError, printable


@dataclass(frozen=True)
class Recipe:
    """Settings that were measured together on CIFAR-10.

    Attributes:
        name: Its name, for ``xpnet train --recipe``.
        about: A sentence on the network and its training.
        settings: The settings that differ from the defaults, by name, as in a configuration file.
        reached: Figures that were measured: ``accuracy`` and ``accuracy_six_views`` on the test set, ``seconds`` of
            transforms and training, ``tflop``, ``seeds``, and ``where``, in words; empty if none were.
    """

    name: str
    about: str
    settings: Mapping[str, Any]
    reached: Mapping[str, Any]


@cache
def recipes() -> dict[str, Recipe]:
    """Return all recipes by name, from the fastest to the best."""
    content, reached = (_read(name) for name in ("recipes.toml", "recipes_reached.toml"))
    return {
        name: Recipe(name, entry["about"], _settings(content, name), reached.get(name, {}))
        for name, entry in content.items()
    }


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads(files("xpnet.config").joinpath(name).read_text("utf-8"))


def _settings(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the settings of a recipe: those of its base, and its own in their place."""
    entry = content[name]
    base = _settings(content, entry["base"]) if "base" in entry else {}
    return base | dict(entry["settings"])


def recipe(name: str) -> Recipe:
    """Return settings that were measured together on CIFAR-10.

    Args:
        name: Name of a recipe, as ``xpnet recipes`` lists them.

    Returns:
        The recipe: ``xpnet.Settings.from_mapping(recipe.settings)`` are all settings of a run.

    Raises:
        ConfigError: There is no such recipe.
    """
    known = recipes()
    if not isinstance(name, str) or name not in known:
        close = difflib.get_close_matches(str(name), known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
        raise ConfigError(f"recipe = {printable(shown(name))}: there is no such recipe; {hint}")
    return known[name]
