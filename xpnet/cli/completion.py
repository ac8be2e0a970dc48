"""Values that the TAB key offers in bash, zsh and fish, and the installation of its scripts.

A script knows commands, options and fixed values; where values depend on the machine, such as run folders and GPUs, it
calls ``xpnet __complete``, which calls a function of this module.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from cyclopts.completion import CompletionContext

Values: TypeAlias = "Callable[[CompletionContext], Iterable[Any]] | None"
# Newest folders that are offered.
_MOST_FOLDERS = 100


def text_kind(field: dataclasses.Field[Any]) -> Any:
    """Return the type of a setting's value on the command line: text, with the names that may stand for it."""
    names = [part for part in field.metadata["metavar"].split("|") if re.fullmatch(r"[a-z0-9][a-z0-9:-]*", part)]
    return Literal[tuple(names)] if names else str


def values_of(setting: str) -> Values:
    """Return a function that lists the values of a setting on this machine; None if there are none of that kind."""
    return {"device": devices, "data": data_sets}.get(setting)


def devices(_: CompletionContext) -> list[str]:
    """List the devices of this machine, without asking the driver."""
    gpus = sorted(int(path.name.removeprefix("nvidia")) for path in Path("/dev").glob("nvidia[0-9]*"))
    return ["auto", "cpu", *(["gpu"] if gpus else []), *(f"gpu:{number}" for number in gpus)]


def data_sets(context: CompletionContext) -> list[str]:
    """List the data sets that have names, and files and folders."""
    from xpnet.data.find import NAMES

    return [*NAMES, "patterns", *_entries(context.incomplete)]


def run_folders(context: CompletionContext) -> list[str]:
    """List run folders, newest first, below ``runs`` or where the word under the cursor leads."""
    return _folders(context.incomplete, ("config.toml",))


def search_folders(context: CompletionContext) -> list[str]:
    """List the folders of searches in the same way."""
    return _folders(context.incomplete, ("search.toml",))


def page_folders(context: CompletionContext) -> list[str]:
    """List the folders of which pages can be made: runs, searches and reproductions."""
    return _folders(context.incomplete, ("config.toml", "search.toml", "results.json"))


def _folders(begun: str, files: tuple[str, ...]) -> list[str]:
    homes = [Path(begun.rpartition("/")[0] or "/")] if "/" in begun else [Path("runs"), Path()]
    found = []
    for home in homes:
        try:
            found += [folder for folder in home.iterdir() if any((folder / file).is_file() for file in files)]
        except OSError:
            continue
    found.sort(key=lambda folder: folder.stat().st_mtime, reverse=True)
    names = [str(folder) for folder in found[:_MOST_FOLDERS]]
    return names if any(name.startswith(begun) for name in names) else _entries(begun)


def _entries(begun: str) -> list[str]:
    """Return the files and folders that a path may go on with."""
    head = begun[: begun.rfind("/") + 1]
    try:
        entries = sorted(Path(head or ".").iterdir())
    except OSError:
        return []
    return [f"{head}{one.name}{'/' if one.is_dir() else ''}" for one in entries if not one.name.startswith(".")]


def recipe_names(_: CompletionContext) -> list[tuple[str, str]]:
    """List the recipes."""
    from xpnet.config.recipes import recipes

    return [(name, recipe.about) for name, recipe in recipes().items()]


def searchable(_: CompletionContext) -> list[str]:
    """List the settings that can be searched."""
    from xpnet.tuning.searchable import KINDS

    return ["lambda-eta", *KINDS]


def experiments(_: CompletionContext) -> list[tuple[str, str]]:
    """List the experiments of the reproduction."""
    from xpnet.reproduction import choose

    return [("all", "every experiment"), *((one.name, one.what) for one in choose(["all"]))]
