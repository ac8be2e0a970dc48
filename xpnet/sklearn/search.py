"""A search over parameters like ``GridSearchCV``, whose fits train together as populations."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.metrics._scorer import _MultimetricScorer
from sklearn.model_selection import ParameterGrid, ParameterSampler, check_cv
from sklearn.model_selection._search import BaseSearchCV
from sklearn.model_selection._validation import _insert_error_scores, _warn_or_raise_about_fit_failures
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import _check_method_params, indexable

from xpnet.config.fields import argument, choice, optional, whole
from xpnet.sklearn.fits_together import FitsTogether
from xpnet.sklearn.halving import best_of_last_round, better_half, judging_metric, mean_scores, shares
from xpnet.sklearn.jobs import Job, can_train_together, last_step
from xpnet.sklearn.kept_scores import kept_scores
from xpnet.sklearn.scoring import Scoring, means
from xpnet.training.callback import Callback, callbacks_of


def _location(value: Any) -> Any:
    if isinstance(value, (str, os.PathLike)):
        return value
    raise ValueError("a file, or the URL of a database")


_CHECKS = {
    "n_iter": optional(whole(1)),
    "n_repeats": whole(1),
    "max_members": optional(whole(1)),
    "pruning": optional(choice("halving")),
    "storage": optional(_location),
    "callbacks": callbacks_of,
}


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
        pruning: ``"halving"`` trains the worse half of the candidates no further after 1/8, 1/4 and 1/2 of their
            epochs, by their mean scores over the splits; None trains all to the end.
        storage: A file, or the URL of a database, that keeps the scores of finished fits, so that a search that was
            interrupted goes on when it is fitted again; None keeps nothing.
        callbacks: Instances of :class:`xpnet.Callback`, called as if every population were a training of its own.
        error_score: Score of a fit that fails, or ``"raise"``.
        return_train_score: Whether training rows are scored too.
        verbose: As in ``GridSearchCV``.
        random_state: Seed, or generator, of the candidates that are drawn.

    Attributes:
        cv_results_: The scores by candidate, with the keys of ``GridSearchCV``; with `pruning`, by round and candidate,
            with the keys of ``HalvingGridSearchCV``: `iter` is the round, `n_resources` the epochs trained.
        best_index_: Position of the best candidate.
        best_params_: Its parameters.
        best_score_: Its mean score.
        best_estimator_: The estimator with these parameters, fitted on all rows.
        n_iterations_: Number of rounds, with `pruning`.
        n_candidates_: Candidates of each round, with `pruning`.
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
        pruning: str | None = None,
        storage: Any = None,
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
        self.pruning = pruning
        self.storage = storage
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
        for name, check in _CHECKS.items():
            argument(name, getattr(self, name), check)
        scorers, metric = self._get_scorers()
        X, y = indexable(X, y)
        params = _check_method_params(X, params=params)
        routed = self._get_routed_params_for_fit(params)
        splitter = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        splits = list(splitter.split(X, y, **routed.splitter.split))
        self.n_splits_ = len(splits)
        candidates = self._candidates()
        rows, scored = self._evaluate(candidates, X, y, splits, scorers, routed)
        _warn_or_raise_about_fit_failures(scored, self.error_score)
        scored = means(scored, self.n_repeats)
        more = {} if self.pruning is None else self._of_rounds(rows, scored)
        tried = [candidates[candidate] for of_round in rows for candidate in of_round]
        self._choose(self._format_results(tried, self.n_splits_, scored, more), scored, metric)
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
            whole = self.pruning is None or callable(self.refit)
            select = self._select_best_index if whole else best_of_last_round
            self.best_index_ = select(self.refit, metric, results)
            if not callable(self.refit):
                self.best_score_ = results[f"mean_test_{metric}"][self.best_index_]
            self.best_params_ = results["params"][self.best_index_]

    def _evaluate(
        self, candidates: list[dict[str, Any]], X: Any, y: Any, splits: list[Any], scorers: Any, routed: Any
    ) -> tuple[list[list[int]], list[dict[str, Any]]]:
        """Return the candidates of each round, and the scores of their fits by candidate, split and repetition."""
        jobs, params = self._jobs(candidates), routed.estimator.fit
        able = {job.number for job in jobs if can_train_together(job.estimator)}
        if y is None or (params and isinstance(self.estimator, Pipeline)):
            able = set()
        together = FitsTogether(
            X,
            y,
            [train for train, _ in splits],
            lambda rows: _check_method_params(X, params=params, indices=rows),
            self.max_members,
            self.callbacks,
        )
        what = X, y, splits, params, routed.scorer.score, self.scoring, self.return_train_score
        with kept_scores(self.storage, what) as kept:
            score = Scoring(self, X, y, splits, scorers, routed, jobs, able, together, kept)
            left, rows, scored = list(range(len(candidates))), [], []
            for share in [1.0] if self.pruning is None else shares(len(left)):
                of_round = self._round(left, score, share)
                rows.append(left)
                scored += of_round
                if share < 1:
                    of_round = means(of_round, self.n_repeats)
                    metric = judging_metric(self.refit, of_round[0]["test_scores"])
                    left = [left[at] for at in better_half(mean_scores(of_round, self.n_splits_, metric))]
        return rows, scored

    def _round(self, candidates: list[int], score: Scoring, share: float) -> list[dict[str, Any]]:
        """Return the scores of candidates after a share of their epochs, by candidate, split and repetition."""
        repeats = range(self.n_repeats)
        found = score([self.n_repeats * candidate + repeat for candidate in candidates for repeat in repeats], share)
        of_round = [
            found[self.n_repeats * candidate + repeat, split]
            for candidate in candidates
            for split in range(self.n_splits_)
            for repeat in repeats
        ]
        if callable(self.scoring):
            _insert_error_scores(of_round, self.error_score)
        return of_round

    def _of_rounds(self, rows: list[list[int]], scored: list[dict[str, Any]]) -> dict[str, list[int]]:
        """Return what `cv_results_` says about the rounds, and set the attributes that do."""
        self.n_iterations_, self.n_candidates_ = len(rows), [len(of_round) for of_round in rows]
        epochs = np.array([one["epochs"] for one in scored]).reshape(-1, self.n_splits_).max(axis=1)
        rounds = [number for number, of_round in enumerate(rows) for _ in of_round]
        return {"iter": rounds, "n_resources": [round(float(count)) for count in epochs]}

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
                jobs.append(Job(len(jobs), own, parameters, (estimator, repeat)))
        return jobs


def _seed(random_state: Any, drawn: int, repeat: int) -> Any:
    """Return the `random_state` of a repetition; candidates without one share the seed `drawn`."""
    if random_state is None:
        return drawn + repeat
    if repeat == 0:
        return random_state
    first = random_state if isinstance(random_state, (int, np.integer)) else copy.deepcopy(random_state).randint(2**30)
    return int(first) + repeat
