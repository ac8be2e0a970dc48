"""What a report's file says: experiments, their cells, and the figures that the report has for them."""

from __future__ import annotations

import difflib
import itertools
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
        at: What sets its cell apart.
        figure: Such as ``"test_accuracy"``, ``"validation_loss@3"`` (after epoch 3), or a parameter's name.
        value: What the report says.
        std: Standard deviation over the report's runs; None of a single run.
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
        kind: ``"train"`` or ``"gradcheck"``.
        source: Where the report has it.
        what: One line about it.
        settings: Settings of ``xpnet train`` that all cells share.
        check: Arguments of a gradient check.
        cells: What sets each cell apart, as settings; empty where cells are drawn.
        draw: How cells of a search are drawn; see :mod:`xpnet.reproduction.draws`.
        top: Cells of a search that are run with more seeds, by validation accuracy.
        runs: Seeds of each cell; of a search, of its best cells.
        reported: The report's figures.
        figures: The report's figures to draw: ``name``, ``at``, ``show``; ``title`` where it is not "figure NAME".
        claim: What the report concludes.
        note: What was assumed, and what is wrong in the report.
    """

    report: str
    id: str
    kind: str
    source: str
    what: str
    settings: Mapping[str, Any]
    check: Mapping[str, Any]
    cells: tuple[Mapping[str, Any], ...]
    draw: Mapping[str, Any] | None
    top: int
    runs: int
    reported: tuple[Reported, ...]
    figures: tuple[Mapping[str, Any], ...]
    claim: str
    note: str

    @property
    def name(self) -> str:
        """The name on the command line."""
        return f"{self.report}.{self.id}"


@dataclass(frozen=True)
class Study:
    """One report."""

    report: str
    title: str
    experiments: tuple[Experiment, ...]


def load(report: str, folder: Path = FOLDER) -> Study:
    """Return the study of a report, ``"A"`` to ``"E"``.

    Raises:
        ConfigError: The file has a key that means nothing, or lacks one.
    """
    path = folder / f"{report}.toml"
    with path.open("rb") as file:
        content = tomllib.load(file)
    defaults = content.get("defaults", {})
    experiments = tuple(_experiment(report, path.name, entry, defaults) for entry in content["experiment"])
    return Study(report, content["title"], experiments)


def choose(names: Sequence[str], folder: Path = FOLDER) -> list[Experiment]:
    """Return the experiments that `names` mean: ``"A.bn3"``, ``"A"`` for all of a report, or ``"all"``.

    Raises:
        ConfigError: A name means nothing.
    """
    studies = {report: load(report, folder).experiments for report in REPORTS}
    every = [experiment for experiments in studies.values() for experiment in experiments]
    chosen: dict[str, Experiment] = {}
    for name in names:
        if name == "all":
            found: Sequence[Experiment] = every
        elif name in studies:
            found = studies[name]
        else:
            found = [experiment for experiment in every if experiment.name == name]
        if not found:
            known = ["all", *studies, *(experiment.name for experiment in every)]
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else "xpnet reproduce --list shows what there is"
            raise ConfigError(f"{name}: is neither a report nor an experiment; {hint}")
        chosen |= {experiment.name: experiment for experiment in found}
    return [experiment for experiment in every if experiment.name in chosen]


def _experiment(report: str, file: str, entry: Mapping[str, Any], defaults: Mapping[str, Any]) -> Experiment:
    where = f"{file}, experiment {entry.get('id', '?')}"
    if unknown := set(entry) - _KEYS:
        raise ConfigError(f"{where}: {min(unknown)}: there is no such key; known are {', '.join(sorted(_KEYS))}")
    if missing := {"id", "source", "what"} - set(entry):
        raise ConfigError(f"{where}: {min(missing)}: is missing")
    kind = entry.get("kind", "train")
    cells = [dict(cell) for cell in entry.get("cells", ())]
    if across := entry.get("across"):
        cells = [dict(zip(across, values, strict=True)) for values in itertools.product(*across.values())]
    draw = entry.get("draw")
    return Experiment(
        report=report,
        id=entry["id"],
        kind=kind,
        source=entry["source"],
        what=entry["what"],
        settings={**defaults, **entry.get("settings", {})},
        check=entry.get("check", {}),
        cells=tuple(cells) if cells or draw else ({},),
        draw=draw,
        top=entry.get("top", 0),
        runs=entry.get("runs", 5),
        reported=(*_reported(where, entry), *_rows(entry)),
        figures=tuple(entry.get("figures", ())),
        claim=entry.get("claim", ""),
        note=entry.get("note", ""),
    )


def _reported(where: str, entry: Mapping[str, Any]) -> list[Reported]:
    found = []
    for row in entry.get("reported", ()):
        at = row.get("at", {})
        for figure, value in row.items():
            if figure == "at":
                continue
            mean, std = value if isinstance(value, list) else (value, None)
            if not isinstance(mean, (int, float)):
                raise ConfigError(f"{where}: reported {figure} = {value}: must be a number, or a mean and a deviation")
            found.append(Reported(at, figure, float(mean), std))
    return found


def _rows(entry: Mapping[str, Any]) -> list[Reported]:
    """Return the figures of a table of a search: the first column says where, the others what."""
    found = []
    for row in entry.get("rows", ()):
        name, *figures = entry["columns"]
        found += [Reported({name: row[0]}, figure, value) for figure, value in zip(figures, row[1:], strict=True)]
    return found
