"""Fits that are wanted, and those that are done: which of them may train together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import joblib
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from xpnet.config.settings import VARYING, Settings
from xpnet.sklearn.classifier import XpnetClassifier

# Parameters in which networks of one population may differ.
STACKING = {field.name for name, (_, field) in Settings.fields().items() if name in VARYING and name != "seed"}


@dataclass(frozen=True)
class Job:
    """A fit that is wanted on every split.

    Attributes:
        number: Its number.
        estimator: An unfitted :class:`XpnetClassifier`, or a Pipeline whose last step is one; or another classifier.
        parameters: The parameters of its candidate.
        identity: What tells it from jobs of other searches: its estimator, before it has a seed, and its repetition.
    """

    number: int
    estimator: Any
    parameters: Mapping[str, Any] = field(default_factory=dict)
    identity: Any = None

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
        epochs: Epochs that it has trained.
    """

    job: int
    split: int
    estimator: Any
    seconds: float
    epochs: int


def last_step(estimator: Any) -> Any:
    """Return the last step of a Pipeline, or another estimator itself."""
    return estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator


def can_train_together(estimator: Any) -> bool:
    """Return whether fits of an estimator may be trained together with others."""
    last = last_step(estimator)
    # Its own callbacks are called in a fit of its own, and a warm start depends on an earlier fit.
    return type(last) is XpnetClassifier and not last.callbacks and not last.warm_start


def kind_of(job: Job) -> str:
    """Return a text that is equal for jobs whose networks may train as one population."""
    shared = {n: value for n, value in job.classifier.get_params(deep=False).items() if n not in STACKING}
    return str(joblib.hash((job.steps, shared)))


def cut(jobs: list[Job], most: int) -> list[list[Job]]:
    """Return jobs in groups of at most `most`, of nearly equal sizes."""
    count = -(-len(jobs) // most)
    return [jobs[len(jobs) * i // count : len(jobs) * (i + 1) // count] for i in range(count)]


def with_steps(job: Job, steps: list[tuple[str, Any]], classifier: Any) -> Any:
    """Return the estimator of a job with fitted steps."""
    if not isinstance(job.estimator, Pipeline):
        return classifier
    whole = clone(job.estimator)
    whole.steps = [*steps, (whole.steps[-1][0], classifier)]
    return whole
