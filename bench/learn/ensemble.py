"""Runs of the same length as one ensemble: the mean of their probabilities, and what the ladder's curve promises."""

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
from bench.learn.rungs import in_words, tflop
from bench.results import BenchError
from xpnet.analysis.prediction import predict
from xpnet.analysis.step_benchmark import summary
from xpnet.config.settings import read_settings

NAME = "learn-ensemble"
# The accuracy in % that the page compares with: the best of networks without sparse or local connections.
RECORD = 78.6
_SEEDS = ("seed", "shuffle_seed")
# Settings that change nothing in a network.
_NO_MATTER = ("data", "save_every", "keep", "figures", "views")
# Views of a test picture, by the name of a row.
VIEWS = {"one view": 1, "six views": 6}


def ensemble(runs: Sequence[Path], data: str, shared: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Evaluate run folders of `xpnet train` on the test set of `data`, each alone and the first n of them together.

    Args:
        runs: The folders; settings are the same but for seeds.
        data: As for ``xpnet train``.
        shared: Epochs of the first run that the others have not trained themselves: they go on from its checkpoint.
        say: Function that prints a line.

    Returns:
        A suite of one case.  The values of a row are the errors of the members, in %.

    Raises:
        BenchError: A run is not finished, or has not trained with the settings of the first.
    """
    members = [_member(run) for run in runs]
    first = members[0]["settings"]
    for run, member in zip(runs, members, strict=True):
        differing = {key for key in first | member["settings"] if first.get(key) != member["settings"].get(key)}
        if differing := sorted(differing - set(_SEEDS)):
            raise BenchError(f"{run}: differs from {runs[0]} in {', '.join(differing)}")
    test = xpnet.load_data(data, first.get("split"))
    rows = {}
    for name, views in VIEWS.items():
        found = _errors(runs, test.test.x, test.test.labels, views)
        rows[name] = found | {"views": views, "yardstick": False}
        say(f"{name}: members {_shares(found['values'])}; the first 1, 2, ... together {_shares(found['first'])}")
    words = in_words(first | {"hidden": ",".join(map(str, first["hidden"]))})
    case = {
        "what": f"{len(runs)} networks of {words}, averaged",
        "unit": "% wrong",
        "reference": None,
        "settings": first,
        "rows": rows,
    }
    whole, share = members[0]["tflop"], 1 - shared / first["epochs"]
    case |= {"members": [run.name for run in runs], "shared": shared}
    case |= {"tflop": [whole, *[whole * share] * (len(runs) - 1)]}
    return {"split": first.get("split"), "cases": {"ensemble": case}}


def _member(run: Path) -> dict[str, Any]:
    """Return the settings of a run and its arithmetic."""
    try:
        metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise BenchError(f"{run}: is no finished run of xpnet train") from None
    given, _ = read_settings(run)
    settings = {key: value for key, value in given.items() if key not in _NO_MATTER}
    return {"settings": {"seed": 0} | settings, "tflop": tflop(given, metrics["steps"])}


def _errors(runs: Sequence[Path], x: NDArray[Any], labels: NDArray[Any], views: int) -> dict[str, Any]:
    """Return the summary of the members' errors, in %, and as `first` those of the mean of the first 1, 2, ... ."""
    each = [predict(xpnet.load(run), x, views) for run in runs]

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


def section(suite: Mapping[str, Any], rungs: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the part of the page about an ensemble, beside the rungs of the ladder."""
    case = suite["cases"]["ensemble"]
    one, six = (case["rows"][name] for name in VIEWS)
    count, spent = len(case["members"]), list(accumulate(case["tflop"]))
    lines = ["| | one view, % | six views, % | TFLOP together | together, one view, % | together, six views, % |"]
    lines.append(f"|{'---|' * 6}")
    for n, name in enumerate(case["members"]):
        figures = [one["values"][n], six["values"][n], one["first"][n], six["first"][n]]
        alone, alone_six, *both = (f"{100 - figure:.2f}" for figure in figures)
        both = [f"**{text}**" if n == count - 1 else text for text in both]
        lines.append(f"| {name} | {alone} | {alone_six} | {spent[n]:.0f} | {' | '.join(both)} |")
    text = "\n".join(lines) + "\n\n"
    law = promise(rungs, "accuracy_six_views")
    return text + (
        f"What the curve promises: from 2 TFLOP on, the rungs' errors with six views fall by "
        f"{100 * (1 - 2**-law.power):.1f} % of themselves for each doubling of the arithmetic. One network would reach "
        f"{law.accuracy(spent[-1]):.1f} % with the ensemble's {spent[-1]:.0f} TFLOP, and {RECORD} % (Z-Lin) with some "
        f"{float(f'{law.needed(RECORD):.1g}'):,.0f}.\n\n"
    )


def reached(suite: Mapping[str, Any]) -> str:
    """Return the accuracies of the whole ensemble, with one view and with six."""
    rows = suite["cases"]["ensemble"]["rows"]
    return "; ".join(f"{100 - rows[name]['first'][-1]:.1f}" for name in VIEWS)
