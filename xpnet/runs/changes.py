"""Differences between the settings and data of a saved run and those with which it is to go on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xpnet.config.fields import shown

# Settings that may change on the way: where to compute, and how often to save.
OWN = ("data", "device", "save_every", "keep")
# Settings that decide which samples are in which batch of an epoch.
_OF_BATCHES = ("batch_size", "drop_last", "shuffle", "shuffle_seed", "seed", "runs")


def other_batches(about: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the differences that change the batches of an epoch: some settings, and the data."""
    there, here = about.get("settings", {}), now.get("settings", {})
    found: list[str] = []
    if here:
        # A setting that is None is not in the mapping.
        found = differences(*({name: of.get(name) for name in _OF_BATCHES} for of in (there, here)))
    data, data_now = about.get("data", {}), now.get("data", {})
    names = [name for name in data if name in data_now]
    return found + differences({name: data[name] for name in names}, {name: data_now[name] for name in names})


def differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the settings, or entries of a data fingerprint, that differ, but for those that may change on the way."""
    return [
        f"{name} = {_shown(now.get(name))} (it has {_shown(saved.get(name))})"
        for name in sorted(saved.keys() | now.keys())
        if name not in OWN and saved.get(name) != now.get(name) and not (name == "target" and _are_files(saved, now))
    ]


def _are_files(saved: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Return whether both name a file of labels, which may lie anywhere: the data's fingerprint has them."""
    return all(str(settings.get("target")).endswith(".npy") for settings in (saved, now))


def _shown(value: Any) -> str:
    return "none" if value is None else shown(value)
