"""The file of a report: experiments, their cells, and the figures that the report has for them."""

from __future__ import annotations

import difflib
import itertools
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xpnet.errors import ConfigError

REPORTS = ("A", "B", "C", "D", "E")
FOLDER = Path(__file__).parent
_KEYS = {
    *("id", "kind", "source", "what", "settings", "check", "cells", "across", "draw", "top", "runs"),
    *("reported", "columns", "rows", "figures", "claim", "note"),
}


@dataclass(frozen=True)
class Reported:
    """One figure of a report.

    Attributes:
        at: The settings that identify its cell.
        figure: A name such as ``"test_accuracy"`` or ``"validation_loss@3"`` (after epoch 3), or a parameter's name.
        value: The report's value.
        std: Standard deviation over the report's runs; None for a single run.
    """

    at: Mapping[str, Any]
    figure: str
    value: float
    std: float | None = None


@dataclass(frozen=True)
class Experiment:
    """One experiment of a report.

    Attributes:
        report: ``"A"`` to ``"E"``.
        id: Its name within the report.
        source: Its place in the report.
        what: One line about it.
        settings: Settings of ``xpnet train`` that all cells share.
        cells: Each cell's own settings; empty if cells are drawn.
        kind: ``"train"`` or ``"gradcheck"``.
        check: Arguments of a gradient check.
        draw: How cells of a search are drawn; see :mod:`xpnet.reproduction.sampling`.
        top: Number of best cells of a search, by validation accuracy, that are run with more seeds.
        runs: Number of seeds of each cell; for a search, of its best cells.
        reported: The report's figures.
        figures: The report's figures to draw: ``name``, ``at``, ``show``, and ``title`` if it is not "figure NAME".
        claim: The report's conclusion.
        note: Assumptions of the reproduction, and errors in the report.
    """

    report: str
    id: str
    source: str
    what: str
    settings: Mapping[str, Any]
    cells: tuple[Mapping[str, Any], ...] = ({},)
    kind: str = "train"
    check: Mapping[str, Any] = field(default_factory=dict)
    draw: Mapping[str, Any] | None = None
    top: int = 0
    runs: int = 5
    reported: tuple[Reported, ...] = ()
    figures: tuple[Mapping[str, Any], ...] = ()
    claim: str = ""
    note: str = ""

    @property
    def name(self) -> str:
        """The experiment's name on the command line."""
        return f"{self.report}.{self.id}"


@dataclass(frozen=True)
class Study:
    """One report."""

    report: str
    title: str
    experiments: tuple[Experiment, ...]


def load(report: str, folder: Path = FOLDER) -> Study:
    """Return the content of the file of a report, ``"A"`` to ``"E"``.

    Raises:
        ConfigError: The file has an unknown key, or lacks one.
    """
    path = folder / f"{report}.toml"
    with path.open("rb") as file:
        content = tomllib.load(file)
    defaults = content.get("defaults", {})
    experiments = tuple(_experiment(report, path.name, entry, defaults) for entry in content["experiment"])
    return Study(report, content["title"], experiments)


def choose(names: Sequence[str], folder: Path = FOLDER) -> list[Experiment]:
    """Return the experiments called `names`: ``"A.bn3"``, ``"A"`` for all of a report, or ``"all"``.

    Raises:
        ConfigError: A name is neither of a report nor of an experiment.
    """
    every = [experiment for report in REPORTS for experiment in load(report, folder).experiments]
    chosen: set[str] = set()
    for name in names:
        found = {e.name for e in every if name in ("all", e.report, e.name)}
        if not found:
            close = difflib.get_close_matches(name, ["all", *REPORTS, *(e.name for e in every)], n=1)
            hint = f"did you mean {close[0]}?" if close else "xpnet reproduce --list shows what there is"
            raise ConfigError(f"{name}: is neither a report nor an experiment; {hint}")
        chosen |= found
    return [experiment for experiment in every if experiment.name in chosen]


def _experiment(report: str, file: str, entry: Mapping[str, Any], defaults: Mapping[str, Any]) -> Experiment:
    place = f"{file}, experiment {entry.get('id', '?')}"
    if unknown := set(entry) - _KEYS:
        raise ConfigError(f"{place}: {min(unknown)}: there is no such key; known are {', '.join(sorted(_KEYS))}")
    if missing := {"id", "source", "what"} - set(entry):
        raise ConfigError(f"{place}: {min(missing)}: is missing")
    cells = [dict(cell) for cell in entry.get("cells", ())]
    if across := entry.get("across"):
        cells = [dict(zip(across, values, strict=True)) for values in itertools.product(*across.values())]
    given = {name: entry[name] for name in ("check", "draw", "top", "runs", "claim", "note", "kind") if name in entry}
    return Experiment(
        report=report,
        id=entry["id"],
        source=entry["source"],
        what=entry["what"],
        settings={**defaults, **entry.get("settings", {})},
        cells=tuple(cells) if cells or "draw" in entry else ({},),
        reported=(*_reported(place, entry), *_rows(entry)),
        figures=tuple(entry.get("figures", ())),
        **given,
    )


def _reported(place: str, entry: Mapping[str, Any]) -> list[Reported]:
    found = []
    for row in entry.get("reported", ()):
        for figure, value in row.items():
            if figure == "at":
                continue
            mean, std = value if isinstance(value, list) else (value, None)
            if not isinstance(mean, (int, float)):
                raise ConfigError(f"{place}: reported {figure} = {value}: must be a number, or a mean and a deviation")
            found.append(Reported(row.get("at", {}), figure, float(mean), std))
    return found


def _rows(entry: Mapping[str, Any]) -> list[Reported]:
    """Return the figures in a report's table of a search: the first column has the setting, the others figures."""
    name, *figures = entry.get("columns", ("",))
    return [
        Reported({name: setting}, figure, value)
        for setting, *values in entry.get("rows", ())
        for figure, value in zip(figures, values, strict=True)
    ]
