"""The recipes in PyTorch: pooled tables of pictures, a fixed projection, and steps, eager or compiled.

A shift by whole pixels followed by means of 2 x 2 pixels reads one of four tables, by the parities of the shift, in a
window; so a batch is one copy of 768 bytes a sample, the least that PyTorch can read.  Strided windows of NumPy copy
them two to four times as fast as indexing by PyTorch does on a CPU; on a GPU an index does.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import nn
from torch.nn import functional

from bench.learn.pictures import SHAPE, PictureProblem
from bench.peers.torch_single import BN_EPS, initial, loss_of, use_all_cores
from xpnet.data.views import samples_of, view_of

SIDE = SHAPE[1] // 2
INPUTS = SHAPE[0] * SIDE**2
# Pictures whose tables are computed together: they stay in the caches.
_CHUNK = 250


class Tables:
    """Means of 2 x 2 pixels of all pictures, for every shift of at most `shift` pixels with reflected borders."""

    def __init__(self, x: np.ndarray, shift: int, device: str = "cpu") -> None:
        """Compute the tables of bytes x (N, 3072)."""
        self._shift, self._device = shift, device
        side = SIDE + shift
        tables = np.zeros((len(x), 2, 2, SHAPE[0], side, side), np.uint8)
        starts = range(0, len(x), _CHUNK)
        with ThreadPoolExecutor(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2) as pool:
            list(pool.map(lambda at: self._fill(x[at : at + _CHUNK], tables[at : at + _CHUNK]), starts))
        if device == "cpu":
            self._windows = sliding_window_view(tables, (SIDE, SIDE), axis=(4, 5))
            return
        self._flat, self._strides = torch.from_numpy(tables).to(device).view(-1), (4 * SHAPE[0] * side**2, side)
        across = torch.stack([torch.arange(SIDE), torch.arange(SIDE - 1, -1, -1)])[:, None, None, :]
        down = side * torch.arange(SIDE)[:, None] + side**2 * torch.arange(SHAPE[0])[:, None, None]
        self._pattern = (down[None] + across).reshape(2, -1).to(device)

    def _fill(self, x: np.ndarray, tables: np.ndarray) -> None:
        s = self._shift
        padded = np.pad(x.reshape(-1, *SHAPE), ((0, 0), (0, 0), (s, s), (s, s)), mode="reflect").astype(np.uint16)
        rows = padded[:, :, :-1] + padded[:, :, 1:]
        means = ((rows[..., :-1] + rows[..., 1:] + 2) >> 2).astype(np.uint8)
        for a in (0, 1):
            for b in (0, 1):
                part = means[:, :, a::2, b::2]
                tables[:, a, b, :, : part.shape[2], : part.shape[3]] = part

    def __call__(self, samples: np.ndarray, down: Any, right: Any, flip: Any) -> torch.Tensor:
        """Return samples (n,) moved down and to the right, then mirrored where `flip` is not 0, as bytes (n, 768)."""
        y, x = (np.broadcast_to(self._shift - move, samples.shape) for move in (down, right))
        mirrored = np.broadcast_to(flip, samples.shape) != 0
        if self._device == "cpu":
            found = self._windows[samples, y & 1, x & 1, :, y >> 1, x >> 1]
            found[mirrored] = found[mirrored][..., ::-1]
            return torch.from_numpy(found.reshape(-1, INPUTS))
        each, line = self._strides
        start = samples * each + (2 * (y & 1) + (x & 1)) * (each // 4) + (y >> 1) * line + (x >> 1)
        start, mirrored = (torch.from_numpy(v).to(self._device) for v in (start, mirrored.astype(np.int64)))
        return self._flat[start[:, None] + self._pattern[mirrored]]


class Eager:
    """``nn.Sequential`` with fused SGD.  A contender, and a network for whole trainings."""

    def __init__(self, problem: PictureProblem) -> None:
        """Prepare the steps of a contender."""
        use_all_cores()
        data = problem.raw()
        self._tables = Tables(data.train.x, problem.config.shift)
        self._labels = torch.from_numpy(data.train.labels.astype(np.int64))
        std, projection = data.transform.standardiser.std, data.transform.projection
        M = torch.from_numpy((projection / std[:, None]).astype(np.float32))
        bias = torch.from_numpy((-(data.transform.standardiser.mean / std) @ projection).astype(np.float32))
        self.begin(initial(problem), M, bias, problem.config)

    @classmethod
    def of(cls, parameters: dict[str, torch.Tensor], M: torch.Tensor, bias: torch.Tensor, config: Any) -> Any:
        """Return a network with initial `parameters`, whose inputs are u M + bias for bytes u (n, 768)."""
        network = cls.__new__(cls)
        network.begin(parameters, M, bias, config)
        return network

    def begin(self, parameters: dict[str, torch.Tensor], M: torch.Tensor, bias: torch.Tensor, config: Any) -> None:
        """Build the network and its optimiser; `config` has penalty, momentum and smoothing."""
        self._M, self._bias, self._smoothing = M, bias, config.label_smoothing
        last = sum(name.startswith("W") for name in parameters)
        parts: list[nn.Module] = []
        for number in range(1, last + 1):
            W = parameters[f"W{number}"]
            linear = nn.Linear(*W.shape, bias=number == last)
            linear.weight.data.copy_(W.T)
            parts.append(linear)
            if number < last:
                parts += [nn.BatchNorm1d(W.shape[1], eps=BN_EPS), nn.ReLU()]
        nn.init.zeros_(parts[-1].bias)
        self._model = nn.Sequential(*parts).to(M.device)
        matrices, vectors = ([p for p in self._model.parameters() if p.ndim == axes] for axes in (2, 1))
        # In PyTorch the gradient of the penalty is weight_decay * W, here it is 2 lambda W.
        groups: list[dict[str, Any]] = [
            {"params": matrices, "weight_decay": 2 * config.lam},
            {"params": vectors, "weight_decay": config.decay_bn},
        ]
        momentum = {"momentum": config.momentum, "nesterov": config.nesterov}
        self._optimiser = torch.optim.SGD(groups, lr=0.1, fused=True, **momentum)

    def step(self, u: torch.Tensor, labels: torch.Tensor, eta: float) -> torch.Tensor:
        """Take one step on bytes u (n, 768); return the mean loss."""
        for group in self._optimiser.param_groups:
            group["lr"] = eta
        logits = self._model(torch.addmm(self._bias, u.float(), self._M))
        loss = functional.cross_entropy(logits, labels, label_smoothing=self._smoothing)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._optimiser.step()
        return loss.detach()

    def probabilities(self, u: torch.Tensor) -> torch.Tensor:
        """Return class probabilities (n, classes) by the running statistics."""
        self._model.eval()
        with torch.no_grad():
            return functional.softmax(self._model(torch.addmm(self._bias, u.float(), self._M)), dim=1)

    def epoch(self, perm: np.ndarray, eta: np.ndarray) -> float:
        """Take the steps of the rows `perm` (k, n); return the mean loss."""
        losses, samples, view = [], samples_of(perm), view_of(perm)
        for t, rate in enumerate(eta.tolist()):
            u = self._tables(samples[t], view.down[t], view.right[t], view.flip[t])
            losses.append(self.step(u, self._labels[torch.from_numpy(samples[t])], rate))
        return float(torch.stack(losses).mean())

    def weights(self) -> list[np.ndarray]:
        """Return the weight matrices (d, m)."""
        return [p.detach().cpu().numpy().T for p in self._model.parameters() if p.ndim == 2]


class Rounded(Eager):
    """The same with products of factors that autocast rounds to bfloat16."""

    def step(self, u: torch.Tensor, labels: torch.Tensor, eta: float) -> torch.Tensor:
        """Take one step on bytes u (n, 768); return the mean loss."""
        with torch.autocast(u.device.type, torch.bfloat16):
            return super().step(u, labels, eta)


class Compiled(Eager):
    """Projection, forward, backward and update as one function that ``torch.compile`` compiles."""

    def begin(self, parameters: dict[str, torch.Tensor], M: torch.Tensor, bias: torch.Tensor, config: Any) -> None:
        """Build and compile the step."""
        self._M, self._bias = M, bias
        self._parameters = {name: p.clone().to(M.device) for name, p in parameters.items()}
        self._velocities = {name: torch.zeros_like(p) for name, p in self._parameters.items()}
        self._running = {
            f"{what}{name.removeprefix('gamma')}": torch.full_like(p, start)
            for name, p in self._parameters.items()
            if name.startswith("gamma")
            for what, start in (("mean", 0.0), ("var", 1.0))
        }
        self._eta = torch.zeros((), device=M.device)
        gradient = torch.func.grad(partial(loss_of, batch_norm=True, smoothing=config.label_smoothing), has_aux=True)
        decays, rho, nesterov = (config.decay_bn, 2 * config.lam), config.momentum, config.nesterov

        def step(p: Any, velocities: Any, running: Any, u: Any, labels: Any, eta: Any) -> Any:
            g, (loss, statistics) = gradient(p, torch.addmm(bias, u.float(), M), labels)
            for name, value in p.items():
                slope = g[name] + decays[name.startswith("W")] * value
                velocity = velocities[name].mul_(rho).add_(slope)
                value.sub_(eta * (slope + rho * velocity if nesterov else velocity))
            for name, value in statistics.items():
                running[name].lerp_(value, 0.1)
            return loss

        torch._dynamo.reset()
        self._step = torch.compile(step)

    def warm(self, u: torch.Tensor, labels: torch.Tensor) -> None:
        """Compile the step, and leave the network as it was."""
        groups = (self._parameters, self._velocities, self._running)
        kept = [{name: value.clone() for name, value in group.items()} for group in groups]
        self.step(u, labels, 0.1)
        for group, before in zip(groups, kept, strict=True):
            for name, value in before.items():
                group[name].copy_(value)

    def step(self, u: torch.Tensor, labels: torch.Tensor, eta: float) -> torch.Tensor:
        """Take one step on bytes u (n, 768); return the mean loss."""
        self._eta.fill_(eta)
        with torch.no_grad():
            return self._step(self._parameters, self._velocities, self._running, u, labels, self._eta)

    def probabilities(self, u: torch.Tensor) -> torch.Tensor:
        """Return class probabilities (n, classes) by the running statistics."""
        p, running = self._parameters, self._running
        x = torch.addmm(self._bias, u.float(), self._M)
        last = sum(name.startswith("W") for name in p)
        for n in range(1, last):
            scale = p[f"gamma{n}"] * torch.rsqrt(running[f"var{n}"] + BN_EPS)
            x = torch.relu((x @ p[f"W{n}"] - running[f"mean{n}"]) * scale + p[f"beta{n}"])
        return functional.softmax(x @ p[f"W{last}"] + p[f"b{last}"], dim=1)

    def weights(self) -> list[np.ndarray]:
        """Return the weight matrices (d, m)."""
        return [p.cpu().numpy() for name, p in self._parameters.items() if name.startswith("W")]
