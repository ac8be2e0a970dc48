"""Scores of fits, by scikit-learn's own functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.model_selection._validation import _fit_and_score

from xpnet.ops.blas import one_blas_thread
from xpnet.sklearn.fits_together import FitsTogether
from xpnet.sklearn.jobs import Fit, Job
from xpnet.sklearn.kept_scores import KeptScores, digest


@dataclass
class Scoring:
    """Fits jobs on splits, and scores them as ``GridSearchCV`` does.

    Attributes:
        search: The search.
        X, y: The rows.
        splits: Rows of each split that train, and that test.
        scorers: What scores.
        routed: Arguments of the estimator's fit and of the scorers.
        jobs: The jobs, whose positions are their numbers.
        able: Numbers of those that may be trained together.
        together: Fits these.
        kept: Scores of an earlier search; None if they are not kept.
    """

    search: Any
    X: Any
    y: Any
    splits: Sequence[Any]
    scorers: Any
    routed: Any
    jobs: Sequence[Job]
    able: set[int]
    together: FitsTogether
    kept: KeptScores | None = None
    _alone: dict[tuple[int, int], dict[str, Any]] = field(default_factory=dict)

    def __call__(self, numbers: Sequence[int], share: float = 1.0) -> dict[tuple[int, int], dict[str, Any]]:
        """Return the scores of some jobs on each split, by job and split, after a share of their epochs.

        Jobs that cannot be trained together, and fits that fail, have the scores of complete fits.
        """
        every = [(number, split) for number in numbers for split in range(len(self.splits))]
        found = {fit: scores for fit in every if (scores := self._earlier(fit, share)) is not None}
        able = [self.jobs[number] for number in numbers if number in self.able]
        for fit in self.together(able, share, found):
            place = fit.job, fit.split
            if place not in found:
                with one_blas_thread():  # others would keep cores busy between the small products of each score
                    found[place] = self._scores(*place, fit)
                self._keep(place, share, found[place])
        for place in every:
            if place not in found:
                if place not in self._alone:
                    self._alone[place] = self._scores(*place) | {"epochs": 0}
                    self._keep(place, 1.0, self._alone[place])
                found[place] = self._alone[place]
        return {place: found[place] for place in every}

    def _scores(self, job: int, split: int, fit: Fit | None = None) -> dict[str, Any]:
        """Return the scores of a job on a split; without a `fit`, it is fitted first."""
        search, (train, test) = self.search, self.splits[split]
        estimator = clone(self.jobs[job].estimator) if fit is None else fit.estimator
        if fit is not None:
            estimator.fit = lambda *_, **__: estimator
        scores: dict[str, Any] = _fit_and_score(
            estimator,
            self.X,
            self.y,
            scorer=self.scorers,
            train=train,
            test=test,
            verbose=search.verbose,
            parameters=None,
            fit_params=self.routed.estimator.fit,
            score_params=self.routed.scorer.score,
            return_train_score=search.return_train_score,
            return_n_test_samples=True,
            return_times=True,
            split_progress=(split, len(self.splits)),
            candidate_progress=(job, len(self.jobs)),
            error_score=search.error_score,
        )
        return scores if fit is None else scores | {"fit_time": fit.seconds, "epochs": fit.epochs}

    def _earlier(self, place: tuple[int, int], share: float) -> dict[str, Any] | None:
        """Return the scores of a fit that an earlier search has kept; None if there are none."""
        if self.kept is None:
            return None
        return self.kept.get(self._key(place, share if place[0] in self.able else 1.0))

    def _keep(self, place: tuple[int, int], share: float, scores: Mapping[str, Any]) -> None:
        if self.kept is not None:
            self.kept.keep(self._key(place, share), scores, self.jobs[place[0]].parameters)

    def _key(self, place: tuple[int, int], share: float) -> str:
        job = self.jobs[place[0]]
        return digest("a candidate", (job.identity, place[1], share))


def means(scored: Sequence[Mapping[str, Any]], repeats: int) -> list[dict[str, Any]]:
    """Return the means over the repetitions, which are neighbours."""
    groups = [scored[at : at + repeats] for at in range(0, len(scored), repeats)]
    return [{name: _mean([one[name] for one in group]) for name in group[0]} for group in groups]


def _mean(values: list[Any]) -> Any:
    if isinstance(values[0], Mapping):
        return {name: _mean([one[name] for one in values]) for name in values[0]}
    return values[0] if len(values) == 1 or not isinstance(values[0], (int, float)) else float(np.mean(values))
