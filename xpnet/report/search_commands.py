"""The commands on the page of a search: those that follow its conclusion, and those that repeat it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xpnet.errors import ConfigError
from xpnet.report.blocks import repeat_command
from xpnet.report.format import is_number
from xpnet.report.page import cell
from xpnet.report.trial_kinds import Trial, budget_of
from xpnet.tuning.space import Space
from xpnet.utils.plural import counted

# More hidden layers than any network has.
_DEEP = 1000
# Other trials whose commands are given if chance does not tell them from the best.
_OTHERS = 2
# Settings on which the epochs of a trial with a budget depend.
_SIZES = {"hidden", "pca", "pool", "batch_size"}


def search_commands(
    folder: Path, found: Mapping[str, Any], near: Sequence[Trial], seeds: int, epochs: int | None
) -> list[tuple[str, str | None]]:
    """Return the commands of a search, each with words.

    Args:
        folder: The search's folder.
        found: The content of ``search.json``.
        near: The trials that chance does not tell from the best.
        seeds: How many seeds tell more.
        epochs: How long to train, if the conclusion advises that.
    """
    longer = "" if epochs is None else f" --epochs {epochs}"
    commands = _next(folder, found, near, seeds, longer)
    if longer:
        commands.append(("The search with whole cycles:", _longer(found.get("command"), longer)))
    commands.append(("The search:", _of_folder(found.get("command"), folder)))
    return [*commands, ("This page:", repeat_command(folder, "report"))]


def _next(
    folder: Path, found: Mapping[str, Any], near: Sequence[Trial], seeds: int, longer: str
) -> list[tuple[str, str | None]]:
    """Return commands that train the winner's settings, and those that chance does not tell from them, more often.

    `longer` is an option that makes each training longer, or empty.
    """
    file = folder / "best.toml"
    if not file.is_file():
        return []
    again = f"{repeat_command(file)} --runs {seeds}{longer}"
    commands: list[tuple[str, str | None]] = [(f"The best settings, with {counted(seeds, 'seed')}:", again)]
    best = found.get("best") or {}
    others = [trial for trial in near if trial.get("trial") != best.get("trial")]
    for trial in others[:_OTHERS]:
        differ = _differences(found, best.get("settings") or {}, trial["settings"])
        if differ and (budget_of(found) is None or not _SIZES & set(differ)):
            options = [
                f"--{name.replace('_', '-')} {shlex.quote(cell(value).text.replace(', ', ','))}"
                for name, value in differ.items()
            ]
            words = f"Trial {trial.get('trial')}, which chance does not tell from the best:"
            commands.append((words, f"{again} {' '.join(options)}"))
    if len(commands) > 1:
        words = (
            "Whether these runs differ by more than their seeds (in place of RUN, the folders that the commands name):"
        )
        commands.append((words, "xpnet report RUN RUN"))
    return commands


def _of_folder(command: Any, folder: Path) -> str | None:
    """Return the command of a search with its folder as it is named now, as in the other commands."""
    try:
        words = shlex.split(str(command or ""))
    except ValueError:  # of a damaged file
        return str(command)
    for at, word in enumerate(words[:-1]):
        if word == "--out" and Path(words[at + 1]).name == folder.name:
            return shlex.join([*words[: at + 1], str(folder), *words[at + 2 :]])
    return str(command) if command else None


def _longer(command: Any, longer: str) -> str | None:
    """Return the command of a search as one with longer trainings, for a folder of its own; None if there is none."""
    try:
        words = shlex.split(str(command or ""))
    except ValueError:  # of a damaged file
        return None
    kept = [word for at, word in enumerate(words) if not {"--out", "--epochs"} & {word, *words[max(0, at - 1) : at]}]
    return f"{shlex.join(kept)}{longer}" if kept[:2] == ["xpnet", "search"] else None


def _differences(found: Mapping[str, Any], best: Trial, other: Trial) -> dict[str, Any]:
    """Return the settings of ``xpnet train`` in which a point differs from the best; empty if the file is damaged."""
    base = found.get("settings") or {}
    if any(is_number(of.get("depth")) and of["depth"] > _DEEP for of in (best, other)):
        return {}
    try:
        space = Space.of(dict.fromkeys(found["space"]))
        of_best, settings = space.settings(best, base), space.settings(other, base)
    except (ConfigError, TypeError, ValueError, OverflowError):
        return {}
    return {name: value for name, value in settings.items() if value != of_best.get(name)}
