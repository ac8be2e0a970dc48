"""R networks at once in JAX: one network's step, mapped over networks."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench.peers.jax_single import Tree, descend, loss_of
from bench.problem import Problem


class Vmap:
    """The step of one network under ``vmap``, compiled, called from Python step by step."""

    def __init__(self, problem: Problem) -> None:
        x, labels = problem.data()
        self._x, self._labels = jax.device_put(x), jax.device_put(labels.astype(np.int32))
        self._p: Tree = {
            name: jnp.asarray(a if name.startswith("W") else a[:, 0]) for name, a in problem.initial().items()
        }
        R, batch_norm = problem.replicas, problem.batch_norm
        self._running: Tree = {
            f"{what}{number}": jnp.full((R, m), start, jnp.float32)
            for number, m in enumerate(problem.hidden if batch_norm else (), start=1)
            for what, start in (("mean", 0.0), ("var", 1.0))
        }
        lam = jnp.asarray(problem.lam, jnp.float32)

        @partial(jax.jit, donate_argnums=(0, 1))
        def step(p: Tree, running: Tree, x: Any, labels: Any, rows: Any, eta: Any) -> Any:
            batch = jnp.take(x, rows, axis=0, mode="clip"), jnp.take(labels, rows, mode="clip")

            def one(p: Tree, running: Tree, lam: Any) -> Any:
                g, (loss, statistics) = jax.grad(loss_of, has_aux=True)(p, *batch, batch_norm)
                return *descend(p, g, running, statistics, eta, lam), loss

            p, running, losses = jax.vmap(one)(p, running, lam)
            return p, running, losses.mean()

        self._step = step

    def epoch(self, perm: np.ndarray, eta: np.ndarray) -> float:
        """Take the steps; return the mean loss over all networks."""
        losses = []
        for rows, rate in zip(perm.astype(np.int32), eta.astype(np.float32), strict=True):
            self._p, self._running, loss = self._step(self._p, self._running, self._x, self._labels, rows, rate)
            losses.append(loss)
        jax.block_until_ready(self._p)
        return float(np.mean([float(loss) for loss in losses]))

    def weights(self) -> list[np.ndarray]:
        """Return the weight matrices (R, d, m)."""
        return [np.asarray(p) for name, p in self._p.items() if name.startswith("W")]
