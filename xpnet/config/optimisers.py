"""The optimisers, and which settings have an effect on which."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

from xpnet.config.fields import shown
from xpnet.errors import ConfigError

# The settings of each optimiser; those of others have no effect on it.
OPTIMISERS: dict[str, tuple[str, ...]] = {
    "sgd": ("momentum", "nesterov"),
    "adamw": ("beta1", "beta2", "adam_eps", "weight_decay"),
    "lion": ("beta1", "beta2", "weight_decay"),
}
# Defaults that depend on the optimiser.
_DEFAULTS: dict[str, dict[str, float]] = {
    "sgd": {"lam": 0.005},
    "adamw": {"lam": 0.0, "beta1": 0.9, "beta2": 0.999},
    "lion": {"lam": 0.0, "beta1": 0.9, "beta2": 0.99},
}


def defaults_of(optimiser: str) -> dict[str, float]:
    """Return the values of settings that are not given, as far as they depend on the optimiser."""
    return _DEFAULTS[optimiser]


def without_effect_on(optimiser: str) -> list[str]:
    """Return the settings of other optimisers."""
    return [name for name in dict.fromkeys(itertools.chain(*OPTIMISERS.values())) if name not in OPTIMISERS[optimiser]]


def refuse_others(config: Any) -> None:
    """Refuse a training in which settings of other optimisers than its own have other values than their defaults.

    Raises:
        ConfigError: There is such a setting.
    """
    others = without_effect_on(config.optimiser)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        values = value if isinstance(value, tuple) else (value,)
        if field.name in others and any(one != field.default for one in values):
            raise no_effect(field.name, value, config.optimiser)


def no_effect(name: str, value: Any, optimiser: str) -> ConfigError:
    """Return the error for a setting of another optimiser."""
    own = ", ".join(OPTIMISERS[optimiser])
    return ConfigError(f"{name} = {shown(value)}: has no effect on the optimiser {optimiser}, which is set by {own}")
