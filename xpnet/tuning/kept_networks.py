"""The networks of a search's best trial, kept as the population has trained them.

Trained again alone, a float32 network rounds otherwise than among others, and comes to another accuracy.  So whoever
trains a trial that beats all that are known keeps its networks before it says so; whichever trial wins was the best
when it ended, so that it is kept.  Networks are named by the attempt that trained them, which is one worker's alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from xpnet.backend import Backend
from xpnet.config.settings import Settings
from xpnet.data import Dataset
from xpnet.errors import RunError
from xpnet.nn.model_file import MODEL, read_model
from xpnet.nn.network import Network
from xpnet.runs.folder import HISTORY, METRICS, write_config, write_environment, write_metrics
from xpnet.runs.records import read_metrics
from xpnet.training.device_data import DeviceData
from xpnet.training.evaluation import evaluate
from xpnet.training.history import History, Metrics
from xpnet.training.population import Population, replicas_json
from xpnet.training.result import TrainResult
from xpnet.training.verdicts import judged
from xpnet.tuning.trials import Outcome, Trial
from xpnet.utils.atomic_files import rewrite
from xpnet.utils.file_system import sync_folder

KEPT, BEST_RUN, WINNER = "kept", "best", "winner"
Run = tuple[Network, dict[str, Any]]


class Keeper(Protocol):
    """Where the networks of the best trials are kept."""

    def keep(self, attempt: int, settings: Settings, network: Network, result: TrainResult) -> None:
        """Keep the networks of an attempt; what cannot be kept is trained again."""

    def attempts(self) -> list[int]:
        """Return the attempts whose networks are kept."""

    def forget(self, attempt: int) -> None:
        """Keep the networks of an attempt no longer."""

    def settle(self, best: Trial) -> None:
        """Keep the networks of the winner alone: the search is over."""

    def get(self, best: Trial, backend: Backend) -> Run | str:
        """Return the winner's networks with their figures, or say why they are not here."""

    def finish(self, network: Network, metrics: dict[str, Any]) -> dict[str, Any]:
        """Keep the figures of all sets, and return them."""


class InMemory:
    """Keeps networks as long as the process lives."""

    def __init__(self, data: Dataset) -> None:
        self._data = data
        self._runs: dict[int, Run] = {}

    def keep(self, attempt: int, settings: Settings, network: Network, result: TrainResult) -> None:
        """Keep the networks of an attempt."""
        self._runs[attempt] = network, figures_of(settings, self._data, result)

    def attempts(self) -> list[int]:
        """Return the attempts whose networks are kept."""
        return list(self._runs)

    def forget(self, attempt: int) -> None:
        """Keep the networks of an attempt no longer."""
        del self._runs[attempt]

    def settle(self, best: Trial) -> None:
        """Keep the networks of the winner alone."""
        self._runs = {attempt: run for attempt, run in self._runs.items() if attempt == best.attempt}

    def get(self, best: Trial, backend: Backend) -> Run | str:  # noqa: ARG002 - they are on this worker's device
        """Return the winner's networks with their figures, or say why they are not here."""
        return self._runs.get(-1 if best.attempt is None else best.attempt, "another worker trained them")

    def finish(self, network: Network, metrics: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """Return the figures: nothing else is kept in memory."""
        return metrics


class InFolder:
    """Keeps networks in run folders: ``kept/ATTEMPT`` in that of the search, ``best`` and ``winner`` at its end.

    Args:
        folder: The search's folder, which other workers may share.
        data: The data set.
        settings_of: Returns settings as ``config.toml`` holds them.
        environment: What this worker computes on.
        warn: Tells what could not be kept.
    """

    def __init__(
        self,
        folder: Path,
        data: Dataset,
        settings_of: Callable[[Settings], Mapping[str, Any]],
        environment: Mapping[str, Any],
        warn: Callable[[str], None],
    ) -> None:
        self._folder, self._data, self._settings_of = folder, data, settings_of
        self._environment, self._warn = environment, warn

    def keep(self, attempt: int, settings: Settings, network: Network, result: TrainResult) -> None:
        """Keep the networks of an attempt, whole or not at all; a disk that fails ends no search."""
        whole = self._folder / KEPT / str(attempt)
        part = whole.with_name(f".{attempt}-{os.getpid()}.tmp")
        try:
            if whole.parent.is_symlink():
                raise RunError(f"{whole.parent}: is a link, and must be a folder of the search")
            part.mkdir(parents=True)
            write_config(part, self._settings_of(settings))
            write_environment(part, self._environment)
            network.save(part / MODEL)
            rewrite(part / HISTORY, result.history.to_csv().encode())
            write_metrics(part, figures_of(settings, self._data, result))
            part.rename(whole)
            sync_folder(whole.parent)
        except (OSError, RunError) as error:
            self._warn(f"warning: {whole}: the networks of the best trial so far could not be kept ({error})")
            shutil.rmtree(part, ignore_errors=True)

    def attempts(self) -> list[int]:
        """Return the attempts whose networks are kept."""
        kept = self._folder / KEPT
        return [] if kept.is_symlink() else [int(path.name) for path in kept.glob("*") if path.name.isdecimal()]

    def forget(self, attempt: int) -> None:
        """Delete the networks of an attempt; another worker may do the same."""
        shutil.rmtree(self._folder / KEPT / str(attempt), ignore_errors=True)

    def settle(self, best: Trial) -> None:
        """Let the winner's networks be ``best``, and delete the others; another worker may do the same."""
        kept = self._folder / KEPT
        if kept.is_symlink():
            return
        with contextlib.suppress(OSError):  # they are not here, or there already
            (kept / str(best.attempt)).rename(self._folder / BEST_RUN)
        shutil.rmtree(kept, ignore_errors=True)

    def get(self, best: Trial, backend: Backend) -> Run | str:
        """Return the winner's networks with their figures, or say why they are not here."""
        path = self._folder / BEST_RUN
        if path.is_symlink() or not path.is_dir():
            return f"they are not in {self._folder}: a worker without this folder trained them, or an earlier version"
        try:
            metrics = read_metrics(path / METRICS)
            network = Network.of(read_model(path / MODEL), backend=backend)
        except RunError as error:
            return str(error)
        if figures(metrics, network.replicas) != (list(best.accuracies), list(best.losses)):
            return f"{path} holds other networks"
        return network, metrics

    def finish(self, network: Network, metrics: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """Make ``winner``, a copy of ``best`` that has the figures of all sets; return these with its name."""
        where = free_winner(self._folder)
        shutil.copytree(self._folder / BEST_RUN, where, symlinks=True)
        metrics = metrics | {"run": str(where)}
        write_metrics(where, metrics)
        return metrics | {"winner": where.name}


class Keeping:
    """Decides whose networks are kept: those of a trial that beats all others this worker knows of.

    Args:
        keeper: Keeps them.
        outcome: Returns how trials rank.
    """

    def __init__(self, keeper: Keeper, outcome: Callable[[tuple[Trial, ...]], Outcome]) -> None:
        self.keeper, self._outcome = keeper, outcome
        self._known: Trial | None = None

    def knows(self, best: Trial | None) -> None:
        """Take note of the best of all trials that have ended."""
        self._known = best

    def best(self, trials: Sequence[Trial]) -> Trial | None:
        """Return the one of `trials`, which are about to end, that beats all others; None if none does."""
        known = () if self._known is None else (self._known,)
        best = self._outcome((*known, *trials)).best
        return None if best is self._known else best

    def ended(self, trial: Trial) -> None:
        """Take note of a trial that has ended."""
        self._known = self.best((trial,)) or self._known


def free_winner(folder: Path) -> Path:
    """Return a folder for the winner's run: another one is what a worker left that was killed over it."""
    number = 1
    while (where := folder / (WINNER if number == 1 else f"{WINNER}-{number}")).exists() or where.is_symlink():
        number += 1
    return where


def figures_of(settings: Settings, data: Dataset, result: TrainResult) -> dict[str, Any]:
    """Return the figures of networks as ``metrics.json`` holds them, with what is said of them alone."""
    population = Population.of(settings, data.features, data.classes)
    result = judged(result, population.network, population.train, data, population.rows)
    found = result.to_json() | {"samples": data.counts}
    return found | ({"replicas": list(replicas_json(population, result))} if len(population) > 1 else {})


def figures(metrics: Mapping[str, Any], networks: int) -> tuple[list[Any], list[Any]]:
    """Return the validation accuracies and losses that ``metrics.json`` holds, by network."""
    of = metrics["validation"]
    accuracies, losses = (
        value["values"] if isinstance(value := of[name], dict) else [value] * networks for name in ("accuracy", "loss")
    )
    return accuracies, losses


def validated(network: Network, data: DeviceData, lam: Any) -> Metrics:
    """Return the validation figures of networks that are on their own, as whoever loads them finds them."""
    return evaluate(network, data.validation.x, data.validation.labels, lam)


def with_all_sets(network: Network, metrics: dict[str, Any], data: DeviceData, lam: Any) -> dict[str, Any]:
    """Return the figures of networks with those of the training and the test set, which is looked at here alone."""
    found = dict(metrics)
    for which in ("train", "test"):
        of = getattr(data, which)
        one = evaluate(network, of.x, of.labels, lam)
        found[which] = dict(one)
        found["replicas"] = [entry | {which: dict(one.part([r]))} for r, entry in enumerate(found.get("replicas", ()))]
    return found if found["replicas"] else {name: value for name, value in found.items() if name != "replicas"}


def part_of(result: TrainResult, members: Sequence[int], validation: Metrics, share: float) -> TrainResult:
    """Return what training some of a population's networks gave.

    Args:
        result: What the whole population came to.
        members: The networks.
        validation: Their figures.
        share: Their share of the time.
    """
    places = list(members)
    history = History(result.history.initial_eta[places])
    for record in result.history.epochs:
        own = dataclasses.replace(
            record,
            eta=record.eta[places],
            train=record.train.part(places),
            validation=record.validation.part(places),
            seconds_training=record.seconds_training * share,
            seconds_evaluation=record.seconds_evaluation * share,
        )
        history.append(own)
    unknown = Metrics(*np.full((3, len(places)), np.nan))
    return dataclasses.replace(
        result,
        history=history,
        train=unknown,
        validation=validation,
        test=unknown,
        seconds_training=[record.seconds_training for record in history.epochs],
        seconds_evaluation=result.seconds_evaluation * share,
        diverged={at: result.diverged[r] for at, r in enumerate(places) if r in result.diverged},
        dropped={},
    )
