"""Fits of many estimators on many splits of the rows, trained as populations."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils.metaestimators import _safe_split

from xpnet.backend import get_backend
from xpnet.config.definitions import MOST_NETWORKS
from xpnet.data import Dataset
from xpnet.sklearn.best_epochs import BestEpochs
from xpnet.sklearn.fitting import Start, adopt, prepare, training_of
from xpnet.sklearn.jobs import Fit, Job, cut, kind_of, with_steps
from xpnet.sklearn.parameters import network_config
from xpnet.sklearn.pausing import Pause, Paused
from xpnet.training.callback import Callback
from xpnet.training.chunks import most_in_memory
from xpnet.training.population import Population
from xpnet.tuning.fold_trainer import FoldData, FoldTrainer, TrainedFolds

# Numbers of jobs and splits.
Key: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class _SplitStart:
    """What the fits of one split begin with: the fitted steps before the classifier, and a classifier with its rows."""

    split: int
    steps: list[tuple[str, Any]]
    classifier: Any
    start: Start


@dataclass
class _Group:
    """Jobs whose networks may differ within a population.

    Attributes:
        most: Most networks that train together.
        cuts: The jobs that do.
        paused: Populations that were paused, by their jobs and splits.
        ended: Fits of populations that have trained to their ends before they could be paused, likewise.
    """

    most: int = MOST_NETWORKS
    cuts: list[list[Job]] = field(default_factory=list)
    paused: dict[Key, Paused] = field(default_factory=dict)
    ended: dict[Key, list[Fit]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Some:
    """Jobs of a group that train as one population, and the splits on which they do.

    Attributes:
        group: The group.
        jobs: The jobs.
        starts: What the fits on each split begin with.
        wanted: Numbers of the jobs that are still wanted.
        seconds: Each fit's share of the time of preparing.
    """

    group: _Group
    jobs: list[Job]
    starts: list[_SplitStart]
    wanted: set[int]
    seconds: float

    def key(self, folds: Sequence[int]) -> Key:
        """Return what tells its population on some of the splits from others."""
        return tuple(job.number for job in self.jobs), tuple(self.starts[fold].split for fold in folds)

    def best(self) -> BestEpochs | None:
        """Return what keeps the best epoch of each network, if there are validation rows."""
        first = self.starts[0].start
        return BestEpochs(first.members, first.checked["n_iter_no_change"]) if first.validates else None

    def unwanted(self, folds: int) -> list[int]:
        """Return the networks of jobs that are not wanted, in a population on so many splits."""
        members, count = self.starts[0].start.members, len(self.jobs)
        places = [place for place, job in enumerate(self.jobs) if job.number not in self.wanted]
        return [
            (fold * count + place) * members + r for fold in range(folds) for place in places for r in range(members)
        ]


@dataclass
class FitsTogether:
    """Fits jobs on the training rows of splits, as many at once as can train together.

    Args:
        X, y: The rows.
        splits: The training rows of each split.
        fit_params: Function that returns the arguments of the classifier's fit for some rows.
        max_members: Most networks that train together; None for as many as memory holds.
        callbacks: Called as if every population were a training of its own.
    """

    X: Any
    y: Any
    splits: Sequence[NDArray[np.int64]]
    fit_params: Callable[[NDArray[np.int64]], Mapping[str, Any]]
    max_members: int | None = None
    callbacks: Sequence[Callback] = ()
    _transformed: dict[tuple[str, int], tuple[list[tuple[str, Any]], Any, Any]] = field(default_factory=dict)
    _groups: dict[str, _Group] = field(default_factory=dict)

    def __call__(
        self, jobs: Sequence[Job], share: float = 1.0, known: Container[tuple[int, int]] = frozenset()
    ) -> Iterator[Fit]:
        """Yield the fits that have succeeded, in any order; fits that are missing would fail alone too.

        Args:
            jobs: The jobs; in a later call, some of them.
            share: Share of the epochs after which fits are yielded; a later call with a larger share goes on with them.
            known: Fits that are not needed, as (number of the job, number of the split).
        """
        kinds: dict[str, list[Job]] = {}
        for job in jobs:
            kinds.setdefault(kind_of(job), []).append(job)
        for kind, some in kinds.items():
            needed = [split for split in range(len(self.splits)) if any((j.number, split) not in known for j in some)]
            some = [job for job in some if any((job.number, split) not in known for split in needed)]
            if some:
                yield from self._fit_group(self._groups.setdefault(kind, _Group()), some, needed, share)

    def _fit_group(self, group: _Group, jobs: list[Job], splits: list[int], share: float) -> Iterator[Fit]:
        """Fit jobs whose networks may differ within a population."""
        begin = time.perf_counter()
        starts = [start for split in splits if (start := self._start(jobs[0], split)) is not None]
        if not starts:
            return
        known = [job.number for some in group.cuts for job in some]
        new = [job for job in jobs if job.number not in known and all(_fits(job, one) for one in starts)]
        if new:
            group.most = self._most(new[0], starts[0])
            group.cuts += cut(new, max(1, group.most // (starts[0].start.members * len(starts))))
        seconds = (time.perf_counter() - begin) / (len(jobs) * len(starts))
        classifier, wanted = jobs[0].classifier, {job.number for job in jobs}
        trainer = FoldTrainer(
            [_fold(one.start.data) for one in starts], get_backend(classifier.device), classifier.dtype
        )
        for some in group.cuts:
            if not wanted.isdisjoint(job.number for job in some):
                yield from self._fit_some(_Some(group, some, starts, wanted, seconds), trainer, share)

    def _fit_some(self, some: _Some, trainer: FoldTrainer, share: float) -> Iterator[Fit]:
        """Fit jobs that train as one population, on as many splits at once as can train together."""
        of_data = {id(one.start.data): one for one in some.starts}

        def population_for(data: Dataset) -> Population:
            return _population(some.jobs, of_data[id(data)])

        for part in trainer.parts(population_for, some.group.most):
            key = some.key(part.folds)
            if key in some.group.ended:
                yield from (fit for fit in some.group.ended[key] if fit.job in some.wanted)
                continue
            paused = some.group.paused.pop(key, None)
            best = some.best() if paused is None else paused.best
            pause = Pause(share, 0 if paused is None else paused.step)
            trained = trainer.train_part(
                part,
                population_for,
                max_replicas=some.group.most,
                callbacks=[*self.callbacks, *([] if best is None else [best]), pause],
                orders=lambda population: population.seeds,
                final=(),
                starts={} if paused is None else paused.without(some.unwanted(len(part.folds))),
            )
            if best is not None and trained.network is not None:
                best.restore(trained.network)
            fits = list(_finished(trained, some.jobs, [some.starts[fold] for fold in part.folds], some.seconds))
            if pause.states:
                some.group.paused[key] = Paused(pause.states, best)
            elif share < 1:
                some.group.ended[key] = fits
            yield from (fit for fit in fits if fit.job in some.wanted)

    def _most(self, job: Job, begun: _SplitStart) -> int:
        """Return the most networks that train together."""
        if self.max_members is not None:
            return self.max_members
        classifier = job.classifier
        backend = get_backend(classifier.device)
        fit = most_in_memory(_population([job], begun), begun.start.data, backend, str(np.dtype(classifier.dtype)))
        return MOST_NETWORKS if fit is None else min(MOST_NETWORKS, fit)

    def _start(self, job: Job, split: int) -> _SplitStart | None:
        """Return what fits on a split begin with; None if they fail, which each of them then does alone."""
        new = clone(job.classifier)
        try:
            steps, X, y = self._rows(job, split)
            start = prepare(new, X, y, **self.fit_params(self.splits[split]))
        except Exception:
            return None
        return _SplitStart(split, steps, new, start)

    def _rows(self, job: Job, split: int) -> tuple[list[tuple[str, Any]], Any, Any]:
        """Return the fitted steps before the classifier, and its rows; equal steps are fitted once on each split."""
        key = joblib.hash(job.steps), split
        if key not in self._transformed:
            X, y = _safe_split(job.estimator, self.X, self.y, self.splits[split])
            if not job.steps:
                return [], X, y
            before = clone(Pipeline(job.steps))
            X = before.fit_transform(X, y)
            self._transformed[key] = before.steps, X, y
        return self._transformed[key]


def _fold(data: Dataset) -> FoldData:
    # The names of the classes, since weights by class are in their order.
    return FoldData((len(data.train), data.inputs, data.class_names), lambda: data)


def _fits(job: Job, begun: _SplitStart) -> bool:
    """Return whether a job's parameters are valid; if not, its own fit says so."""
    try:
        _population([job], begun)
    except Exception:
        return False
    return True


def _population(jobs: Sequence[Job], begun: _SplitStart) -> Population:
    """Return the networks of jobs on one split: the members of the first job, those of the second, ..."""
    start, classes = begun.start, begun.classifier.classes_
    data, seeds = start.data, tuple(start.seeds)
    rows = tuple({"seed": seed} for seed in seeds)
    parts = []
    for job in jobs:
        own = copy.copy(job.classifier)
        own.classes_ = classes
        training = training_of(own, start._replace(rng=copy.deepcopy(start.rng)))
        parts.append(Population(network_config(own, data.inputs, data.classes), training, seeds, rows))
    return Population.joined(parts)


def _finished(part: TrainedFolds, jobs: Sequence[Job], starts: Sequence[_SplitStart], seconds: float) -> Iterator[Fit]:
    """Yield the estimators of trained networks; those of which all members have diverged are left out."""
    network, result = part.network, part.result
    if network is None or result is None:
        return
    count = network.replicas // (len(jobs) * len(starts))
    total = (sum(result.seconds_training) + result.seconds_evaluation) / (len(jobs) * len(starts))
    for place, begun in enumerate(starts):
        for at, job in enumerate(jobs):
            first = (place * len(jobs) + at) * count
            members = list(range(first, first + count))
            if result.diverged.keys() >= set(members):
                continue
            classifier = clone(job.classifier)
            history = result.history.part(members)
            adopt(classifier, begun.classifier, begun.start, network.select(members), history)
            yield Fit(job.number, begun.split, with_steps(job, begun.steps, classifier), seconds + total, len(history))
