"""Fits of many estimators on many splits of the rows, trained as populations."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils.metaestimators import _safe_split

from xpnet.backend import get_backend
from xpnet.config.definitions import MOST_NETWORKS
from xpnet.config.settings import VARYING, Settings
from xpnet.data import Dataset
from xpnet.sklearn.best_epochs import BestEpochs
from xpnet.sklearn.classifier import XpnetClassifier
from xpnet.sklearn.fitting import Start, adopt, prepare, training_of
from xpnet.sklearn.parameters import network_config
from xpnet.training.callback import Callback
from xpnet.training.chunks import most_in_memory
from xpnet.training.population import Population
from xpnet.tuning.cross_validation import FoldData, FoldTrainer, TrainedFolds

# Parameters in which networks of one population may differ.
STACKING = {field.name for name, (_, field) in Settings.fields().items() if name in VARYING and name != "seed"}


@dataclass(frozen=True)
class Job:
    """A fit that is wanted on every split.

    Attributes:
        number: Its number.
        estimator: An unfitted :class:`XpnetClassifier`, or a Pipeline whose last step is one.
    """

    number: int
    estimator: Any

    @property
    def classifier(self) -> Any:
        """The classifier itself."""
        return last_step(self.estimator)

    @property
    def steps(self) -> list[tuple[str, Any]]:
        """The steps before the classifier."""
        return list(self.estimator.steps[:-1]) if isinstance(self.estimator, Pipeline) else []


@dataclass(frozen=True)
class Fit:
    """A fitted estimator.

    Attributes:
        job: Number of its job.
        split: Number of its split.
        estimator: The fitted estimator.
        seconds: Its share of the time of its population.
    """

    job: int
    split: int
    estimator: Any
    seconds: float


@dataclass(frozen=True)
class _SplitStart:
    """What the fits of one split begin with: the fitted steps before the classifier, and a classifier with its rows."""

    split: int
    steps: list[tuple[str, Any]]
    classifier: Any
    start: Start


def last_step(estimator: Any) -> Any:
    """Return the last step of a Pipeline, or another estimator itself."""
    return estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator


def can_train_together(estimator: Any) -> bool:
    """Return whether fits of an estimator may be trained together with others."""
    last = last_step(estimator)
    # Its own callbacks are called in a fit of its own, and a warm start depends on an earlier fit.
    return type(last) is XpnetClassifier and not last.callbacks and not last.warm_start


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

    def __call__(self, jobs: Sequence[Job]) -> Iterator[Fit]:
        """Yield the fits that have succeeded, in any order; fits that are missing would fail alone too."""
        groups: dict[str, list[Job]] = {}
        for job in jobs:
            groups.setdefault(_kind(job), []).append(job)
        for group in groups.values():
            yield from self._fit_group(group)

    def _fit_group(self, jobs: list[Job]) -> Iterator[Fit]:
        """Fit jobs whose networks may differ within a population."""
        begin = time.perf_counter()
        starts = [start for split in range(len(self.splits)) if (start := self._start(jobs[0], split)) is not None]
        jobs = [job for job in jobs if all(_fits(job, one) for one in starts)]
        if not starts or not jobs:
            return
        seconds = (time.perf_counter() - begin) / (len(jobs) * len(starts))
        first, classifier = starts[0].start, jobs[0].classifier
        of_data = {id(one.start.data): one for one in starts}
        trainer = FoldTrainer(
            [_fold(one.start.data) for one in starts], get_backend(classifier.device), classifier.dtype
        )
        most = self._most(jobs[0], starts[0])
        for some in _cut(jobs, max(1, most // (first.members * len(starts)))):
            best = BestEpochs(first.members, first.checked["n_iter_no_change"]) if first.validates else None
            parts = trainer.train(
                lambda data, some=some: _population(some, of_data[id(data)]),  # type: ignore[misc]
                max_replicas=most,
                callbacks=[*self.callbacks, *([] if best is None else [best])],
                orders=lambda population: population.seeds,
                final=(),
            )
            for part in parts:
                if best is not None and part.network is not None:
                    best.restore(part.network)
                yield from _finished(part, some, [starts[fold] for fold in part.folds], seconds)

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


def _kind(job: Job) -> str:
    """Return a text that is equal for jobs whose networks may train as one population."""
    shared = {n: value for n, value in job.classifier.get_params(deep=False).items() if n not in STACKING}
    return str(joblib.hash((job.steps, shared)))


def _cut(jobs: list[Job], most: int) -> list[list[Job]]:
    """Return jobs in groups of at most `most`, of nearly equal sizes."""
    count = -(-len(jobs) // most)
    return [jobs[len(jobs) * i // count : len(jobs) * (i + 1) // count] for i in range(count)]


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
            yield Fit(job.number, begun.split, _with_steps(job, begun.steps, classifier), seconds + total)


def _with_steps(job: Job, steps: list[tuple[str, Any]], classifier: Any) -> Any:
    """Return the estimator of a job with fitted steps."""
    if not isinstance(job.estimator, Pipeline):
        return classifier
    whole = clone(job.estimator)
    whole.steps = [*steps, (whole.steps[-1][0], classifier)]
    return whole
