"""One network in PyTorch: eager, and with the whole step compiled."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from bench.problem import ETA_MIN, LAM, Problem, layers

BN_EPS = 1e-5


def use_all_cores() -> None:
    """Let PyTorch use the cores that this process has, hyper-threads or not."""
    torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def initial(problem: Problem) -> dict[str, torch.Tensor]:
    """Return one network's initial parameters, vectors as (m,)."""
    return {
        name: torch.from_numpy(p[0].copy() if name.startswith("W") else p[0, 0].copy())
        for name, p in problem.initial().items()
    }


def loss_of(
    p: dict[str, torch.Tensor], x: torch.Tensor, labels: torch.Tensor, *, batch_norm: bool, smoothing: float = 0.0
) -> Any:
    """Return the mean loss of one network, and with it (the same, the batch statistics)."""
    last, statistics = len(layers(p)), {}
    for number in range(1, last):
        s = x @ p[f"W{number}"]
        if batch_norm:
            mean, var = s.mean(0), s.var(0, unbiased=False)
            statistics |= {f"mean{number}": mean.detach(), f"var{number}": var.detach()}
            s = (s - mean) * torch.rsqrt(var + BN_EPS) * p[f"gamma{number}"] + p[f"beta{number}"]
        else:
            s = s + p[f"b{number}"]
        x = torch.relu(s)
    loss = functional.cross_entropy(x @ p[f"W{last}"] + p[f"b{last}"], labels, label_smoothing=smoothing)
    return loss, (loss.detach(), statistics)


class Eager:
    """``nn.Sequential`` with fused SGD; the weights alone decay."""

    def __init__(self, problem: Problem) -> None:
        use_all_cores()
        self._x, self._labels = map(torch.from_numpy, problem.data())
        first = initial(problem)
        numbers = layers(first)
        parts: list[nn.Module] = []
        for number in numbers:
            W, b = first[f"W{number}"], first.get(f"b{number}")
            linear = nn.Linear(*W.shape, bias=b is not None)
            linear.weight.data.copy_(W.T)
            if b is not None:
                linear.bias.data.copy_(b)
            parts.append(linear)
            if number < len(numbers):
                parts += [nn.BatchNorm1d(W.shape[1], eps=BN_EPS)] if problem.batch_norm else []
                parts.append(nn.ReLU())
        self._model = nn.Sequential(*parts)
        matrices = [p for p in self._model.parameters() if p.ndim == 2]
        vectors = [p for p in self._model.parameters() if p.ndim == 1]
        # In PyTorch the gradient of the penalty is weight_decay * W, here it is 2 lambda W.
        groups: list[dict[str, Any]] = [{"params": matrices, "weight_decay": 2 * LAM}, {"params": vectors}]
        self._optimiser = torch.optim.SGD(groups, lr=ETA_MIN, fused=True)

    def epoch(self, perm: np.ndarray, eta: np.ndarray) -> float:
        """Take the steps; return the mean loss."""
        optimiser, losses = self._optimiser, []
        for rows, rate in zip(torch.from_numpy(perm), eta.tolist(), strict=True):
            for group in optimiser.param_groups:
                group["lr"] = rate
            scores = self._model(self._x.index_select(0, rows))
            loss = functional.cross_entropy(scores, self._labels.index_select(0, rows))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            losses.append(loss.detach())
        return float(torch.stack(losses).mean())

    def weights(self) -> list[np.ndarray]:
        """Return the weight matrices (d, m)."""
        return [p.detach().numpy().T for p in self._model.parameters() if p.ndim == 2]


class Compiled:
    """Forward, backward and update as one function that ``torch.compile`` compiles."""

    def __init__(self, problem: Problem) -> None:
        use_all_cores()
        self._x, self._labels = map(torch.from_numpy, problem.data())
        self._parameters = initial(problem)
        batch_norm = problem.batch_norm
        self._running = {
            f"{what}{number}": torch.full((m,), start)
            for number, m in enumerate(problem.hidden if batch_norm else (), start=1)
            for what, start in (("mean", 0.0), ("var", 1.0))
        }

        gradient = torch.func.grad(partial(loss_of, batch_norm=batch_norm), has_aux=True)

        def step(p: dict[str, Any], running: dict[str, Any], x: Any, labels: Any, eta: Any, total: Any) -> None:
            g, (loss, statistics) = gradient(p, x, labels)
            total.add_(loss)
            for name, W in p.items():
                if name.startswith("W"):
                    W.mul_(1 - 2 * LAM * eta)
                W.sub_(eta * g[name])
            for name, value in statistics.items():
                running[name].lerp_(value, 0.1)

        torch._dynamo.reset()
        self._step = torch.compile(step)
        # Tensors, not numbers: another number would compile the step again.
        self._eta, self._total = torch.zeros(()), torch.zeros(())

    def epoch(self, perm: np.ndarray, eta: np.ndarray) -> float:
        """Take the steps; return the mean loss."""
        x, labels, rates = self._x, self._labels, eta.tolist()
        self._total.zero_()
        with torch.no_grad():
            for rows, rate in zip(torch.from_numpy(perm), rates, strict=True):
                self._eta.fill_(rate)
                batch, classes = x.index_select(0, rows), labels.index_select(0, rows)
                self._step(self._parameters, self._running, batch, classes, self._eta, self._total)
        return float(self._total) / len(perm)

    def weights(self) -> list[np.ndarray]:
        """Return the weight matrices (d, m)."""
        return [p.numpy() for name, p in self._parameters.items() if name.startswith("W")]
