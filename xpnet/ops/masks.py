"""Masks of dropout: which values of a step are set to 0.

A value is dropped if a random word of 32 bits is less than p 2^32, so p is met to 2^-32.  The word is one of the four
that Philox gives for the counter (unit / 4, sample, layer, step) and the key of the replica's seed: it depends neither
on the order in which words are computed nor on the device, and a training needs no state to be resumed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from xpnet.backend import Array
from xpnet.utils.philox import rounds


class Mask(NamedTuple):
    """What the masks of one layer's inputs depend on, for K replicas, or K = 1 if all replicas share them."""

    keys: Array  # (K, 2) uint32, from the replicas' seeds
    limits: Array  # (K,) uint32: a value whose word is less is dropped
    scales: Array  # (K, 1, 1) 1 / (1 - p)
    step: Array  # (1,) int32, the number of the step; all layers of a network share this memory
    layer: int  # 0 for the inputs of the network
    sample: int = 0  # number of the first sample in the batch
    unit: int = 0  # number of the first unit, or input


class Dropped(NamedTuple):
    """The result of dropout, and what its gradient needs."""

    y: Array  # (R, n, m), or (n, m) of an input and a mask that all replicas share
    kept: Array  # bool (K, n, m), or (n, m): False where y is 0
    scales: Array  # those of the mask


def kept(xp: Any, mask: Mask, n: int, m: int) -> Array:
    """Return which values of n samples and m units are not dropped (K, n, m)."""
    first = mask.unit // 4
    groups = -(-(mask.unit + m) // 4) - first
    like = xp.zeros((len(mask.keys), n, groups), dtype="uint64")
    counter = [
        like + (first + xp.arange(groups)).astype("uint64"),
        like + (mask.sample + xp.arange(n)[:, None]).astype("uint64"),
        like + xp.asarray([mask.layer]).astype("uint64"),
        like + mask.step.astype("uint64"),
    ]
    keys = mask.keys.astype("uint64")
    words = xp.stack(rounds(counter, [keys[:, :1, None], keys[:, 1:, None]]), axis=-1)
    skipped = mask.unit - 4 * first
    words = words.reshape(len(mask.keys), n, 4 * groups)[..., skipped : skipped + m]
    return words >= mask.limits.astype("uint64")[:, None, None]
