"""The commands on the page of a diagnosis: what made it, and what its verdicts advise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xpnet.analysis.layer_history import SAMPLES
from xpnet.analysis.verdict_words import LayerVerdict, most_serious
from xpnet.config.optimisers import defaults_of
from xpnet.config.settings import Settings
from xpnet.errors import ConfigError
from xpnet.report.blocks import repeat_command
from xpnet.report.next_steps import option

# Settings that follow advice, by its beginning.
_TRIES: dict[str, tuple[str, Any]] = {"init = he": ("init", "he"), "batch normalisation": ("batch_norm", True)}


def diagnosis_commands(found: Mapping[str, Any], verdicts: Sequence[LayerVerdict]) -> list[tuple[str, str | None]]:
    """Return the command that made a diagnosis, and the one that follows the advice of its conclusion, with words.

    The file may be damaged: only settings that are accepted become a command.

    Args:
        found: The content of ``diagnosis.json``.
        verdicts: The verdicts on its layers.
    """
    given, run = dict(found.get("settings") or {}), found.get("run")
    worst = most_serious(verdicts)
    tries = [change for words, change in _TRIES.items() if worst is not None and worst.advice.startswith(words)]
    again, advised = _diagnose(given, found), None
    if tries:
        name, value = tries[0]
        rest = {key: kept for key, kept in given.items() if key != name}
        made = f"{repeat_command(Path(run))}" if run else _diagnose(rest, found)
        advised = f"{made} {option(name, value)}" if made else None
    if run:
        again = f"{repeat_command(Path(run), 'diagnose')}{_measured(found)}"
    return [("What the conclusion advises:", advised), ("The diagnosis:", again)]


def _diagnose(given: Mapping[str, Any], found: Mapping[str, Any]) -> str | None:
    """Return the command of a diagnosis without a run; None if its settings are not accepted."""
    try:
        Settings.from_mapping(given)
        of_optimiser = defaults_of(str(given.get("optimiser", "sgd")))
    except (ConfigError, TypeError):
        return None
    if not given:
        return None
    options = ["xpnet diagnose"]
    for name, (_, field) in Settings.fields().items():
        default = of_optimiser.get(field.name, field.default)
        value = given.get(name, default)
        if value != (list(default) if isinstance(default, tuple) else default):
            options.append(option(name, _exact(value)))
    return " ".join(options) + _measured(found)


def _measured(found: Mapping[str, Any]) -> str:
    """Return the options that say what was measured, where they are not the defaults."""
    samples, epochs = found.get("samples", SAMPLES), found["epoch"]
    text = "" if samples == SAMPLES else f" --samples {samples}"
    every = epochs[1] - epochs[0] if len(epochs) > 2 else 1
    return text if every == 1 else f"{text} --every {every}"


def _exact(value: Any) -> Any:
    """Return numbers as text with all their digits."""
    if isinstance(value, list):
        return [_exact(each) for each in value]
    return repr(value) if isinstance(value, float) else value
