"""The tables of a search: its trials, what was searched, and how."""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Mapping
from typing import Any

from xpnet.config.fields import setting_name, shown
from xpnet.config.settings import Settings
from xpnet.report.format import is_number
from xpnet.report.page import Cell, Table, cell, metric_cell, seconds_cell, table
from xpnet.report.trial_kinds import (
    STATES,
    Trial,
    accuracy_of,
    budget_of,
    fate_of,
    is_same,
    mean_of,
    round_of,
    validation_of,
)
from xpnet.tuning.search_config import SearchConfig
from xpnet.tuning.searchable import KINDS
from xpnet.utils.plural import counted

# Most trials in the table, best first.
ROWS = 1000
_SCALES = {"log-uniform": "logarithmic", "uniform": "linear", "list": "list"}


def trials_table(found: Mapping[str, Any], best: Trial) -> Table:
    """Return the trials, the complete ones first, and the best of each state first."""
    trials, names, rows = found["trials"], list(found["space"]), []
    rounds, cut = int(found.get("rounds") or 1) > 1, budget_of(found) is not None
    for trial in heapq.nsmallest(ROWS, trials, key=_rank):
        row = [cell(trial.get("trial"), strong=is_same(trial, best)), *([round_of(trial)] if rounds else [])]
        known = accuracy_of(trial) is not None
        row += [fate_of(trial, found), metric_cell("accuracy", validation_of(trial) if known else None)]
        row += [_value(trial["settings"].get(name)) for name in names]
        row += [metric_cell("loss", validation_of(trial, "loss")), trial.get("epochs") or Cell("-")]
        rows.append([*row, seconds_cell(trial.get("seconds"), 2)])
    head = ["trial", *(["round"] if rounds else []), "state", "validation accuracy", *names]
    head += ["validation loss", "whole epochs" if cut else "epochs", "share of time"]
    which = "All trials" if len(rows) == len(trials) else f"{ROWS:,} of {len(trials):,} trials"
    seeds = {len(trial.get("seeds") or ()) for trial in trials} - {0, 1}
    mean = f"; figures are means and standard deviations over {max(seeds)} seeds" if seeds else ""
    bold = "the best is bold" if best else "none is the best"
    caption = f"{which}: complete ones first, then pruned ones, each the best first; {bold}{mean}"
    return table(head, rows, caption, tall=True)


def _rank(trial: Trial) -> tuple[bool, int, float]:
    """Return a sort key: trials by state, those that diverged behind the others, the best of each first."""
    state, mean = str(trial.get("state")), mean_of(trial)
    order = STATES.index(state) if state in STATES else len(STATES)
    diverged = state in ("complete", "pruned") and accuracy_of(trial) is None
    return diverged or state not in ("complete", "pruned"), order, 1.0 if mean is None else -mean


def _value(value: Any) -> Cell:
    """Return a cell of a setting with four digits, which tell trials apart; the files of the search have all."""
    return Cell(f"{value:.4g}", value) if isinstance(value, float) else cell(value)


def searched_table(found: Mapping[str, Any], best: Trial) -> Table:
    """Return what was searched: the meaning of each setting, its values, its scale, and the best value."""
    rows = []
    for name, draw in found["space"].items():
        low, high, values = draw.get("low"), draw.get("high"), draw.get("values")
        tried = f"{low:.4g} to {high:.4g}" if is_number(low) and is_number(high) else cell(values).text
        scale = str(draw.get("draw", ""))
        row = [Cell(name, strong=True), _meaning(name, found), tried, _SCALES.get(scale, scale)]
        rows.append([*row, *([_value((best.get("settings") or {}).get(name))] if best else [])])
    head = ["setting", "what it is", "values", "scale", *(["best"] if best else [])]
    return table(head, rows, "What was searched; each trial has one value of each, and all else in common")


def how_table(found: Mapping[str, Any]) -> list[Table]:
    """Return how points were drawn, trials pruned and the winner tested; empty if the search does not say."""
    given, rows = found.get("search") or {}, []
    for field in dataclasses.fields(SearchConfig):
        name = setting_name(field)
        if name in given and (name in ("draw", "trials", "prune") or given[name] != field.default):
            rows.append([name, shown(given[name]), field.metadata["help"]])
    return [table(["setting", "value", "what it is"], rows, "How it was searched")] if rows else []


def shared_settings(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that all trials share, without those that were searched under another name."""
    sizes = {"width", "depth"} & set(found["space"])
    return {name: value for name, value in found["settings"].items() if not (sizes and name == "hidden")}


def _meaning(name: str, found: Mapping[str, Any]) -> str:
    """Return what a searched setting is, in one line."""
    settings = found.get("settings") or {}
    target = KINDS[name].setting
    if name == "eta" and settings.get("schedule", "triangular") in ("triangular", "one-cycle"):
        target = "eta_max"
    words = KINDS[name].help or Settings.fields()[target][1].metadata["help"]
    other = {"width": "depth", "depth": "width"}.get(name)
    hidden = settings.get("hidden")
    if other is None or other in found["space"] or not isinstance(hidden, list) or not hidden:
        return str(words)
    return f"{words[:-1]}; {counted(len(hidden), 'layer') if other == 'depth' else f'{hidden[0]} units in each'}."
