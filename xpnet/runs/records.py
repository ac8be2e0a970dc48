"""The records of a run: history.csv, written epoch by epoch, and checked readers of it and of JSON files."""

from __future__ import annotations

import contextlib
import io
import math
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from xpnet.errors import RunError, one_line
from xpnet.training.history import COLUMNS, FIGURES, EpochRecord, csv_lines
from xpnet.utils import schema
from xpnet.utils.atomic_files import replace_whole
from xpnet.utils.file_system import open_regular
from xpnet.utils.parsing import opened, read_json

# History is read line by line and stored as numbers; this many epochs take 900 MB for one network.
MOST_EPOCHS = 10_000_000
MOST_HISTORY_LINE = 1024
# Number of lines that are checked one by one and then converted to numbers together.
_LINES = 20_000
_WHOLE = re.compile(r"[0-9]{1,15}", re.ASCII)
_FINITE = re.compile(r"[0-9]{1,20}(\.[0-9]{1,30})?(e[+-]?[0-9]{1,3})?", re.ASCII)
_ANY = re.compile(rf"-?({_FINITE.pattern}|inf|nan)", re.ASCII)
_KINDS = {
    **dict.fromkeys(("epoch", "step", "replica"), (_WHOLE, "a whole number of at least 0")),
    **dict.fromkeys(("eta", "seconds_training", "seconds_evaluation"), (_FINITE, "a number of at least 0")),
}
_PATTERNS = [(name, *_KINDS.get(name, (_ANY, "a number, inf or nan"))) for name in COLUMNS]
_ROW = re.compile(",".join(f"(?:{pattern.pattern})" for _, pattern, _ in _PATTERNS), re.ASCII)
_OF_EPOCH = ("epoch", "step", "seconds_training", "seconds_evaluation")
_OF_NETWORKS = [name for name in COLUMNS if name not in (*_OF_EPOCH, "replica")]
_ANOTHER_COPY = "take another copy of it"


class HistoryFile:
    """``history.csv``, written epoch by epoch, so that finished epochs survive any end of the run.

    Args:
        path: The file; it is replaced.
        records: Epochs at the beginning of the file.

    Raises:
        OSError: The file cannot be written; an earlier file stays unchanged.
    """

    def __init__(self, path: Path, records: Iterable[EpochRecord] = ()) -> None:
        self._path, self._records = path, list(records)
        self._file: Any = None
        self._size = 0
        self.rewrite()

    @property
    def complete(self) -> bool:
        """Whether the file is open, and so has every epoch."""
        return self._file is not None

    def append(self, record: EpochRecord) -> None:
        """Add all rows of an epoch, or none.

        Raises:
            OSError: The rows cannot be written; the next call rewrites the file.
        """
        self._records.append(record)
        if not self.complete:
            self.rewrite()
            return
        rows = csv_lines(record.rows()).encode()
        rest = memoryview(rows)
        try:
            while rest:  # a nearly full disk may take only a part
                rest = rest[self._file.write(rest) :]
        except OSError:
            with contextlib.suppress(OSError):  # if truncating fails, the rest goes with the next rewrite
                self._file.truncate(self._size)
            self.close()
            raise
        self._size += len(rows)

    def rewrite(self) -> None:
        """Rewrite the file with every epoch.

        Raises:
            OSError: The file cannot be written; it stays unchanged.
        """
        self.close()
        content = csv_lines([list(COLUMNS), *(row for record in self._records for row in record.rows())]).encode()
        replace_whole(self._path, content)
        self._file, self._size = open_regular(self._path, "ab", buffering=0), len(content)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def read_history(path: Path, replicas: int, members: Sequence[int] | None = None) -> dict[str, NDArray[np.float64]]:
    """Return the columns of ``history.csv`` except ``replica``: (epochs,), or (epochs, R) for figures of each network.

    An incomplete epoch at the end of the file, as left by a killed process, does not count.

    Args:
        path: The file; it is read line by line, so that only the result takes memory.
        replicas: Number of networks in the file.
        members: The networks to return; all if not given.

    Raises:
        RunError: The file is damaged, has another number of networks, or more than ``MOST_EPOCHS`` epochs; the message
            names line and column.
    """
    wanted = np.arange(replicas) if members is None else np.asarray(members, np.int64)
    of_epoch, of_networks = ([COLUMNS.index(name) for name in names] for names in (_OF_EPOCH, _OF_NETWORKS))
    epoch_values, network_values = array("d"), array("d")
    total = 0
    for rows in _rows_of(path, replicas):
        replica = rows[:, COLUMNS.index("replica")]
        epoch_values.frombytes(rows[replica == 0][:, of_epoch].tobytes())
        network_values.frombytes(rows[np.isin(replica, wanted)][:, of_networks].tobytes())
        total += len(rows)
    epochs = total // replicas
    shape = (epochs, len(wanted), len(of_networks))
    networks = np.frombuffer(network_values)[: math.prod(shape)].reshape(shape)
    order = np.argsort(np.argsort(wanted, kind="stable"), kind="stable")  # rows are in the order of replica numbers
    columns = dict(zip(_OF_EPOCH, np.frombuffer(epoch_values).reshape(-1, len(of_epoch))[:epochs].T, strict=True))
    return columns | {name: networks[:, order, column] for column, name in enumerate(_OF_NETWORKS)}


def _rows_of(path: Path, replicas: int) -> Iterator[NDArray[np.float64]]:
    """Yield the complete rows of ``history.csv`` as checked numbers (n, columns), some at a time."""
    with opened(path, RunError, str(path)) as (file, _), io.BufferedReader(file) as lines:
        head = _decoded(lines.readline(MOST_HISTORY_LINE), f"{path}: line 1").removesuffix("\n")
        if missing := [name for name in COLUMNS if name not in head.split(",")]:
            raise RunError(f"{path}: line 1 lacks the columns {', '.join(missing)}; {_ANOTHER_COPY}")
        if head != ",".join(COLUMNS):
            raise RunError(f"{path}: line 1 must be {','.join(COLUMNS)}; {_ANOTHER_COPY}")
        first, checked = 0, _checked_lines(lines, path)
        while some := list(islice(checked, _LINES)):
            yield _numbers(some, first, replicas, path)
            first += len(some)
            if first > MOST_EPOCHS * replicas:
                raise RunError(f"{path}: has more than {MOST_EPOCHS:,} epochs, the most that are read")


def _checked_lines(lines: BinaryIO, path: Path) -> Iterator[str]:
    """Yield the lines below the head, each with the right number of columns, up to an incomplete line."""
    for number in count(2):
        content = lines.readline(MOST_HISTORY_LINE)
        place = f"{path}: line {number}"
        if not content.endswith(b"\n"):
            if len(content) == MOST_HISTORY_LINE:
                raise RunError(f"{place}: is longer than {MOST_HISTORY_LINE:,} bytes; {_ANOTHER_COPY}")
            return
        line = _decoded(content, place)[:-1]
        if _ROW.fullmatch(line) is None:
            cells = line.split(",")
            if len(cells) != len(COLUMNS):
                raise RunError(f"{place}: has {len(cells)} columns, and must have {len(COLUMNS)}; {_ANOTHER_COPY}")
            column = next(i for i, (_, pattern, _) in enumerate(_PATTERNS) if pattern.fullmatch(cells[i]) is None)
            raise _wrong_cell(cells, column, place)
        yield line


def _decoded(content: bytes, place: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise RunError(f"{place}: is not text in UTF-8 ({error.reason}); {_ANOTHER_COPY}") from None


def _wrong_cell(cells: Sequence[str], column: int, place: str) -> RunError:
    name, _, wanted = _PATTERNS[column]
    value = one_line(repr(cells[column]), 60)
    return RunError(f"{place}, {name}: must be {wanted}, and is {value}; {_ANOTHER_COPY}")


def _numbers(lines: Sequence[str], first: int, replicas: int, path: Path) -> NDArray[np.float64]:
    """Return rows as numbers (n, columns); the first of them is row `first` of the file, counted from 0."""
    rows = np.fromstring(",".join(lines), np.float64, sep=",").reshape(len(lines), len(COLUMNS))
    finite = [i for i, (_, pattern, _) in enumerate(_PATTERNS) if pattern is _FINITE]
    for i, column in np.argwhere(~np.isfinite(rows[:, finite]))[:1].tolist():
        raise _wrong_cell(lines[i].split(","), finite[column], f"{path}: line {first + i + 2}")
    number = first + np.arange(len(lines))
    for name, wanted in (("epoch", number // replicas + 1), ("replica", number % replicas)):
        values = rows[:, COLUMNS.index(name)]
        for i in np.flatnonzero(values != wanted)[:1].tolist():
            raise RunError(
                f"{path}: line {first + i + 2}, {name}: is {values[i]:.0f}, and must be {wanted[i]} of "
                f"{replicas} networks; {_ANOTHER_COPY}"
            )
    return rows


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
CONCLUSION_SHAPE = schema.record(
    {"text": schema.text, "rule": schema.text}, {"evidence": schema.mapping(schema.anything)}
)
_SECONDS = schema.number(0)
METRICS_SHAPE = schema.record(
    {**_SETS, "epochs": schema.whole(0), "steps": schema.whole(0), "interrupted": schema.flag},
    {
        "seconds": schema.record(
            {},
            {
                **dict.fromkeys(("training", "transforms", "evaluation"), _SECONDS),
                "per_epoch": schema.items(_SECONDS),
            },
        ),
        "samples": schema.record({}, dict.fromkeys(_SETS, schema.whole(0))),
        **dict.fromkeys(("device", "run"), schema.text),
        "diverged": schema.whole(0),
        "test_views": schema.record({"views": schema.whole(1), "accuracy": FIGURE_SHAPE, "loss": FIGURE_SHAPE}),
        "replicas": schema.items(schema.record({}, _SETS)),
        "stopped": schema.record(dict.fromkeys(("epochs", "weights"), schema.items(schema.optional(schema.whole(1))))),
        "guessing": schema.optional(GUESSING_SHAPE),
        "warnings": schema.items(schema.text),
        "conclusion": schema.optional(CONCLUSION_SHAPE),
        "chunks": schema.items(schema.whole(1)),
        "cv": schema.record({"folds": schema.whole(2), "accuracy": FIGURE_SHAPE, "loss": FIGURE_SHAPE}),
    },
)
_BY_FOLD = schema.items(schema.items(_SOME))
CROSS_VALIDATION_SHAPE = schema.record(
    {
        **dict.fromkeys(("settings", "data"), schema.mapping(schema.anything)),
        **dict.fromkeys(("accuracies", "losses"), _BY_FOLD),
        "seconds": _SECONDS,
    }
)


def read_metrics(path: Path) -> dict[str, Any]:
    """Return the content of ``metrics.json``.

    Raises:
        RunError: The file is damaged; the message names the line or the key.
    """
    return _read_checked(path, METRICS_SHAPE)


def read_cross_validation(path: Path) -> dict[str, Any]:
    """Return the content of ``cv.json``.

    Raises:
        RunError: The file is damaged; the message names the line or the key.
    """
    return _read_checked(path, CROSS_VALIDATION_SHAPE)


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
    """Return the content of ``environment.json``.

    Raises:
        RunError: The file is damaged; the message names the line or the key.
    """
    return _read_checked(path, ENVIRONMENT_SHAPE)


def _read_checked(path: Path, shape: schema.Shape) -> dict[str, Any]:
    content = read_json(path, RunError)
    schema.check(content, shape, str(path), RunError)
    return content
