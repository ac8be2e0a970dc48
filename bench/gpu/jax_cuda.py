"""JAX on a GPU: an epoch is one compiled scan over its steps."""

from __future__ import annotations

import os
from functools import partial
from itertools import pairwise
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # others are on the device

import jax
import jax.numpy as jnp
import numpy as np

from bench.gpu.context import batches, timed
from bench.peers.jax_single import Tree, descend, loss_of
from bench.problem import LAM


class Peer:
    """One network on the training set as bytes on the device, standardised in the step.

    The arguments are those of :class:`bench.gpu.torch_cuda.Peer`, and `unroll`: steps in one round of the scan's loop.
    """

    def __init__(self, data: Any, hidden: tuple[int, ...], batch_norm: bool, batch: int, unroll: int = 1) -> None:
        if jax.default_backend() != "gpu":
            raise RuntimeError(f"JAX computes on {jax.default_backend()}, not on a GPU")
        self.version = jax.__version__
        jax.config.update("jax_default_matmul_precision", "highest")  # float32, not TF32
        rows = batches(len(data.train), batch)
        self.count = len(rows)
        self._x, self._labels = jax.device_put(data.train.x), jax.device_put(data.train.labels.astype(np.int32))
        self._perm, self._eta = jax.device_put(rows.astype(np.int32)), jnp.full(self.count, 1e-3, jnp.float32)
        scale = data.standardiser
        mean, factor = (jnp.asarray(v, jnp.float32) for v in (scale.mean, 1 / scale.std))
        sizes = (data.train.x.shape[1], *hidden, 10)
        draw = np.random.default_rng(0)
        self._p: Tree = {}
        self._running: Tree = {}
        for number, (d, m) in enumerate(pairwise(sizes), start=1):
            self._p[f"W{number}"] = jnp.asarray(draw.standard_normal((d, m)) * (2 / d) ** 0.5, jnp.float32)
            if number == len(sizes) - 1 or not batch_norm:
                self._p[f"b{number}"] = jnp.zeros(m)
            else:
                self._p |= {f"gamma{number}": jnp.ones(m), f"beta{number}": jnp.zeros(m)}
                self._running |= {f"mean{number}": jnp.zeros(m), f"var{number}": jnp.ones(m)}

        @partial(jax.jit, donate_argnums=(0, 1))
        def epoch(p: Tree, running: Tree, x: Any, labels: Any, perm: Any, eta: Any) -> Any:
            def step(carry: Any, turn: Any) -> Any:
                p, running = carry
                rows, rate = turn
                batch = (jnp.take(x, rows, axis=0, mode="clip").astype(jnp.float32) - mean) * factor
                classes = jnp.take(labels, rows, mode="clip")
                g, (loss, statistics) = jax.grad(loss_of, has_aux=True)(p, batch, classes, batch_norm)
                return descend(p, g, running, statistics, rate, LAM), loss

            (p, running), losses = jax.lax.scan(step, (p, running), (perm, eta), unroll=unroll)
            return p, running, losses.mean()

        self._epoch = epoch

    def seconds(self, warm: int, epochs: int) -> list[float]:
        """Return the seconds of epochs, after some that warm up."""

        def run() -> None:
            inputs = (self._x, self._labels, self._perm, self._eta)
            self._p, self._running, loss = self._epoch(self._p, self._running, *inputs)
            jax.block_until_ready((self._p, loss))

        return timed(run, lambda: None, warm, epochs)
