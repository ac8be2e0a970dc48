"""Small searches, and storages in which a worker dies."""

from __future__ import annotations

from typing import Any

from xpnet.backend import get_backend
from xpnet.config.settings import Settings
from xpnet.data import Dataset
from xpnet.tuning import Search, SearchConfig, Space, open_storage

SMALL = {"hidden": [5], "batch_size": 50, "n_s": 4, "cycles": 2}


class Died(BaseException):
    """Ends a worker that a test kills."""


class Mortal:
    """A storage in which a worker dies at its n-th write, before or after it; it can write nothing from there on."""

    def __init__(self, storage: Any, at: int, *, after: bool) -> None:
        self._storage, self._left, self._after = storage, at, after
        self.dead = False
        self.writes = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._storage, name)
        if not name.startswith(("set_", "create_", "delete_")):
            return method

        def write(*args: Any, **kwargs: Any) -> Any:
            if self.dead:
                raise Died
            if len(args) > 1 and str(args[1]).startswith("lease:"):
                return method(*args, **kwargs)  # these come from a thread, at any time
            self.writes += 1
            self._left -= 1
            if self._left == 0 and not self._after:
                self.dead = True
                raise Died
            result = method(*args, **kwargs)
            if self._left == 0:
                self.dead = True
                raise Died
            return result

        return write


def small_search(data: Dataset, space: Any = "lambda", storage: Any = None, settings: Any = None, **how: Any) -> Search:
    """Begin a small search, or take part in it; in memory if no storage is given."""
    storage = open_storage(None) if storage is None else storage
    values = Settings.from_mapping({**SMALL, **(settings or {})})
    config = SearchConfig(**{"trials": 4, "final": "none", **how})
    return Search.start(Space.of(space), values, config, data, get_backend("cpu"), storage, "study")


def points(outcome: Any) -> list[Any]:
    """Return the trials of a search: number, point and accuracies."""
    return [(trial.number, dict(trial.point), tuple(trial.accuracies)) for trial in outcome.trials]
