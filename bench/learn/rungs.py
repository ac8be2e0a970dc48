"""The rungs of the ladder: recipes with the test accuracies that they are to reach, and their arithmetic."""

from __future__ import annotations

from typing import Any

from xpnet.config.arithmetic import flop_of_sample
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
    """Return the arithmetic of a training by formula, in 10^12 floating point operations; the fit is not counted."""
    checked = Settings.from_mapping(settings)
    d, k = FEATURES // checked.data.pool**2, checked.data.pca
    sample = flop_of_sample(checked.network_config(k or d, CLASSES), d if k else None)
    return steps * checked.train.batch_size * sample / 1e12


def in_words(settings: dict[str, Any]) -> str:
    """Return a rung's network and training in a few words."""
    return (
        f"{settings['hidden'].replace(',', '-')} on {settings['pca']} components, shift {settings['shift']}, "
        f"batch {settings['batch_size']}, {settings['epochs']:g} epochs"
    )
