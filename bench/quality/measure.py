"""Scores of every classifier on every set, added to a result."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.quality.classifiers import CLASSIFIERS, missing
from bench.quality.fits import FailedError, Process, Task, TooLongError
from bench.quality.sets import SETS
from bench.results import BenchError
from xpnet.analysis.step_benchmark import summary


def measure(
    suite: dict[str, Any], options: argparse.Namespace, keep: Callable[[], None], say: Callable[[str], None]
) -> None:
    """Measure what `suite` lacks, and fill it; call `keep` after each classifier and set."""
    cases = suite["cases"]
    for data in options.sets:
        if data not in cases:
            try:
                cases[data] = _case(data)
            except (BenchError, ImportError) as error:
                say(f"{data}: left out: {error}")
    for classifier in options.classifiers:
        process = Process(classifier, options.limit)
        try:
            for data in (data for data in options.sets if data in cases):
                case = cases[data]
                if (reason := missing(classifier)) is not None:
                    case["left_out"][classifier] = reason
                    continue
                if case["left_out"].get(classifier) == str(TooLongError(options.limit)):
                    continue
                case["left_out"].pop(classifier, None)
                _fill(case, classifier, _tasks(data, case, options), process)
                keep()
                say(_line(data, classifier, case))
        finally:
            process.close()
    suite["cases"] = {data: cases[data] for data in SETS if data in cases}
    for case in cases.values():
        case["rows"] = {name: case["rows"][name] for name in CLASSIFIERS if name in case["rows"]}
    keep()


def _case(name: str) -> dict[str, Any]:
    X, y = SETS[name].load()
    kinds = [str(kind) for kind in X.dtypes] if hasattr(X, "dtypes") else []
    columns = kinds.count("category")
    missing_cells = int(np.asarray(X.isna()).sum()) if hasattr(X, "isna") else 0
    counts = f"{X.shape[0]:,} x {X.shape[1]:,}, {len(np.unique(y))} classes"
    more = [f"{columns} of categories"] * bool(columns) + [f"{missing_cells} missing cells"] * bool(missing_cells)
    return {
        "what": ", ".join([counts, *more]),
        "unit": "s",
        "reference": None,
        "rows_of_table": int(X.shape[0]),
        "choosing": SETS[name].choosing,
        "rows": {},
        "left_out": {},
    }


def _tasks(data: str, case: dict[str, Any], options: argparse.Namespace) -> list[Task]:
    repeats = options.repeats if case["rows_of_table"] < options.small else 1
    return [Task(data, repeat, fold) for repeat in range(repeats) for fold in range(options.folds)]


def _fill(case: dict[str, Any], name: str, tasks: list[Task], process: Process) -> None:
    """Fit what a row lacks, and add it to the row, whose `values` are seconds."""
    row = case["rows"].get(name, {"splits": [], "values": [], "accuracies": [], "losses": []})
    done = [tuple(split) for split in row["splits"]]
    try:
        for task in tasks:
            split = task.repeat, task.fold
            if split in done:
                continue
            found = process(task)
            row["splits"].append(list(split))
            row["values"].append(found["seconds"])
            row["accuracies"].append(found["accuracy"])
            row["losses"].append(found["loss"])
    except (TooLongError, FailedError) as error:
        case["left_out"][name] = str(error)
        case["rows"].pop(name, None)
        return
    if row["values"]:
        case["rows"][name] = row | summary(row["values"]) | {"yardstick": not name.startswith("Xpnet")}


def _line(data: str, name: str, case: dict[str, Any]) -> str:
    if name not in case["rows"]:
        return f"{data:16} {name:28} left out: {case['left_out'].get(name)}"
    row = case["rows"][name]
    accuracy, loss = 100 * np.mean(row["accuracies"]), np.mean(row["losses"])
    return f"{data:16} {name:28} {accuracy:6.2f} % {loss:.4f}, {len(row['values'])} fits of {row['median']:.2f} s"
