"""``xpnet recipes``."""

from __future__ import annotations

import dataclasses
import functools
import textwrap
from typing import Any

from xpnet.cli.console import STANDARD, Output
from xpnet.cli.tables import table
from xpnet.config.fields import shown
from xpnet.config.recipes import Recipe, recipe
from xpnet.config.recipes import recipes as all_recipes
from xpnet.config.settings import Settings
from xpnet.config.training import TrainConfig

# Columns of a line.
_WIDTH = 100


def recipes(output: Output = STANDARD) -> None:
    """List the recipes for CIFAR-10: settings that were measured together, and what they reach.

    A recipe is trained with xpnet train --recipe NAME; options on the line replace its settings.
    """
    known = all_recipes().values()
    rows = [(recipe.name, *_reached(recipe)) for recipe in known]
    where = "; ".join(sorted({recipe.reached["where"] for recipe in known if recipe.reached}))
    notes = [f"accuracy on the test set, with one view and averaged over six; seconds: {where}"] if where else []
    output.result(
        {recipe.name: dataclasses.asdict(recipe) for recipe in known},
        table(("", "accuracy", "six views", "seconds", "TFLOP"), rows),
        *(line for note in notes for line in textwrap.wrap(note, _WIDTH)),
        "\n".join(line for recipe in known for line in _lines(recipe)),
    )


def recipe_hint(settings: Settings, data: str) -> list[str]:
    """Return a sentence on what a recipe reaches, for default settings and the data set CIFAR-10."""
    if data != "cifar10" or settings.network or settings.train != TrainConfig():
        return []
    if not (reached := recipe("fast-65").reached):
        return []
    figures = f"{100 * reached['accuracy']:.0f} % in {reached['seconds']:.0f} s ({reached['where']})"
    return [f"--recipe fast-65 reaches {figures}; xpnet recipes lists more"]


def _reached(recipe: Recipe) -> list[str]:
    reached = recipe.reached
    shares = (f"{100 * reached[name]:.1f} %" if name in reached else "" for name in ("accuracy", "accuracy_six_views"))
    return [*shares, *(f"{reached[name]:.3g}" if name in reached else "" for name in ("seconds", "tflop"))]


def _lines(recipe: Recipe) -> list[str]:
    """Return a recipe's sentence and its settings, which wrap between two options."""
    # A no-break space keeps an option and its value on one line.
    options = [_option(name.replace("_", "-"), value) for name, value in recipe.settings.items()]
    wrap = functools.partial(textwrap.wrap, width=_WIDTH, subsequent_indent="    ", break_on_hyphens=False)
    lines = wrap(" ".join(options), initial_indent="    ")
    return [*wrap(f"{recipe.name}: {recipe.about}"), *(line.replace("\N{NO-BREAK SPACE}", " ") for line in lines)]


def _option(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return f"--{name}\N{NO-BREAK SPACE}{shown(value)}"
