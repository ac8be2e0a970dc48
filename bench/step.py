"""Time of a training step: xpnet's own stepper, in turn with PyTorch eager on the same data and batches.

    python -m bench step --networks abc --rounds 7 --out bench/results/step.json

Every contender trains one epoch a round, in turn, from the same initial weights, with the same
batches, learning rates and penalty; the first round warms up and is not counted.  PyTorch gets what
serves it best: resident float32 data, index_select, the fused optimiser with weight decay on the
weights alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import xpnet
from bench.machine import describe, probe
from xpnet.schedules import triangular
from xpnet.steppers import Hyperparameters, State, Totals, make_stepper

LAM, ETA_MIN, ETA_MAX, N_S = 0.005, 1e-5, 0.1, 2250
NINE = (50, 30, 20, 20, 10, 10, 10, 10)
NETWORKS = {
    "a": ((50, 50), True, 100),
    "b": ((50, 50), False, 100),
    "c": (NINE, True, 100),
    "d": ((512, 512), True, 100),
    "e": ((512, 512), True, 1000),
}
Epoch = Callable[[np.ndarray, np.ndarray], None]


def xpnet_epoch(name: str, x: np.ndarray, labels: np.ndarray, device: str) -> Epoch:
    """Return a function that trains one epoch with the stepper that training uses."""
    hidden, batch_norm, _ = NETWORKS[name]
    backend = xpnet.get_backend(device)
    config = xpnet.NetworkConfig(inputs=x.shape[1], hidden=hidden, batch_norm=batch_norm)
    net = xpnet.Network(config, backend=backend)
    stepper = make_stepper(
        net, backend.asarray(x), backend.asarray(labels), Hyperparameters(backend.asarray(np.array([LAM])))
    )
    state = State(net.parameters, {}, net.running)

    def epoch(perm: np.ndarray, eta: np.ndarray) -> None:
        totals = Totals.empty(backend.xp, len(perm), 1)
        stepper.run(state, backend.asarray(perm), backend.asarray(eta[:, None]), totals)
        backend.to_numpy(totals.loss)

    return epoch


def torch_epoch(name: str, x: np.ndarray, labels: np.ndarray) -> Epoch:
    """Return the same for PyTorch eager."""
    import torch
    from torch import nn

    hidden, batch_norm, _ = NETWORKS[name]
    torch.set_num_threads(2)
    net = xpnet.Network(xpnet.NetworkConfig(inputs=x.shape[1], hidden=hidden, batch_norm=batch_norm))
    parts: list[Any] = []
    for layer in range(1, len(hidden) + 2):
        W = net.parameters[f"W{layer}"][0]
        last = layer == len(hidden) + 1
        linear = nn.Linear(*W.shape, bias=last or not batch_norm)
        linear.weight.data.copy_(torch.from_numpy(W.T.copy()))
        if linear.bias is not None:
            nn.init.zeros_(linear.bias)
        parts += [linear] if last else [linear, *([nn.BatchNorm1d(W.shape[1])] if batch_norm else []), nn.ReLU()]
    model = nn.Sequential(*parts)
    weights = [p for p in model.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if p.ndim == 1]
    optimiser = torch.optim.SGD(
        [{"params": weights, "weight_decay": 2 * LAM}, {"params": others}], lr=ETA_MIN, fused=True
    )
    tx, ty = torch.from_numpy(x), torch.from_numpy(labels)
    loss_of = nn.CrossEntropyLoss()

    def epoch(perm: np.ndarray, eta: np.ndarray) -> None:
        for rows, rate in zip(torch.from_numpy(perm), eta.tolist(), strict=True):
            for group in optimiser.param_groups:
                group["lr"] = rate
            loss = loss_of(model(tx.index_select(0, rows)), ty.index_select(0, rows))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()

    return epoch


def measure(name: str, contenders: dict[str, Epoch], samples: int, rounds: int) -> dict[str, Any]:
    """Time one epoch a round of every contender, in turn, and return microseconds a step."""
    batch = NETWORKS[name][2]
    steps = samples // batch
    order = np.random.default_rng(0)
    times: dict[str, list[float]] = {who: [] for who in contenders}
    for number in range(rounds + 1):
        perm = order.permutation(samples)[: steps * batch].reshape(steps, batch)
        eta = triangular(np.arange(number * steps, (number + 1) * steps), ETA_MIN, ETA_MAX, N_S)
        for who, epoch in contenders.items():
            begin = time.perf_counter()
            epoch(perm, eta)
            if number:
                times[who].append((time.perf_counter() - begin) / steps * 1e6)
    return {
        who: {
            "us_per_step": [round(t, 1) for t in values],
            "median": round(statistics.median(values), 1),
            "min": round(min(values), 1),
            "epoch_seconds": round(statistics.median(values) * steps / 1e6, 4),
        }
        for who, values in times.items()
    }


def main(arguments: list[str]) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m bench step", description=__doc__.splitlines()[0])
    parser.add_argument("--networks", default="abc", help="which of abcde [abc]")
    parser.add_argument("--rounds", type=int, default=7, help="counted epochs of each contender [7]")
    parser.add_argument("--samples", type=int, default=45_000, help="training samples [45000]")
    parser.add_argument("--data", help="a data set in place of noise of CIFAR-10's shape")
    parser.add_argument("--device", default="cpu", help="xpnet's device [cpu]")
    parser.add_argument("--alone", action="store_true", help="leave PyTorch out")
    parser.add_argument("--out", type=Path, help="write the result as JSON to a new file")
    options = parser.parse_args(arguments)
    if options.data:
        data = xpnet.load_data(options.data, f"{options.samples}/1000")
        x, labels = data.standardiser(data.train.x), data.train.labels
    else:
        draw = np.random.default_rng(0)
        x = draw.standard_normal((options.samples, 3072), dtype=np.float32)
        labels = draw.integers(0, 10, options.samples)
    result: dict[str, Any] = {"machine": describe(), "probe_before": probe(), "networks": {}}
    for name in options.networks:
        contenders = {"xpnet": xpnet_epoch(name, x, labels, options.device)}
        if not options.alone:
            try:
                contenders["torch eager"] = torch_epoch(name, x, labels)
            except ImportError:
                print("PyTorch is not installed: xpnet is timed alone")
        figures = measure(name, contenders, options.samples, options.rounds)
        hidden, batch_norm, batch = NETWORKS[name]
        what = f"3072-{'-'.join(map(str, hidden))}-10 {'BN' if batch_norm else 'no BN'}, batch {batch}"
        result["networks"][name] = {"network": what, **figures}
        for who, row in figures.items():
            ratio = row["median"] / figures["xpnet"]["median"]
            print(
                f"{name}  {what:44} {who:12} {row['median']:8.1f} us a step (min {row['min']:.1f}), "
                f"{row['epoch_seconds']:.3f} s an epoch, {ratio:.2f} x xpnet",
                flush=True,
            )
    result["machine"] = describe()  # again: PyTorch's threads are known now
    result["probe_after"] = probe()
    if options.out:
        with options.out.open("x") as file:
            json.dump(result, file, indent=1)
            file.write("\n")
