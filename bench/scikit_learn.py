"""Cross-validated searches and single fits, beside scikit-learn's own classifier with the same epochs and batches."""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.results import BenchError
from xpnet.analysis.step_benchmark import in_turn, summary

_HIDDEN, _JOBS, _RATE = (64, 64), 2, 0.1
# Folds and values of lambda of each search; values of the smallest and the largest.
_SEARCHES = {"digits": (5, 20), "table": (3, 10)}
_LAMBDAS = 1e-6, 1e-1
_ROWS = 100_000
Work = Callable[[], Any]


def sklearn(options: argparse.Namespace, _: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Time searches and fits of digits, and of a table of `samples` rows, at most 100,000."""
    try:
        import sklearn  # noqa: F401
    except ImportError:
        raise BenchError("sklearn: needs scikit-learn, which is not installed") from None
    cases = {}
    for name, (X, y) in _data(min(options.samples, _ROWS)).items():
        folds, count = _SEARCHES[name]
        lambdas = np.geomspace(*_LAMBDAS, count).tolist()
        shape = f"{X.shape[0]} rows of {X.shape[1]}, hidden {_HIDDEN}"
        cases[f"search {name}"] = _timed(
            f"{shape}: {folds} folds of {count} values of lambda", _searches(X, y, folds, lambdas), options.rounds, say
        )
        cases[f"fit {name}"] = _timed(f"{shape}: one fit", _fits(X, y), options.rounds, say)
    return {"cases": cases}


def _timed(what: str, ways: dict[str, Work], rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Time ways to the same end in turn; the first is ours."""
    scores: dict[str, float] = {}

    def turn(name: str) -> float:
        begin = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scikit-learn warns that it has not converged
            scores[name] = float(ways[name]())
        return time.perf_counter() - begin

    ours = next(iter(ways))
    turn(ours)  # loads what a first training loads
    times = in_turn({name: lambda _, name=name: turn(name) for name in ways}, rounds - 1)
    rows = {name: summary(values) | {"yardstick": name != ours} for name, values in times.items()}
    say(what)
    for name, row in rows.items():
        ratio = row["median"] / rows[ours]["median"]
        say(f"  {name:42} {row['median']:8.2f} s (min {row['min']:.2f}), {ratio:5.1f} x; accuracy {scores[name]:.4f}")
    return {"what": what, "unit": "s", "reference": None, "rows": rows, "scores": scores}


def _data(rows: int) -> dict[str, Any]:
    from sklearn.datasets import load_digits

    rng = np.random.default_rng(0)
    y = rng.integers(0, 5, rows)
    centres = rng.standard_normal((5, 3, 30))  # three clusters a class
    X = centres[y, rng.integers(0, 3, rows)] + rng.standard_normal((rows, 30))
    return {"digits": load_digits(return_X_y=True), "table": (X.astype(np.float32), y)}


def _classifiers(rows: int) -> tuple[Any, Any]:
    """Return our classifier, and scikit-learn's with the same epochs, batches, rate and momentum."""
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from xpnet.sklearn import XpnetClassifier
    from xpnet.sklearn.parameters import automatic_batch_size, automatic_epochs

    batch = automatic_batch_size(rows)
    epochs = automatic_epochs(rows, 1, batch)  # as long as with rows that are not scarce
    shared = {"random_state": 0, "early_stopping": False}
    without = {"dropout": 0.0, "input_dropout": 0.0}
    ours = XpnetClassifier(hidden=_HIDDEN, batch_size=batch, epochs=epochs, eta_max=_RATE, **without, **shared)
    other = MLPClassifier(
        _HIDDEN, solver="sgd", batch_size=batch, max_iter=epochs, n_iter_no_change=epochs, tol=0.0,
        learning_rate_init=_RATE, **shared,
    )  # fmt: skip
    return ours, make_pipeline(StandardScaler(), other)


def _searches(X: Any, y: Any, folds: int, lambdas: list[float]) -> dict[str, Work]:
    from sklearn.model_selection import GridSearchCV

    from xpnet.sklearn import PopulationSearchCV

    ours, other = _classifiers(len(y) * (folds - 1) // folds)
    grid, of_mlp = {"lam": lambdas}, {"mlpclassifier__alpha": lambdas}
    shared = {"cv": folds, "refit": False}
    return {
        "PopulationSearchCV": lambda: PopulationSearchCV(ours, grid, **shared).fit(X, y).best_score_,
        f"GridSearchCV, {_JOBS} jobs": lambda: GridSearchCV(ours, grid, n_jobs=_JOBS, **shared).fit(X, y).best_score_,
        f"MLPClassifier, GridSearchCV, {_JOBS} jobs": lambda: (
            GridSearchCV(other, of_mlp, n_jobs=_JOBS, **shared).fit(X, y).best_score_
        ),
    }


def _fits(X: Any, y: Any) -> dict[str, Work]:
    ours, other = _classifiers(len(y))
    return {
        "XpnetClassifier": lambda: ours.fit(X, y).score(X, y),
        "MLPClassifier": lambda: other.fit(X, y).score(X, y),
    }
