"""One network in JAX: an epoch is one ``lax.scan`` over its steps."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench.problem import LAM, Problem, layers

BN_EPS = 1e-5
Tree = dict[str, Any]


def loss_of(p: Tree, x: Any, labels: Any, batch_norm: bool) -> tuple[Any, tuple[Any, Tree]]:
    """Return the mean loss of one network, and with it (the same, the batch statistics)."""
    last, statistics = len(layers(p)), {}
    for number in range(1, last):
        s = x @ p[f"W{number}"]
        if batch_norm:
            mean, var = s.mean(0), s.var(0)
            statistics |= {f"mean{number}": mean, f"var{number}": var}
            s = (s - mean) * jax.lax.rsqrt(var + BN_EPS) * p[f"gamma{number}"] + p[f"beta{number}"]
        else:
            s = s + p[f"b{number}"]
        x = jax.nn.relu(s)
    scores = x @ p[f"W{last}"] + p[f"b{last}"]
    loss = -jnp.take_along_axis(jax.nn.log_softmax(scores), labels[:, None], 1).mean()
    return loss, (loss, statistics)


def descend(p: Tree, g: Tree, running: Tree, statistics: Tree, eta: Any, lam: Any) -> tuple[Tree, Tree]:
    """Return the parameters and running statistics after a step."""
    p = {
        name: (value * (1 - 2 * eta * lam) if name.startswith("W") else value) - eta * g[name]
        for name, value in p.items()
    }
    return p, {name: 0.9 * value + 0.1 * statistics[name] for name, value in running.items()}


class Scan:
    """The whole epoch is compiled; parameters are donated, so updates need no second copy."""

    def __init__(self, problem: Problem) -> None:
        x, labels = problem.data()
        self._x, self._labels = jax.device_put(x), jax.device_put(labels.astype(np.int32))
        self._p: Tree = {
            name: jnp.asarray(a[0] if name.startswith("W") else a[0, 0]) for name, a in problem.initial().items()
        }
        batch_norm = problem.batch_norm
        self._running: Tree = {
            f"{what}{number}": jnp.full((m,), start, jnp.float32)
            for number, m in enumerate(problem.hidden if batch_norm else (), start=1)
            for what, start in (("mean", 0.0), ("var", 1.0))
        }

        @partial(jax.jit, donate_argnums=(0, 1))
        def epoch(p: Tree, running: Tree, x: Any, labels: Any, perm: Any, eta: Any) -> Any:
            def step(carry: Any, turn: Any) -> Any:
                p, running = carry
                rows, rate = turn
                batch = jnp.take(x, rows, axis=0, mode="clip"), jnp.take(labels, rows, mode="clip")
                g, (loss, statistics) = jax.grad(loss_of, has_aux=True)(p, *batch, batch_norm)
                return descend(p, g, running, statistics, rate, LAM), loss

            (p, running), losses = jax.lax.scan(step, (p, running), (perm, eta))
            return p, running, losses.mean()

        self._epoch = epoch

    def epoch(self, perm: np.ndarray, eta: np.ndarray) -> float:
        """Take the steps; return the mean loss."""
        self._p, self._running, loss = self._epoch(
            self._p, self._running, self._x, self._labels, perm.astype(np.int32), eta.astype(np.float32)
        )
        jax.block_until_ready(self._p)
        return float(loss)

    def weights(self) -> list[np.ndarray]:
        """Return the weight matrices (d, m)."""
        return [np.asarray(p) for name, p in self._p.items() if name.startswith("W")]
