"""The journal file of a search: lines that are whole, and each one what xpnet writes there, however it came about."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from xpnet.errors import RunError
from xpnet.runs.records import METRICS_SHAPE
from xpnet.tuning.identity import ABOUT_SHAPE
from xpnet.utils import schema
from xpnet.utils.file_system import open_regular
from xpnet.utils.parsing import json_object

# A line holds what came of a trial, epoch by epoch.
MOST_LINE = 8 * 2**20
_SOME = schema.optional(schema.number())
_SCALAR = schema.either("text, a number or a truth value", schema.text, schema.number(), schema.flag)
_LEASE = schema.record(
    {"worker": schema.text, "beat": schema.whole(0)},
    {
        **dict.fromkeys(("place", "born", "device"), schema.text),
        "pid": schema.whole(0),
        "time": schema.number(),
        "seconds": schema.number(0),
        "ended": schema.flag,
    },
)
_RESULT = schema.record(
    {
        "score": schema.number(),
        "accuracies": schema.items(_SOME),
        "losses": schema.items(_SOME),
        "epochs": schema.whole(0),
        "seconds": schema.number(0),
        "curve": schema.items(schema.items(schema.number(), length=2)),
    },
    {"pruned_after": schema.whole(0)},
)


def _result(value: Any) -> None:
    """Check what came of a trial, or of the winner's training."""
    (_RESULT if isinstance(value, dict) and "score" in value else METRICS_SHAPE)(value)


def _about(value: Any) -> None:
    """Check what a search is, or of which search it is the winner's training."""
    (schema.record({"of": schema.text}, closed=True) if isinstance(value, dict) and "of" in value else ABOUT_SHAPE)(
        value
    )


def _attributes(known: schema.Shapes, prefixes: schema.Shapes) -> schema.Shape:
    """Return the shape of attributes; names of others are free."""

    def shape(value: Any) -> None:
        schema.record({}, known)(value)
        for prefix, of in prefixes.items():
            schema.mapping(of)({key: item for key, item in value.items() if key.startswith(prefix)})

    return shape


_STUDY_ATTRIBUTES = _attributes({"about": _about}, {"lease:": _LEASE})
_TRIAL_ATTRIBUTES = _attributes(
    {
        "slot": schema.items(schema.whole(0), length=2),
        "result": _result,
        "alone": schema.flag,
        **dict.fromkeys(("worker", "why", "reason"), schema.text),
    },
    {"taking:": schema.flag},
)
_ANY = schema.mapping(schema.anything)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?([+-]\d\d:\d\d)?", re.ASCII)


def _time(value: Any) -> None:
    """Check for a moment."""
    from datetime import datetime

    schema.text(value)
    try:
        if _TIME.fullmatch(value) is None:
            raise ValueError
        datetime.fromisoformat(value).astimezone()
    except (ValueError, OverflowError):
        raise schema.Misfit("must be a moment, such as 2026-01-31T12:00:00") from None


def _distribution(value: Any) -> None:
    """Check for the range or list of a setting, as Optuna writes it."""
    from optuna.distributions import json_to_distribution

    schema.text(value)
    try:
        json_to_distribution(value)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        raise schema.Misfit("is not the range or the list of a setting") from None


_STATE = schema.whole(0, 4)
_ID = schema.whole(0)
_WHEN = schema.optional(_time)
_VALUES = schema.optional(schema.items(schema.number(), length=1))
_STUDY, _TRIAL = {"study_id": _ID}, {"trial_id": _ID}
# What each operation of Optuna's must hold, by its number.
_OPERATIONS: Mapping[int, schema.Shape] = {
    0: schema.record({"study_name": schema.text, "directions": schema.items(schema.whole(0, 2), length=1)}),
    1: schema.record(_STUDY),
    2: schema.record({**_STUDY, "user_attr": _STUDY_ATTRIBUTES}),
    3: schema.record({**_STUDY, "system_attr": _ANY}),
    4: schema.record(
        {**_STUDY, "datetime_start": _WHEN},
        {
            "datetime_complete": _time,
            "state": _STATE,
            "value": _SOME,
            "values": _VALUES,
            "distributions": schema.mapping(_distribution),
            "params": schema.mapping(schema.number()),
            "user_attrs": _TRIAL_ATTRIBUTES,
            "system_attrs": _ANY,
            "intermediate_values": schema.mapping(schema.number()),
        },
    ),
    5: schema.record(
        {**_TRIAL, "param_name": schema.text, "param_value_internal": schema.number(), "distribution": _distribution}
    ),
    6: schema.record(
        {**_TRIAL, "state": _STATE, "values": _VALUES}, {"datetime_start": _time, "datetime_complete": _time}
    ),
    7: schema.record({**_TRIAL, "step": schema.whole(0), "intermediate_value": schema.number()}),
    8: schema.record({**_TRIAL, "user_attr": _TRIAL_ATTRIBUTES}),
    9: schema.record({**_TRIAL, "system_attr": _ANY}),
}
# Operations that are looked at more closely, and states of a trial.
_NEW_TRIAL, _POINT, _CHANGE = 4, 5, 6
_RUNNING, _FINISHED = 0, (1, 2, 3)


def operations(path: Path, begin: int, line: int) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield the operations in a journal from a place on, each with the place behind it.

    A last line without its end is left alone: somebody is writing it, or was killed over it.

    Args:
        path: The journal.
        begin: Where to begin, in bytes.
        line: The number of the line there, from 1.

    Raises:
        RunError: A line is damaged; the message names line and key.
    """
    with open_regular(path) as file:
        file.seek(begin)
        while content := file.readline(MOST_LINE):
            called = f"storage = {path}: is not a journal of a search, line {line}"
            if not content.endswith(b"\n"):
                if len(content) < MOST_LINE:
                    return
                raise RunError(f"{called}: is longer than {MOST_LINE:,} bytes")
            begin += len(content)
            yield _operation(json_object(content, called, RunError), called), begin
            line += 1


def _operation(found: dict[str, Any], called: str) -> dict[str, Any]:
    """Return an operation that Optuna can carry out."""
    schema.check(found, schema.record({"op_code": schema.whole(0, 9), "worker_id": schema.text}), called, RunError)
    code = found["op_code"]
    schema.check(found, _OPERATIONS[code], called, RunError)
    for key in ("user_attr", "system_attr"):
        if key in found and len(found[key]) != 1:
            raise RunError(f"{called}: {key}: must have one attribute, and has {len(found[key])}")
    if code == _NEW_TRIAL:
        _check_new_trial(found, called)
    if code == _POINT:
        _check_value(found["distribution"], found["param_value_internal"], f"{called}: param_value_internal")
    if code == _CHANGE:
        state = found["state"]
        key = "datetime_start" if state == _RUNNING else "datetime_complete" if state in _FINISHED else "state"
        if key not in found:
            raise RunError(f"{called}: has no {key}")
    return found


def _check_new_trial(found: Mapping[str, Any], called: str) -> None:
    distributions, params = found.get("distributions", {}), found.get("params", {})
    for name, value in params.items():
        if name not in distributions:
            raise RunError(f"{called}: params: {name} has no distribution")
        _check_value(distributions[name], value, f"{called}: params.{name}")
    if found.get("value") is not None and found.get("values") is not None:
        raise RunError(f"{called}: has value and values; one of them must be null")
    for step in found.get("intermediate_values", {}):
        if not (step.isascii() and step.isdigit() and len(step) < 16):
            raise RunError(f"{called}: intermediate_values: {step} must be a whole number")


def _check_value(distribution: str, value: float, called: str) -> None:
    """Hold a point's number against its range, or its place against its list."""
    from optuna.distributions import CategoricalDistribution, json_to_distribution

    of = json_to_distribution(distribution)
    if isinstance(of, CategoricalDistribution) and not (value == int(value) and 0 <= value < len(of.choices)):
        raise RunError(f"{called}: must be a place in a list of {len(of.choices)}, and is {value}")
    if not of._contains(value):
        raise RunError(f"{called}: is {value}, which is not in its range")
