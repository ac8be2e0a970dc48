"""What a run has recorded, read back and checked: history.csv, metrics.json, environment.json."""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet import schema
from xpnet.errors import RunError, one_line
from xpnet.history import COLUMNS, FIGURES
from xpnet.reading import read_json, read_text

# A row has about 150 bytes: this is twenty epochs of twenty thousand networks.
MOST_HISTORY = 64 * 2**20
_WHOLE = re.compile(r"[0-9]{1,15}", re.ASCII)
_FINITE = re.compile(r"[0-9]{1,20}(\.[0-9]{1,30})?(e[+-]?[0-9]{1,3})?", re.ASCII)
_ANY = re.compile(rf"-?({_FINITE.pattern}|inf|nan)", re.ASCII)
_KINDS = {
    **dict.fromkeys(("epoch", "step", "replica"), (_WHOLE, "a whole number of at least 0")),
    **dict.fromkeys(("eta", "seconds_training", "seconds_evaluation"), (_FINITE, "a number of at least 0")),
}
_PATTERNS = [(name, *_KINDS.get(name, (_ANY, "a number, inf or nan"))) for name in COLUMNS]


def read_history(path: Path, replicas: int) -> dict[str, NDArray[np.float64]]:
    """Return the columns of ``history.csv``, but for the replica: (epochs,), or (epochs, R) of what networks differ in.

    An epoch that is cut off at the end of the file, as by a kill, does not count.

    Raises:
        RunError: The file is damaged, or is not of so many networks; the message names line and column.
    """
    head, *lines = read_text(path, MOST_HISTORY, RunError).split("\n")
    if missing := [name for name in COLUMNS if name not in head.split(",")]:
        raise RunError(f"{path}: line 1 lacks the columns {', '.join(missing)}; take another copy of it")
    if head != ",".join(COLUMNS):
        raise RunError(f"{path}: line 1 must be {','.join(COLUMNS)}; take another copy of it")
    columns = {name: array("d") for name in COLUMNS}
    for number, line in enumerate(lines[:-1]):  # what no line break ends was not written to its end
        _add(columns, line, f"{path}: line {number + 2}")
        epoch, replica = number // replicas + 1, number % replicas
        for name, wanted in (("epoch", epoch), ("replica", replica)):
            if columns[name][-1] != wanted:
                raise RunError(
                    f"{path}: line {number + 2}, {name}: is {columns[name][-1]:.0f}, and must be {wanted} of "
                    f"{replicas} networks; take another copy of it"
                )
    epochs = len(columns["epoch"]) // replicas
    found = {
        name: np.frombuffer(values, np.float64, epochs * replicas).reshape(epochs, replicas)
        if epochs
        else np.empty((0, replicas))
        for name, values in columns.items()
        if name != "replica"
    }
    for name in ("epoch", "step", "seconds_training", "seconds_evaluation"):
        found[name] = found[name][:, 0]
    return found


def _add(columns: Mapping[str, array[float]], line: str, where: str) -> None:
    cells = line.split(",")
    if len(cells) != len(COLUMNS):
        raise RunError(f"{where}: has {len(cells)} columns, and must have {len(COLUMNS)}; take another copy of it")
    for cell, (name, pattern, wanted) in zip(cells, _PATTERNS, strict=True):
        if pattern.fullmatch(cell) is None or (pattern is _FINITE and float(cell) - float(cell) != 0):
            raise RunError(
                f"{where}, {name}: must be {wanted}, and is {one_line(repr(cell), 60)}; take another copy of it"
            )
        columns[name].append(float(cell))


_SOME = schema.optional(schema.number())
FIGURE_SHAPE = schema.either(
    "a number, null, or an object of mean, std and values",
    _SOME,
    schema.record({"mean": _SOME, "std": _SOME, "values": schema.items(_SOME)}),
)
FIGURES_SHAPE = schema.record(dict.fromkeys(FIGURES, FIGURE_SHAPE))
_SETS = dict.fromkeys(("test", "validation", "train"), FIGURES_SHAPE)
GUESSING_SHAPE = schema.record(
    {"no_better": schema.items(schema.whole(0))},
    {"set": schema.text, "samples": schema.whole(1), "accuracy": schema.number(0, 1), "loss": schema.number(0)},
)
METRICS_SHAPE = schema.record(
    {**_SETS, "epochs": schema.whole(0), "steps": schema.whole(0), "interrupted": schema.flag},
    {
        "seconds": schema.record(
            {},
            {"training": schema.number(0), "evaluation": schema.number(0), "per_epoch": schema.items(schema.number(0))},
        ),
        "samples": schema.record({}, {name: schema.whole(0) for name in _SETS}),
        "device": schema.text,
        "run": schema.text,
        "diverged": schema.whole(0),
        "replicas": schema.items(schema.record({}, _SETS)),
        "guessing": schema.optional(GUESSING_SHAPE),
        "warnings": schema.items(schema.text),
        "chunks": schema.items(schema.whole(1)),
    },
)


def read_metrics(path: Path) -> dict[str, Any]:
    """Return what ``metrics.json`` holds.

    Raises:
        RunError: The file is damaged; the message names the line or the key.
    """
    return _checked(path, METRICS_SHAPE)


_SCALAR = schema.either("text, a number or null", schema.optional(schema.text), schema.number(), schema.flag)
_OF_ENVIRONMENT = {
    **dict.fromkeys(
        ("date", "command", "xpnet", "python", "system", "cpu", "device", "note"), schema.optional(schema.text)
    ),
    **dict.fromkeys(("cores", "memory_gib", "seconds"), schema.optional(schema.number(0))),
    "gpus": schema.items(schema.record({"memory_bytes": schema.number(0)}, dict.fromkeys(("device", "name"), _SCALAR))),
    "packages": schema.mapping(_SCALAR),
    "variables": schema.mapping(_SCALAR),
    "blas": schema.items(schema.mapping(_SCALAR)),
}
ENVIRONMENT_SHAPE = schema.record({}, {**_OF_ENVIRONMENT, "resumed": schema.items(schema.record({}, _OF_ENVIRONMENT))})


def read_environment(path: Path) -> dict[str, Any]:
    """Return what ``environment.json`` holds.

    Raises:
        RunError: The file is damaged; the message names the line or the key.
    """
    return _checked(path, ENVIRONMENT_SHAPE)


def _checked(path: Path, shape: schema.Shape) -> dict[str, Any]:
    found = read_json(path, RunError)
    schema.check(found, shape, str(path), RunError)
    return found
