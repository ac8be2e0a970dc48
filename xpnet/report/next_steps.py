"""What a reader may try next, as a command: what the conclusion of a run advises."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from xpnet.config.settings import Settings
from xpnet.errors import ConfigError
from xpnet.report.blocks import repeat_command
from xpnet.report.records import RunRecord


def next_steps(record: RunRecord) -> list[tuple[str, str | None]]:
    """Return the command that follows the first advice of a run's conclusion; nothing where it is not in settings.

    A conclusion comes from a file, so only settings that `xpnet train` accepts with those of the run become a command.
    """
    evidence = ((record.metrics or {}).get("conclusion") or {}).get("evidence") or {}
    options = next((one for of in (evidence, evidence.get("also")) if (one := _options(of, record))), "")
    if not options:
        return []
    found: list[tuple[str, str | None]] = [
        ("What the conclusion advises, as a new run:", f"{repeat_command(record.path)} {options}")
    ]
    if options.startswith("--eta") and len(record.replicas) == 1:
        words = "Which learning rates its network can take, by a test of seconds:"
        found.append((words, repeat_command(record.path, "lr-range --config")))
    return found


def _options(evidence: Any, record: RunRecord) -> str:
    """Return the settings that the evidence of a conclusion advises as options; empty if there are none to accept."""
    new = evidence.get("try") if isinstance(evidence, Mapping) else None
    if not isinstance(new, Mapping):
        return ""
    if "runs" in new and isinstance(seeds := record.given.get("seed"), list):
        new = {"seed": seeds[0], **new}  # a list of seeds excludes runs
    if all(record.given.get(name) is not None and record.given[name] == value for name, value in new.items()):
        return ""  # the run has done so
    rest = {name: value for name, value in record.given.items() if name not in new}
    try:
        Settings.from_mapping(rest | dict(new))
    except (ConfigError, TypeError):
        return ""
    return " ".join(option(name, value) for name, value in new.items())


def option(name: str, value: Any) -> str:
    """Return a setting as an option of ``xpnet train``."""
    words = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{words}" if value else f"--no-{words}"
    return shlex.join([f"--{words}", _text(value)])


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
