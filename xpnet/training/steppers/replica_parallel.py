"""Populations on a CPU: every core trains a share of the replicas."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from xpnet.backend import Array
from xpnet.ops.blas import blas_threads, on_all_cores
from xpnet.training.steppers.plain import PlainStepper
from xpnet.training.steppers.stepper_state import Hyperparameters, State, StepMetrics

if TYPE_CHECKING:
    from xpnet.nn.network import Network


class ReplicaParallelStepper:
    """Cuts R replicas into parts, one or more for each core, and takes the steps of the parts in parallel.

    Replicas are independent, so the parts synchronise once a call and not once an operation: the small operations run
    on all cores too, and no core waits for numbers of another core.  Meanwhile each part uses BLAS with one thread, so
    that there is never a second pool.  If the replicas cannot be distributed evenly, all of BLAS's threads compute one
    part after another instead.

    If the replicas of a part see the same batch, the large weights of the first layer (R, d, m) lie in memory as (d, R,
    m) during a call, so that the products with the batch are one wide product.

    In float64, and with products in bfloat16, every replica has products of its own, by one thread: its results do not
    depend, in any bit, on the other replicas, so replicas may be dropped from a running population.
    """

    def __init__(self, network: Network, x: Array, labels: Array, hyper: Hyperparameters) -> None:
        self.network, self.x, self.labels, self.hyper = network, x, labels, hyper
        self._steppers: dict[tuple[int, int], PlainStepper] = {}
        self._memory: dict[tuple[str, int, int], Array] = {}

    def run(self, state: State, perm: Array, eta: Array, metrics: StepMetrics) -> None:
        """Take one step for each row of `perm`; see :class:`xpnet.training.steppers.Stepper`."""
        state.pack(np)
        exact = self.network.dtype == np.float64
        alone = exact or self.hyper.rounded  # every replica has products of its own, by one thread
        groups = groups_of_one_order(perm, eta.shape[1], self.hyper.orders)
        parts, threads = cut_into_parts(groups, blas_threads(), uneven=alone)

        def train(start: int, stop: int) -> None:
            rows = perm if perm.ndim == 2 else perm[:, start:stop]
            if rows.ndim == 3 and any(a <= start and stop <= b for a, b in groups):
                rows = rows[:, 0]
            stepper = self._steppers.get((start, stop))
            if stepper is None:
                stepper = PlainStepper(self.network, self.x, self.labels, self.hyper.part(start, stop))
                self._steppers[start, stop] = stepper
            part = state.part(start, stop)
            borrowed = self._side_by_side(part, start, stop) if rows.ndim == 2 and not alone else []
            stepper.run(part, rows, eta[:, start:stop], metrics.columns(start, stop))
            for home, memory in borrowed:
                home[...] = memory

        if threads == 1 and not alone:
            for part in parts:
                train(*part)
        else:
            on_all_cores([partial(train, *part) for part in parts], threads)
        state.step += len(perm)

    def _side_by_side(self, part: State, start: int, stop: int) -> list[tuple[Array, Array]]:
        """Move the first layer of a part to memory for wide products; return pairs of (original, temporary) arrays."""
        borrowed = []
        for group in ("parameters", "velocities", "second_moments"):
            tensors = getattr(part, group)
            if "W1" not in tensors.large or len(tensors["W1"]) == 1:
                continue
            home = tensors["W1"]
            R, d, m = home.shape
            memory = self._memory.get((group, start, stop))
            if memory is None:
                memory = self._memory[group, start, stop] = np.empty((d, R, m), home.dtype).transpose(1, 0, 2)
            memory[...] = home
            tensors.replace("W1", memory)
            borrowed.append((home, memory))
        return borrowed


def groups_of_one_order(perm: Array, replicas: int, orders: tuple[int, ...] | None = None) -> list[tuple[int, int]]:
    """Return the groups (start, stop) of neighbouring replicas that see the same batches.

    Batches of a few samples may be equal by chance.  With `orders`, the groups, and so the last bits in float32, do not
    depend on the number of steps of a call.
    """
    if perm.ndim == 2:
        return [(0, replicas)]
    differs = (perm[:, 1:] != perm[:, :-1]).any(axis=(0, 2)) if orders is None else np.diff(orders) != 0
    cuts = [0, *(np.flatnonzero(differs) + 1).tolist(), replicas]
    return list(pairwise(cuts))


# If a part is larger than the others by more than this factor, cores wait too long.
_UNEVEN = 1.4


def cut_into_parts(
    groups: list[tuple[int, int]], threads: int, uneven: bool = False
) -> tuple[list[tuple[int, int]], int]:
    """Return parts (start, stop) of the replicas, and the number of threads that compute parts at once.

    Groups with different batches are separate parts, which are cut into smaller ones if that keeps all threads busy;
    groups of one replica are joined.  If parts would leave threads waiting, and `uneven` does not allow this, one
    thread computes the parts one after another, each with all of BLAS's threads.
    """
    replicas = groups[-1][1]
    if len(groups) == replicas:
        groups = [(0, replicas)]
    # Groups that can be distributed evenly are not cut, since wider products are faster.
    pieces = 1 if len(groups) % threads == 0 else threads
    parts: list[tuple[int, int]] = []
    for start, stop in groups:
        count = min(pieces, stop - start)
        parts += pairwise([start + (stop - start) * i // count for i in range(count + 1)])
    rounds = -(-len(parts) // threads) * max(stop - start for start, stop in parts)
    if threads == 1 or (rounds * threads > _UNEVEN * replicas and not uneven):
        return groups, 1
    return parts, threads
