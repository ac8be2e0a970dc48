"""What a run has recorded, read back and checked: history.csv, metrics.json, environment.json."""

from __future__ import annotations

import io
import re
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.errors import RunError, one_line
from xpnet.training.history import COLUMNS, FIGURES
from xpnet.utils import schema
from xpnet.utils.parsing import opened, read_json

# History is read line by line, and what is kept of it are numbers; so many epochs take 900 MB for one network.
MOST_EPOCHS = 10_000_000
MOST_HISTORY_LINE = 1024
# Lines that are checked one by one, and whose numbers are then made all at once.
_LINES = 20_000
_WHOLE = re.compile(r"[0-9]{1,15}", re.ASCII)
_FINITE = re.compile(r"[0-9]{1,20}(\.[0-9]{1,30})?(e[+-]?[0-9]{1,3})?", re.ASCII)
_ANY = re.compile(rf"-?({_FINITE.pattern}|inf|nan)", re.ASCII)
_KINDS = {
    **dict.fromkeys(("epoch", "step", "replica"), (_WHOLE, "a whole number of at least 0")),
    **dict.fromkeys(("eta", "seconds_training", "seconds_evaluation"), (_FINITE, "a number of at least 0")),
}
_PATTERNS = [(name, *_KINDS.get(name, (_ANY, "a number, inf or nan"))) for name in COLUMNS]
_OF_EPOCH = ("epoch", "step", "seconds_training", "seconds_evaluation")
_ROW = re.compile(",".join(f"(?:{pattern.pattern})" for _, pattern, _ in _PATTERNS), re.ASCII)
_NEVER_INFINITE = [COLUMNS.index(name) for name, pattern, _ in _PATTERNS if pattern is _FINITE]


def read_history(path: Path, replicas: int, members: Sequence[int] | None = None) -> dict[str, NDArray[np.float64]]:
    """Return the columns of ``history.csv``, but for the replica: (epochs,), or (epochs, R) of what networks differ in.

    An epoch that is cut off at the end of the file, as by a kill, does not count.

    Args:
        path: The file; it is read line by line, in memory for what is returned.
        replicas: How many networks it is of.
        members: The networks that are wanted; all of them if not given.

    Raises:
        RunError: The file is damaged, is not of so many networks, or has more than ``MOST_EPOCHS`` epochs; the message
            names line and column.
    """
    wanted = np.arange(replicas) if members is None else np.asarray(members, np.int64)
    of_epoch = [COLUMNS.index(name) for name in _OF_EPOCH]
    of_networks = [at for at, name in enumerate(COLUMNS) if name not in (*_OF_EPOCH, "replica")]
    epochs, networks = array("d"), array("d")
    row = 0
    for rows in _rows_of(path, replicas):
        replica = (row + np.arange(len(rows))) % replicas
        epochs.frombytes(rows[replica == 0][:, of_epoch].tobytes())
        networks.frombytes(rows[np.isin(replica, wanted)][:, of_networks].tobytes())
        row += len(rows)
    whole = row // replicas
    found = dict(zip(_OF_EPOCH, np.frombuffer(epochs).reshape(-1, len(of_epoch))[:whole].T, strict=True))
    kept = np.frombuffer(networks)[: whole * len(wanted) * len(of_networks)].reshape(
        whole, len(wanted), len(of_networks)
    )
    order = np.argsort(np.argsort(wanted, kind="stable"), kind="stable")  # they were met in the order of their numbers
    return found | {COLUMNS[at]: kept[:, order, column] for column, at in enumerate(of_networks)}


def _rows_of(path: Path, replicas: int) -> Iterator[NDArray[np.float64]]:
    """Yield the rows of ``history.csv`` that were written to their end, some at a time, each checked."""
    with opened(path, RunError, str(path)) as (file, _), io.BufferedReader(file) as lines:
        head = _line(lines.readline(MOST_HISTORY_LINE), f"{path}: line 1").removesuffix("\n")
        if missing := [name for name in COLUMNS if name not in head.split(",")]:
            raise RunError(f"{path}: line 1 lacks the columns {', '.join(missing)}; take another copy of it")
        if head != ",".join(COLUMNS):
            raise RunError(f"{path}: line 1 must be {','.join(COLUMNS)}; take another copy of it")
        row, some = 0, list[str]()
        while True:
            content = lines.readline(MOST_HISTORY_LINE)
            where = f"{path}: line {row + len(some) + 2}"
            if content.endswith(b"\n"):  # what no line break ends was not written to its end
                some.append(_checked_row(_line(content, where)[:-1], where))
            elif len(content) == MOST_HISTORY_LINE:
                raise RunError(f"{where}: is longer than {MOST_HISTORY_LINE:,} bytes; take another copy of it")
            if len(some) == _LINES or (some and not content.endswith(b"\n")):
                yield _numbers(some, row, replicas, path)
                row += len(some)
                some = []
                if row > MOST_EPOCHS * replicas:
                    raise RunError(f"{path}: has more than {MOST_EPOCHS:,} epochs, the most that are read")
            if not content.endswith(b"\n"):
                return


def _line(content: bytes, where: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise RunError(f"{where}: is not text in UTF-8 ({error.reason}); take another copy of it") from None


def _checked_row(line: str, where: str) -> str:
    """Return a row that has the right columns, of numbers."""
    if _ROW.fullmatch(line) is None:
        cells = line.split(",")
        if len(cells) != len(COLUMNS):
            raise RunError(f"{where}: has {len(cells)} columns, and must have {len(COLUMNS)}; take another copy of it")
        place = next(at for at, (_, pattern, _) in enumerate(_PATTERNS) if pattern.fullmatch(cells[at]) is None)
        raise _misfit(cells, place, where)
    return line


def _misfit(cells: Sequence[str], place: int, where: str) -> RunError:
    name, _, wanted = _PATTERNS[place]
    return RunError(
        f"{where}, {name}: must be {wanted}, and is {one_line(repr(cells[place]), 60)}; take another copy of it"
    )


def _numbers(lines: Sequence[str], row: int, replicas: int, path: Path) -> NDArray[np.float64]:
    """Return rows (n, columns) as numbers; the first of them is row `row` of the file, counted from 0."""
    found = np.fromstring(",".join(lines), np.float64, sep=",").reshape(len(lines), len(COLUMNS))
    for at, column in np.argwhere(~np.isfinite(found[:, _NEVER_INFINITE]))[:1].tolist():
        raise _misfit(lines[at].split(","), _NEVER_INFINITE[column], f"{path}: line {row + at + 2}")
    number = row + np.arange(len(lines))
    for name, wanted in (("epoch", number // replicas + 1), ("replica", number % replicas)):
        is_there = found[:, COLUMNS.index(name)]
        for at in np.flatnonzero(is_there != wanted)[:1].tolist():
            raise RunError(
                f"{path}: line {row + at + 2}, {name}: is {is_there[at]:.0f}, and must be {wanted[at]} of "
                f"{replicas} networks; take another copy of it"
            )
    return found


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
