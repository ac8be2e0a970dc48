"""The rungs of the ladder: recipes with the test accuracies that they are to reach, and their arithmetic."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from xpnet.config.recipes import recipe
from xpnet.config.settings import Settings

# Recipe, and the mean test accuracy in % of one view that it is to reach.
RUNGS = {
    "fast-50": 50,
    "fast-55": 55,
    "fast-60": 60,
    "fast-65": 65,
    "fast-67": 67,
    "fast-70": 70,
    "best": 73,
}
FEATURES, CLASSES = 3072, 10


def settings_of(name: str, epochs_scale: float = 1.0) -> dict[str, Any]:
    """Return the settings of a recipe, trained `epochs_scale` times as long."""
    settings = dict(recipe(name).settings)
    # Six digits, as results keep them.
    return settings | {"epochs": float(f"{settings['epochs'] * epochs_scale:.6g}")}


def tflop(settings: dict[str, Any], steps: int) -> float:
    """Return the arithmetic of a training by formula, in 10^12 floating point operations.

    A sample costs 2 (d k + 2 k m_1 + 3 (m_1 m_2 + ...)): the projection of d pooled features on k components, which is
    fixed; the products forward and of the weights' gradients; and those of the inputs' gradients, except that of the
    first layer, which nothing needs.  Evaluation, the fit of the components and elementwise work are not counted.
    """
    checked = Settings.from_mapping(settings)
    d = FEATURES // checked.data.pool**2
    k = checked.data.pca or d
    sizes = (k, *checked.network["hidden"], CLASSES)
    first, *others = (a * b for a, b in pairwise(sizes))
    sample = 2 * ((d * k if checked.data.pca else 0) + 2 * first + 3 * sum(others))
    return steps * checked.train.batch_size * sample / 1e12


def in_words(settings: dict[str, Any]) -> str:
    """Return a rung's network and training in a few words."""
    return (
        f"{settings['hidden'].replace(',', '-')} on {settings['pca']} components, shift {settings['shift']}, "
        f"batch {settings['batch_size']}, {settings['epochs']:g} epochs"
    )
