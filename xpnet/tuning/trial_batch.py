"""Trains the trials that a worker has taken, drops the hopeless, and writes what came of each."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from xpnet.config.settings import Settings
from xpnet.errors import DivergedError
from xpnet.nn.network import Network
from xpnet.training.callback import Callback, PruningPoint
from xpnet.training.device_data import DeviceData
from xpnet.training.history import Metrics, Values
from xpnet.training.population import Population
from xpnet.training.result import TrainResult
from xpnet.tuning.kept_networks import Keeping, part_of, validated
from xpnet.tuning.pruning import moments, to_prune
from xpnet.tuning.rounds import Rounds
from xpnet.tuning.trial_queue import Claim, TrialQueue
from xpnet.tuning.trials import Trial

Figures: TypeAlias = tuple[Values, Values]
"""Accuracies and losses of a claim, by seed; not a number where a network diverged."""


class TrialBatch(Callback):
    """The training of claims that differ in what stacks, as one population.

    Args:
        queue: Where the claims are from.
        rounds: What they are about.
        data: The data set on the device.
        seeds: Seeds of every claim.
        number: Their round.
        claims: The claims, with their points.
        keeping: Keeps the networks of those that beat all others; nobody does if not given.
    """

    def __init__(
        self,
        queue: TrialQueue,
        rounds: Rounds,
        data: DeviceData,
        seeds: Sequence[int],
        number: int,
        claims: Sequence[Claim],
        keeping: Keeping | None = None,
    ) -> None:
        self._keeping, self._data = keeping, data
        self.queue, self.seeds, self.round, self.claims = queue, seeds, number, list(claims)
        self.rule = rounds.config.prune
        points = [dict(claim.slot.point or {}) for claim in claims]
        full = [rounds.settings(point, number) for point in points]
        own = [name for name in full[0] if any(settings[name] != full[0][name] for settings in full)]
        cells = [{name: settings[name] for name in own} for settings in full]
        settings = Settings.from_mapping(full[0])
        self._full = full
        self.population = Population.of_cells(settings, cells, seeds, data.data.features, data.data.classes)
        self.length = settings.train.length(len(data.data.train))
        self.looks = moments(settings.train, self.length) if self.rule != "none" else {}
        self.prune_at = self.looks
        # By look and place: how the claims stood; by place: the look after which they were dropped.
        self.stood: dict[int, dict[int, Figures]] = {}
        self.pruned: dict[int, int] = {}

    def run(self, train: Callable[..., tuple[Network, TrainResult]]) -> None:
        """Train, drop, and write what came of each claim; `train` trains a population."""
        queue = self.queue
        begin = time.perf_counter()
        network, result = None, None
        with contextlib.suppress(DivergedError):
            network, result = train(self.population, self)
        seconds = self._shares(time.perf_counter() - begin, result)
        ended: dict[int, Figures] = {}
        if network is not None and result is not None and not result.interrupted:
            places = [place for place in range(len(self.claims)) if place not in self.pruned]
            ended = {place: self._of(place, result.validation) for place in places}
            self._keep(network, result, ended, seconds)
        for place, claim in enumerate(self.claims):
            if place in self.pruned:
                look = self.pruned[place]
                figures = self.stood[look][place]
                entry = self._entry(place, result, seconds[place], figures) | {"pruned_after": look}
                queue.finish(claim, entry["score"], entry, pruned=True)
            elif result is not None and result.interrupted:
                queue.release([claim])
            else:
                figures = ended.get(place, self._nothing())
                entry = self._entry(place, result, seconds[place], figures)
                if queue.finish(claim, entry["score"], entry) and self._keeping is not None:
                    self._keeping.ended(self._trial(place, figures))

    def _keep(self, network: Network, result: TrainResult, ended: dict[int, Figures], seconds: Sequence[float]) -> None:
        """Keep the networks of the best claim, if it beats all others that are known, with its figures as found there.

        Among others, a network's sums may be rounded otherwise than on its own, and a sample that lies between two
        classes may fall to the other.  What is kept is what is told of: so it is evaluated on its own.
        """
        if self._keeping is None:
            return
        alone: dict[int, tuple[Network, Metrics]] = {}
        while True:
            trials = [self._trial(place, figures) for place, figures in ended.items()]
            best = self._keeping.best(trials)
            if best is None:
                return
            place = next(at for at, trial in zip(ended, trials, strict=True) if trial is best)
            members, settings = self._members(place), Settings.from_mapping(self._full[place])
            if place in alone:  # it is the best by these figures too
                break
            own, about = network.select(members), self._data.data
            own.config = settings.network_config(about.features, about.classes)  # without what set others apart
            validation = validated(own, self._data, settings.train.lam)
            ended[place], alone[place] = (validation.accuracies, validation.losses), (own, validation)
        own, validation = alone[place]
        found = part_of(result, members, validation, seconds[place] / max(sum(seconds), 1e-9))
        self._keeping.keeper.keep(self.claims[place].id, settings, own, found)

    def _trial(self, place: int, figures: Figures) -> Trial:
        """Return a claim as the trial that it is when it has ended."""
        slot = self.claims[place].slot
        number = self.queue.number(slot)
        accuracies, losses = map(_list, figures)
        return Trial(number, slot.round, "complete", slot.point or {}, score(figures[0]), accuracies, losses)

    def on_prune(self, point: PruningPoint) -> list[int]:
        """Report all trials, judge them, and return the networks of those that are pruned."""
        queue, look = self.queue, self.looks[point.step]
        here = [place for place in range(len(self.claims)) if place not in self.pruned]
        living, (start, stop) = set(point.replicas), point.chunk
        # A trial whose seeds train in several chunks cannot be judged before the last of them.
        asked = [
            place
            for place in here
            if living & set(self._members(place)) and all(start <= r < stop for r in self._members(place))
        ]
        found = {place: self._of(place, point.validation) for place in asked}
        self.stood.setdefault(look, {}).update(found)
        still_mine = {claim.id for claim in queue.mine(self.claims)}
        for place in asked:
            if self.claims[place].id in still_mine:
                queue.report(self.claims[place], look, score(found[place][0]))
        values = queue.reported(self.round, look)
        ids = {self.claims[place].id: place for place in asked if self.claims[place].id in values}
        for id in to_prune(self.rule, look, values, list(ids)):
            self.pruned[ids[id]] = look
        # What somebody else has taken over is not worth going on with either.
        lost = [place for place in asked if self.claims[place].id not in still_mine]
        gone = [place for place in asked if self.pruned.get(place) == look] + lost
        return [replica for place in gone for replica in self._members(place)]

    def _members(self, place: int) -> list[int]:
        """Return the replicas of a claim, one for each seed."""
        return list(range(place, len(self.population), len(self.claims)))

    def _of(self, place: int, metrics: Metrics) -> Figures:
        """Return a claim's accuracies and losses, by seed."""
        members = self._members(place)
        return metrics.accuracies[members], metrics.losses[members]

    def _nothing(self) -> Figures:
        nan = np.full(len(self.seeds), np.nan)
        return nan, nan

    def _entry(self, place: int, result: TrainResult | None, seconds: float, figures: Figures) -> dict[str, Any]:
        """Return what is kept of a claim, as JSON can hold it."""
        curve: list[list[float]] = []
        if result is not None:
            values = result.history.columns()["validation.accuracies"][:, self._members(place)]
            good = np.isfinite(values)
            known = good.any(axis=1)
            means = np.where(good, values, 0.0).sum(axis=1)[known] / good.sum(axis=1)[known]
            curve = [[int(at) + 1, mean] for at, mean in zip(np.flatnonzero(known), means.tolist(), strict=True)]
        # Who is pruned at the end of an epoch has no figures in its record, and has trained it all the same.
        dropped = result.dropped if result is not None else {}
        taken = max((dropped.get(replica, 0) for replica in self._members(place)), default=0)
        return {
            "score": score(figures[0]),
            "accuracies": _list(figures[0]),
            "losses": _list(figures[1]),
            "epochs": max(len(curve), taken // self.length.steps_per_epoch),
            "seconds": seconds,
            "curve": curve,
        }

    def _shares(self, seconds: float, result: TrainResult | None) -> list[float]:
        """Return each claim's share of the time, by the steps that its networks took."""
        steps = np.full(len(self.population), float(result.steps if result else self.length.steps))
        for replica, taken in (result.dropped if result else {}).items():
            steps[replica] = taken
        own = np.array([steps[self._members(place)].sum() for place in range(len(self.claims))])
        return [float(share) for share in seconds * own / max(1.0, own.sum())]


def score(accuracies: np.ndarray[Any, Any]) -> float:
    """Return what a trial is judged by: the mean over its seeds; one that diverged classifies nothing."""
    return float(np.where(np.isfinite(accuracies), accuracies, 0.0).mean())


def _list(values: np.ndarray[Any, Any]) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]
