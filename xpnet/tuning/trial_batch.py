"""Trains the trials that a worker has claimed as one population, prunes them, and writes their results."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from xpnet.config import cycles
from xpnet.config.length import Length
from xpnet.config.settings import Settings
from xpnet.config.training import TrainConfig
from xpnet.errors import DivergedError
from xpnet.nn.network import Network
from xpnet.training.callback import Callback, PruningPoint
from xpnet.training.device_data import DeviceData
from xpnet.training.evaluation import evaluate
from xpnet.training.history import Metrics, Values
from xpnet.training.population import Population
from xpnet.training.result import TrainResult
from xpnet.tuning.kept_networks import BestNetworks, part_of
from xpnet.tuning.rounds import Rounds
from xpnet.tuning.trial_queue import Slot, TrialQueue
from xpnet.tuning.trials import Trial

Figures: TypeAlias = tuple[Values, Values]
"""Accuracies and losses of a trial, by seed; NaN for diverged networks."""
# The median of fewer trials is not reliable.
_FEWEST = 4


class TrialBatch(Callback):
    """The training of claims as one population; they differ only in settings that may vary within a population.

    Claims have positions in the batch, from 0; the networks of a claim, one for each seed, are its members.

    Args:
        queue: The queue of the claims.
        rounds: The rounds of the search.
        data: The data set on the device.
        claims: Claimed slots of one round, with their points.
        best: Keeps the networks of the best trial; if not given, no networks are kept.
    """

    def __init__(
        self,
        queue: TrialQueue,
        rounds: Rounds,
        data: DeviceData,
        claims: Sequence[Slot],
        best: BestNetworks | None = None,
    ) -> None:
        self._queue, self._data, self._claims, self._best = queue, data, list(claims), best
        self._rule, self._round, seeds = rounds.config.prune, claims[0].round, rounds.seeds
        self._settings = [rounds.settings(slot.point or {}, self._round) for slot in claims]
        first = self._settings[0]
        varying = [name for name in first if any(settings[name] != first[name] for settings in self._settings)]
        cells = [{name: settings[name] for name in varying} for settings in self._settings]
        settings, dataset = Settings.from_mapping(first), data.data
        self.population = Population.of_cells(settings, cells, seeds, dataset.inputs, dataset.classes)
        self._members = [list(range(at, len(self.population), len(claims))) for at in range(len(claims))]
        self._length = settings.train.length(len(dataset.train), self.population.network)
        if self._rule == "none":
            self._cycles = {}
        elif rounds.config.budget is not None:
            self._cycles = eighths(self._length)
        else:
            self._cycles = cycle_ends(settings.train, self._length)
        self.prune_at = self._cycles
        # Figures by cycle and position; by position, the cycle after which a claim was pruned.
        self._figures: dict[int, dict[int, Figures]] = {}
        self._pruned: dict[int, int] = {}

    def run(self, train: Callable[..., tuple[Network | None, TrainResult]]) -> None:
        """Train and prune, and write the result of each claim; `train` trains a population.

        With cross-validation, it returns no networks, and figures that are means over the folds.
        """
        begin = time.perf_counter()
        network, result = None, None
        with contextlib.suppress(DivergedError):
            network, result = train(self.population, self._data, self)
        interrupted = result is not None and result.interrupted
        seconds = self._shares(time.perf_counter() - begin, result)
        ended: dict[int, Figures] = {}
        if result is not None and not interrupted:
            unpruned = [place for place in range(len(self._claims)) if place not in self._pruned]
            ended = {place: self._figures_of(place, result.validation) for place in unpruned}
            if network is not None:
                self._keep_best(network, result, ended, seconds)
        nothing = np.full(len(self._members[0]), np.nan)
        for place, slot in enumerate(self._claims):
            if place in self._pruned:
                cycle = self._pruned[place]
                entry = self._entry(place, result, seconds[place], self._figures[cycle][place])
                self._queue.finish(slot, entry["score"], entry | {"pruned_after": cycle}, pruned=True)
            elif interrupted:
                self._queue.release([slot])
            else:
                figures = ended.get(place, (nothing, nothing))
                entry = self._entry(place, result, seconds[place], figures)
                if self._queue.finish(slot, entry["score"], entry) and self._best is not None:
                    self._best.ended(self._trial(place, figures))

    def _keep_best(
        self, network: Network, result: TrainResult, ended: dict[int, Figures], seconds: Sequence[float]
    ) -> None:
        """Keep the networks of the best claim, if it beats all known trials, and store its figures in `ended`.

        In a population, a network's sums may have other rounding errors than alone, and a sample between two classes
        may get the other class.  The figures must belong to the kept networks, so these are evaluated alone.
        """
        alone: dict[int, tuple[Network, Metrics]] = {}
        while self._best is not None:
            trials = {place: self._trial(place, figures) for place, figures in ended.items()}
            best = self._best.among(list(trials.values()))
            if best is None:
                return
            place = next(place for place, trial in trials.items() if trial is best)
            settings, dataset = Settings.from_mapping(self._settings[place]), self._data.data
            if place in alone:  # the claim is the best by these figures too
                share = seconds[place] / max(sum(seconds), 1e-9)
                networks, validation = alone[place]
                of_claim = part_of(result, self._members[place], validation, share)
                self._best.store.keep(self._claims[place].attempt, settings, networks, of_claim)
                return
            networks = network.select(self._members[place])
            networks.config = settings.network_config(dataset.inputs, dataset.classes)  # without what set others apart
            validation = evaluate(networks, self._data.validation.x, self._data.validation.labels, settings.train.lam)
            ended[place], alone[place] = (validation.accuracies, validation.losses), (networks, validation)

    def _trial(self, place: int, figures: Figures) -> Trial:
        """Return the trial that a claim will be when it has ended."""
        slot = self._claims[place]
        accuracies, losses = map(_listed, figures)
        number = self._queue.number(slot)
        return Trial(number, slot.round, "complete", slot.point or {}, _score(figures[0]), accuracies, losses)

    def on_prune(self, point: PruningPoint) -> list[int]:
        """Report the accuracies at a cycle's end, compare them, and return the networks of the pruned claims."""
        cycle, living, (start, stop) = self._cycles[point.step], set(point.replicas), point.chunk
        # A trial whose seeds train in several chunks cannot be judged before the last chunk.
        places = [
            place
            for place, members in enumerate(self._members)
            if place not in self._pruned and living & set(members) and all(start <= r < stop for r in members)
        ]
        figures = {place: self._figures_of(place, point.validation) for place in places}
        self._figures.setdefault(cycle, {}).update(figures)
        held = self._queue.held(self._claims)
        for place in places:
            if self._claims[place] in held:
                self._queue.report(self._claims[place], cycle, _score(figures[place][0]))
        accuracies = self._queue.reported(self._round, cycle)
        place_of = {self._claims[place].attempt: place for place in places if self._claims[place].attempt in accuracies}
        pruned = [place_of[id] for id in to_prune(self._rule, cycle, accuracies, list(place_of))]
        self._pruned |= dict.fromkeys(pruned, cycle)
        # Trials that another worker has taken over are stopped too.
        lost = [place for place in places if self._claims[place] not in held and place not in pruned]
        return [replica for place in pruned + lost for replica in self._members[place]]

    def _figures_of(self, place: int, metrics: Metrics) -> Figures:
        members = self._members[place]
        return metrics.accuracies[members], metrics.losses[members]

    def _entry(self, place: int, result: TrainResult | None, seconds: float, figures: Figures) -> dict[str, Any]:
        """Return the result of a claim, in types that JSON has."""
        curve: list[list[float]] = []
        steps = 0
        if result is not None:
            values = result.history.columns()["validation.accuracies"][:, self._members[place]]
            finite = np.isfinite(values)
            known = finite.any(axis=1)
            means = np.where(finite, values, 0.0).sum(axis=1)[known] / finite.sum(axis=1)[known]
            curve = [[int(at) + 1, mean] for at, mean in zip(np.flatnonzero(known), means.tolist(), strict=True)]
            # Networks that are pruned at the end of an epoch were trained for it, but its record lacks their figures.
            steps = max(result.dropped.get(replica, 0) for replica in self._members[place])
        return {
            "score": _score(figures[0]),
            "accuracies": _listed(figures[0]),
            "losses": _listed(figures[1]),
            "epochs": max(len(curve), steps // self._length.steps_per_epoch),
            "seconds": seconds,
            "curve": curve,
        }

    def _shares(self, seconds: float, result: TrainResult | None) -> list[float]:
        """Return each claim's share of the time, in proportion to the steps of its networks."""
        steps = np.full(len(self.population), float(result.steps if result else self._length.steps))
        for replica, taken in (result.dropped if result else {}).items():
            steps[replica] = taken
        for replica, epochs in (result.stopped if result else {}).items():
            steps[replica] = epochs * self._length.steps_per_epoch
        of_claims = np.array([steps[members].sum() for members in self._members])
        return [float(share) for share in seconds * of_claims / max(1.0, of_claims.sum())]


def _score(accuracies: Values) -> float:
    """Return the mean accuracy over the seeds; a diverged network counts as 0."""
    return float(np.where(np.isfinite(accuracies), accuracies, 0.0).mean())


def _listed(values: Values) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


# -- rules of pruning ---------------------------------------------------------------------


def cycle_ends(config: TrainConfig, length: Length) -> dict[int, int]:
    """Return the steps at which trials are compared, each with the number of cycles, or epochs, that have ended.

    Trials are compared at the ends of cycles, where the learning rate is lowest: at the high rates in the middle of a
    cycle, accuracy is mostly noise.  With schedules without cycles, they are compared at the ends of epochs.
    """
    if config.schedule not in cycles.CYCLIC:
        every = length.steps_per_epoch
        return {step: step // every for step in range(every, length.steps, every)}
    factor = config.restart_factor if config.schedule == "cosine-restarts" else 1
    return {step: cycle for cycle, step in enumerate(cycles.cycle_ends(2 * length.n_s, factor, length.steps), 1)}


def eighths(length: Length) -> dict[int, int]:
    """Return the steps that end an eighth of a training, each with the number of eighths that have ended.

    Trials with one budget train different numbers of epochs, and are compared after equal shares of it.
    """
    return {step: part for part in range(1, 8) if 0 < (step := length.steps * part // 8) < length.steps}


def to_prune(rule: str, cycle: int, accuracies: Mapping[int, float], own: Sequence[int]) -> list[int]:
    """Return the trials to prune.

    Args:
        rule: ``"median"``: those below the median; ``"halving"``: those that are not among the better half, after
            1, 2, 4, ... cycles (successive halving of Jamieson and Talwalkar, 2016, as each comes, as Li et al., 2020).
        cycle: Number of cycles, epochs or eighths of a budget after which trials are compared.
        accuracies: Accuracy of every trial that has reached this cycle, by number.
        own: The trials to decide on.
    """
    values = np.sort(list(accuracies.values()))
    if rule == "median" and len(values) >= _FEWEST:
        limit = float(np.median(values))
    elif rule == "halving" and len(values) >= 2 and cycle.bit_count() == 1:
        limit = float(values[len(values) // 2])
    else:
        return []
    return [trial for trial in own if accuracies[trial] < limit]
