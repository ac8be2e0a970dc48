"""The winner of a search: its settings, and its test figures, which one worker computes for all."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

from xpnet.config.definitions import DataConfig
from xpnet.config.settings import Settings
from xpnet.config.training import TrainConfig
from xpnet.data import IN_MEMORY, Dataset, load_data
from xpnet.errors import ConfigError, RunError
from xpnet.nn.network import Network
from xpnet.training.device_data import DeviceData, seen_in_views
from xpnet.training.evaluation import evaluate, evaluate_views
from xpnet.tuning.rounds import Rounds
from xpnet.tuning.search_config import SearchConfig
from xpnet.tuning.trial_queue import ATTEMPTS, Slot, TrialQueue, current
from xpnet.tuning.trials import Outcome

_SECONDS_TO_WAIT = 0.5
Metrics = dict[str, Any]
"""Figures of networks, in the form of ``metrics.json``."""


def winner_settings(rounds: Rounds, outcome: Outcome) -> dict[str, Any] | None:
    """Return the settings with which the winner is trained again; None without a winner."""
    best, config = outcome.best, rounds.config
    if best is None:
        return None
    settings = rounds.settings(best.point, best.round)
    if config.final not in ("same", "none"):
        settings["split"] = config.final
    if config.final_runs is not None:
        settings["runs"] = config.final_runs
    for name in ("cv", "stratify", "log"):  # which were for the choice of the winner, or for runs of xpnet train
        settings.pop(name, None)
    return Settings.from_mapping(settings).to_mapping()


def with_all_sets(network: Network, metrics: Metrics, data: DeviceData, config: TrainConfig) -> Metrics:
    """Return the figures of networks with those of training and test set; only this function uses the test set.

    `config` has the settings of the training.
    """
    metrics = dict(metrics)
    for which in ("train", "test"):
        rows = getattr(data, which)
        figures = evaluate(network, rows.x, rows.labels, config.lam)
        metrics[which] = dict(figures)
        if replicas := metrics.get("replicas"):
            metrics["replicas"] = [entry | {which: dict(figures.part([r]))} for r, entry in enumerate(replicas)]
    if (views := seen_in_views(data, config).views) is not None:
        seen = evaluate_views(network, views.x, views.labels, config.views)
        metrics["test_views"] = {"views": config.views, "accuracy": seen.accuracy, "loss": seen.loss}
    return metrics


def find_once(
    queue: TrialQueue, device: str, lease: float, find: Callable[[], Metrics | None], stop: Callable[[], bool]
) -> Metrics | None:
    """Return the winner's figures; one worker computes them, so that the test set is used once, and the others wait.

    Args:
        queue: The queue of the search; its storage gets another queue with a slot for the winner.
        device: The device of this worker.
        lease: Length of this worker's lease in seconds.
        find: Function that computes the figures; it returns None if interrupted.
        stop: Function that returns whether to stop waiting.

    Returns:
        The figures; None if the computation or the wait was interrupted.

    Raises:
        RunError: All workers that tried to compute the figures died, or the storage is damaged.
    """
    queue = TrialQueue(queue.storage, f"{queue.name}/final", {"of": queue.name})
    with queue.at_work(device, lease):
        queue.plan([Slot(0, 0, None)])
        while not stop():
            queue.recover_lost()
            for slot in queue.claim(1):
                metrics = None
                try:
                    metrics = find()
                finally:
                    if metrics is None:
                        queue.release([slot])
                if metrics is not None:
                    accuracy = metrics["validation"]["accuracy"]
                    queue.finish(slot, (accuracy["mean"] if isinstance(accuracy, dict) else accuracy) or 0.0, metrics)
                return metrics
            if queue.finished(0):
                attempt = current(queue.trials())
                if attempt is None:
                    raise RunError(f"study = {queue.name}: {ATTEMPTS} workers died over the winner's training")
                if "result" not in attempt.user_attrs:
                    raise RunError(f"study = {queue.name}: does not say what came of the winner's training")
                return dict(attempt.user_attrs["result"])
            time.sleep(_SECONDS_TO_WAIT)
    return None


def check_final(config: SearchConfig, settings: DataConfig, data: Dataset) -> None:
    """Raise an error, before any training, if the winner cannot be trained on the requested split.

    Raises:
        ConfigError: The data does not come from a file or a built-in set.
        DataError: There is no such split.
    """
    if config.final not in ("same", "none"):
        if data.location == IN_MEMORY:
            raise ConfigError(f"final = {config.final}: needs data that can be split again; these are {IN_MEMORY}")
        load_data(dataclasses.replace(settings, data=data.location, split=config.final))
