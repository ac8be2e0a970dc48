"""Compare our figures with a report's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnet.analysis.gradcheck.report import FAILED, PASSED, ZERO
from xpnet.reproduction.experiments import Experiment, Reported
from xpnet.reproduction.outcome import CellOutcome, Outcome
from xpnet.reproduction.sampling import matches

# Confidence of the interval for one further run, or for a mean of several, from the distribution of our runs.
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Row:
    """One line of a comparison.

    Attributes:
        cell: The cell's own settings, in words.
        figure: Name of the figure, such as ``"test_accuracy"``.
        theirs: The report's value and its deviation, or None if it has none.
        ours: Mean, deviation (ddof = 1; None for one run) and number of our runs; None if no run has a value.
        within: Whether the report's value lies within the spread of ours; None if unknown.
        note: A remark on the cell.
        instead: A word in place of our value, where a gradient check has no meaningful error.
    """

    cell: str
    figure: str
    theirs: tuple[float, float | None] | None
    ours: tuple[float, float | None, int] | None
    within: bool | None
    note: str = ""
    instead: str = ""


def compare(experiment: Experiment, outcome: Outcome) -> list[Row]:
    """Return the report's figures with ours, and then our figures that the report lacks."""
    if experiment.kind == "gradcheck":
        return _checks(experiment, outcome)
    rows, compared = [], set()
    for reported in experiment.reported:
        cell = next((cell for cell in outcome.cells if matches(cell.values, reported.at)), None)
        if cell is not None:
            compared.add((id(cell), reported.figure))
            rows.append(_row(cell, reported.figure, reported, experiment.runs))
    cells, figures = outcome.cells, ["train_accuracy", "validation_accuracy", "test_accuracy"]
    if experiment.top:  # for a search, only the best cells
        best = sorted(cells, key=lambda cell: (-len(cell.seeds), -cell.mean("validation_accuracy")))
        cells, figures = [cell for cell in best if not cell.note][: experiment.top], ["validation_accuracy"]
    rows += [
        _row(cell, figure, None, experiment.runs)
        for cell in cells
        for figure in figures
        if (id(cell), figure) not in compared
    ]
    return rows


def spread(values: np.ndarray[Any, Any], theirs: float, std: float | None, runs: int) -> bool | None:
    """Return whether a report's figure is within the 95 % interval for one more figure of ours.

    A single run of the report is compared with the prediction interval mean ± t s sqrt(1 + 1/n) of our n runs; a mean
    of m runs with deviation d, with mean ± t sqrt(s^2 / n + d^2 / m).  None for fewer than two runs of ours.
    """
    from scipy.stats import t

    good = values[np.isfinite(values)]
    n = good.size
    if n < 2:
        return None
    s = float(good.std(ddof=1))
    if std is None:
        width, freedom = s * np.sqrt(1 + 1 / n), n - 1
    else:
        width, freedom = np.sqrt(s**2 / n + std**2 / runs), n + runs - 2
    return bool(abs(theirs - good.mean()) <= t.ppf((1 + _CONFIDENCE) / 2, freedom) * width)


def plateau(experiment: Experiment, outcome: Outcome) -> tuple[float, float] | None:
    """Return the range in which a searched setting is as good as at its best value; None for several settings.

    A value is as good if its validation accuracy is within two standard deviations of a run of the best value's mean.
    """
    if experiment.draw is None or not isinstance(experiment.draw["name"], str) or experiment.kind == "gradcheck":
        return None
    name = experiment.draw["name"]
    deviations = [s for cell in outcome.cells if (s := cell.std("validation_accuracy")) is not None]
    if not deviations:
        return None
    best = max(outcome.cells, key=lambda cell: (len(cell.seeds), cell.mean("validation_accuracy")))
    floor = best.mean("validation_accuracy") - 2 * float(np.sqrt(np.mean(np.square(deviations))))
    good = [float(cell.values[name]) for cell in outcome.cells if cell.mean("validation_accuracy") >= floor]
    return min(good), max(good)


def words_of(values: Mapping[str, Any]) -> str:
    """Return a cell's own settings in words."""
    parts = []
    for name, value in values.items():
        if name == "batch_norm":
            parts.append("with BN" if value else "without BN")
        elif name == "hidden":
            parts.append("-".join(map(str, value)))
        elif name in ("init_bias", "bias_before_bn"):
            continue
        else:
            label = {"lambda": "λ", "init": "σ", "eta": "η"}.get(name, name)
            parts.append(f"{label} = {value:.4g}" if isinstance(value, float) else f"{label} = {value}")
    return ", ".join(parts) or "all"


def _row(cell: CellOutcome, figure: str, reported: Reported | None, runs: int) -> Row:
    values = cell.runs(figure)
    count = int(np.isfinite(values).sum())
    ours = (cell.mean(figure), cell.std(figure), count) if count else None
    if reported is None:
        return Row(words_of(cell.values), figure, None, ours, None, cell.note)
    within = spread(values, reported.value, reported.std, runs)
    return Row(words_of(cell.values), figure, (reported.value, reported.std), ours, within, cell.note)


def _checks(experiment: Experiment, outcome: Outcome) -> list[Row]:
    """Return the largest relative error of each parameter of each cell, or of all parameters if the report has that."""
    names = dict.fromkeys(name for cell in outcome.cells for name in cell.parameters)
    order = {name: place for place, name in enumerate(names)}
    rows = []
    for cell in outcome.cells:
        theirs = {r.figure: (r.value, None) for r in experiment.reported if matches(cell.values, r.at)}
        verdicts = {name: cell.verdicts.get(name, PASSED) for name in cell.parameters}
        ours = {
            name: error
            for name, error in cell.parameters.items()
            if error is not None and verdicts[name] in (PASSED, FAILED)
        }
        if "worst" in theirs:
            worst = (max(ours.values()), None, 1) if ours else None
            rows.append(Row(words_of(cell.values), "worst", theirs["worst"], worst, None, cell.note))
            continue
        for name in sorted(theirs.keys() | verdicts.keys(), key=lambda n: (order.get(n, len(order)), n)):
            error = (ours[name], None, 1) if name in ours else None
            # If the gradient is zero, both values are round-off, and their relative error has no meaning.
            verdict = verdicts.get(name, "no such parameter here")
            instead = "" if error else "zero" if verdict == ZERO else verdict
            rows.append(Row(words_of(cell.values), name, theirs.get(name), error, None, cell.note, instead))
    return rows
