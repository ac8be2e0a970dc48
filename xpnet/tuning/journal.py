"""The journal file of a search: Optuna's operations, one a line, checked when read and written under a lock."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from xpnet.errors import RunError
from xpnet.runs.records import METRICS_SHAPE
from xpnet.tuning.search_identity import IDENTITY_SHAPE
from xpnet.utils import schema
from xpnet.utils.file_system import open_regular
from xpnet.utils.locks import try_lock
from xpnet.utils.parsing import check_json, json_object

# A line may hold the result of a trial, epoch by epoch.
MOST_LINE = 8 * 2**20
# Seconds to wait for another process's lock, which normally takes milliseconds.
_PATIENCE = 5.0


def journal_backend(path: Path) -> Any:
    """Return a journal file for Optuna that stays usable if a process is killed while it writes.

    Optuna's own locks are files, which a killed process leaves behind, and an unfinished line would spoil the next one.
    Here the system's lock ends with the process, and an unfinished last line, which no worker has read, is cut off
    before the next line is written.  If a stopped process holds the lock, others wait for a moment and then append
    lines without the lock; this is safe, since a line is appended in one piece.
    """
    from optuna.storages.journal import BaseJournalBackend

    class Journal(BaseJournalBackend):
        def __init__(self) -> None:
            if not path.exists():
                open_regular(path, "ab").close()
            self.patience = _PATIENCE
            self._offsets = [0]  # of each line read so far, and of the next one

        def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
            number = min(log_number_from, len(self._offsets) - 1)
            for operation, end in operations(path, self._offsets[number], number + 1):
                number += 1
                if number == len(self._offsets):
                    self._offsets.append(end)
                if number > log_number_from:
                    yield operation

        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            for log in logs:  # check now: no worker could read a line beyond the limits
                check_json(json.dumps(log).encode(), f"{path}: what is to be added", RunError, most=MOST_LINE - 1)
            with locked(path, self.patience) as alone:
                # After one such wait, do not wait again until the lock has been free.
                self.patience = _PATIENCE if alone else 0.0
                with open_regular(path) as file:
                    end, size = _end_of_lines(file)
                if end < size:  # the writer of the last line was killed
                    if not alone:
                        raise RunError(f"{path}: is locked by a process that does not go on; end or continue it")
                    with open_regular(path, "rb+") as file:
                        file.truncate(end)
                with open_regular(path, "ab") as file:
                    file.write("".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode())
                    file.flush()
                    os.fsync(file.fileno())

    return Journal()


@contextmanager
def locked(path: Path, patience: float) -> Iterator[bool]:
    """Hold the lock of a journal; yield False if another process has kept it for `patience` seconds."""
    lock = path.with_name(path.name + ".lock")
    with open_regular(lock, "ab") as file:
        end, pause = time.monotonic() + patience, 0.001
        while (alone := try_lock(file, "a search's journal is locked by a file beside it instead")) is False:
            if time.monotonic() > end:
                break
            time.sleep(pause)
            pause = min(2 * pause, 0.05)
        if alone is not None:
            yield alone  # closing the file releases the lock
            return
        # Optuna's own lock is a file; after its holder is killed, others take it over after half a minute.
        from optuna.storages.journal import JournalFileOpenLock

        lock_file = JournalFileOpenLock(str(lock))
        lock_file.acquire()
        try:
            yield True
        finally:
            lock_file.release()


def _end_of_lines(file: Any) -> tuple[int, int]:
    """Return where the complete lines of a journal end, and the size of the file."""
    size = end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - 4096)
        file.seek(start)
        if (newline := file.read(end - start).rfind(b"\n")) >= 0:
            return start + newline + 1, size
        end = start
    return end, size


def operations(path: Path, offset: int, line: int) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield the operations in a journal, each with the offset of the next.

    An unfinished last line is skipped: a worker is writing it, or was killed while writing it.

    Args:
        path: The journal.
        offset: The first byte to read.
        line: The number of the line at `offset`, from 1.

    Raises:
        RunError: A line is damaged; the message names line and key.
    """
    with open_regular(path) as file:
        # Complete lines never change.  An unfinished one may be cut off and overwritten while it is read.
        end, size = _end_of_lines(file)
        file.seek(offset)
        while offset < max(end, size - MOST_LINE + 1):
            called = f"storage = {path}: is not a journal of a search, line {line}"
            content = file.readline(MOST_LINE)
            if not content.endswith(b"\n"):
                raise RunError(f"{called}: is longer than {MOST_LINE:,} bytes")
            offset += len(content)
            operation = json_object(content, called, RunError)
            schema.check(operation, _operation, called, RunError)
            yield operation, offset
            line += 1


# -- shapes of the operations -------------------------------------------------------------------------


def _by_key(key: str, shape: schema.Shape, other: schema.Shape) -> schema.Shape:
    """Return the shape of objects that must fit `shape` if they have the key, else `other`."""
    return lambda value: (shape if isinstance(value, dict) and key in value else other)(value)


def _attribute(known: schema.Shapes, prefix: str, of_prefix: schema.Shape) -> schema.Shape:
    """Return the shape of attributes with known names, or with a prefix; others may be anything."""

    def shape(value: Any) -> None:
        schema.record({}, known)(value)
        schema.mapping(of_prefix)({key: item for key, item in value.items() if key.startswith(prefix)})

    return shape


def _one(of: schema.Shape) -> schema.Shape:
    """Return the shape of one attribute."""

    def shape(value: Any) -> None:
        of(value)
        if len(value) != 1:
            raise schema.Misfit(f"must have one attribute, and has {len(value)}")

    return shape


def _time(value: Any) -> None:
    schema.text(value)
    try:
        if _TIME.fullmatch(value) is None:
            raise ValueError
        datetime.fromisoformat(value).astimezone()
    except (ValueError, OverflowError):
        raise schema.Misfit("must be a moment, such as 2026-01-31T12:00:00") from None


def _distribution(value: Any) -> None:
    from optuna.distributions import json_to_distribution

    schema.text(value)
    try:
        json_to_distribution(value)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        raise schema.Misfit("is not the range or the list of a setting") from None


_NUMBER, _ID, _STATE = schema.number(), schema.whole(0), schema.whole(0, 4)
_NUMBERS = schema.items(schema.optional(_NUMBER))
_VALUES = schema.optional(schema.items(_NUMBER, length=1))
_ANY = schema.mapping(schema.anything)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?([+-]\d\d:\d\d)?", re.ASCII)
_OF_SEARCH = _by_key(
    "of", schema.record({"of": schema.text}, closed=True), IDENTITY_SHAPE
)  # "of": its winner's training
_LEASE = schema.record(
    {"worker": schema.text, "beat": schema.whole(0)},
    {
        **dict.fromkeys(("place", "born", "device"), schema.text),
        "pid": schema.whole(0),
        "time": _NUMBER,
        "seconds": schema.number(0),
        "ended": schema.flag,
    },
)
_RESULT = schema.record(
    {
        "score": _NUMBER,
        "accuracies": _NUMBERS,
        "losses": _NUMBERS,
        "epochs": schema.whole(0),
        "seconds": schema.number(0),
        "curve": schema.items(schema.items(_NUMBER, length=2)),
    },
    {"pruned_after": schema.whole(0)},
)
_OF_STUDY = _attribute({"about": _OF_SEARCH}, "lease:", _LEASE)
_OF_TRIAL = _attribute(
    {
        "slot": schema.items(schema.whole(0), length=2),
        "result": _by_key("score", _RESULT, METRICS_SHAPE),
        "alone": schema.flag,
        **dict.fromkeys(("worker", "why", "reason"), schema.text),
    },
    "taking:",
    schema.flag,
)
_STUDY, _TRIAL = {"study_id": _ID}, {"trial_id": _ID}
_NEW_TRIAL, _PARAMETER, _CHANGE = 4, 5, 6
# Required keys and optional keys of each of Optuna's operations, by its number.
_OPERATIONS: Mapping[int, tuple[schema.Shapes, schema.Shapes]] = {
    0: ({"study_name": schema.text, "directions": schema.items(schema.whole(0, 2), length=1)}, {}),
    1: (_STUDY, {}),
    2: ({**_STUDY, "user_attr": _one(_OF_STUDY)}, {}),
    3: ({**_STUDY, "system_attr": _one(_ANY)}, {}),
    _NEW_TRIAL: (
        {**_STUDY, "datetime_start": schema.optional(_time)},
        {
            "datetime_complete": _time,
            "state": _STATE,
            "value": schema.optional(_NUMBER),
            "values": _VALUES,
            "distributions": schema.mapping(_distribution),
            "params": schema.mapping(_NUMBER),
            "user_attrs": _OF_TRIAL,
            "system_attrs": _ANY,
            "intermediate_values": schema.mapping(_NUMBER),
        },
    ),
    _PARAMETER: (
        {**_TRIAL, "param_name": schema.text, "param_value_internal": _NUMBER, "distribution": _distribution},
        {},
    ),
    _CHANGE: ({**_TRIAL, "state": _STATE, "values": _VALUES}, {"datetime_start": _time, "datetime_complete": _time}),
    7: ({**_TRIAL, "step": schema.whole(0), "intermediate_value": _NUMBER}, {}),
    8: ({**_TRIAL, "user_attr": _one(_OF_TRIAL)}, {}),
    9: ({**_TRIAL, "system_attr": _one(_ANY)}, {}),
}
_ANY_OPERATION = schema.record({"op_code": schema.whole(0, 9), "worker_id": schema.text})
# A change to the state "running" has the time of the beginning; a change to a finished state, that of the end.
_TIME_OF_STATE = {0: "datetime_start", **dict.fromkeys((1, 2, 3), "datetime_complete")}


def _operation(found: Any) -> None:
    """Check that Optuna can execute an operation."""
    _ANY_OPERATION(found)
    code = found["op_code"]
    schema.record(*_OPERATIONS[code])(found)
    if code == _CHANGE:
        schema.record(dict.fromkeys([_TIME_OF_STATE.get(found["state"], "state")], schema.anything))(found)
    elif code == _PARAMETER:
        _check_value("param_value_internal", found["distribution"], found["param_value_internal"])
    elif code == _NEW_TRIAL:
        for name, value in found.get("params", {}).items():
            if name not in found.get("distributions", {}):
                raise schema.Misfit(f"params: {name} has no distribution")
            _check_value(f"params.{name}", found["distributions"][name], value)
        if found.get("value") is not None and found.get("values") is not None:
            raise schema.Misfit("has value and values; one of them must be null")
        for step in found.get("intermediate_values", {}):
            if not (step.isascii() and step.isdigit() and len(step) < 16):
                raise schema.Misfit(f"intermediate_values: {step} must be a whole number")


def _check_value(key: str, distribution: str, value: float) -> None:
    """Check a number of a point against its range, or an index against its list."""
    from optuna.distributions import CategoricalDistribution, json_to_distribution

    of = json_to_distribution(distribution)
    if isinstance(of, CategoricalDistribution) and not (value == int(value) and 0 <= value < len(of.choices)):
        raise schema.Misfit(f"{key}: must be a place in a list of {len(of.choices)}, and is {value}")
    if not of._contains(value):
        raise schema.Misfit(f"{key}: is {value}, which is not in its range")
