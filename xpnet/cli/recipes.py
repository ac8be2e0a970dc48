"""``xpnet recipes``."""

from __future__ import annotations

import dataclasses

from xpnet.cli.console import STANDARD, Output
from xpnet.cli.tables import table
from xpnet.config.fields import shown
from xpnet.config.recipes import Recipe
from xpnet.config.recipes import recipes as all_recipes


def recipes(output: Output = STANDARD) -> None:
    """List the recipes for CIFAR-10: settings that were measured together, and what they reach.

    A recipe is trained with xpnet train --recipe NAME; options on the line replace its settings.
    """
    known = all_recipes().values()
    rows = [(recipe.name, *_reached(recipe), recipe.about) for recipe in known]
    where = "; ".join(sorted({recipe.reached["where"] for recipe in known if recipe.reached}))
    notes = [f"accuracy on the test set, with one view and averaged over six; seconds: {where}"] if where else []
    settings = [f"{recipe.name}: {_settings(recipe)}" for recipe in known]
    heads = ("", "accuracy", "six views", "seconds", "TFLOP", "about")
    output.result(
        {recipe.name: dataclasses.asdict(recipe) for recipe in known},
        table(heads, rows, left=("", "about"), gap=2),
        *notes,
        "\n".join(settings),
    )


def _reached(recipe: Recipe) -> list[str]:
    reached = recipe.reached
    shares = (f"{100 * reached[name]:.1f} %" if name in reached else "" for name in ("accuracy", "accuracy_six_views"))
    return [*shares, *(f"{reached[name]:.3g}" if name in reached else "" for name in ("seconds", "tflop"))]


def _settings(recipe: Recipe) -> str:
    return " ".join(f"--{name.replace('_', '-')} {shown(value)}" for name, value in recipe.settings.items())
