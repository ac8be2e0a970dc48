"""Trained runs as one ensemble: the mean of their probabilities, and what the ladder's curve promises."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import xpnet
from bench.learn.rungs import tflop
from bench.results import BenchError
from xpnet.analysis.prediction import predict
from xpnet.analysis.step_benchmark import summary
from xpnet.config.settings import read_settings

NAME = "learn-ensemble"
# The accuracy in % that the page compares with: the best of networks without sparse or local connections.
RECORD = 78.6
# Views of a test picture, by the name of a row.
VIEWS = {"one view": 1, "six views": 6}


def ensemble(runs: Sequence[Path], data: str | None, shared: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Evaluate run folders of `xpnet train` on the test set of `data`, each alone and the first n of them together.

    Each network has the same weight; a run of several networks is one member.

    Args:
        runs: The folders.
        data: As for ``xpnet train``.
        shared: Epochs of the first run that the others have not trained themselves: they went on from its checkpoint.
        say: Function that prints a line.

    Returns:
        A suite of one case.  The values of a row are the errors of the members, in %.

    Raises:
        BenchError: A run is not finished, is named twice, or was trained for fewer epochs than are shared.
    """
    if len({run.resolve() for run in runs}) < len(runs):
        raise BenchError("--ensemble: names a run twice; each counts once")
    members = [_member(run, shared if number else 0.0) for number, run in enumerate(runs)]
    test = xpnet.load_data(data).test
    rows = {}
    for name, views in VIEWS.items():
        found = _errors(members, runs, test.x, test.labels, views)
        rows[name] = found | {"views": views, "yardstick": False}
        say(f"{name}: members {_shares(found['values'])}; the first 1, 2, ... together {_shares(found['first'])}")
    count = sum(member["networks"] for member in members)
    case = {"what": f"{count} networks, averaged", "unit": "% wrong", "reference": None, "rows": rows}
    return {"cases": {"ensemble": case | {"members": members}}}


def _member(run: Path, shared: float) -> dict[str, Any]:
    """Return what a run is called, its number of networks, its arithmetic and its settings."""
    try:
        metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise BenchError(f"{run}: is no finished run of xpnet train") from None
    if not 0 <= shared < metrics["epochs"]:
        raise BenchError(f"--shared {shared:g}: {run} was trained for {metrics['epochs']:g} epochs; take fewer")
    given, _ = read_settings(run)
    networks = xpnet.load(run).replicas
    return {
        "name": run.name,
        "networks": networks,
        "tflop": networks * tflop(given, metrics["steps"]) * (1 - shared / metrics["epochs"]),
        "settings": {key: value for key, value in given.items() if key != "data"},
    }


def _errors(
    members: Sequence[Mapping[str, Any]], runs: Sequence[Path], x: NDArray[Any], labels: NDArray[Any], views: int
) -> dict[str, Any]:
    """Return the summary of the members' errors, in %, and as `first` those of the mean of the first 1, 2, ... ."""
    each = [member["networks"] * predict(xpnet.load(run), x, views) for member, run in zip(members, runs, strict=True)]

    def wrong(p: NDArray[Any]) -> float:
        return 100 * float(np.mean(p.argmax(axis=1) != labels))

    return summary([wrong(p) for p in each]) | {"first": [wrong(p) for p in accumulate(each)]}


def _shares(errors: Sequence[float]) -> str:
    return ", ".join(f"{100 - error:.2f}" for error in errors) + " %"


class Promise(NamedTuple):
    """A power law through the longest rungs: the error falls as TFLOP^-power.

    Attributes:
        error: Error in % at 1 TFLOP.
        power: The exponent.
    """

    error: float
    power: float

    def accuracy(self, spent: float) -> float:
        """Return the accuracy in % of a network that is trained for `spent` TFLOP."""
        return 100 - self.error * float(spent**-self.power)

    def needed(self, accuracy: float) -> float:
        """Return the TFLOP that an accuracy in % needs."""
        return float((self.error / (100 - accuracy)) ** (1 / self.power))


def promise(rungs: Mapping[str, Mapping[str, Any]], key: str, from_tflop: float = 2.0) -> Promise:
    """Return the law of the rungs from `from_tflop` on; `key` names one view or six."""
    long = [case for case in rungs.values() if "xpnet" in case["rows"] and case["tflop"] >= from_tflop]
    errors = [math.log(100 - 100 * case["rows"]["xpnet"][key]) for case in long]
    slope, start = np.polyfit([math.log(case["tflop"]) for case in long], errors, 1)
    return Promise(math.exp(start), -float(slope))


def section(
    suite: Mapping[str, Any],
    rungs: Mapping[str, Mapping[str, Any]],
    options: Mapping[str, str],
    before: str,
    after: str,
) -> str:
    """Return the part of the page about an ensemble, beside the rungs of the ladder.

    Args:
        suite: The result.
        rungs: The ladder's cases.
        options: What trained each member, by its name.
        before: What is said of the ensemble above its table.
        after: What is said below.
    """
    case = suite["cases"]["ensemble"]
    one, six = (case["rows"][name] for name in VIEWS)
    spent = list(accumulate(member["tflop"] for member in case["members"]))
    lines = ["| member | networks | one view, % | six views, % | TFLOP so far |"]
    lines[0] += " averaged so far, one view, % | six views, % |"
    lines.append(f"|{'---|' * 7}")
    for n, member in enumerate(case["members"]):
        figures = [one["values"][n], six["values"][n], one["first"][n], six["first"][n]]
        alone, alone_six, *both = (f"{100 - figure:.2f}" for figure in figures)
        both = [f"**{text}**" if member is case["members"][-1] else text for text in both]
        cells = [options[member["name"]], str(member["networks"]), alone, alone_six, f"{spent[n]:.0f}", *both]
        lines.append(f"| {' | '.join(cells)} |")
    law, latest = (promise(rungs, "accuracy_six_views", from_tflop=start) for start in (2.0, 10.0))
    needed = sorted(float(f"{one.needed(RECORD):.1g}") for one in (law, latest))
    promised = (
        f"What the curve promises: from 2 TFLOP on, the rungs' errors with six views fall by "
        f"{100 * (1 - 2**-law.power):.1f} % of themselves for each doubling of the arithmetic, from 10 TFLOP on by "
        f"{100 * (1 - 2**-latest.power):.1f} %. One network would reach {latest.accuracy(spent[-1]):.1f} to "
        f"{law.accuracy(spent[-1]):.1f} % with the ensemble's {spent[-1]:.0f} TFLOP, and {RECORD} % (Z-Lin) with some "
        f"{needed[0]:,.0f} to {needed[1]:,.0f}."
    )
    return "\n".join([before, "", *lines, "", after, "", promised, "", ""])


def reached(suite: Mapping[str, Any]) -> str:
    """Return the accuracies of the whole ensemble, with one view and with six."""
    rows = suite["cases"]["ensemble"]["rows"]
    return "; ".join(f"{100 - rows[name]['first'][-1]:.1f}" for name in VIEWS)
