"""``search.json``, read back and checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xpnet import schema
from xpnet.errors import RunError
from xpnet.reading import read_json
from xpnet.recorded import ENVIRONMENT_SHAPE, FIGURE_SHAPE, GUESSING_SHAPE
from xpnet.search.about import SETTINGS_SHAPE
from xpnet.search.space import KINDS

_TEXT = schema.optional(schema.text)
_SOME = schema.optional(schema.number())
_VALUE = schema.either("text, a number or a truth value", schema.text, schema.number(), schema.flag)
_FIGURES = schema.optional(schema.record({"accuracy": FIGURE_SHAPE}, {"loss": FIGURE_SHAPE, "cost": FIGURE_SHAPE}))
_POINT = {"epoch": schema.whole(0), "accuracy": _SOME}
_TRIAL: schema.Shapes = {"trial": schema.whole(0), "settings": schema.mapping(_VALUE)}
_OF_TRIAL: schema.Shapes = {
    "round": schema.whole(0),
    "seeds": schema.items(schema.whole(0)),
    "score": _SOME,
    "validation": _FIGURES,
    "epochs": schema.whole(0),
    "seconds": schema.optional(schema.number(0)),
    "curve": schema.items(schema.record(_POINT)),
}
_DRAW = schema.record({}, {"draw": schema.text, "low": _SOME, "high": _SOME, "values": schema.items(_VALUE)})
_SHAPE = schema.record(
    {
        "kind": schema.one_of("search"),
        "trials": schema.items(schema.record({**_TRIAL, "state": schema.text}, _OF_TRIAL)),
        "space": schema.mapping(_DRAW),
    },
    {
        "command": _TEXT,
        "settings": SETTINGS_SHAPE,
        "sampler": schema.text,
        "rounds": schema.optional(schema.whole(0)),
        "best": schema.optional(schema.record(_TRIAL, _OF_TRIAL)),
        "winner": _TEXT,
        "test": _FIGURES,
        "seconds": schema.optional(schema.number(0)),
        "environment": schema.optional(ENVIRONMENT_SHAPE),
        "guessing": schema.optional(GUESSING_SHAPE),
        "warnings": schema.items(schema.text),
    },
)


def read_search_result(path: Path) -> dict[str, Any]:
    """Return what ``search.json`` holds.

    Raises:
        RunError: The file is damaged, or not of a search; the message names the line or the key.
    """
    found = read_json(path, RunError)
    schema.check(found, _SHAPE, f"{path}: is not a search of xpnet", RunError)
    for name in found["space"]:
        if name not in KINDS:
            raise RunError(f"{path}: space: {name} is nothing that can be searched; there are {', '.join(KINDS)}")
    return found


def winner_in(folder: Path, found: Mapping[str, Any]) -> Path | None:
    """Return the folder of the winner's run; None if there is none.

    Raises:
        RunError: What is said to be it lies elsewhere.
    """
    name = found.get("winner")
    if not name:
        return None
    if name in (".", "..") or any(sign in name for sign in "/\\:\0"):
        raise RunError(f"{folder}: winner = {name}: must be the name of a folder in it")
    winner = folder / name
    if winner.is_symlink():
        raise RunError(f"{winner}: is a link, and must be a folder of the search")
    return winner if winner.is_dir() else None
