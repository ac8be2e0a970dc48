"""The conclusion of a finished training: of its curves, of its settings if several were trained, and of its seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpnet.config.definitions import NetworkConfig
from xpnet.config.training import TrainConfig
from xpnet.data import Dataset
from xpnet.training.advice import Situation
from xpnet.training.candidates import Candidate
from xpnet.training.comparison import compare, spread
from xpnet.training.conclusions import Conclusion, conclude, followed
from xpnet.training.course import Course
from xpnet.training.result import TrainResult


def settings_groups(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    """Return the networks of each combination of settings, by its words; of seeds alone, all by an empty text."""
    groups: dict[str, list[int]] = {}
    for r, row in enumerate(rows):
        groups.setdefault(words_of(without_seed(row)), []).append(r)
    return groups


def without_seed(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a network's settings that vary, without its seed."""
    return {name: value for name, value in row.items() if name != "seed"}


def words_of(values: Mapping[str, Any]) -> str:
    """Return settings in words, such as ``lambda 0.01, eta_max 0.1``."""
    return ", ".join(f"{name} {f'{value:g}' if isinstance(value, float) else value}" for name, value in values.items())


def run_conclusion(
    result: TrainResult,
    network: NetworkConfig,
    config: TrainConfig,
    data: Dataset,
    rows: Sequence[Mapping[str, Any]],
    best: str,
) -> Conclusion | None:
    """Return what a training says that has validation figures; None if it says nothing clearly.

    Args:
        result: The training.
        network: The architecture.
        config: How it was trained.
        data: What it was trained on.
        rows: The seed of each network, and its values of the settings that vary.
        best: The best combination of settings in words, as in :func:`settings_groups`.
    """
    groups, accuracies, losses = settings_groups(rows), result.validation.accuracies, result.validation.losses
    varied = without_seed(rows[0]) if len(groups) > 1 else ()
    at = Situation.of(config, network, data, groups[best][0], varied)
    curves = conclude(_course(result, groups[best], best, data.counts, at))
    if len(groups) == 1:
        return followed(curves, spread(accuracies))
    candidates = [
        Candidate(without_seed(rows[own[0]]), words, accuracies[own], losses[own]) for words, own in groups.items()
    ]
    compared = compare(candidates, len(data.validation), at)
    if compared is not None and curves is not None and "try" in curves.evidence and "try" not in compared.evidence:
        # What the curves advise is tried with the best settings alone.
        new = {**without_seed(rows[groups[best][0]]), **curves.evidence["try"]}
        curves = dataclasses.replace(curves, evidence={**curves.evidence, "try": new})
    return followed(compared, curves)


def _course(result: TrainResult, members: list[int], words: str, samples: Mapping[str, int], at: Situation) -> Course:
    """Return the course of the networks `members`, as means."""
    members = [r for r in members if r not in result.diverged] or members
    columns = result.history.columns()
    with np.errstate(over="ignore", invalid="ignore"):
        train, validation = (
            {name: columns[f"{which}.{name}"][:, members].mean(axis=1) for name in ("accuracies", "losses")}
            for which in ("train", "validation")
        )
        final = {w: float(getattr(result, w).accuracies[members].mean()) for w in ("train", "validation")}
    who = "The network" if len(members) == 1 else f"The mean of {len(members)} networks"
    return Course(
        f"{who} with {words}" if words else who,
        *(train["accuracies"], validation["accuracies"], train["losses"], validation["losses"]),
        columns["eta"][:, members].mean(axis=1),
        final,
        samples,
        at.train.schedule,
        at,
        stopped=bool(result.stopped),
    )
