"""``search.json``, read back and checked."""

from __future__ import annotations

import heapq
import io
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from xpnet.errors import RunError
from xpnet.runs.records import CONCLUSION_SHAPE, ENVIRONMENT_SHAPE, FIGURE_SHAPE, GUESSING_SHAPE
from xpnet.tuning.journal import MOST_LINE
from xpnet.tuning.search_identity import SETTINGS_SHAPE
from xpnet.tuning.searchable import KINDS
from xpnet.utils import schema
from xpnet.utils.parsing import MOST_JSON, json_object, opened, read_json

_TEXT = schema.optional(schema.text)
_SOME = schema.optional(schema.number())
_VALUE = schema.either("text, a number or a truth value", schema.text, schema.number(), schema.flag)
_FIGURES = schema.optional(schema.record({"accuracy": FIGURE_SHAPE}, {"loss": FIGURE_SHAPE, "cost": FIGURE_SHAPE}))
_POINT = {"epoch": schema.whole(0), "accuracy": _SOME}
# Most trials whose curves are drawn: those with the highest accuracies.
CURVES = 40
# Most trials to read: each takes some 1.5 kB of memory.
MOST_TRIALS = 1_000_000
# The line before the trials; the first line and the possible last lines of a trial that takes several lines.
_TRIALS_LINE, _OPENS, _CLOSES = b' "trials": [\n', b"  {\n", (b"  }\n", b"  },\n")
_BEGINS = (b'  {"trial":', _OPENS)
_KEPT = (
    *("trial", "round", "state", "settings", "seeds", "score", "validation", "pruned_after", "epochs", "seconds"),
    "note",
)
_TRIAL: schema.Shapes = {"trial": schema.whole(0), "settings": schema.mapping(_VALUE)}
_OF_TRIAL: schema.Shapes = {
    "round": schema.whole(0),
    "seeds": schema.items(schema.whole(0)),
    "score": _SOME,
    "validation": _FIGURES,
    "pruned_after": schema.optional(schema.whole(0)),
    "epochs": schema.whole(0),
    "note": _TEXT,
    "seconds": schema.optional(schema.number(0)),
    "curve": schema.items(schema.record(_POINT)),
    "worker": _TEXT,
}
_DRAW = schema.record({}, {"draw": schema.text, "low": _SOME, "high": _SOME, "values": schema.items(_VALUE)})
_WORKER = schema.record(
    {"worker": schema.text},
    {**dict.fromkeys(("device", "place", "born"), schema.text), "pid": schema.whole(0)},
)
_ONE = schema.record({**_TRIAL, "state": schema.text}, _OF_TRIAL)
_SHAPE = schema.record(
    {"kind": schema.one_of("search"), "trials": schema.items(_ONE), "space": schema.mapping(_DRAW)},
    {
        "command": _TEXT,
        "settings": SETTINGS_SHAPE,
        "sampler": schema.text,
        "search": SETTINGS_SHAPE,
        "rounds": schema.optional(schema.whole(0)),
        "best": schema.optional(schema.record(_TRIAL, _OF_TRIAL)),
        "winner": _TEXT,
        "best_run": _TEXT,
        "trained_again": schema.optional(schema.flag),
        "curve_points": schema.optional(schema.whole(2)),
        "test": _FIGURES,
        "seconds": schema.optional(schema.number(0)),
        "environment": schema.optional(ENVIRONMENT_SHAPE),
        "samples": schema.optional(schema.whole(1)),
        "guessing": schema.optional(GUESSING_SHAPE),
        "warnings": schema.items(schema.text),
        "workers": schema.items(_WORKER),
        "interrupted": schema.optional(schema.flag),
        "conclusion": schema.optional(CONCLUSION_SHAPE),
    },
)


def read_search_result(path: Path) -> dict[str, Any]:
    """Return the content of ``search.json``, without curves and single networks of trials that a page does not show.

    A file in the form that searches write, with one line for each trial (or several, from earlier versions), is read
    trial by trial; a file in another form is read at once.

    Raises:
        RunError: The file is damaged, exceeds a limit, or is not of a search; the message names line or key.
    """
    called = f"{path}: is not a search of xpnet"
    curves = _Curves()
    with opened(path, RunError, str(path)) as (file, _), io.BufferedReader(file) as buffer:
        lines = _Lines(buffer, path)
        head, line = b"", lines.next()
        while line and line != _TRIALS_LINE and len(head) < MOST_JSON:
            head += line
            line = lines.next()
        head, line = (head + line, lines.next()) if line == _TRIALS_LINE else (head, b"")
        if not line.startswith(_BEGINS):
            found = read_json(path, RunError)
            schema.check(found, _SHAPE, called, RunError)
            found["trials"] = [curves.slim(trial) for trial in found["trials"]]
        else:
            trials: list[dict[str, Any]] = []
            while line.startswith(_BEGINS):
                if len(trials) == MOST_TRIALS:
                    raise RunError(f"{path}: has more than {MOST_TRIALS:,} trials, the most that are read")
                trial = lines.trial(line)
                schema.check(trial, _nth(len(trials)), called, RunError)
                trials.append(curves.slim(trial))
                line = lines.next()
            # Empty lines replace the trials, so that line numbers in messages stay right.
            blank = b"\n" * (lines.number - 1 - head.count(b"\n"))
            found = json_object(head + blank + line + buffer.read(MOST_JSON), str(path), RunError)
            schema.check(found, _SHAPE, called, RunError)
            found["trials"] = trials
    for name in found["space"]:
        if name not in KINDS:
            raise RunError(f"{path}: space: {name} is nothing that can be searched; there are {', '.join(KINDS)}")
    return found


def _nth(number: int) -> schema.Shape:
    """Return the shape of a trial; its errors name the trial by its position in the file."""

    def shape(value: Any) -> None:
        try:
            _ONE(value)
        except schema.Misfit as misfit:
            misfit.keys[:0] = ["trials", number]
            raise

    return shape


class _Lines:
    """Reads a file line by line, within a limit; `number` is the number of the last line, from 1."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file, self._path, self.number = file, path, 0

    def next(self) -> bytes:
        """Return the next line; empty at the end of the file."""
        line = self._file.readline(MOST_LINE)
        self.number += 1
        if len(line) == MOST_LINE:
            raise RunError(f"{self._path}: line {self.number} is longer than {MOST_LINE:,} bytes")
        return line

    def trial(self, line: bytes) -> dict[str, Any]:
        """Return the trial that begins with `line`, the last line read."""
        text, size, place = [line], len(line), f"{self._path}: line {self.number}"
        while text[0] == _OPENS and text[-1] not in _CLOSES:
            text.append(self.next())
            size += len(text[-1])
            if not text[-1] or size > MOST_LINE:
                raise RunError(f"{place}: the trial has no end, or is longer than {MOST_LINE:,} bytes")
        return json_object(b"".join(text).rstrip().removesuffix(b","), place, RunError)


class _Curves:
    """Removes single networks and all but the highest curves from trials, since a page does not show them."""

    def __init__(self) -> None:
        self._highest: list[tuple[float, int, dict[str, Any]]] = []
        self._count = 0

    def slim(self, trial: dict[str, Any]) -> dict[str, Any]:
        """Return a trial without the parts to remove."""
        kept = {name: value for name, value in trial.items() if name in _KEPT}
        if trial["state"] == "running":
            kept["worker"] = trial.get("worker")
        if isinstance(kept.get("validation"), dict):
            kept["lost"] = _lost(kept["validation"].get("accuracy"))
            kept["validation"] = {
                name: {"mean": value["mean"], "std": value["std"]} if isinstance(value, dict) else value
                for name, value in kept["validation"].items()
                if name in ("accuracy", "loss")
            }
        self._count += 1
        curve = trial.get("curve", ())
        if len(curve) > 1:
            kept["curve"] = curve
            heapq.heappush(self._highest, (float(curve[-1]["accuracy"] or 0), -self._count, kept))
            if len(self._highest) > CURVES:
                del heapq.heappop(self._highest)[2]["curve"]
        return kept


def _lost(accuracy: Any) -> int:
    """Return how many networks of a trial diverged."""
    return accuracy["values"].count(None) if isinstance(accuracy, dict) else 0


def winner_in(folder: Path, found: Mapping[str, Any]) -> Path | None:
    """Return the folder of the winner's run; None if there is none.

    Raises:
        RunError: The file names a folder outside the search's folder.
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
