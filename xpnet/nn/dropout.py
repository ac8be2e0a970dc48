"""Dropout of a network: its probabilities, and the masks of a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from xpnet.backend import Array, Backend
from xpnet.config.arguments import seeds as some_seeds
from xpnet.config.definitions import NetworkConfig
from xpnet.config.fields import argument, per_replica, real, shown, whole
from xpnet.config.training import PerReplica
from xpnet.errors import ConfigError
from xpnet.ops.masks import Mask
from xpnet.utils.rng import Purpose, words

Masks: TypeAlias = "tuple[Mask | None, ...]"
"""The mask of the inputs of each layer; None where nothing is dropped."""


@dataclass(frozen=True, kw_only=True)
class Dropout:
    """Dropout of R replicas in one training step (Srivastava et al., 2014), for :meth:`Network.cost_and_gradients`.

    The masks of a replica are a function of its seed, the step, the layer, the place of a sample in its batch, and the
    unit: equal arguments drop the same values on every device.

    Attributes:
        hidden: Probability with which an output of a hidden layer is dropped, or one for each replica.
        inputs: Probability with which an input of the network is dropped, or one for each replica.
        seeds: Seed of the masks, or one for each replica; in a training, that of its order of samples.
        step: Number of the training step, from 0.

    Raises:
        ConfigError: A value is out of its range.
    """

    hidden: PerReplica = 0.0
    inputs: PerReplica = 0.0
    seeds: int | Sequence[int] = 0
    step: int = 0

    def __post_init__(self) -> None:
        share = per_replica(real(0, below=1))
        for field, name, check in (
            ("hidden", "dropout", share),
            ("inputs", "input_dropout", share),
            ("seeds", "seeds", some_seeds),
            ("step", "step", whole(0, 2**31 - 1)),
        ):
            object.__setattr__(self, field, argument(name, getattr(self, field), check))

    def __bool__(self) -> bool:
        """Whether anything is dropped."""
        return bool(np.any(self.hidden) or np.any(self.inputs))

    def select(self, replicas: Any) -> Dropout:
        """Return the dropout of some replicas, given by a slice or by their numbers (A,)."""

        def of(values: Any) -> Any:
            return tuple(np.array(values, object)[replicas]) if isinstance(values, tuple) else values

        return replace(self, hidden=of(self.hidden), inputs=of(self.inputs), seeds=of(self.seeds))

    def masks(self, network: Any, replicas: int | None = None) -> Masks | None:
        """Return the masks for a :class:`~xpnet.Network`; see :meth:`masks_for`."""
        return self.masks_for(network.config, network.backend, network.dtype, replicas)

    def masks_for(
        self, config: NetworkConfig, backend: Backend, dtype: Any, replicas: int | None = None
    ) -> Masks | None:
        """Return the masks for networks of an architecture on a device; None if nothing is dropped.

        `replicas` is their number, if it is not that of the seeds.

        Raises:
            ConfigError: There are neither one value nor one for each replica, or `hidden` has no effect.
        """
        check_dropout(config, self.hidden)
        if not self:
            return None
        if replicas is None:
            replicas = len(self.seeds) if isinstance(self.seeds, tuple) else 1
        asarray = backend.asarray
        hidden, inputs, seeds = (
            _each(name, values, replicas)
            for name, values in (("dropout", self.hidden), ("input_dropout", self.inputs), ("seeds", self.seeds))
        )
        keys = {seed: words(seed, Purpose.DROPOUT) for seed in set(seeds)}
        step = asarray(np.array([self.step], np.int32))

        def mask(layer: int) -> Mask | None:
            p = hidden if layer else inputs
            if not any(p):
                return None
            count = 1 if len({*zip(p, seeds, strict=True)}) == 1 else replicas  # 1: all replicas share the mask
            chosen = np.array(p[:count])
            limits, scales = np.floor(chosen * 2.0**32).astype(np.uint32), 1 / (1 - chosen)
            of_seeds = np.array([keys[seed] for seed in seeds[:count]], np.uint32)
            scales = scales[:, None, None].astype(dtype)
            return Mask(asarray(of_seeds), asarray(limits), asarray(scales), step, layer)

        return tuple(map(mask, range(len(config.hidden) + 1)))


def _each(name: str, values: Any, replicas: int) -> tuple[Any, ...]:
    """Return the value of each replica (R,)."""
    if not isinstance(values, tuple):
        return (values,) * replicas
    if len(values) != replicas:
        raise ConfigError(f"{name}: has {len(values)} values for {replicas} replicas; give one, or one for each")
    return values


def check_dropout(config: NetworkConfig, hidden: PerReplica) -> None:
    """Raise :class:`ConfigError` if outputs of hidden layers would be dropped in a network that has none."""
    if not config.hidden and np.any(hidden):
        raise ConfigError(
            f"dropout = {shown(hidden)}: has no effect on a network without hidden layers; set hidden, or drop inputs "
            "by input_dropout"
        )


def step_of(masks: Masks) -> Array:
    """Return the array (1,) in which masks, of which there is at least one, read the number of the step."""
    return next(mask.step for mask in masks if mask is not None)
