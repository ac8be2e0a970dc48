"""A search over parameters like ``GridSearchCV``, whose fits train together as populations."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.metrics._scorer import _MultimetricScorer
from sklearn.model_selection import ParameterGrid, ParameterSampler, check_cv
from sklearn.model_selection._search import BaseSearchCV
from sklearn.model_selection._validation import (
    _fit_and_score,
    _insert_error_scores,
    _warn_or_raise_about_fit_failures,
)
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import _check_method_params, indexable

from xpnet.config.fields import argument, optional, whole
from xpnet.ops.blas import one_blas_thread
from xpnet.sklearn.fits_together import Fit, FitsTogether, Job, can_train_together, last_step
from xpnet.training.callback import Callback, callbacks_of


class PopulationSearchCV(BaseSearchCV):  # type: ignore[misc]
    """A cross-validated search over parameters of :class:`XpnetClassifier`, trained as populations.

    It takes the place of ``GridSearchCV`` and ``RandomizedSearchCV``: candidates that differ in learning rates,
    penalties, momentum, dropout or initial weights train together on all splits.  Others, such as those with
    other layers or batch sizes, train one population after another.  Candidates that are no :class:`XpnetClassifier`,
    and fits with arguments that a Pipeline distributes, are fitted one by one.

    Args:
        estimator: An :class:`XpnetClassifier`, or a Pipeline whose last step is one; equal steps before it are fitted
            once on each split.
        param_grid: Lists of values by parameter, or distributions if `n_iter` is given; or a sequence of such mappings.
        n_iter: Number of candidates that are drawn; None takes all of the grid.
        scoring: A metric, several, or a function, as in ``GridSearchCV``.
        refit: Whether the best candidate is fitted on all rows; the name of a metric, or a function of `cv_results_`.
        cv: Number of folds, or a splitter, as in ``GridSearchCV``.
        n_repeats: Fits of each candidate on each split, with other seeds; scores are their means.
        max_members: Most networks that train together; None for as many as memory holds.
        callbacks: Instances of :class:`xpnet.Callback`, called as if every population were a training of its own.
        error_score: Score of a fit that fails, or ``"raise"``.
        return_train_score: Whether training rows are scored too.
        verbose: As in ``GridSearchCV``.
        random_state: Seed, or generator, of the candidates that are drawn.

    Attributes:
        cv_results_: The scores by candidate, with the keys of ``GridSearchCV``.
        best_index_: Position of the best candidate.
        best_params_: Its parameters.
        best_score_: Its mean score.
        best_estimator_: The estimator with these parameters, fitted on all rows.
        scorer_, n_splits_, refit_time_, multimetric_: As in ``GridSearchCV``.
    """

    def __init__(
        self,
        estimator: Any,
        param_grid: Any,
        *,
        n_iter: int | None = None,
        scoring: Any = None,
        refit: Any = True,
        cv: Any = None,
        n_repeats: int = 1,
        max_members: int | None = None,
        callbacks: Sequence[Callback] = (),
        error_score: Any = np.nan,
        return_train_score: bool = False,
        verbose: int = 0,
        random_state: Any = None,
    ) -> None:
        super().__init__(
            estimator=estimator,
            scoring=scoring,
            refit=refit,
            cv=cv,
            verbose=verbose,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.param_grid = param_grid
        self.n_iter = n_iter
        self.n_repeats = n_repeats
        self.max_members = max_members
        self.callbacks = callbacks
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, **params: Any) -> PopulationSearchCV:
        """Fit all candidates on all splits, and the best one on all rows.

        Args:
            X: Features (n, d), as for :meth:`XpnetClassifier.fit`.
            y: Classes (n,).
            **params: Arguments of the estimator's fit, such as `sample_weight`, and `groups` for the splitter.

        Returns:
            The search.

        Raises:
            ValueError: A parameter is wrong, or all fits have failed.
        """
        checks = {"n_iter": optional(whole(1)), "n_repeats": whole(1), "max_members": optional(whole(1))}
        for name, check in (checks | {"callbacks": callbacks_of}).items():
            argument(name, getattr(self, name), check)
        scorers, metric = self._get_scorers()
        X, y = indexable(X, y)
        params = _check_method_params(X, params=params)
        routed = self._get_routed_params_for_fit(params)
        splitter = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        splits = list(splitter.split(X, y, **routed.splitter.split))
        self.n_splits_ = len(splits)
        candidates = self._candidates()
        scored = self._scores(candidates, X, y, splits, scorers, routed)
        _warn_or_raise_about_fit_failures(scored, self.error_score)
        if callable(self.scoring):
            _insert_error_scores(scored, self.error_score)
        scored = _means(scored, self.n_repeats)
        self._choose(self._format_results(candidates, self.n_splits_, scored), scored, metric)
        if self.refit:
            begin = time.time()
            self.best_estimator_ = clone(self.estimator).set_params(**clone(self.best_params_, safe=False))
            self.best_estimator_.fit(X, y, **routed.estimator.fit)
            self.refit_time_ = time.time() - begin
            if hasattr(self.best_estimator_, "feature_names_in_"):
                self.feature_names_in_ = self.best_estimator_.feature_names_in_
        self.scorer_ = scorers._scorers if isinstance(scorers, _MultimetricScorer) else scorers
        return self

    def _candidates(self) -> list[dict[str, Any]]:
        """Return the parameters of each candidate."""
        if self.n_iter is None:
            return list(ParameterGrid(self.param_grid))
        return list(ParameterSampler(self.param_grid, self.n_iter, random_state=self.random_state))

    def _choose(self, results: dict[str, Any], scored: list[dict[str, Any]], metric: Any) -> None:
        """Set the results and the best candidate."""
        self.cv_results_ = results
        self.multimetric_ = isinstance(scored[0]["test_scores"], dict)
        if callable(self.scoring) and self.multimetric_:
            self._check_refit_for_multimetric(scored[0]["test_scores"])
            metric = self.refit
        if self.refit or not self.multimetric_:
            self.best_index_ = self._select_best_index(self.refit, metric, results)
            if not callable(self.refit):
                self.best_score_ = results[f"mean_test_{metric}"][self.best_index_]
            self.best_params_ = results["params"][self.best_index_]

    def _scores(
        self, candidates: list[dict[str, Any]], X: Any, y: Any, splits: list[Any], scorers: Any, routed: Any
    ) -> list[dict[str, Any]]:
        """Return the scores of each candidate, split and repetition, in this order."""
        jobs = self._jobs(candidates)
        score = _Scoring(self, X, y, splits, scorers, routed, len(jobs))
        params = routed.estimator.fit
        able = [job for job in jobs if can_train_together(job.estimator)]
        if y is None or (params and isinstance(self.estimator, Pipeline)):
            able = []
        together = FitsTogether(
            X,
            y,
            [train for train, _ in splits],
            lambda rows: _check_method_params(X, params=params, indices=rows),
            self.max_members,
            self.callbacks,
        )
        found = {}
        for fit in together(able):
            with one_blas_thread():  # others would keep cores busy between the small products of each score
                found[fit.job, fit.split] = score(jobs[fit.job], fit.split, fit)
        return [
            found[job.number, split] if (job.number, split) in found else score(job, split)
            for candidate in range(len(candidates))
            for split in range(len(splits))
            for job in jobs[candidate * self.n_repeats : (candidate + 1) * self.n_repeats]
        ]

    def _jobs(self, candidates: list[dict[str, Any]]) -> list[Job]:
        """Return the fits that are wanted: each candidate with the seed of each repetition."""
        jobs: list[Job] = []
        drawn = int(np.random.randint(2**30))  # noqa: NPY002 - random_state=None means NumPy's own generator
        for parameters in candidates:
            estimator = clone(self.estimator).set_params(**clone(parameters, safe=False))
            for repeat in range(self.n_repeats):
                own = clone(estimator)
                last = last_step(own)
                if can_train_together(own):
                    last.random_state = _seed(last.random_state, drawn, repeat)
                jobs.append(Job(len(jobs), own))
        return jobs


@dataclass(frozen=True)
class _Scoring:
    """Scores estimators as ``GridSearchCV`` does."""

    search: PopulationSearchCV
    X: Any
    y: Any
    splits: Sequence[Any]
    scorers: Any
    routed: Any
    jobs: int

    def __call__(self, job: Job, split: int, fit: Fit | None = None) -> dict[str, Any]:
        """Return the scores of a job on a split; without a `fit`, it is fitted first."""
        search, (train, test) = self.search, self.splits[split]
        estimator = clone(job.estimator) if fit is None else fit.estimator
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
            candidate_progress=(job.number, self.jobs),
            error_score=search.error_score,
        )
        if fit is not None:
            scores["fit_time"] = fit.seconds
        return scores


def _seed(random_state: Any, drawn: int, repeat: int) -> Any:
    """Return the `random_state` of a repetition; candidates without one share the seed `drawn`."""
    if random_state is None:
        return drawn + repeat
    if repeat == 0:
        return random_state
    first = random_state if isinstance(random_state, (int, np.integer)) else copy.deepcopy(random_state).randint(2**30)
    return int(first) + repeat


def _means(scored: list[dict[str, Any]], repeats: int) -> list[dict[str, Any]]:
    """Return the means over the repetitions, which are neighbours."""
    groups = [scored[at : at + repeats] for at in range(0, len(scored), repeats)]
    return [{name: _mean([one[name] for one in group]) for name in group[0]} for group in groups]


def _mean(values: list[Any]) -> Any:
    if isinstance(values[0], Mapping):
        return {name: _mean([one[name] for one in values]) for name in values[0]}
    return values[0] if len(values) == 1 or not isinstance(values[0], (int, float)) else float(np.mean(values))
