"""Fits of classifiers on folds, each classifier in a process of its own that is ended if a fit takes too long."""

from __future__ import annotations

import multiprocessing
import time
import warnings
from typing import Any, NamedTuple

from bench.quality.classifiers import CLASSIFIERS
from bench.quality.sets import SETS, Loaded

FOLDS = 5


class Task(NamedTuple):
    """A fit: a set, and one of the folds of one of its repeats."""

    data: str
    repeat: int
    fold: int


class TooLongError(Exception):
    """A fit that has taken longer than its limit, in seconds."""

    def __init__(self, limit: float) -> None:
        super().__init__(f"took more than {limit:g} s")


class FailedError(Exception):
    """A fit that has failed."""


class Process:
    """A process that fits one classifier; it starts anew after a fit that took too long.

    Args:
        name: The classifier.
        limit: Most seconds of a fit with its prediction.
    """

    def __init__(self, name: str, limit: float) -> None:
        self._name, self._limit = name, limit
        self._process: Any = None

    def __call__(self, task: Task) -> dict[str, float]:
        """Return accuracy and log-loss on a held-out fold, and the seconds of the fit.

        Raises:
            TooLongError: It took longer than the limit.
            FailedError: It raised an exception.
        """
        if self._process is None:
            context = multiprocessing.get_context("spawn")
            self._end, other = context.Pipe()
            self._process = context.Process(target=_serve, args=(other, self._name), daemon=True)
            self._process.start()
            other.close()
        self._end.send(task)
        if not self._end.poll(self._limit):
            self.close()
            raise TooLongError(self._limit)
        try:
            answer = self._end.recv()
        except EOFError:
            self.close()
            raise FailedError("its process has ended") from None
        if isinstance(answer, str):
            raise FailedError(answer)
        return dict(answer)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._end.close()
            self._process = None


def _serve(end: Any, name: str) -> None:
    """Answer tasks until there are no more."""
    kept: dict[str, Loaded] = {}
    while True:
        try:
            task = end.recv()
        except EOFError:
            return
        if task.data not in kept:
            kept.clear()
            kept[task.data] = SETS[task.data].load()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of iterations that have not converged
                end.send(scores(name, kept[task.data], task))
        except Exception as error:  # whatever fails in a library must reach the parent
            end.send(f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200] if str(error) else ''}")


def scores(name: str, data: Loaded, task: Task) -> dict[str, float]:
    """Fit a classifier on all folds of a set but one, and return its scores on that one.

    The folds are stratified and shuffled, with the number of the repeat as seed, for the folds and for the classifier.
    """
    import numpy as np
    from sklearn.metrics import log_loss
    from sklearn.model_selection import StratifiedKFold

    splitter = StratifiedKFold(FOLDS, shuffle=True, random_state=task.repeat)
    train, held_out = list(splitter.split(np.zeros(len(data.y)), data.y))[task.fold]
    rows = data.X.iloc if hasattr(data.X, "iloc") else data.X
    model = CLASSIFIERS[name].make(data.X, task.repeat)
    begin = time.perf_counter()
    model.fit(rows[train], data.y[train])
    seconds = time.perf_counter() - begin
    probabilities = model.predict_proba(rows[held_out])
    classes = np.asarray(model.classes_)
    predicted = classes[probabilities.argmax(axis=1)]
    return {
        "accuracy": float(np.mean(predicted == data.y[held_out])),
        "loss": float(log_loss(data.y[held_out], probabilities, labels=classes)),
        "seconds": seconds,
    }
