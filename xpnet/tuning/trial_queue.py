"""The queue of trials that the workers of a search share.

A search is a list of *slots*, one for each point to train.  A trial in Optuna's storage is one *attempt* at a slot.
A slot is open until an attempt is complete or pruned.  An attempt fails if its worker's lease has expired, and the slot
gets another attempt.  Two workers may add an attempt at one slot at the same moment: only the first attempt that has
not failed counts, and a worker that has taken another one gives it back.  So no finished trial is repeated and none is
lost, whenever a worker is killed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from xpnet.errors import RunError
from xpnet.tuning.leases import LeaseWatch, renewed, this_worker

# A slot is given up after this many workers died while they trained nothing else: it may be the cause.
ATTEMPTS = 3
# Reasons for a failed attempt.  A rejected point cannot be trained; released attempts are repeated without a limit.
EXPIRED, TWICE, RELEASED, REJECTED = "expired", "twice", "released", "rejected"


@dataclass(frozen=True)
class Slot:
    """A trial to run.

    Attributes:
        round: Number of its round.
        number: Its number within the round.
        point: The values to train; None if a sampler chooses them.
        distributions: Optuna's distribution of every setting of the point.
        attempt: Number in the storage of the attempt by which this worker has *claimed* the slot.
    """

    round: int
    number: int
    point: Mapping[str, Any] | None
    distributions: Mapping[str, Any] = field(default_factory=dict)
    attempt: int = -1


class TrialQueue:
    """The slots of a search and their attempts, in an Optuna storage.

    Args:
        storage: A storage from :func:`xpnet.tuning.storage.open_storage`.
        name: The study's name.
        identity: Identity of the search, if the study may have to be created; an existing study must have the same
        identity.
        difference: Function that returns the difference of two identities in words; empty if there is none.
    """

    def __init__(
        self,
        storage: Any,
        name: str,
        identity: Mapping[str, Any] | None = None,
        difference: Callable[[Mapping[str, Any], Mapping[str, Any]], str] | None = None,
    ) -> None:
        import optuna

        self.storage, self.name = storage, name
        if identity is not None:
            with contextlib.suppress(optuna.exceptions.DuplicatedStudyError):
                storage.create_new_study([optuna.study.StudyDirection.MAXIMIZE], name)
        try:
            self.id = storage.get_study_id_from_name(name)
        except KeyError:
            raise RunError(f"study = {name}: there is no such study in the storage") from None
        if identity is not None:
            stored = self.identity()
            if stored is None:  # created just now, by this worker or by one that was killed before this write
                storage.set_study_user_attr(self.id, "about", dict(identity))
            elif difference is not None and (words := difference(stored, identity)):
                raise RunError(f"study = {name}: is another search already: {words}; name another study")
        self.watch = LeaseWatch()
        self.worker, self.lease = this_worker(), 60.0
        self._slots: dict[int, list[Slot]] = {}

    def identity(self) -> dict[str, Any] | None:
        """Return the identity of the search; None if it was never written."""
        identity = self.storage.get_study_user_attrs(self.id).get("about")
        return None if identity is None else dict(identity)

    def trials(self) -> list[Any]:
        """Return all attempts, in the order of their numbers."""
        return list(self.storage.get_all_trials(self.id, deepcopy=False))

    # -- slots and their attempts ---------------------------------------------------------

    def plan(self, slots: Sequence[Slot]) -> None:
        """Add the slots of a round, and an attempt at each; every worker plans the same slots."""
        self.know(slots)
        self.fill(self.trials())

    def know(self, slots: Sequence[Slot]) -> None:
        """Register the slots of a round."""
        self._slots[slots[0].round] = list(slots)

    def number(self, slot: Slot) -> int:
        """Return a slot's number among the slots of all rounds."""
        return sum(len(slots) for round, slots in self._slots.items() if round < slot.round) + slot.number

    def attempts(self, trials: Sequence[Any] | None = None) -> Iterator[tuple[Slot, list[Any]]]:
        """Yield every slot with its attempts, from `trials` or else from the storage."""
        by_slot = attempts_by_slot(self.trials() if trials is None else trials)
        for _, slots in sorted(self._slots.items()):
            for slot in slots:
                yield slot, by_slot.get((slot.round, slot.number), [])

    def finished(self, round: int) -> bool:
        """Return whether a round is finished."""
        for slot, own in self.attempts():
            attempt = current(own)
            if slot.round == round and not (given_up(own) if attempt is None else attempt.state.is_finished()):
                return False
        return True

    def fill(self, trials: Sequence[Any]) -> None:
        """Add an attempt at every slot without one among `trials`."""
        for slot, own in self.attempts(trials):
            if current(own) is None and not given_up(own):
                # If a sampler had chosen the point of a failed attempt, the new attempt has the same point.
                chosen = (point for trial in own if (point := _point(slot, trial)) is not None)
                self.add(slot, slot.point or next(chosen, None))

    def add(self, slot: Slot, point: Mapping[str, Any] | None) -> None:
        """Add an attempt at a slot."""
        from optuna.trial import TrialState, create_trial

        known = point is not None and bool(slot.distributions)
        waiting = create_trial(
            state=TrialState.WAITING,
            params=dict(point or {}) if known else {},
            distributions=dict(slot.distributions) if known else {},
            user_attrs={"slot": [slot.round, slot.number]},
        )
        self.storage.create_new_trial(self.id, template_trial=waiting)

    def _write(self, id: int, state: str | None = None, value: float | None = None, **attributes: Any) -> bool:
        """Write attributes of an attempt and then its state; return False if it has ended or another worker has it."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        try:
            for name, attribute in attributes.items():
                self.storage.set_trial_user_attr(id, name, attribute)
            values = None if value is None else [value]
            return state is None or bool(self.storage.set_trial_state_values(id, TrialState[state], values))
        except UpdateFinishedTrialError:
            return False

    # -- leases ---------------------------------------------------------------------------

    @contextmanager
    def at_work(self, device: str = "", seconds: float = 60.0) -> Iterator[None]:
        """Hold a lease on everything that this worker, which computes on `device`, claims."""
        self.worker, self.lease = this_worker(device), seconds
        key = f"lease:{self.worker['worker']}"
        with renewed(self.worker, seconds, lambda lease: self.storage.set_study_user_attr(self.id, key, lease)):
            yield

    def workers(self) -> list[str]:
        """Return the names of the workers whose leases have not ended."""
        attributes = self.storage.get_study_user_attrs(self.id)
        names = [str(lease["worker"]) for key, lease in attributes.items() if key.startswith("lease:")]
        return [name for name in names if not self._expired(name, attributes)]

    def recover_lost(self) -> None:
        """Mark attempts of lost workers as failed, and add new attempts at their slots."""
        trials = self.trials()
        running = [trial for trial in trials if trial.state.name == "RUNNING"]
        leases = self.storage.get_study_user_attrs(self.id) if running else {}
        lost = [trial for trial in running if self._is_lost(trial, leases)]
        for trial in lost:
            self._write(trial._trial_id, "FAIL", why=EXPIRED)
        self.fill(self.trials() if lost else trials)

    def _is_lost(self, trial: Any, leases: Mapping[str, Any]) -> bool:
        worker, me = trial.user_attrs.get("worker"), self.worker["worker"]
        if worker is not None:
            return worker != me and self._expired(worker, leases)
        # A worker was killed, or is still busy, between taking the attempt and signing it; it is one of those that
        # announced this.
        takers = [key.removeprefix("taking:") for key in trial.user_attrs if key.startswith("taking:")]
        takers = [name for name in takers if name != me]
        if takers and all(self._expired(name, leases) for name in takers):
            return True
        return self.watch.expired(f"trial:{trial.number}", None, self.lease)

    def _expired(self, worker: str, leases: Mapping[str, Any]) -> bool:
        key = f"lease:{worker}"
        return self.watch.expired(key, leases.get(key), self.lease)

    # -- work -----------------------------------------------------------------------------

    def claim(self, most: int, alike: Callable[[Mapping[str, Any] | None], Hashable] = lambda _: None) -> list[Slot]:
        """Return up to `most` newly claimed slots, at points for which `alike` returns the same value."""
        claims: list[Slot] = []
        first: Hashable = None
        for slot, own in self.attempts():
            counting = current(own)
            for trial in own:
                if trial.state.name != "WAITING":
                    continue
                id = trial._trial_id
                if trial is not counting:
                    self._write(id, "FAIL", why=TWICE)
                    continue
                point = _point(slot, trial)
                # A point during which a worker died is tried alone, so that it cannot make other trials fail again.
                alone = any(attempt.user_attrs.get("why") == EXPIRED for attempt in own)
                kind = (alike(point), trial.number if alone else None)
                if len(claims) == most or (claims and kind != first):
                    continue
                name = self.worker["worker"]
                marks = {**({"alone": True} if alone else {}), f"taking:{name}": True}
                if self._write(id, "RUNNING", **marks) and self._write(id, worker=name):
                    claims.append(replace(slot, point=point, attempt=id))
                    first = kind
        return self.keep_first(claims)

    def keep_first(self, claims: Sequence[Slot]) -> list[Slot]:
        """Return the `claims` that count, and give back those at slots with an earlier attempt."""
        by_slot = attempts_by_slot(self.trials()) if claims else {}
        first = []
        for slot in claims:
            trial = current(by_slot[slot.round, slot.number])
            if trial is not None and trial._trial_id == slot.attempt:
                first.append(slot)
            else:
                self.release([slot], TWICE)
        return first

    def held(self, claims: Sequence[Slot]) -> list[Slot]:
        """Return the `claims` that this worker still holds; a process that was stopped may have lost some."""
        running = {trial._trial_id for trial in self.trials() if trial.state.name == "RUNNING"}
        return [slot for slot in claims if slot.attempt in running]

    def release(self, claims: Sequence[Slot], why: str = RELEASED) -> None:
        """Give attempts back, unfinished."""
        for slot in claims:
            # Write the reason first: a failed attempt without a reason does not count against its slot.
            self._write(slot.attempt, "FAIL", why=why)

    def reject(self, slot: Slot, reason: str) -> None:
        """Record that a point cannot be trained, so that no worker tries it again."""
        self._write(slot.attempt, "FAIL", reason=reason, why=REJECTED)

    def finish(self, slot: Slot, value: float, result: Mapping[str, Any], *, pruned: bool = False) -> bool:
        """Write the result of an attempt; return False if this worker has lost the attempt."""
        return self._write(slot.attempt, "PRUNED" if pruned else "COMPLETE", value, result=dict(result))

    def report(self, slot: Slot, cycle: int, value: float) -> None:
        """Write the accuracy of an attempt after a cycle."""
        from optuna.exceptions import UpdateFinishedTrialError

        with contextlib.suppress(UpdateFinishedTrialError):
            self.storage.set_trial_intermediate_value(slot.attempt, cycle, value)

    def reported(self, round: int, cycle: int) -> dict[int, float]:
        """Return the accuracies of a round's attempts after a cycle, by their numbers in the storage."""
        reported = {}
        for slot, own in self.attempts():
            trial = current(own)
            if slot.round == round and trial is not None and cycle in trial.intermediate_values:
                reported[trial._trial_id] = float(trial.intermediate_values[cycle])
        return reported


def attempts_by_slot(trials: Sequence[Any]) -> dict[tuple[int, int], list[Any]]:
    """Return attempts by the round and the number of their slot."""
    by_slot: dict[tuple[int, int], list[Any]] = {}
    for trial in trials:
        if (slot := trial.user_attrs.get("slot")) is not None:
            by_slot.setdefault((int(slot[0]), int(slot[1])), []).append(trial)
    return by_slot


def current(attempts: Sequence[Any]) -> Any:
    """Return the attempt that counts for a slot, the first that has not failed; None if there is none."""
    return next((trial for trial in attempts if trial.state.name != "FAIL"), None)


def given_up(attempts: Sequence[Any]) -> bool:
    """Return whether a slot has used up its attempts, or cannot be trained."""
    failed = [trial.user_attrs for trial in attempts if trial.state.name == "FAIL"]
    died = [attributes for attributes in failed if attributes.get("why") == EXPIRED and attributes.get("alone")]
    return len(died) >= ATTEMPTS or any(attributes.get("why") == REJECTED for attributes in failed)


def _point(slot: Slot, trial: Any) -> dict[str, Any] | None:
    """Return an attempt's point; None if a sampler has not chosen all its values."""
    return dict(trial.params) if slot.distributions and trial.params.keys() == slot.distributions.keys() else None
