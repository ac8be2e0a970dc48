"""CMA-ES without pickles: Optuna's sampler keeps its state as a pickle in the storage, which may be anybody's."""

from __future__ import annotations

from typing import Any

from optuna.samplers import CmaEsSampler
from optuna.study import StudyDirection

from xpnet.errors import ConfigError


class ReplayedCmaEsSampler(CmaEsSampler):
    """Optuna's CMA-ES, whose state is worked out from the finished trials whenever it is needed.

    A state that a storage holds is never read: unpickling it would run what a stranger has put there.  None is written
    either, since at every call all finished generations have been told of already.
    """

    def __init__(self, **options: Any) -> None:
        for name in ("_restore_optimizer", "_init_optimizer", "_get_solution_trials"):
            if not hasattr(CmaEsSampler, name):
                raise ConfigError(
                    "draw = cmaes: this version of Optuna keeps its state in a way that is not known; take tpe"
                )
        super().__init__(**options)
        self._finished: list[Any] = []

    def _restore_optimizer(self, completed_trials: list[Any], *_: Any) -> None:
        self._finished = completed_trials

    def _init_optimizer(self, trans: Any, direction: Any, *more: Any) -> Any:
        optimizer: Any = super()._init_optimizer(trans, direction, *more)
        sign = 1 if direction == StudyDirection.MINIMIZE else -1
        while True:
            found = self._get_solution_trials(self._finished, optimizer.generation)
            if len(found) < optimizer.population_size:
                return optimizer
            first = sorted(found, key=lambda trial: trial.number)[: optimizer.population_size]
            optimizer.tell([(trans.transform(trial.params), sign * float(trial.value or 0.0)) for trial in first])
