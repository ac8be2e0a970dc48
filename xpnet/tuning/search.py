"""A search, begun here or joined while other workers run it, up to its winner."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xpnet.backend import Backend, get_backend
from xpnet.config.arguments import function, kind, path, takes
from xpnet.config.definitions import DataConfig
from xpnet.config.fields import optional, text_of
from xpnet.config.settings import Settings
from xpnet.data import Dataset, load_data
from xpnet.errors import RunError
from xpnet.nn.network import Network
from xpnet.training.callback import Callback, callbacks_of
from xpnet.training.device_data import to_device
from xpnet.training.outcome_warnings import few_steps
from xpnet.training.population import Population
from xpnet.training.train_population import train_population
from xpnet.tuning.kept_networks import NetworkStore
from xpnet.tuning.rounds import Rounds
from xpnet.tuning.search_conclusion import with_budget
from xpnet.tuning.search_config import SearchConfig
from xpnet.tuning.search_identity import OWN, check_data, difference, identity
from xpnet.tuning.space import Space
from xpnet.tuning.storage import close_storage, open_storage
from xpnet.tuning.trial_queue import TrialQueue
from xpnet.tuning.trials import Outcome, ResultDisplay, Trial
from xpnet.tuning.winner import Metrics, check_final, find_once, winner_settings, with_all_sets
from xpnet.tuning.worker import SearchWorker
from xpnet.utils.extras import need
from xpnet.utils.plural import counted


@dataclass(repr=False)
class SearchResult(ResultDisplay):
    """The result of a search.

    Attributes:
        outcome: All trials; see :class:`~xpnet.tuning.trials.Outcome`.
        settings: The winner's settings, in the form for ``xpnet train --config``; None without a winner.
        final: The winner's figures: ``"test"``, ``"validation"`` and ``"train"``, in the form of ``metrics.json``, and
            ``"trained_again"``; None if the test set is not used.
        interrupted: Whether the search was stopped before its end.
        seconds: Wall time of this worker.
        warnings: Sentences on reasons to doubt the outcome, with advice; empty if there are none.
        network: The winner's networks as the search trained them; None if a file or another worker has them.
    """

    outcome: Outcome
    settings: dict[str, Any] | None
    final: Metrics | None
    interrupted: bool
    seconds: float
    warnings: list[str] = field(default_factory=list)
    network: Network | None = None

    @property
    def best(self) -> Trial | None:
        """The winner; see :attr:`~xpnet.tuning.trials.Outcome.best`."""
        return self.outcome.best

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All trials, in the order in which they were planned."""
        return self.outcome.trials


@dataclass
class Search:
    """One worker's part in a search.

    Attributes:
        rounds: The rounds of the search.
        queue: The trials that workers share.
        data: The data set.
        backend: Where this worker computes.
        most: Most networks that train together; None takes the usual number for the device.
    """

    rounds: Rounds
    queue: TrialQueue
    data: Dataset
    backend: Backend
    most: int | None = None
    _begin: float = field(default_factory=time.perf_counter)

    @classmethod
    def start(
        cls,
        space: Space,
        settings: Settings,
        config: SearchConfig,
        data: Dataset,
        backend: Backend,
        storage: Any,
        name: str,
    ) -> Search:
        """Begin a search, or join the same search if the storage has it already.

        Raises:
            ConfigError: A point of the space cannot be trained, or not on this data.
            RunError: The storage has another search of this name.
        """
        rounds = Rounds(space, {**settings.to_mapping(), "data": data.location, "split": data.split}, config, data)
        rounds.check()
        searched = identity(space.texts(), rounds.base, config.to_mapping(), data)
        return cls(rounds, TrialQueue(storage, name, searched, difference), data, backend, settings.run.max_replicas)

    @classmethod
    def join(
        cls,
        storage: Any,
        name: str,
        own: Mapping[str, Any],
        backend: Backend,
        *,
        load: Callable[[DataConfig], Dataset] = load_data,
    ) -> Search:
        """Join an existing search, or continue an interrupted one.

        Args:
            storage: The storage of the search.
            name: The name of its study.
            own: This worker's own settings, from :data:`~xpnet.tuning.search_identity.OWN`, and its ``lease``.
            backend: Where to compute.
            load: Function that reads the data.

        Raises:
            RunError: There is no such search, or its data is different.
        """
        queue = TrialQueue(storage, name)
        stored = queue.identity()
        if stored is None:
            raise RunError(f"study = {name}: was ended before it was known what to search; begin it anew")
        config = SearchConfig.from_mapping({**stored["search"], **{k: v for k, v in own.items() if k == "lease"}})
        base = {**stored["settings"], **{k: v for k, v in own.items() if k in OWN}}
        space = Space.of(stored["space"])
        settings = space.checked(base)
        data = load(space.data_settings(settings.data))
        check_data(stored, data)
        rounds = Rounds(space, {**base, "data": data.location}, config, data)
        return cls(rounds, queue, data, backend, settings.run.max_replicas)

    def run(
        self,
        *,
        on_change: Callable[[Outcome], None] | None = None,
        callbacks: Sequence[Callback] = (),
        train: Callable[[Settings], Metrics | None] | None = None,
        store: NetworkStore | None = None,
        warn: Callable[[str], None] = lambda _: None,
    ) -> SearchResult:
        """Work until the search is finished and its winner is tested, or trained again if the settings say so.

        Args:
            on_change: Called with the outcome so far whenever it has changed.
            callbacks: Called while trials are trained; unfinished trials are given back when one stops.
            train: Function that trains the winner again and returns its figures, or None if interrupted; by default it
                trains in memory.
            store: The store for the networks of the best trials; in memory if not given.
            warn: Called with a sentence if the winner must be trained again although the settings do not say so.
        """

        def stop() -> bool:
            return any(callback.should_stop() for callback in callbacks)

        config, store = self.rounds.config, store or NetworkStore(self.data)
        data = to_device(self.data, self.backend, self.rounds.dtype)
        worker = SearchWorker(
            self.rounds,
            self.queue,
            data,
            self.most,
            on_change=on_change or (lambda _: None),
            callbacks=callbacks,
            store=store,
        )
        outcome = worker.run(config.lease)
        best, winner, final, network = outcome.best, None, None, None
        interrupted = stop()
        if best is not None and not interrupted:
            winner = winner_settings(self.rounds, outcome)
            store.settle(best)
            kept = store.get(best, self.backend)
            if store.in_memory and not isinstance(kept, str):
                network = kept[0]

            def test_winner() -> Metrics | None:
                settings = Settings.from_mapping(winner or {})
                if not config.trains_again and self.rounds.cv is None:
                    if not isinstance(kept, str):
                        figures = with_all_sets(*kept, worker.data_of(settings), settings.train)
                        return store.finish(figures | {"trained_again": False})
                    warn(f"trial {best.number} won, and its networks cannot be had ({kept}): it is trained again")
                metrics = self._train(settings, worker) if train is None else train(settings)
                return None if metrics is None else metrics | {"trained_again": True}

            if config.final != "none":
                final = find_once(self.queue, self.backend.device, config.lease, test_winner, stop)
                interrupted = final is None
        seconds = time.perf_counter() - self._begin
        return SearchResult(outcome, winner, final, interrupted, seconds, self.warnings(outcome), network)

    def warnings(self, outcome: Outcome) -> list[str]:
        """Return reasons to doubt the outcome; warnings about the winner's training come with its figures."""
        best, warnings = outcome.best, []
        if best is None:
            return []
        if outcome.none_better and outcome.guessing is not None:
            ranked = outcome.ranked()
            words = outcome.guessing.none_better([trial.score for trial in ranked], counted(len(ranked), "trial"))
            warnings.append(f"{words}. Try other ranges, more steps, or other settings of what all trials share.")
        settings = Settings.from_mapping(self.rounds.settings(best.point, best.round))
        network = settings.network_config(self.data.inputs, self.data.classes)
        length = settings.train.length(len(self.data.train), network)
        warnings += few_steps(length.steps, settings.train, length)
        return with_budget(warnings, self.rounds.config.budget)

    def _train(self, settings: Settings, worker: SearchWorker) -> Metrics:
        """Train the winner in memory."""
        same = settings.data.split == self.data.split
        data = worker.data_of(settings).data if same else load_data(settings.data)
        population = Population.of(settings, data.inputs, data.classes)
        _, result = train_population(population, data, backend=self.backend, dtype=settings.run.dtype)
        return result.to_json()


def _storage(value: Any) -> Any:
    """Check for a URL, a path, or a storage of Optuna's."""
    if isinstance(value, str) and "://" in value:
        return value
    return value if hasattr(value, "create_new_study") else path(value)


@takes(
    data=optional(kind(Dataset)),
    settings=optional(kind(Mapping)),
    backend=optional(kind(Backend)),
    storage=optional(_storage),
    study=text_of("a name"),
    on_change=optional(function),
    callbacks=callbacks_of,
)
def search(
    space: Any,
    data: Dataset | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    backend: Backend | None = None,
    storage: Any = None,
    study: str = "search",
    on_change: Callable[[Outcome], None] | None = None,
    callbacks: Sequence[Callback] = (),
    **how: Any,
) -> SearchResult:
    """Search settings: train many networks as populations, and test the best of them.

    Args:
        space: The settings to search: ``"lambda"``, ``["lambda", "eta=1e-3..0.1"]``, or a mapping with a pair (low,
            high), a list, or None for the usual range, such as ``{"lambda": (1e-5, 1e-1), "width": [50, 100]}``.
        data: A data set; the data that `settings` name if not given.
        settings: Settings that all trials share, by the names of ``config.toml``.
        backend: Where to compute; the CPU if not given.
        storage: A journal file or the URL of a database, which other workers may share, or a storage of Optuna's;
            in memory if not given.
        study: The search's name in the storage.
        on_change: Called with the outcome so far whenever it has changed.
        callbacks: Instances of :class:`xpnet.Callback`, called during training; the search ends when one stops.
        **how: Fields of :class:`xpnet.tuning.SearchConfig`: ``draw``, ``trials``, ``rounds``, ``refine``, ``best``,
            ``round_cycles``, ``budget``, ``prune``, ``final``, ``final_runs``, ``lease``.

    Returns:
        The trials, the best of them, and the winner's settings, networks and figures.

    Raises:
        ConfigError: An argument is out of its range, or cannot be trained.
        RunError: The storage cannot be used, or holds another search of this name.
        MissingExtraError: Optuna is not installed.
    """
    need("search", "xpnet.search")
    given = dict(settings or {})
    searched = Space.of(space)
    searched.refuse(given)
    config, base = SearchConfig.from_mapping(how), searched.checked(given)
    data = data if data is not None else load_data(searched.data_settings(base.data))
    check_final(config, base.data, data)
    is_optunas = not (storage is None or isinstance(storage, str) or hasattr(storage, "__fspath__"))
    optunas = storage if is_optunas else open_storage(storage)
    try:
        worker = Search.start(searched, base, config, data, backend or get_backend("cpu"), optunas, study)
        return worker.run(on_change=on_change, callbacks=callbacks)
    finally:
        if not is_optunas:
            close_storage(optunas)
