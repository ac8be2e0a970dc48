"""How long a training takes, in steps and epochs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xpnet.config.cycles import CYCLIC, steps_of_cycles
from xpnet.config.definitions import NetworkConfig
from xpnet.config.fields import argument, whole
from xpnet.errors import ConfigError

# Weeks of training; the learning rates of all steps are in memory.
MOST_STEPS = 100_000_000


@dataclass(frozen=True)
class Length:
    """How long training takes: steps in all, steps of an epoch, and steps of half a cycle.

    With `joined`, the last batch of an epoch has one sample more than the others.
    """

    steps: int
    steps_per_epoch: int
    n_s: int
    joined: bool = False

    @property
    def epochs(self) -> int:
        """Epochs begun; the last may be cut short."""
        return -(-self.steps // self.steps_per_epoch)


def length_of(config: Any, samples: int, network: NetworkConfig | None) -> Length:
    """Return the length of a training with the settings `config`; see :meth:`xpnet.TrainConfig.length`."""
    samples = argument("samples", samples, whole(0))
    full, rest = divmod(samples, config.batch_size)
    joined = network is not None and network.normalises and rest == 1 and full > 0 and not config.drop_last
    per_epoch = full if config.drop_last or joined else full + (rest > 0)
    if per_epoch == 0:
        larger = f"batch_size = {config.batch_size}: larger than the {samples} training samples"
        raise ConfigError(f"{larger}, and drop_last leaves no batch; take a smaller batch_size")
    n_s = int(config.n_s[:-2]) * per_epoch if isinstance(config.n_s, str) else config.n_s
    by_epochs = config.epochs is not None or config.schedule not in CYCLIC
    if by_epochs:
        steps = max(1, round((config.epochs or 20) * per_epoch))
    else:
        factor = config.restart_factor if config.schedule == "cosine-restarts" else 1
        steps = steps_of_cycles(2 * n_s, factor, config.cycles or 2, MOST_STEPS)
    if steps > MOST_STEPS:
        raise ConfigError(f"epochs, cycles, n_s: make {steps:,} steps, and may make {MOST_STEPS:,}")
    return Length(steps=steps, steps_per_epoch=per_epoch, n_s=n_s, joined=joined)
