"""A search from its beginning, or from where others are, to its winner."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xpnet.backend import Backend, get_backend
from xpnet.config.arguments import function, kind, path, takes
from xpnet.config.definitions import DataConfig
from xpnet.config.fields import optional, text_of
from xpnet.config.settings import Settings
from xpnet.data import IN_MEMORY, Dataset, load_data
from xpnet.errors import ConfigError, RunError
from xpnet.nn.network import Network
from xpnet.training.callback import Callback, callbacks_of
from xpnet.training.device_data import to_device
from xpnet.training.population import Population
from xpnet.training.train_population import train_population
from xpnet.training.verdicts import few_steps
from xpnet.tuning.config import SearchConfig
from xpnet.tuning.identity import OWN, about, check_data, difference
from xpnet.tuning.kept_networks import InMemory, Keeper, with_all_sets
from xpnet.tuning.leases import Worker
from xpnet.tuning.rounds import Rounds
from xpnet.tuning.space import Space
from xpnet.tuning.trial_queue import ATTEMPTS, Claim, Slot, TrialQueue
from xpnet.tuning.trials import Outcome, Trial
from xpnet.tuning.worker import SearchWorker
from xpnet.utils.plural import counted

_SECONDS_TO_WAIT = 0.5


@dataclass
class SearchResult:
    """What a search found.

    Attributes:
        outcome: All trials; see :class:`~xpnet.tuning.trials.Outcome`.
        settings: The winner's settings, as ``xpnet train --config`` takes them; None without a winner.
        final: The winner's figures: ``"test"``, ``"validation"`` and ``"train"``, as ``metrics.json`` holds them, and
            ``"trained_again"``; None if the test set is not to be looked at.
        interrupted: Whether the search was stopped before its end.
        seconds: Time that this worker took.
        warnings: What speaks against the outcome, and what to try: sentences; empty if nothing does.
        network: The winner's networks as the search trained them; None where a file holds them, or another worker.
    """

    outcome: Outcome
    settings: dict[str, Any] | None
    final: dict[str, Any] | None
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
        rounds: What is trained.
        queue: Where trials are shared with other workers.
        data: The data set.
        backend: Where this worker computes.
        most: Most networks that train together; None takes what is usual there.
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
        """Begin a search, or take part in the same one if it is there already.

        Raises:
            ConfigError: Something cannot be trained, or not on this data.
            RunError: Another search of this name is there.
        """
        base = {**settings.to_mapping(), "data": data.location, "split": data.split}
        rounds = Rounds(space, base, config)
        check(rounds, data)
        said = about(space.texts(), rounds.base, config.to_mapping(), data)
        queue = TrialQueue(storage, name, said, difference)
        return cls(rounds, queue, data, backend, settings.run.max_replicas)

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
        """Take part in a search that is there, or go on with one that was interrupted.

        Args:
            storage: Where it is kept.
            name: Its study.
            own: This worker's own settings, of :data:`~xpnet.tuning.identity.OWN`, and its ``lease``.
            backend: Where to compute.
            load: Reads the data.

        Raises:
            RunError: There is no such search, or the data is another.
        """
        queue = TrialQueue(storage, name)
        there = queue.about()
        if there is None:
            raise RunError(f"study = {name}: was ended before it was known what to search; begin it anew")
        space = Space.of(there["space"])
        config = SearchConfig.from_mapping({**there["search"], **{k: v for k, v in own.items() if k == "lease"}})
        base = {**there["settings"], **{k: v for k, v in own.items() if k in OWN}}
        data = load(Settings.from_mapping(base).data)
        check_data(there, data)
        rounds = Rounds(space, {**base, "data": data.location}, config)
        return cls(rounds, queue, data, backend, Settings.from_mapping(rounds.base).run.max_replicas)

    def run(
        self,
        *,
        on_change: Callable[[Outcome], None] | None = None,
        callbacks: Sequence[Callback] = (),
        train: Callable[[Settings], dict[str, Any] | None] | None = None,
        keeper: Keeper | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> SearchResult:
        """Work until the search is finished, then see that its winner is tested, trained again if that was asked for.

        Args:
            on_change: Called with the outcome so far whenever something has become known.
            callbacks: Called while trials are trained; trials that are not finished when one stops are given back.
            train: Trains the winner again and returns its figures, None if it was interrupted; by default a population
                in memory.
            keeper: Keeps the networks of the best trials; in memory if not given.
            tell: Called with a sentence when the winner has to be trained again though that was not asked for.
        """
        config = self.rounds.config
        dtype = Settings.from_mapping(self.rounds.base).run.dtype
        keeper = keeper or InMemory(self.data)
        there = to_device(self.data, self.backend, dtype)
        worker = SearchWorker(
            self.rounds,
            self.queue,
            there,
            most=self.most,
            on_change=on_change,
            callbacks=callbacks,
            keeper=keeper,
        )
        outcome = worker.run(config.lease)

        def stop() -> bool:
            return any(callback.should_stop() for callback in callbacks)

        winner = None if stop() else self.winner(outcome)
        final, interrupted, network = None, stop(), None
        if winner is not None and (best := outcome.best) is not None:
            keeper.settle(best)
            kept = keeper.get(best, self.backend)
            if isinstance(keeper, InMemory) and not isinstance(kept, str):
                network = kept[0]
            if config.final != "none":
                settings, train = Settings.from_mapping(winner), train or self._train

                def figures() -> dict[str, Any] | None:
                    if not config.trains_again and not isinstance(kept, str):
                        whole = with_all_sets(*kept, there, settings.train.lam) | {"trained_again": False}
                        return keeper.finish(kept[0], whole)
                    if not config.trains_again and tell is not None:
                        tell(f"trial {best.number} won, and its networks cannot be had ({kept}): it is trained again")
                    found = train(settings)
                    return None if found is None else found | {"trained_again": True}

                final = self._final(figures, stop)
                interrupted = final is None
        seconds = time.perf_counter() - self._begin
        return SearchResult(outcome, winner, final, interrupted, seconds, self.warnings(outcome), network)

    def warnings(self, outcome: Outcome) -> list[str]:
        """Return what speaks against what was found; what speaks against the winner's training is told with that."""
        best, said = outcome.best, []
        if best is None:
            return []
        if outcome.none_better and outcome.guessing is not None:
            ranked = outcome.ranked()
            words = outcome.guessing.none_better([trial.score for trial in ranked], counted(len(ranked), "trial"))
            said.append(f"{words}. Try other ranges, more steps, or other settings of what all trials share.")
        config = Settings.from_mapping(self.rounds.settings(best.point, best.round)).train
        samples = len(self.data.train)
        return said + few_steps(config.length(samples).steps, config, samples)

    def winner(self, outcome: Outcome) -> dict[str, Any] | None:
        """Return the settings of the winner, as it is trained again if that was asked for; None without a winner."""
        best = outcome.best
        if best is None:
            return None
        config = self.rounds.config
        settings = self.rounds.settings(best.point, best.round)
        if config.final not in ("same", "none"):
            settings["split"] = config.final
        if config.final_runs is not None:
            settings["runs"] = config.final_runs
        return Settings.from_mapping(settings).to_mapping()

    def _final(self, figures: Callable[[], dict[str, Any] | None], stop: Callable[[], bool]) -> dict[str, Any] | None:
        """Find the winner's figures, or wait until another worker has: the test set is looked at once.

        Returns:
            Its figures; None if that was interrupted.
        """
        queue = TrialQueue(self.queue.storage, f"{self.queue.name}/final", {"of": self.queue.name})
        with queue.at_work(Worker.here(self.backend.device), self.rounds.config.lease):
            queue.plan([Slot(0, 0, None)])
            while not stop():
                queue.tend()
                claims = queue.claim(1)
                if claims:
                    return self._finish_final(queue, claims[0], figures)
                if queue.finished(0):
                    attempt = queue.standing(queue.trials())
                    if attempt is None:
                        raise RunError(f"study = {queue.name}: {ATTEMPTS} workers died over the winner's training")
                    if "result" not in attempt.user_attrs:
                        raise RunError(f"study = {queue.name}: does not say what came of the winner's training")
                    return dict(attempt.user_attrs["result"])
                time.sleep(_SECONDS_TO_WAIT)
        return None

    def _finish_final(
        self, queue: TrialQueue, claim: Claim, figures: Callable[[], dict[str, Any] | None]
    ) -> dict[str, Any] | None:
        try:
            metrics = figures()
        except BaseException:
            queue.release([claim])
            raise
        if metrics is None:
            queue.release([claim])
            return None
        accuracy = metrics["validation"]["accuracy"]
        mean = accuracy["mean"] if isinstance(accuracy, dict) else accuracy
        queue.finish(claim, mean or 0.0, metrics)
        return metrics

    def _train(self, settings: Settings) -> dict[str, Any] | None:
        """Train the winner in memory."""
        data = self.data
        if settings.data.split != data.split:
            data = load_data(settings.data)
        population = Population.of(settings, data.features, data.classes)
        _, result = train_population(population, data, backend=self.backend, dtype=settings.run.dtype)
        return result.to_json()


def check(rounds: Rounds, data: Dataset) -> None:
    """Raise :class:`ConfigError` where an end of what is searched does not fit the data."""
    for dimension in rounds.space.dimensions:
        for value in dimension.values or (dimension.rounded(dimension.low), dimension.rounded(dimension.high)):
            middle = {d.name: d.values[0] if d.values else d.rounded(d.low) for d in rounds.space.dimensions}
            rounds.check_point({**middle, dimension.name: value}, 0, data)


def check_final(config: SearchConfig, settings: DataConfig, data: Dataset) -> None:
    """Raise an error if the winner's split cannot be had: that is to be found before anything is trained.

    Raises:
        ConfigError: The data is not read from anywhere.
        DataError: There is no such split.
    """
    if config.final not in ("same", "none"):
        if data.location == IN_MEMORY:
            raise ConfigError(f"final = {config.final}: needs data that can be split again; these are {IN_MEMORY}")
        load_data(dataclasses.replace(settings, data=data.location, split=config.final))


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
        space: What is searched: ``"lambda"``, ``["lambda", "eta=1e-3..0.1"]``, or a mapping with a pair (low, high), a
            list, or None for the usual range, such as ``{"lambda": (1e-5, 1e-1), "width": [50, 100]}``.
        data: A data set; what `settings` name if not given.
        settings: Settings that all trials share, by the names of ``config.toml``.
        backend: Where to compute; the CPU if not given.
        storage: A journal file or the URL of a database, which other workers may share, or a storage of Optuna's;
            in memory if not given.
        study: The search's name there.
        on_change: Called with the outcome so far whenever something has become known.
        callbacks: Instances of :class:`xpnet.Callback`, called during training; the search ends when one stops.
        **how: Fields of :class:`xpnet.tuning.SearchConfig`: ``draw``, ``trials``, ``rounds``, ``refine``, ``best``,
            ``round_cycles``, ``prune``, ``final``, ``final_runs``, ``lease``.

    Returns:
        The trials, the best of them, and the winner's settings, networks and figures.

    Raises:
        ConfigError: Something is out of its range, or cannot be trained.
        RunError: The storage cannot be used, or holds another search of this name.
    """
    from xpnet.tuning.storage import close_storage, open_storage

    given = dict(settings or {})
    where = Space.of(space)
    where.refuse(given)
    config = SearchConfig.from_mapping(how)
    base = Settings.from_mapping(given)
    data = data if data is not None else load_data(base.data)
    check_final(config, base.data, data)
    opened = storage is None or isinstance(storage, str) or hasattr(storage, "__fspath__")
    there = open_storage(storage) if opened else storage
    try:
        session = Search.start(where, base, config, data, backend or get_backend("cpu"), there, study)
        return session.run(on_change=on_change, callbacks=callbacks)
    finally:
        if opened:
            close_storage(there)
