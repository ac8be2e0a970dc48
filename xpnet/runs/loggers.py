"""The callbacks that log a run for other programs, as its settings ask for."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from xpnet.config.fields import shown
from xpnet.runs.experiment import Experiment
from xpnet.training.callback import Callback
from xpnet.training.population import Population
from xpnet.training.tensorboard import TensorBoard

TENSORBOARD = "tensorboard"


def loggers(experiment: Experiment, folder: Path, warn: Callable[[str], None]) -> list[Callback]:
    """Return the callbacks that log a run into its folder; `warn` is called with a sentence if one fails."""
    if experiment.settings.run.log is None:
        return []
    return [TensorBoard(folder / TENSORBOARD, names_of(experiment.population), warn)]


def names_of(population: Population) -> tuple[str, ...]:
    """Return a name of a folder for each network: its number, its seed and its values of the settings that vary."""
    width = len(str(len(population) - 1))
    return tuple(f"{r:0{width}}_{'_'.join(map(_named, row.items()))}" for r, row in enumerate(population.rows))


def _named(setting: tuple[str, Any]) -> str:
    name, value = setting
    return re.sub(r"[^\w.+-]", "-", f"{name}-{shown(value)}")
