"""Mini-batches: the order in which each replica sees the training samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xpnet.backend import Array, Backend
from xpnet.config.training import TrainConfig
from xpnet.data.views import Augmentation
from xpnet.utils.rng import Purpose, generator


def order_seeds(config: TrainConfig, seeds: Sequence[int]) -> tuple[int, ...]:
    """Return the seed of each replica's order of samples; replicas with equal seeds see the same batches."""
    base = seeds[0] if config.shuffle_seed is None else config.shuffle_seed
    if config.shuffle == "shared":
        return (base,) * len(seeds)
    if config.shuffle == "independent":
        return tuple(base + r for r in range(len(seeds)))
    # Replica r must equal its solo run: seeds of orders differ by as much as the replicas' seeds.
    return tuple(seeds) if config.shuffle_seed is None else tuple(base + seed - min(seeds) for seed in seeds)


def same_order(orders: tuple[int, ...], offsets: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return a number for each replica; replicas with equal numbers see the same batches.

    Args:
        orders: Seed of each replica's order.
        offsets: First row of each replica's samples; None if it is the same for all.
    """
    if offsets is None:
        return orders
    batches = list(zip(orders, offsets, strict=True))
    numbers = {both: number for number, both in enumerate(dict.fromkeys(batches))}
    return tuple(numbers[both] for both in batches)


class Batches:
    """The batches of every epoch of a training.

    Args:
        orders: Seed of each replica's order, as :func:`order_seeds` returns them.
        samples: Samples in the training set.
        config: Its `batch_size` and `drop_last` are used.
        backend: The device of the batches; the host if not given.
        image_shape: (channels, height, width) of the pictures, if `config` changes them at random.
        joined: Whether the last sample of an epoch belongs to the last full batch; see :meth:`TrainConfig.length`.
        offsets: First row of each replica's samples, if replicas train on different rows; see
            :class:`~xpnet.training.fold_data.FoldedData`.
    """

    def __init__(
        self,
        orders: Sequence[int],
        samples: int,
        config: TrainConfig,
        backend: Backend | None = None,
        image_shape: tuple[int, int, int] | None = None,
        *,
        joined: bool = False,
        offsets: tuple[int, ...] | None = None,
    ) -> None:
        self._augmentation = Augmentation.of(config, image_shape)
        self._orders, self._samples, self._config, self._backend = orders, samples, config, backend
        self._joined = joined
        self._offsets = offsets
        self._prepared: tuple[int, list[Array]] | None = None

    def of_epoch(self, epoch: int) -> list[Array]:
        """Return the order of samples of an epoch, counted from 0; they are rows, with a view each, of augmented data.

        Returns:
            Full batches, then an incomplete batch unless it is dropped, or a joined one: (k, R, n), or (k, n) if
                replicas share the order.
        """
        if self._prepared is not None and self._prepared[0] == epoch:
            return self._prepared[1]
        ordered = self._on_host(epoch)
        return ordered if self._backend is None else [self._backend.asarray(batches) for batches in ordered]

    def prepare(self, epoch: int) -> None:
        """Make an epoch's batches ahead of time."""
        self._prepared = epoch, self.of_epoch(epoch)

    def sizes(self, steps: int) -> NDArray[np.float64]:
        """Return how many samples each of the first `steps` batches of an epoch has (steps,)."""
        size, places = self._config.batch_size, np.arange(steps)
        sizes: NDArray[np.float64] = np.minimum(size, self._samples - places * size).astype(float)
        sizes += self._joined & (places == self._samples // size - 1)
        return sizes

    def _on_host(self, epoch: int) -> list[NDArray[np.int64]]:
        n, orders, samples = self._config.batch_size, self._orders, self._samples
        each = len(set(orders if self._offsets is None else zip(orders, self._offsets, strict=True))) > 1
        drawn = {seed: generator(seed, Purpose.SHUFFLE, epoch).permutation(samples) for seed in set(orders)}
        if self._augmentation is not None:
            drawn = {seed: self._augmentation.rows(order, seed, epoch) for seed, order in drawn.items()}
        rows = np.stack([drawn[seed] for seed in (orders if each else orders[:1])])
        if self._offsets is not None:
            rows += np.array(self._offsets[: len(rows)])[:, None]
        full = (samples // n - self._joined) * n
        batches = [rows[:, :full].reshape(len(rows), -1, n)]
        if full < samples and not self._config.drop_last:
            batches.append(rows[:, full:][:, None, :])
        # (R, k, n) -> (k, R, n), or (k, n) where all replicas share the order.
        return [np.ascontiguousarray(b.swapaxes(0, 1)) if each else b[0] for b in batches if b.shape[1]]
