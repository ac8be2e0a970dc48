"""PyTorch on a GPU: eager, compiled, and the compiled step captured by hand."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from bench.gpu.context import batches, timed
from bench.peers.torch_single import BN_EPS, loss_of
from bench.problem import ETA_MAX, LAM

# Steps in one CUDA graph, as xpnet has them.
CAPTURED = 50


class Peer:
    """One network on the training set as bytes on the device, standardised in the step.

    Args:
        data: The data set.
        hidden: Units of each hidden layer.
        batch_norm: Whether hidden layers are normalised.
        batch: Samples in a step.
        mode: ``"eager"``; ``"default"`` or ``"reduce-overhead"`` of ``torch.compile``; ``"graph"``: 50 of the
            steps that ``torch.compile`` makes, captured in a CUDA graph by hand.
        device: ``"cuda"``.
    """

    def __init__(
        self, data: Any, hidden: tuple[int, ...], batch_norm: bool, batch: int, mode: str, device: str = "cuda"
    ) -> None:
        torch.backends.cuda.matmul.allow_tf32 = False
        self.version, self._device, self._mode = torch.__version__, device, mode
        self._x = torch.from_numpy(data.train.x).to(device)
        self._labels = torch.from_numpy(data.train.labels.astype(np.int64)).to(device)
        scale = data.standardiser
        self._mean = torch.tensor(scale.mean, dtype=torch.float32, device=device)
        self._factor = torch.tensor(1 / scale.std, dtype=torch.float32, device=device)
        rows = batches(len(data.train), batch)
        self.count = len(rows)
        self._perm = torch.from_numpy(rows).to(device)
        self._total = torch.zeros((), device=device)
        self._eta = torch.full((), 1e-3, device=device)
        sizes = (data.train.x.shape[1], *hidden, 10)
        make = self._eager if mode == "eager" else self._functional
        self._step = make(sizes, batch_norm)
        self._replay = self._captured(batch) if mode == "graph" else None

    def _batch(self, rows: Any) -> tuple[Any, Any]:
        x = (self._x.index_select(0, rows).float() - self._mean) * self._factor
        return x, self._labels.index_select(0, rows)

    def _eager(self, sizes: tuple[int, ...], batch_norm: bool) -> Any:
        parts: list[nn.Module] = []
        for number, (d, m) in enumerate(pairwise(sizes), start=1):
            last = number == len(sizes) - 1
            parts.append(nn.Linear(d, m, bias=last or not batch_norm))
            if not last:
                parts += [nn.BatchNorm1d(m, eps=BN_EPS)] if batch_norm else []
                parts.append(nn.ReLU())
        model = nn.Sequential(*parts).to(self._device)
        matrices = [p for p in model.parameters() if p.ndim == 2]
        vectors = [p for p in model.parameters() if p.ndim == 1]
        groups: list[dict[str, Any]] = [{"params": matrices, "weight_decay": 2 * LAM}, {"params": vectors}]
        optimiser = torch.optim.SGD(groups, lr=ETA_MAX / 100, fused=True)

        def step(rows: Any) -> None:
            x, labels = self._batch(rows)
            loss = functional.cross_entropy(model(x), labels)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            self._total += loss.detach()

        return step

    def _functional(self, sizes: tuple[int, ...], batch_norm: bool) -> Any:
        torch.manual_seed(0)
        p, running = {}, {}
        last = len(sizes) - 1
        for number, (d, m) in enumerate(pairwise(sizes), start=1):
            p[f"W{number}"] = torch.randn(d, m, device=self._device) * (2 / d) ** 0.5
            if number == last or not batch_norm:
                p[f"b{number}"] = torch.zeros(m, device=self._device)
            else:
                p[f"gamma{number}"] = torch.ones(m, device=self._device)
                p[f"beta{number}"] = torch.zeros(m, device=self._device)
                running[f"mean{number}"] = torch.zeros(m, device=self._device)
                running[f"var{number}"] = torch.ones(m, device=self._device)

        gradient = torch.func.grad(partial(loss_of, batch_norm=batch_norm), has_aux=True)

        def step(rows: Any) -> None:
            x, labels = self._batch(rows)
            g, (loss, statistics) = gradient(p, x, labels)
            self._total.add_(loss)
            for name, W in p.items():
                if name.startswith("W"):
                    W.mul_(1 - 2 * LAM * self._eta)
                W.sub_(self._eta * g[name])
            for name, value in statistics.items():
                running[name].lerp_(value, 0.1)

        # Else a CUDA graph of torch.compile copies its inputs, the data set among them, before every step.
        fixed = [*p.values(), *running.values(), self._total, self._eta]
        for tensor in (*fixed, self._x, self._labels, self._mean, self._factor):
            torch._dynamo.mark_static_address(tensor)
        torch._dynamo.reset()
        return torch.compile(step, mode="reduce-overhead" if self._mode == "reduce-overhead" else "default")

    def _captured(self, batch: int) -> Any:
        """Return a function that takes the steps of some batches, at most :data:`CAPTURED`, by replaying graphs."""
        rows = torch.zeros((CAPTURED, batch), dtype=torch.int64, device=self._device)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.no_grad(), torch.cuda.stream(stream):
            for number in (0, 1, CAPTURED - 1):
                self._step(rows[number])
        torch.cuda.current_stream().wait_stream(stream)
        graphs = {}
        for size in {min(CAPTURED, self.count), self.count % CAPTURED} - {0}:
            graphs[size] = torch.cuda.CUDAGraph()
            with torch.no_grad(), torch.cuda.graph(graphs[size]):
                for number in range(size):
                    self._step(rows[number])

        def replay(chosen: Any) -> None:
            rows[: len(chosen)].copy_(chosen)
            graphs[len(chosen)].replay()

        return replay

    def graph_skips(self) -> int:
        """Return how often torch.compile gave up making a CUDA graph that was asked for."""
        if self._mode != "reduce-overhead":
            return 0
        return int(torch._dynamo.utils.counters["inductor"]["cudagraph_skips"])

    def epoch(self) -> None:
        """Take all steps once."""
        if self._mode == "eager":
            for rows in self._perm:
                self._step(rows)
            return
        with torch.no_grad():
            if self._replay is not None:
                for chosen in self._perm.split(CAPTURED):
                    self._replay(chosen)
                return
            for rows in self._perm:
                self._step(rows)

    def seconds(self, warm: int, epochs: int) -> list[float]:
        """Return the seconds of epochs, after some that warm up."""
        return timed(self.epoch, torch.cuda.synchronize if self._device == "cuda" else lambda: None, warm, epochs)
