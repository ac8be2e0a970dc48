"""Whether the trainings of a search end inside a cycle of the learning rate, where it is high."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from xpnet.config.cycles import CYCLIC, cycle_lengths
from xpnet.config.settings import Settings
from xpnet.errors import ConfigError
from xpnet.training.conclusions import Conclusion

# A last rate above this share of the highest is far from the end of a cycle.
_HIGH = 0.5
# Settings on which the length of a training or of a cycle depends.
_LENGTHS = {"n_s", "cycles", "epochs"}
# Steps of an epoch that stand for any number, where the length of a cycle is given in epochs.
_ANY = 100
# More cycles are not counted.
_MOST = 100_000


@dataclass(frozen=True)
class Cycle:
    """How the trainings of a search lie in the cycles of their learning rate.

    Attributes:
        epochs: Epochs of a training.
        whole: Epochs by which its last cycle ends; more than `epochs` if it ends inside a cycle.
        first: Epochs of the first cycle.
        share: The last learning rate as a share of the highest.
    """

    epochs: float
    whole: float
    first: float
    share: float

    @property
    def pruned(self) -> bool:
        """Whether trials are compared before their end: at the end of a cycle that is not the last."""
        return self.first < self.epochs

    def conclusion(self) -> Conclusion | None:
        """Return the advice to train whole cycles; None if the last rate is low enough."""
        if self.share <= _HIGH or self.whole <= self.epochs or not float(self.whole).is_integer():
            return None
        text = (
            f"Every trial ended inside a cycle of the learning rate, at {100 * self.share:.0f} % of the highest rate: "
        )
        text += f"after {self.epochs:g} epochs, where a whole number of cycles takes {self.whole:g}. "
        text += (
            f"Accuracies rise while the rate falls, so train whole cycles before you choose (--epochs {self.whole:g})."
        )
        evidence = {"epochs": self.epochs, "share": self.share, "try": {"epochs": int(self.whole)}}
        return Conclusion(text, "inside-a-cycle", evidence)


def cycle_of(settings: Mapping[str, Any], searched: Collection[str], samples: int | None = None) -> Cycle | None:
    """Return how the trainings of a search lie in their cycles; None without cycles, or if lengths vary.

    Args:
        settings: Settings that all trials share, as in ``search.json``.
        searched: Names of what the search varied.
        samples: Number of training samples; None if unknown, where only an `n_s` in epochs will do.
    """
    given = {name: value for name, value in settings.items() if name not in searched}
    try:
        config = Settings.from_mapping(given).train
        length = config.length(_ANY * config.batch_size if samples is None else samples)
    except (ConfigError, TypeError):  # settings of another version of xpnet, or of a damaged file
        return None
    in_epochs = isinstance(config.n_s, str)
    if config.schedule not in CYCLIC or _LENGTHS & set(searched) or (not in_epochs and "batch_size" in searched):
        return None
    if samples is None and not in_epochs:
        return None
    first, per_epoch = 2 * length.n_s, length.steps_per_epoch
    if length.steps > _MOST * first:
        return None
    factor = config.restart_factor if config.schedule == "cosine-restarts" else 1
    start = 0
    for cycle in cycle_lengths(first, factor):
        if start + cycle >= length.steps:
            break
        start += cycle
    done = (length.steps - 1 - start) / cycle  # at the last step
    share = (1 + math.cos(math.pi * done)) / 2
    if config.schedule == "triangular":
        share = 1 - abs(2 * done - 1) if start or done > 0.5 else 1.0  # the highest so far, while it first rises
    return Cycle(length.steps / per_epoch, (start + cycle) / per_epoch, first / per_epoch, share)
