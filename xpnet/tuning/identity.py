"""What tells one search from another, so that workers know that they are at the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xpnet.config.fields import shown
from xpnet.data import Dataset, fingerprint
from xpnet.errors import RunError
from xpnet.utils import schema

FORMAT = 1
_SETTING = schema.either(
    "text, a number, a truth value or a list of them",
    schema.text,
    schema.number(),
    schema.flag,
    schema.items(schema.either("text or a number", schema.text, schema.number())),
)
SETTINGS_SHAPE = schema.mapping(_SETTING)
ABOUT_SHAPE = schema.record(
    {
        "format": schema.whole(0),
        "space": schema.items(schema.text),
        "settings": SETTINGS_SHAPE,
        "search": SETTINGS_SHAPE,
        "data": SETTINGS_SHAPE,
    }
)
# Where and how something is computed may differ from worker to worker.
OWN = ("data", "device", "max_replicas", "tf32", "stepper", "save_every", "keep")


def about(space: list[str], settings: Mapping[str, Any], search: Mapping[str, Any], data: Dataset) -> dict[str, Any]:
    """Return what a search is: its space, settings and data."""
    return {
        "format": FORMAT,
        "space": space,
        "settings": dict(settings),
        "search": {name: value for name, value in search.items() if name != "lease"},
        "data": fingerprint(data),
    }


def difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Say in what two searches differ; empty if in nothing."""
    if there.get("format") != here["format"]:
        return f"it has the format {there.get('format')}, and this version of xpnet writes {here['format']}"
    if there["space"] != here["space"]:
        return f"it searches {' '.join(there['space'])}, not {' '.join(here['space'])}"
    for group in ("settings", "search", "data"):
        old, new = there[group], here[group]
        for name in sorted(old.keys() | new.keys()):
            if not (group == "settings" and name in OWN) and old.get(name) != new.get(name):
                return f"{name} is {shown(old.get(name))} there, not {shown(new.get(name))}"
    return ""


def check_data(there: Mapping[str, Any], data: Dataset) -> None:
    """Raise :class:`RunError` unless `data` is that of a search."""
    here = fingerprint(data)
    for name, value in there["data"].items():
        if here.get(name) != value:
            raise RunError(
                f"data: {data.location} is not what the search is about, {name}: {here.get(name)} for {value}; "
                "name the search's data with --data"
            )
