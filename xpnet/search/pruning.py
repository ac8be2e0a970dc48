"""Which trials of a search are not worth going on with, at the end of a cycle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from xpnet.config import Length, TrainConfig

# Of fewer trials the median says little.
_FEWEST = 4
# Without cycles there is no moment at which accuracy is at rest: it is looked at so many times.
_LOOKS = 8


def moments(config: TrainConfig, length: Length) -> list[int]:
    """Return the steps at which trials are compared: the ends of cycles, where the learning rate is lowest.

    In the middle of a cycle, with its high rates, accuracy is mostly noise.  Other schedules are looked at after
    every eighth of the training, at the ends of epochs.
    """
    if config.schedule == "triangular":
        return list(range(2 * length.n_s, length.steps, 2 * length.n_s))
    epochs = length.steps // length.steps_per_epoch
    ends = sorted({round(epochs * part / _LOOKS) for part in range(1, _LOOKS)})
    return [end * length.steps_per_epoch for end in ends if 0 < end * length.steps_per_epoch < length.steps]


def to_prune(rule: str, look: int, values: Mapping[int, float], own: Sequence[int]) -> list[int]:
    """Return which trials are dropped.

    Args:
        rule: ``"median"``: those below the median; ``"halving"``: those that are not among the better half, at
            looks 1, 2, 4, ... (successive halving of Jamieson and Talwalkar, 2016, as each comes, as Li et al., 2020).
        look: Number of the comparison, from 1.
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
