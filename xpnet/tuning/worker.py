"""One worker of a search: takes trials, trains them as populations, writes what came of them, until none is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from xpnet.config.settings import Settings
from xpnet.errors import ConfigError, RunError
from xpnet.nn.network import Network
from xpnet.training.callback import Callback
from xpnet.training.chunks import most_in_memory
from xpnet.training.device_data import DeviceData
from xpnet.training.guessing import Guessing
from xpnet.training.population import Population
from xpnet.training.result import TrainResult
from xpnet.training.train_population import train_population
from xpnet.tuning.kept_networks import Keeper, Keeping
from xpnet.tuning.leases import Worker
from xpnet.tuning.rounds import Rounds
from xpnet.tuning.trial_batch import TrialBatch
from xpnet.tuning.trial_queue import Claim, Slot, TrialQueue
from xpnet.tuning.trials import Outcome, Trial

# A worker with nothing to do looks whether another has lost its trials, more rarely as it waits.
_SECONDS_TO_WAIT, _LONGEST_WAIT = 0.1, 2.0
# Networks that train together: on the CPU more are hardly faster, and fewer are shared better among workers.
TOGETHER = {"cpu": 20, "gpu": 200}
# How the search stands is told after a pause of at least so many times as long as telling took.
_PAUSES = 20


class SearchWorker:
    """Works on a search until it is finished, with others or alone.

    Args:
        rounds: What is trained.
        queue: Where trials are shared.
        data: The data set on this worker's device.
        most: Most networks that train together; what is usual on the device and fits its memory if not given.
        on_change: Called with the outcome so far whenever something has become known.
        callbacks: Called while trials are trained; trials that are not finished when one stops are given back.
        keeper: Keeps the networks of the best trials.
    """

    def __init__(
        self,
        rounds: Rounds,
        queue: TrialQueue,
        data: DeviceData,
        *,
        most: int | None = None,
        on_change: Callable[[Outcome], None] | None = None,
        callbacks: Sequence[Callback] = (),
        keeper: Keeper | None = None,
    ) -> None:
        self._keeping = None if keeper is None else Keeping(keeper, self._ranking)
        self.rounds, self.queue, self.data, self._most = rounds, queue, data, most
        self._on_change, self._callbacks = on_change or (lambda _: None), callbacks
        self.seeds = rounds.seeds
        self._study: Any = None
        self._guessing = Guessing.of(data.data, ["validation"])
        self._next = 0.0
        # By slot: what is known of a trial that has ended, with the attempt and their number that it is known from.
        self._ended: dict[int, tuple[tuple[int, int], Trial]] = {}

    def run(self, lease: float) -> Outcome:
        """Work until nothing is left to do, or until told to stop; return what is known then."""
        with self.queue.at_work(Worker.here(self.data.backend.device), lease):
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
        waits = 0
        while not self._should_stop():
            self.queue.tend()
            networks = self._most or TOGETHER[self.data.backend.name if self.data.backend.name == "gpu" else "cpu"]
            most = self.rounds.config.asked_at_once(count, max(1, networks // len(self.seeds)))
            claims = self.queue.claim(most, self.rounds.kind)
            if claims:
                waits = 0
                try:
                    self._train(self._said(claims))
                except BaseException:
                    self.queue.release(self.queue.mine(claims))
                    raise
                self._tell()
            elif self.queue.finished(number):
                return
            else:
                if not waits:
                    self._tell()
                time.sleep(min(_LONGEST_WAIT, _SECONDS_TO_WAIT * 1.5**waits))
                waits += 1

    def _tell(self) -> None:
        """Say how the search stands, unless that has been said a moment ago: it takes longer as trials become many."""
        begin = time.monotonic()
        if begin >= self._next:
            self._on_change(self.outcome())
            self._next = time.monotonic() + _PAUSES * (time.monotonic() - begin)

    # -- points ---------------------------------------------------------------------------

    def _said(self, claims: Sequence[Claim]) -> list[Claim]:
        """Return the claims with their points, those that a sampler is to say included."""
        return [claim if claim.slot.point is not None else self._ask(claim) for claim in claims]

    def _ask(self, claim: Claim) -> Claim:
        import optuna
        from optuna.distributions import CategoricalDistribution, IntDistribution

        slot = claim.slot
        sampler = self.rounds.sampler(slot.round, slot.number)
        if self._study is None:
            self._study = optuna.load_study(study_name=self.queue.name, storage=self.queue.storage, sampler=sampler)
        self._study.sampler = sampler
        trial = optuna.Trial(self._study, claim.id)
        point: dict[str, Any] = {}
        for name, distribution in slot.distributions.items():
            if isinstance(distribution, CategoricalDistribution):
                point[name] = trial.suggest_categorical(name, distribution.choices)
                continue
            suggest = trial.suggest_int if isinstance(distribution, IntDistribution) else trial.suggest_float
            point[name] = suggest(name, distribution.low, distribution.high, log=distribution.log)
        return Claim(Slot(slot.round, slot.number, point, slot.distributions), claim.id)

    # -- training -------------------------------------------------------------------------

    def _train(self, claims: Sequence[Claim]) -> None:
        """Train claims: those that differ in what stacks as one population, the others one after another."""
        groups: dict[Any, list[Claim]] = {}
        for claim in claims:
            groups.setdefault((claim.slot.round, self.rounds.kind(claim.slot.point)), []).append(claim)
        for (number, _), members in groups.items():
            able = self._fitting(number, members)
            most = self._trials_at_once(number, able) if able else 1
            for start in range(0, len(able), most):
                some = able[start : start + most]
                if self._should_stop():
                    self.queue.release(some)
                else:
                    queue, keeping = self.queue, self._keeping
                    training = TrialBatch(queue, self.rounds, self.data, self.seeds, number, some, keeping)
                    training.run(self._train_population)
                    self._forget()

    def _fitting(self, number: int, claims: Sequence[Claim]) -> list[Claim]:
        """Return the claims that can be trained on this data; the others fail for good, with the reason."""
        able = []
        for claim in claims:
            try:
                self.rounds.check_point(claim.slot.point or {}, number, self.data.data)
            except ConfigError as error:
                self.queue.reject(claim, str(error))
            else:
                able.append(claim)
        return able

    def _trials_at_once(self, number: int, claims: Sequence[Claim]) -> int:
        """Return how many whole trials memory holds at once: those whose seeds are cut apart cannot be compared."""
        one = TrialBatch(self.queue, self.rounds, self.data, self.seeds, number, claims[:1])
        room = most_in_memory(one.population, self.data, self.data.backend, str(self.data.dtype))
        return len(claims) if room is None else max(1, min(len(claims), room // len(self.seeds)))

    def _forget(self) -> None:
        """Forget the networks of trials that have been beaten, and of attempts that have failed."""
        if self._keeping is None or len(kept := self._keeping.keeper.attempts()) < 2:
            return
        ended = {trial._trial_id for trial in self.queue.trials() if trial.state.is_finished()}
        best = self.outcome().best
        for attempt in kept:
            if attempt in ended and (best is None or attempt != best.attempt):
                self._keeping.keeper.forget(attempt)

    def _train_population(self, population: Population, batch: Callback) -> tuple[Network, TrainResult]:
        """Train a population of this search, without a look at the test set."""
        settings = Settings.from_mapping(self.rounds.base)
        # Memory may hold fewer at a time; with many seeds, one trial alone may be more than was asked for.
        most = self._most if self._most is not None and len(population) > self._most else None
        return train_population(
            population,
            self.data,
            backend=self.data.backend,
            dtype=settings.run.dtype,
            max_replicas=most,
            callbacks=[*self._callbacks, batch],
            final=("validation",),
        )

    # -- what is known --------------------------------------------------------------------

    def outcome(self) -> Outcome:
        """Return the search as it stands."""
        queue = self.queue
        attempts = queue.attempts(queue.trials())
        trials = []
        for number, slot in enumerate(queue.slots()):
            own = attempts.get((slot.round, slot.number), [])
            trials.append(self._trial(number, slot, own))
        workers = tuple(str(lease["worker"]) for lease in queue.workers())
        outcome = self._ranking(tuple(trials), workers)
        if self._keeping is not None:
            self._keeping.knows(outcome.best)
        return outcome

    def _ranking(self, trials: tuple[Trial, ...], workers: tuple[str, ...] = ()) -> Outcome:
        return Outcome(self.rounds.space.names, self.seeds, trials, self.rounds.lengths, workers, self._guessing)

    def _trial(self, number: int, slot: Slot, own: Sequence[Any]) -> Trial:
        """Return what is known of a slot with its attempts; of one that has ended, the same object every time."""
        standing = self.queue.standing(own)
        if standing is None or not standing.state.is_finished():
            return _trial(number, slot, standing, own, given_up=self.queue.given_up(own))
        key = standing._trial_id, len(own)
        if number not in self._ended or self._ended[number][0] != key:
            self._ended[number] = key, _trial(number, slot, standing, own, given_up=False)
        return self._ended[number][1]


def _trial(number: int, slot: Slot, attempt: Any, own: Sequence[Any], *, given_up: bool) -> Trial:
    """Return what is known of a slot."""
    attempts = sum("worker" in trial.user_attrs for trial in own)
    if attempt is None:
        reason = next((str(trial.user_attrs["reason"]) for trial in own if "reason" in trial.user_attrs), "")
        if given_up and not reason:
            reason = "its workers died"
        point = slot.point or next((dict(trial.params) for trial in own if trial.params), {})
        state = "failed" if given_up else "waiting"
        return Trial(number, slot.round, state, point, attempts=attempts, note=reason)
    point = dict(attempt.params) or dict(slot.point or {})
    result: Mapping[str, Any] = attempt.user_attrs.get("result", {}) if attempt.state.is_finished() else {}
    if attempt.state.is_finished():
        if point.keys() != slot.distributions.keys():
            said, wanted = (", ".join(names) or "nothing" for names in (point, slot.distributions))
            raise RunError(f"trial {attempt.number}: has {said}, and the search is of {wanted}; its storage is damaged")
        # The result is written before the state.
        if not result.get("accuracies") or "score" not in result:
            raise RunError(f"trial {attempt.number}: has ended, and has no accuracies; its storage is damaged")
    return Trial(
        number=number,
        round=slot.round,
        state=attempt.state.name.lower(),
        point=point,
        score=result.get("score"),
        accuracies=tuple(result.get("accuracies", ())),
        losses=tuple(result.get("losses", ())),
        cycle=result.get("pruned_after"),
        epochs=int(result.get("epochs", 0)),
        seconds=float(result.get("seconds", 0.0)),
        curve=tuple((int(epoch), float(accuracy)) for epoch, accuracy in result.get("curve", ())),
        worker=str(attempt.user_attrs.get("worker", "")),
        attempts=attempts,
        attempt=attempt._trial_id,
    )
