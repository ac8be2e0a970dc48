"""The networks of a search's best trial, kept as they were trained in their population.

A float32 network that is trained again alone has other rounding errors than in its population, and another accuracy.
So before a worker reports the result of a trial that beats all known ones, it keeps the trial's networks: the final
winner was the best trial when it ended, so its networks were kept.  Networks are named by the attempt that trained
them, which belongs to one worker only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.backend import Backend
from xpnet.config.settings import Settings
from xpnet.data import Dataset
from xpnet.errors import RunError
from xpnet.nn.model_file import MODEL, read_model
from xpnet.nn.network import Network
from xpnet.runs.folder import HISTORY, METRICS, write_config, write_environment, write_metrics
from xpnet.runs.records import read_metrics
from xpnet.training.history import Metrics
from xpnet.training.outcome_warnings import judged
from xpnet.training.population import Population, replicas_json
from xpnet.training.result import TrainResult
from xpnet.tuning.trials import Outcome, Trial
from xpnet.utils.atomic_files import rewrite
from xpnet.utils.file_system import sync_folder

KEPT, BEST_RUN, WINNER = "kept", "best", "winner"
Run = tuple[Network, dict[str, Any]]
"""Networks with their figures, as ``metrics.json`` holds them."""


class NetworkStore:
    """Keeps the networks of the best trials in memory.

    Args:
        data: The data set.
    """

    in_memory = True

    def __init__(self, data: Dataset) -> None:
        self._data = data
        self._runs: dict[int, Run] = {}

    def keep(self, attempt: int, settings: Settings, network: Network, result: TrainResult) -> None:
        """Keep the networks of an attempt; networks that cannot be kept are trained again if they win."""
        self._runs[attempt] = network, self.metrics(settings, network, result)

    def attempts(self) -> list[int]:
        """Return the attempts whose networks are kept."""
        return list(self._runs)

    def forget(self, attempt: int) -> None:
        """Delete the networks of an attempt."""
        del self._runs[attempt]

    def settle(self, best: Trial) -> None:
        """Delete all networks except the winner's, at the end of the search."""
        self._runs = {attempt: run for attempt, run in self._runs.items() if attempt == best.attempt}

    def get(self, best: Trial, backend: Backend) -> Run | str:  # noqa: ARG002 - they are on this worker's device
        """Return the winner's networks with their figures, or a sentence on why they are missing."""
        return self._runs.get(-1 if best.attempt is None else best.attempt, "another worker trained them")

    def finish(self, metrics: dict[str, Any]) -> dict[str, Any]:
        """Keep the winner's figures of all sets, and return them."""
        return metrics

    def metrics(self, settings: Settings, network: Network, result: TrainResult) -> dict[str, Any]:
        """Return the figures of networks in the form of ``metrics.json``, with warnings about these networks only."""
        population = Population.of(settings, network.config.inputs, network.config.classes)
        result = judged(result, population.network, population.train, self._data, population.rows, network)
        metrics = result.to_json() | {"samples": self._data.counts}
        return metrics | ({"replicas": list(replicas_json(population, result))} if len(population) > 1 else {})


class FolderStore(NetworkStore):
    """Keeps networks in run folders within the search's folder: ``kept/ATTEMPT``, at the end ``best`` and ``winner``.

    Several workers may share the folder.

    Args:
        folder: The search's folder.
        data: The data set.
        settings_of: Function that returns settings in the form of ``config.toml``.
        environment: Describes this worker's machine.
        warn: Called with a sentence about networks that could not be kept.
    """

    in_memory = False

    def __init__(
        self,
        folder: Path,
        data: Dataset,
        settings_of: Callable[[Settings], Mapping[str, Any]],
        environment: Mapping[str, Any],
        warn: Callable[[str], None],
    ) -> None:
        super().__init__(data)
        self._folder, self._kept, self._best = folder, folder / KEPT, folder / BEST_RUN
        self._settings_of, self._environment, self._warn = settings_of, environment, warn

    def keep(self, attempt: int, settings: Settings, network: Network, result: TrainResult) -> None:
        """Keep the networks of an attempt, all or none; a failing disk does not end the search."""
        run = self._kept / str(attempt)
        temporary = run.with_name(f".{attempt}-{os.getpid()}.tmp")
        try:
            if self._kept.is_symlink():
                raise RunError(f"{self._kept}: is a link, and must be a folder of the search")
            temporary.mkdir(parents=True)
            write_config(temporary, self._settings_of(settings))
            write_environment(temporary, self._environment)
            network.save(temporary / MODEL)
            rewrite(temporary / HISTORY, result.history.to_csv().encode())
            write_metrics(temporary, self.metrics(settings, network, result))
            temporary.rename(run)
            sync_folder(self._kept)
        except (OSError, RunError) as error:
            self._warn(f"warning: {run}: the networks of the best trial so far could not be kept ({error})")
            shutil.rmtree(temporary, ignore_errors=True)

    def attempts(self) -> list[int]:
        """Return the attempts whose networks are kept."""
        names = [] if self._kept.is_symlink() else [path.name for path in self._kept.glob("*")]
        return [int(name) for name in names if name.isdecimal()]

    def forget(self, attempt: int) -> None:
        """Delete the networks of an attempt."""
        shutil.rmtree(self._kept / str(attempt), ignore_errors=True)

    def settle(self, best: Trial) -> None:
        """Rename the winner's networks to ``best``, and delete the others."""
        if not self._kept.is_symlink():
            with contextlib.suppress(OSError):  # another worker has these networks, or has renamed them
                (self._kept / str(best.attempt)).rename(self._best)
            shutil.rmtree(self._kept, ignore_errors=True)

    def get(self, best: Trial, backend: Backend) -> Run | str:
        """Return the winner's networks with their figures, or a sentence on why they are missing."""
        if self._best.is_symlink() or not self._best.is_dir():
            return f"they are not in {self._folder}: a worker without this folder trained them, or an earlier version"
        try:
            metrics = read_metrics(self._best / METRICS)
            network = Network.of(read_model(self._best / MODEL), backend=backend)
        except RunError as error:
            return str(error)
        values = [metrics["validation"][name] for name in ("accuracy", "loss")]
        by_network = [v["values"] if isinstance(v, dict) else [v] * network.replicas for v in values]
        if by_network != [list(best.accuracies), list(best.losses)]:
            return f"{self._best} holds other networks"
        return network, metrics

    def finish(self, metrics: dict[str, Any]) -> dict[str, Any]:
        """Make ``winner``, a copy of ``best`` with the figures of all sets; return these, with its name."""
        winner = free_winner(self._folder)
        shutil.copytree(self._best, winner, symlinks=True)
        metrics = metrics | {"run": str(winner)}
        write_metrics(winner, metrics)
        return metrics | {"winner": winner.name}


class BestNetworks:
    """Decides which networks are kept: those of a trial that beats all others that this worker knows.

    Args:
        store: The store of the networks.
        rank: Function that returns the outcome of given trials, which ranks them.
    """

    def __init__(self, store: NetworkStore, rank: Callable[[tuple[Trial, ...]], Outcome]) -> None:
        self.store, self._rank = store, rank
        self.known: Trial | None = None

    def among(self, trials: Sequence[Trial]) -> Trial | None:
        """Return the trial among `trials`, which are about to end, that beats all known ones; None if none does."""
        known = () if self.known is None else (self.known,)
        best = self._rank((*known, *trials)).best
        return None if best is self.known else best

    def ended(self, trial: Trial) -> None:
        """Take note of a trial that has ended."""
        self.known = self.among((trial,)) or self.known


def free_winner(folder: Path) -> Path:
    """Return a path for the winner's run that does not exist yet; a killed worker may have left a folder behind."""
    number = 1
    while (run := folder / (WINNER if number == 1 else f"{WINNER}-{number}")).exists() or run.is_symlink():
        number += 1
    return run


def part_of(result: TrainResult, members: list[int], validation: Metrics, share: float) -> TrainResult:
    """Return the result of some of a population's networks.

    Args:
        result: The population's result.
        members: The networks.
        validation: Their validation figures.
        share: Their share of the training time.
    """
    history = result.history.part(members, share)
    unknown = Metrics(*np.full((3, len(members)), np.nan))
    return dataclasses.replace(
        result,
        history=history,
        train=unknown,
        validation=validation,
        test=unknown,
        seconds_training=[record.seconds_training for record in history.epochs],
        seconds_evaluation=result.seconds_evaluation * share,
        diverged={at: result.diverged[r] for at, r in enumerate(members) if r in result.diverged},
        dropped={},
        stopped={at: result.stopped[r] for at, r in enumerate(members) if r in result.stopped},
        weights=[result.weights[r] for r in members] if result.weights else [],
    )
