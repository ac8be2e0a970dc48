"""A worker of a search: it claims trials, trains them as populations and writes results until none is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from xpnet.config.settings import Settings
from xpnet.errors import ConfigError, DataError
from xpnet.nn.network import Network
from xpnet.training.callback import Callback
from xpnet.training.chance_level import Guessing
from xpnet.training.chunks import most_in_memory
from xpnet.training.device_data import DeviceData
from xpnet.training.population import Population
from xpnet.training.result import TrainResult
from xpnet.training.train_population import train_population
from xpnet.tuning.cross_validation import for_data
from xpnet.tuning.fold_averages import averaged
from xpnet.tuning.fold_trainer import FoldTrainer
from xpnet.tuning.kept_networks import BestNetworks, NetworkStore
from xpnet.tuning.rounds import Rounds
from xpnet.tuning.samplers import suggest
from xpnet.tuning.trial_batch import TrialBatch
from xpnet.tuning.trial_data import TrialData, TrialFolds
from xpnet.tuning.trial_queue import Slot, TrialQueue, current
from xpnet.tuning.trials import Outcome, Trial

# Seconds until an idle worker checks for lost trials again: the first wait, and the longest, as waits grow.
_SECONDS_TO_WAIT, _LONGEST_WAIT = 0.1, 2.0
# Networks that train together: on the CPU, more are hardly faster, and fewer distribute better over workers.
TOGETHER = {"cpu": 20, "gpu": 200}
# Reports of the outcome are apart by at least this multiple of the time that the last report took.
_PAUSES = 20


class SearchWorker:
    """Works on a search until it is finished, with others or alone.

    Args:
        rounds: The rounds of the search.
        queue: The trials that workers share.
        data: The data set on this worker's device.
        most: Most networks that train together; None takes the usual number for the device that fits into its memory.
        on_change: Called with the outcome so far whenever it has changed.
        callbacks: Called while trials are trained; unfinished trials are given back when one stops.
        store: The store for the networks of the best trials.
    """

    def __init__(
        self,
        rounds: Rounds,
        queue: TrialQueue,
        data: DeviceData,
        most: int | None = None,
        *,
        on_change: Callable[[Outcome], None] = lambda _: None,
        callbacks: Sequence[Callback] = (),
        store: NetworkStore | None = None,
    ) -> None:
        self.rounds, self.queue, self.data, self._most = rounds, queue, data, most
        self._on_change, self._callbacks = on_change, callbacks
        self.data_of = TrialData(data, rounds.space).of
        folds = rounds.folds()
        self._folds = TrialFolds(folds, rounds.dtype) if folds else None
        # The networks of folds are not those of the winner, which has all rows of the training set.
        self._best = None if store is None or folds else BestNetworks(store, self._ranking)
        self._guessing = Guessing.of(data.data, ["validation"])
        self._study: Any = None
        self._next_report = 0.0
        # Ended trials by slot, each with the number of its attempt in the storage and the count of attempts.
        self._ended: dict[int, tuple[tuple[int, int], Trial]] = {}

    def run(self, lease: float) -> Outcome:
        """Work until the search is finished, or until a callback stops it; return the outcome so far."""
        with self.queue.at_work(self.data.backend.device, lease):
            for number in range(self.rounds.config.rounds):
                space = self.rounds.space_of(number, self.outcome().trials)
                slots = self.rounds.slots(number, space)
                self.queue.plan(slots)
                self._round(number, len(slots))
                if self._should_stop():
                    break
        outcome = self.outcome()
        self._on_change(outcome)
        return outcome

    def _should_stop(self) -> bool:
        return any(callback.should_stop() for callback in self._callbacks)

    def _round(self, number: int, count: int) -> None:
        """Work on a round of `count` slots until it is finished."""
        networks = self._most or TOGETHER["gpu" if self.data.backend.name == "gpu" else "cpu"]
        most = self.rounds.config.asked_at_once(count, max(1, networks // len(self.rounds.seeds)))
        waits = 0
        while not self._should_stop():
            self.queue.recover_lost()
            claims = self.queue.claim(most, self.rounds.kind)
            if claims:
                waits = 0
                try:
                    self._report()  # what has ended since, and what is trained now
                    self._train([self._with_point(slot) for slot in claims])
                except BaseException:
                    self.queue.release(self.queue.held(claims))
                    raise
            elif self.queue.finished(number):
                return
            else:
                if not waits:
                    self._report()
                time.sleep(min(_LONGEST_WAIT, _SECONDS_TO_WAIT * 1.5**waits))
                waits += 1

    def _report(self) -> None:
        """Report the outcome so far, unless it was reported a moment ago, since a report of many trials takes long."""
        begin = time.monotonic()
        if begin >= self._next_report:
            self._on_change(self.outcome())
            self._next_report = time.monotonic() + _PAUSES * (time.monotonic() - begin)

    def _with_point(self, slot: Slot) -> Slot:
        """Return a slot with a point, which a sampler chooses if the slot has none."""
        import optuna

        if slot.point is not None:
            return slot
        sampler = self.rounds.sampler(slot.round, slot.number)
        if self._study is None:
            self._study = optuna.load_study(study_name=self.queue.name, storage=self.queue.storage, sampler=sampler)
        self._study.sampler = sampler
        trial = optuna.Trial(self._study, slot.attempt)
        point = {name: suggest(trial, name, distribution) for name, distribution in slot.distributions.items()}
        return replace(slot, point=point)

    # -- training -------------------------------------------------------------------------

    def _train(self, claims: Sequence[Slot]) -> None:
        """Train claims: as one population if their differences allow it, else one after another."""
        groups: dict[Any, list[Slot]] = {}
        for slot in claims:
            groups.setdefault((slot.round, self.rounds.kind(slot.point)), []).append(slot)
        for members in groups.values():
            able = [slot for slot in members if self._can_be_trained(slot)]
            most = self._trials_at_once(able) if able else 1
            for start in range(0, len(able), most):
                some = able[start : start + most]
                if self._should_stop():
                    self.queue.release(some)
                else:
                    self._train_together(some)
                    self._forget_beaten()

    def _train_together(self, claims: Sequence[Slot]) -> None:
        """Train claims as one population, on the whole training set or on its folds."""
        settings = self._settings_of(claims[0])
        data = self.data_of(settings)
        batch = TrialBatch(self.queue, self.rounds, data, claims, self._best)
        if self._folds is None:
            batch.run(self._train_population)
            return
        try:
            batch.run(partial(self._train_folds, self._folds.of(settings, data)))
        except DataError as error:  # the rows of a fold have fewer principal components than those of all
            for slot in claims:
                self.queue.reject(slot, str(error))

    def _settings_of(self, slot: Slot) -> Settings:
        return Settings.from_mapping(self.rounds.settings(slot.point or {}, slot.round))

    def _can_be_trained(self, slot: Slot) -> bool:
        """Return whether a slot can be trained on this data; if not, reject it for good, with the reason."""
        try:
            self.rounds.check_point(slot.point or {}, slot.round)
            self.data_of(self._settings_of(slot))
        except (ConfigError, DataError) as error:
            self.queue.reject(slot, str(error))
            return False
        return True

    def _trials_at_once(self, claims: Sequence[Slot]) -> int:
        """Return the number of complete trials that fit into memory; seeds that train apart cannot be compared."""
        data = self.data_of(self._settings_of(claims[0]))
        one = TrialBatch(self.queue, self.rounds, data, claims[:1]).population
        fit = most_in_memory(one, data, data.backend, str(data.dtype))
        return len(claims) if fit is None else max(1, min(len(claims), fit // len(self.rounds.seeds)))

    def _forget_beaten(self) -> None:
        """Delete the networks of trials that have been beaten, and of attempts that have failed."""
        if self._best is None or len(kept := self._best.store.attempts()) < 2:
            return
        ended = {trial._trial_id for trial in self.queue.trials() if trial.state.is_finished()}
        best = self.outcome().best
        for attempt in kept:
            if attempt in ended and (best is None or attempt != best.attempt):
                self._best.store.forget(attempt)

    def _train_folds(
        self, folds: FoldTrainer, population: Population, _: DeviceData, batch: Callback
    ) -> tuple[None, TrainResult]:
        """Train a population of this search on every fold; the figures are means over the folds."""
        parts = folds.train(
            for_data(population),
            max_replicas=self._most,
            callbacks=[*self._callbacks, batch],
            final=("validation",),
        )
        return None, averaged(list(parts))

    def _train_population(
        self, population: Population, data: DeviceData, batch: Callback
    ) -> tuple[Network, TrainResult]:
        """Train a population of this search, without using the test set."""
        # Memory may hold fewer networks; with many seeds, a single trial may exceed the requested number.
        most = self._most if self._most is not None and len(population) > self._most else None
        return train_population(
            population,
            data,
            backend=data.backend,
            dtype=self.rounds.dtype,
            max_replicas=most,
            callbacks=[*self._callbacks, batch],
            final=("validation",),
        )

    # -- the outcome ----------------------------------------------------------------------

    def outcome(self) -> Outcome:
        """Return the outcome so far."""
        trials = tuple(self._trial(n, slot, own) for n, (slot, own) in enumerate(self.queue.attempts()))
        outcome = self._ranking(trials, tuple(self.queue.workers()))
        if self._best is not None:
            self._best.known = outcome.best
        return outcome

    def _ranking(self, trials: tuple[Trial, ...], workers: tuple[str, ...] = ()) -> Outcome:
        names = self.rounds.space.names
        return Outcome(names, self.rounds.seeds, trials, self.rounds.lengths, workers, self._guessing)

    def _trial(self, number: int, slot: Any, attempts: Sequence[Any]) -> Trial:
        """Return the trial of a slot; for an ended trial, the same object every time."""
        attempt = current(attempts)
        if attempt is None or not attempt.state.is_finished():
            return Trial.of(number, slot, attempts)
        key = attempt._trial_id, len(attempts)
        if number not in self._ended or self._ended[number][0] != key:
            self._ended[number] = key, Trial.of(number, slot, attempts)
        return self._ended[number][1]
