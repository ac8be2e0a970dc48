"""The identity of a search, which workers compare to make sure that they work on the same search."""

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
IDENTITY_SHAPE = schema.record(
    {
        "format": schema.whole(0),
        "space": schema.items(schema.text),
        **dict.fromkeys(("settings", "search", "data"), SETTINGS_SHAPE),
    }
)
# Settings that may differ between workers: where and how they compute.
OWN = ("data", "device", "max_replicas", "tf32", "stepper", "save_every", "keep", "figures", "log")


def identity(space: list[str], settings: Mapping[str, Any], search: Mapping[str, Any], data: Dataset) -> dict[str, Any]:
    """Return the identity of a search: its space, settings and data."""
    return {
        "format": FORMAT,
        "space": space,
        "settings": dict(settings),
        "search": {name: value for name, value in search.items() if name != "lease"},
        "data": fingerprint(data),
    }


def difference(stored: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """Return the first difference between two identities in words; empty if there is none."""
    if stored.get("format") != own["format"]:
        return f"it has the format {stored.get('format')}, and this version of xpnet writes {own['format']}"
    if stored["space"] != own["space"]:
        return f"it searches {' '.join(stored['space'])}, not {' '.join(own['space'])}"
    for group in ("settings", "search", "data"):
        old, new = stored[group], own[group]
        for name in sorted(old.keys() | new.keys()):
            if not (group == "settings" and name in OWN) and old.get(name) != new.get(name):
                return f"{name} is {shown(old.get(name))} there, not {shown(new.get(name))}"
    return ""


def check_data(stored: Mapping[str, Any], data: Dataset) -> None:
    """Raise :class:`RunError` unless `data` is the data set of a search."""
    own = fingerprint(data)
    for name, value in stored["data"].items():
        if own.get(name) != value:
            raise RunError(
                f"data: {data.location} is not what the search is about, {name}: {own.get(name)} for {value}; "
                "name the search's data with --data"
            )
