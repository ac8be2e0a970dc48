"""The trials of a search as several workers share them: places to fill, who fills them, what came of it.

A search is a list of *slots*, one for each point that is to be trained.  A trial of Optuna's is one attempt at a
slot.  A slot is open until an attempt is complete or pruned; an attempt whose worker's lease has expired fails, and
the slot gets another.  Two workers may give one slot an attempt at the same moment: of attempts that are alive the
one with the lowest number counts, and whoever takes another gives it back.  So no finished trial is repeated and
none is lost, whenever a worker is killed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from xpnet.errors import RunError
from xpnet.tuning.leases import Lease, LeaseWatch, Worker

# A slot over which so many workers have died while they trained nothing else is given up: it may be what ends them.
ATTEMPTS = 3
# Why an attempt failed; those that were given back may be repeated as often as need be, what cannot be trained never.
EXPIRED, TWICE, RELEASED, REJECTED = "expired", "twice", "released", "rejected"


@dataclass(frozen=True)
class Slot:
    """A place to fill.

    Attributes:
        round: Its round.
        number: Its number in the round.
        point: What is to be trained there; None if a sampler is to say.
        distributions: Optuna's, of every setting of the point.
    """

    round: int
    number: int
    point: Mapping[str, Any] | None
    distributions: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """An attempt that this worker has taken.

    Attributes:
        slot: What it fills.
        id: Optuna's number of the trial in its storage.
    """

    slot: Slot
    id: int


class TrialQueue:
    """The slots of a search in a storage of Optuna's.

    Args:
        storage: As :func:`xpnet.tuning.storage.open_storage` returns it.
        name: The study's name.
        about: What the study is; one that is there already must be the same.
        same: Says, of what is there and `about`, what differs; empty if nothing does.
    """

    def __init__(
        self,
        storage: Any,
        name: str,
        about: Mapping[str, Any] | None = None,
        same: Callable[[Mapping[str, Any], Mapping[str, Any]], str] | None = None,
    ) -> None:
        import optuna

        self.storage, self.name = storage, name
        if about is None:
            try:
                self.id = storage.get_study_id_from_name(name)
            except KeyError:
                raise RunError(f"study = {name}: there is no such study in the storage") from None
        else:
            with contextlib.suppress(optuna.exceptions.DuplicatedStudyError):
                storage.create_new_study([optuna.study.StudyDirection.MAXIMIZE], name)
            self.id = storage.get_study_id_from_name(name)
            there = self.about()
            if there is None:  # made just now, by this worker or by one that was killed before it said this
                storage.set_study_user_attr(self.id, "about", dict(about))
            elif same is not None and (difference := same(there, about)):
                raise RunError(f"study = {name}: is another search already: {difference}; name another study")
        self.watch = LeaseWatch()
        self.worker, self.seconds = Worker.here(), 60.0
        self._slots: dict[int, list[Slot]] = {}

    def about(self) -> dict[str, Any] | None:
        """Return what the study is; None if nobody has said so yet."""
        about = self.storage.get_study_user_attrs(self.id).get("about")
        return None if about is None else dict(about)

    def trials(self) -> list[Any]:
        """Return all attempts, in the order of their numbers."""
        return list(self.storage.get_all_trials(self.id, deepcopy=False))

    # -- plans ----------------------------------------------------------------------------

    def plan(self, slots: Sequence[Slot]) -> None:
        """Make the slots of a round known, and give each an attempt; every worker plans the same."""
        self._slots[slots[0].round] = list(slots)
        self._fill(self.trials())

    def slots(self) -> Iterator[Slot]:
        """Return all slots of the rounds that are planned."""
        for number in sorted(self._slots):
            yield from self._slots[number]

    def number(self, slot: Slot) -> int:
        """Return a slot's number among those of all rounds."""
        return sum(len(slots) for round, slots in self._slots.items() if round < slot.round) + slot.number

    def attempts(self, trials: Sequence[Any]) -> dict[tuple[int, int], list[Any]]:
        """Return the attempts at each slot, by its round and number."""
        found: dict[tuple[int, int], list[Any]] = {}
        for trial in trials:
            slot = trial.user_attrs.get("slot")
            if slot is not None:
                found.setdefault((int(slot[0]), int(slot[1])), []).append(trial)
        return found

    def standing(self, attempts: Sequence[Any]) -> Any:
        """Return the attempt that counts: the first that is alive; None if there is none."""
        return next((trial for trial in attempts if not failed(trial)), None)

    def given_up(self, attempts: Sequence[Any]) -> bool:
        """Return whether a slot has had its attempts, or cannot be trained."""
        ended = [trial.user_attrs for trial in attempts if failed(trial)]
        died = [attributes for attributes in ended if attributes.get("why") == EXPIRED and attributes.get("alone")]
        return len(died) >= ATTEMPTS or any(attributes.get("why") == REJECTED for attributes in ended)

    def finished(self, round: int) -> bool:
        """Return whether nothing of a round is left to do."""
        attempts = self.attempts(self.trials())
        for slot in self._slots[round]:
            own = attempts.get((slot.round, slot.number), [])
            standing = self.standing(own)
            done = self.given_up(own) if standing is None else bool(standing.state.is_finished())
            if not done:
                return False
        return True

    def _fill(self, trials: Sequence[Any]) -> None:
        """Give an attempt to every slot that has none."""
        attempts = self.attempts(trials)
        for slot in self.slots():
            own = attempts.get((slot.round, slot.number), [])
            if self.standing(own) is None and not self.given_up(own):
                # An attempt whose point a sampler had said is repeated at that point.
                said = [point for trial in own if (point := _point(slot, trial)) is not None]
                self._add(slot, slot.point or next(iter(said), None))

    def _add(self, slot: Slot, point: Mapping[str, Any] | None) -> None:
        from optuna.trial import TrialState, create_trial

        known = point is not None and bool(slot.distributions)
        waiting = create_trial(
            state=TrialState.WAITING,
            params=dict(point or {}) if known else {},
            distributions=dict(slot.distributions) if known else {},
            user_attrs={"slot": [slot.round, slot.number]},
        )
        self.storage.create_new_trial(self.id, template_trial=waiting)

    # -- leases ---------------------------------------------------------------------------

    @contextmanager
    def at_work(self, worker: Worker, seconds: float) -> Iterator[None]:
        """Hold a lease on everything that this worker claims."""
        self.worker, self.seconds = worker, seconds

        def write(lease: dict[str, Any]) -> None:
            self.storage.set_study_user_attr(self.id, f"lease:{worker.name}", lease)

        with Lease(worker, seconds, write):
            yield

    def tend(self) -> None:
        """Fail the attempts whose workers are gone, and give their slots new ones."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        trials = self.trials()
        running = [trial for trial in trials if trial.state == TrialState.RUNNING]
        leases = self.storage.get_study_user_attrs(self.id) if running else {}
        lost = [trial for trial in running if self._is_lost(trial, leases)]
        for trial in lost:
            with contextlib.suppress(UpdateFinishedTrialError):
                self._fail(trial._trial_id, EXPIRED)
        self._fill(self.trials() if lost else trials)

    def _is_lost(self, trial: Any, leases: Mapping[str, Any]) -> bool:
        """Return whether a running attempt's worker is gone."""
        worker = trial.user_attrs.get("worker")
        if worker == self.worker.name:
            return False
        if worker is not None:
            return self.watch.expired(f"lease:{worker}", leases.get(f"lease:{worker}"), self.seconds)
        # Somebody was killed, or is, between taking it and signing it: one of those who said that they would.
        takers = [key.replace("taking:", "lease:") for key in trial.user_attrs if key.startswith("taking:")]
        takers = [key for key in takers if key != f"lease:{self.worker.name}"]
        if takers and all(self.watch.expired(key, leases.get(key), self.seconds) for key in takers):
            return True
        return self.watch.expired(f"trial:{trial.number}", None, self.seconds)

    def _fail(self, id: int, why: str) -> None:
        from optuna.trial import TrialState

        # The reason first: a failed attempt without one is not counted against its slot.
        self.storage.set_trial_user_attr(id, "why", why)
        self.storage.set_trial_state_values(id, TrialState.FAIL)

    def workers(self) -> list[Mapping[str, Any]]:
        """Return the leases that have not ended."""
        attributes = self.storage.get_study_user_attrs(self.id)
        leases = [lease for key, lease in attributes.items() if key.startswith("lease:")]
        return [lease for lease in leases if not self.watch.expired(f"lease:{lease['worker']}", lease, self.seconds)]

    # -- work -----------------------------------------------------------------------------

    def claim(self, most: int, alike: Callable[[Mapping[str, Any] | None], Hashable] | None = None) -> list[Claim]:
        """Take up to `most` attempts that nobody has; of those at known points, such that `alike` says the same."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        trials = self.trials()
        attempts = self.attempts(trials)
        claims: list[Claim] = []
        first: Hashable = None
        for slot in self.slots():
            own = attempts.get((slot.round, slot.number), [])
            standing = self.standing(own)
            for trial in own:
                if trial.state != TrialState.WAITING:
                    continue
                with contextlib.suppress(UpdateFinishedTrialError):
                    if trial is not standing:
                        self._fail(trial._trial_id, TWICE)
                        continue
                    point = _point(slot, trial)
                    # What a worker has died over is tried alone: others are not to die with it again.
                    alone = any(attempt.user_attrs.get("why") == EXPIRED for attempt in own)
                    kind = (alike(point) if alike is not None else None, trial.number if alone else None)
                    if len(claims) == most or (claims and kind != first):
                        continue
                    if alone:
                        self.storage.set_trial_user_attr(trial._trial_id, "alone", True)
                    self.storage.set_trial_user_attr(trial._trial_id, f"taking:{self.worker.name}", True)
                    if self.storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING):
                        self.storage.set_trial_user_attr(trial._trial_id, "worker", self.worker.name)
                        claims.append(Claim(replace(slot, point=point), trial._trial_id))
                        first = kind
        return self._single(claims)

    def _single(self, claims: list[Claim]) -> list[Claim]:
        """Give back what somebody else has an attempt at with a lower number."""
        if not claims:
            return claims
        attempts = self.attempts(self.trials())
        kept = []
        for claim in claims:
            standing = self.standing(attempts[claim.slot.round, claim.slot.number])
            if standing is not None and standing._trial_id == claim.id:
                kept.append(claim)
            else:
                self.release([claim], TWICE)
        return kept

    def mine(self, claims: Sequence[Claim]) -> list[Claim]:
        """Return those of `claims` that nobody has taken away, as happens to a process that stood still."""
        from optuna.trial import TrialState

        running = {trial._trial_id for trial in self.trials() if trial.state == TrialState.RUNNING}
        return [claim for claim in claims if claim.id in running]

    def release(self, claims: Sequence[Claim], why: str = RELEASED) -> None:
        """Give attempts back, unfinished."""
        from optuna.exceptions import UpdateFinishedTrialError

        for claim in claims:
            with contextlib.suppress(UpdateFinishedTrialError):
                self._fail(claim.id, why)

    def report(self, claim: Claim, look: int, value: float) -> None:
        """Say how an attempt stands at a look, in the middle of its training."""
        from optuna.exceptions import UpdateFinishedTrialError

        with contextlib.suppress(UpdateFinishedTrialError):
            self.storage.set_trial_intermediate_value(claim.id, look, value)

    def reported(self, round: int, look: int) -> dict[int, float]:
        """Return what attempts at slots of a round, by their numbers in the storage, said at a look."""
        attempts = self.attempts(self.trials())
        found = {}
        for (number, _), own in attempts.items():
            standing = self.standing(own)
            if number == round and standing is not None and look in standing.intermediate_values:
                found[standing._trial_id] = float(standing.intermediate_values[look])
        return found

    def reject(self, claim: Claim, reason: str) -> None:
        """Say that an attempt's point cannot be trained; nobody tries it again."""
        from optuna.exceptions import UpdateFinishedTrialError

        with contextlib.suppress(UpdateFinishedTrialError):
            self.storage.set_trial_user_attr(claim.id, "reason", reason)
            self._fail(claim.id, REJECTED)

    def finish(self, claim: Claim, value: float, result: Mapping[str, Any], *, pruned: bool = False) -> bool:
        """Write what came of an attempt; return False if it had been taken away."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        try:
            self.storage.set_trial_user_attr(claim.id, "result", dict(result))
            state = TrialState.PRUNED if pruned else TrialState.COMPLETE
            return bool(self.storage.set_trial_state_values(claim.id, state, [value]))
        except UpdateFinishedTrialError:
            return False


def _point(slot: Slot, trial: Any) -> dict[str, Any] | None:
    """Return an attempt's point; None if not all of it has been said."""
    return dict(trial.params) if slot.distributions and trial.params.keys() == slot.distributions.keys() else None


def failed(trial: Any) -> bool:
    """Return whether an attempt has failed."""
    from optuna.trial import TrialState

    return bool(trial.state == TrialState.FAIL)
