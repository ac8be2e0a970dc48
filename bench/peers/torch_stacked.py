"""R networks at once in PyTorch: one wide product for the first layer, batched products for the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional

from bench.peers.torch_single import BN_EPS, use_all_cores
from bench.problem import Problem, layers


class Eager:
    """Stacked by hand; the update is written out, each network with its own lambda."""

    compiled = False

    def __init__(self, problem: Problem) -> None:
        use_all_cores()
        self._x, self._labels = map(torch.from_numpy, problem.data())
        R, n = problem.replicas, problem.batch
        p = self._parameters = {name: torch.from_numpy(a.copy()) for name, a in problem.initial().items()}
        last, batch_norm = len(layers(p)), problem.batch_norm
        self._m = m = problem.sizes[1]
        self._R = R
        # (R, d, m) -> (d, R m): all networks share the batch, so their first layers are one product.
        p["W1"] = p["W1"].permute(1, 0, 2).reshape(-1, R * m).contiguous()
        lam = torch.from_numpy(problem.lam).float()
        self._decay = {name: lam[:, None, None] for name in p if name.startswith("W")}
        self._decay["W1"] = lam.repeat_interleave(m)[None]
        self._running = {
            f"{what}{number}": torch.full((R, 1, width), start)
            for number, width in enumerate(problem.hidden if batch_norm else (), start=1)
            for what, start in (("mean", 0.0), ("var", 1.0))
        }

        def loss_of(p: dict[str, torch.Tensor], x: torch.Tensor, labels: torch.Tensor) -> Any:
            statistics = {}
            h = (x @ p["W1"]).view(n, R, m).transpose(0, 1)
            for number in range(1, last):
                s = h if number == 1 else torch.bmm(h, p[f"W{number}"])
                if batch_norm:
                    mean, var = s.mean(1, keepdim=True), s.var(1, unbiased=False, keepdim=True)
                    statistics |= {f"mean{number}": mean.detach(), f"var{number}": var.detach()}
                    s = (s - mean) * torch.rsqrt(var + BN_EPS) * p[f"gamma{number}"] + p[f"beta{number}"]
                else:
                    s = s + p[f"b{number}"]
                h = torch.relu(s)
            scores = torch.baddbmm(p[f"b{last}"], h, p[f"W{last}"])
            # The mean over n R rows, times R: every network's own mean loss.
            loss = functional.cross_entropy(scores.reshape(R * n, -1), labels.repeat(R)) * R
            return loss, (loss.detach(), statistics)

        gradient = torch.func.grad(loss_of, has_aux=True)

        def step(x: Any, labels: Any, eta: Any, total: Any, p: dict[str, Any], running: Any, decay: Any) -> None:
            g, (loss, statistics) = gradient(p, x, labels)
            total.add_(loss)
            for name, W in p.items():
                if name in decay:
                    W.mul_(1 - 2 * eta * decay[name])
                W.sub_(eta * g[name])
            for name, value in statistics.items():
                running[name].lerp_(value, 0.1)

        if self.compiled:
            torch._dynamo.reset()
            step = torch.compile(step)
        self._step = step
        self._eta, self._total = torch.zeros(()), torch.zeros(())

    def epoch(self, perm: np.ndarray, eta: np.ndarray) -> float:
        """Take the steps; return the mean loss over all networks."""
        x, labels = self._x, self._labels
        self._total.zero_()
        with torch.no_grad():
            for rows, rate in zip(torch.from_numpy(perm), eta.tolist(), strict=True):
                self._eta.fill_(rate)
                batch, classes = x.index_select(0, rows), labels.index_select(0, rows)
                self._step(batch, classes, self._eta, self._total, self._parameters, self._running, self._decay)
        return float(self._total) / len(perm) / self._R

    def weights(self) -> list[np.ndarray]:
        """Return the weight matrices, the first one (d, R m)."""
        return [p.numpy() for name, p in self._parameters.items() if name.startswith("W")]


class Compiled(Eager):
    """The same as one compiled function."""

    compiled = True
