"""Which trials of a search are not worth going on with, at the end of a cycle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from xpnet.config.definitions import Length, TrainConfig

# Of fewer trials the median says little.
_FEWEST = 4


def moments(config: TrainConfig, length: Length) -> dict[int, int]:
    """Return the steps at which trials are compared, with the number of cycles, or epochs, that have ended there.

    They are the ends of cycles, where the learning rate is lowest: in the middle of a cycle, with its high rates,
    accuracy is mostly noise.  With schedules that have no cycles they are the ends of epochs.
    """
    every = 2 * length.n_s if config.schedule == "triangular" else length.steps_per_epoch
    return {step: step // every for step in range(every, length.steps, every)}


def to_prune(rule: str, look: int, values: Mapping[int, float], own: Sequence[int]) -> list[int]:
    """Return which trials are pruned.

    Args:
        rule: ``"median"``: those below the median; ``"halving"``: those that are not among the better half, after
            1, 2, 4, ... cycles (successive halving of Jamieson and Talwalkar, 2016, as each comes, as Li et al., 2020).
        look: Cycles, or epochs, after which they are compared.
        values: Accuracy of every trial that has come as far, by number.
        own: Those that are asked about.
    """
    if rule == "none" or len(values) < 2:
        return []
    everything = np.array(list(values.values()))
    if rule == "median":
        if len(values) < _FEWEST:
            return []
        median = float(np.median(everything))
        return [trial for trial in own if values[trial] < median]
    if look & (look - 1):
        return []
    kept = -(-len(values) // 2)
    limit = float(np.sort(everything)[-kept])
    return [trial for trial in own if values[trial] < limit]
