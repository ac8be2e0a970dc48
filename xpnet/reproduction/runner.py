"""Runs experiments; cells that differ only in settings that may vary in a population train together."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from xpnet.backend import Backend
from xpnet.config.settings import VARYING, Settings
from xpnet.data import Dataset, load_data
from xpnet.errors import DivergedError
from xpnet.nn.network import Network
from xpnet.reproduction.experiments import Experiment
from xpnet.reproduction.outcome import FIGURES, SETS, CellOutcome, Outcome
from xpnet.reproduction.sampling import cells_of, matches
from xpnet.training.callback import Callback
from xpnet.training.device_data import DeviceData, to_device
from xpnet.training.population import Population
from xpnet.training.result import TrainResult
from xpnet.training.train_population import train_population

# A quick run has this many times fewer steps, and few cells of a search, few seeds and few entries of a gradient check.
QUICK_FACTOR = 10
_QUICK_CELLS, _QUICK_RUNS, _QUICK_CHECKED = 4, 2, 100
Loader = Callable[[str | None, str | None], Dataset]


class Runner:
    """Runs experiments on one device; data sets are read and moved there once.

    Attributes:
        quick: Whether experiments are shortened.
        outcomes: Outcomes of the experiments that have been run, by name.
    """

    def __init__(
        self, backend: Backend, *, data: str | None = None, quick: bool = False, load: Loader | None = None
    ) -> None:
        self.quick = quick
        self.outcomes: dict[str, Outcome] = {}
        self._backend, self._source, self._load = backend, data, load or load_data
        self._callbacks: Sequence[Callback] = ()
        self._sets: dict[tuple[str | None, str], DeviceData] = {}

    def run(self, experiment: Experiment, callbacks: Sequence[Callback] = ()) -> Outcome:
        """Run an experiment; keep and return its outcome, since later experiments of the report may need it."""
        begin, self._callbacks = time.perf_counter(), callbacks
        if self.quick:
            experiment = shortened(experiment)
        cells = self._checks(experiment) if experiment.kind == "gradcheck" else self._trained(experiment)
        outcome = Outcome(experiment.name, cells, time.perf_counter() - begin, self.quick)
        self.outcomes[experiment.name] = outcome
        return outcome

    def _trained(self, experiment: Experiment) -> list[CellOutcome]:
        seeds = list(range(experiment.runs))
        if experiment.draw is None:
            return self._train(experiment, cells_of(experiment), seeds)
        before = self.outcomes.get(f"{experiment.report}.{experiment.draw.get('of', '')}")
        drawn = cells_of(experiment, before.cells if before else None)
        if self.quick:
            drawn = drawn[:: -(-len(drawn) // _QUICK_CELLS)]
        found = self._train(experiment, drawn, seeds[:1])
        if experiment.top and len(seeds) > 1:
            best = sorted(found, key=lambda cell: -cell.mean("validation_accuracy"))[: experiment.top]
            again = self._train(experiment, [dict(cell.values) for cell in best], seeds[1:])
            for cell, more in zip(best, again, strict=True):
                cell.extend(more)
        # Cells for figures of the report whose settings were not drawn.
        places = {tuple(r.at.items()): dict(r.at) for r in experiment.reported}
        missing = [at for at in places.values() if not any(matches(cell.values, at) for cell in found)]
        if missing and not self.quick:
            own = self._train(experiment, missing, seeds)
            for cell in own:
                cell.note = "not drawn here: the report's"
            found += own
        return found

    def _train(
        self, experiment: Experiment, cells: Sequence[dict[str, Any]], seeds: Sequence[int]
    ) -> list[CellOutcome]:
        """Train all cells with all seeds; cells that can form a population train together."""
        groups: dict[str, list[int]] = {}
        for number, cell in enumerate(cells):
            apart = {name: value for name, value in cell.items() if name not in VARYING}
            groups.setdefault(repr(sorted(apart.items())), []).append(number)
        found: dict[int, CellOutcome] = {}
        for members in groups.values():
            outcomes = self._train_population(experiment, [cells[number] for number in members], seeds)
            found |= zip(members, outcomes, strict=True)
        return [found[number] for number in range(len(cells))]

    def _train_population(
        self, experiment: Experiment, cells: Sequence[Mapping[str, Any]], seeds: Sequence[int]
    ) -> list[CellOutcome]:
        settings = Settings.from_mapping({**experiment.settings, **cells[0]})
        data = self._data(settings)
        population = Population.of_cells(settings, cells, seeds, data.data.inputs, data.data.classes)
        try:
            _, result = train_population(
                population, data, backend=self._backend, dtype=settings.run.dtype, callbacks=self._callbacks
            )
        except DivergedError as error:
            return [_diverged(cell, seeds, str(error)) for cell in cells]
        return [_outcome(cell, number, len(cells), seeds, result) for number, cell in enumerate(cells)]

    def _data(self, settings: Settings) -> DeviceData:
        key = settings.data.split, settings.run.dtype
        if key not in self._sets:
            # Keep only one data set: the next experiments mostly have the same split.
            self._sets.clear()
            self._sets[key] = to_device(self._load(self._source, settings.data.split), self._backend, key[1])
        return self._sets[key]

    def _checks(self, experiment: Experiment) -> list[CellOutcome]:
        """Check the gradients of every cell on samples of the training set."""
        from xpnet.analysis.gradcheck import check_network
        from xpnet.analysis.gradcheck.problem import checked_samples

        data, found = self._load(self._source, "b1b2"), []
        for cell in experiment.cells:
            both = {**experiment.settings, **experiment.check, **cell}
            check = {name: both.pop(name) for name in ("choose", "samples", "features", "h") if name in both}
            settings = Settings.from_mapping({"split": "b1b2"} | {k: v for k, v in both.items() if k != "split"})
            seed, features = settings.run.seed, check.get("features", data.inputs)
            network = Network(settings.network_config(features, data.classes), dtype="float64", seed=seed)
            x, labels = checked_samples(data, check["samples"], check.get("choose", "first"), seed, network)
            report = check_network(
                network,
                x,
                labels,
                float(np.asarray(settings.train.lam)),
                coverage=_QUICK_CHECKED if self.quick else "all",
                **({"h": check["h"]} if "h" in check else {}),
            )
            outcome = CellOutcome(cell, [seed], note="passed" if report.passed else "FAILED")
            outcome.parameters = {tensor.name: tensor.max_relative_error for tensor in report.parameters}
            outcome.verdicts = {tensor.name: tensor.verdict for tensor in report.parameters}
            found.append(outcome)
        return found


def shortened(experiment: Experiment) -> Experiment:
    """Return an experiment with a tenth of the steps and at most two seeds."""
    settings = dict(experiment.settings)
    for name in ("n_s", "epochs"):
        if isinstance(settings.get(name), int):
            settings[name] = max(1, settings[name] // QUICK_FACTOR)
    return replace(experiment, settings=settings, runs=min(experiment.runs, _QUICK_RUNS), top=min(experiment.top, 1))


def _outcome(
    cell: Mapping[str, Any], number: int, cells: int, seeds: Sequence[int], result: TrainResult
) -> CellOutcome:
    """Return one cell's share of a population's result."""
    count = min(len(seeds) * cells, len(result.test.losses))
    members = np.arange(number, count, cells)
    outcome = CellOutcome(cell, list(seeds))
    for which in SETS:
        metrics = getattr(result, which)
        for figure, plural in zip(FIGURES, ("accuracies", "losses", "costs"), strict=True):
            outcome.figures[f"{which}_{figure}"] = [float(value) for value in getattr(metrics, plural)[members]]
    epochs = len(result.history)
    for which in SETS[:2]:
        for figure in FIGURES:
            values = result.history[f"{which}_{figure}"].reshape(epochs, -1)
            outcome.history[f"{which}_{figure}"] = values[:, members]
    gone = [seeds[int(place) // cells] for place in members if int(place) in result.diverged]
    if gone:
        outcome.note = f"diverged with {'seed' if len(gone) == 1 else 'seeds'} {', '.join(map(str, gone))}"
    return outcome


def _diverged(cell: Mapping[str, Any], seeds: Sequence[int], why: str) -> CellOutcome:
    figures = {f"{which}_{figure}": [float("nan")] * len(seeds) for which in SETS for figure in FIGURES}
    return CellOutcome(cell, list(seeds), figures, note=f"diverged: {why}")
