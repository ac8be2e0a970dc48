"""The training of one network by its definition, in float64 and as plain as can be: the oracle of whole trainings."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from optimisers import ByDefinition

import xpnet
from xpnet.training.batches import Batches


class Trained(NamedTuple):
    """What a training by definition gives.

    Attributes:
        parameters, running: Tensors (d, m) and (1, m) by name.
        steps: Loss of each step's batch, before its update (k,).
        squares: Sum over layers of sum(W**2) before each step (k,).
        history: By name as in ``history.csv``, (epochs,).
        ties: Share of an epoch's samples whose two largest scores are equal but for rounding (epochs,).
    """

    parameters: dict
    running: dict
    steps: np.ndarray
    squares: np.ndarray
    history: dict
    ties: np.ndarray


def eta_at(config: xpnet.TrainConfig, t: int, steps: int, per_epoch: int, n_s: int) -> float:
    """Return the learning rate of step `t`, counted from 0."""
    if config.schedule == "triangular":
        up, down = t % (2 * n_s) / n_s, 2 - t % (2 * n_s) / n_s
        return config.eta_min + min(up, down) * (config.eta_max - config.eta_min)
    if config.schedule == "cosine":
        return config.eta_min + (config.eta - config.eta_min) * (1 + np.cos(np.pi * t / steps)) / 2
    if config.schedule == "coslog4":
        return config.eta * np.sin(np.pi * np.log2(1 + 15 * (t + 0.5) / steps)) ** 2
    if config.schedule == "cosine-restarts":
        length = 2.0 * n_s
        while t >= round(length):
            t, length = t - round(length), length * config.restart_factor
        return config.eta_min + (config.eta - config.eta_min) * np.cos(np.pi * t / round(length) / 2) ** 2
    return config.eta * (config.decay ** (t // per_epoch) if config.schedule == "decay" else 1)


def forward(network: xpnet.NetworkConfig, p: dict, x: np.ndarray, running: dict | None = None) -> list:
    """Return what each layer takes and, of normalised layers, (s_hat, std, mean, var); at the end the scores."""
    tape = []
    for layer in range(1, len(network.hidden) + 2):
        s = x @ p[f"W{layer}"] + p.get(f"b{layer}", 0)
        if layer > len(network.hidden):
            return [*tape, (x, None), s]
        norm = None
        y = s
        if network.batch_norm:
            mean, var = s.mean(axis=0), ((s - s.mean(axis=0)) ** 2).mean(axis=0)
            if running is not None:
                mean, var = running[f"mean{layer}"][0], running[f"var{layer}"][0]
            std = np.sqrt(var + network.bn_eps)
            norm = (s - mean) / std, std, mean, var
            y = norm[0] * p[f"gamma{layer}"] + p[f"beta{layer}"]
        tape.append((x, norm))
        x = np.maximum(y, 0)
    raise AssertionError


def loss_of(s: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the samples' losses (n,) and probabilities (n, c)."""
    shifted = s - s.max(axis=1, keepdims=True)
    p = np.exp(shifted)
    rows = np.arange(len(s))
    return np.log(p.sum(axis=1)) - shifted[rows, labels], p / p.sum(axis=1, keepdims=True)


def gradients(network: xpnet.NetworkConfig, p: dict, x: np.ndarray, labels: np.ndarray, lam: float) -> tuple:
    """Return the batch's losses (n,), its scores, the gradients of the cost, and mean and variance by name."""
    *tape, s = forward(network, p, x)
    losses, probabilities = loss_of(s, labels)
    g = (probabilities - np.eye(s.shape[1])[labels]) / len(x)
    found, statistics = {}, {}
    for layer in range(len(tape), 0, -1):
        taken, _ = tape[layer - 1]
        found[f"W{layer}"] = taken.T @ g + 2 * lam * p[f"W{layer}"]
        if f"b{layer}" in p:
            found[f"b{layer}"] = g.sum(axis=0, keepdims=True)
        if layer == 1:
            break
        g = (g @ p[f"W{layer}"].T) * (taken > 0)
        norm = tape[layer - 2][1]
        if norm is not None:
            s_hat, std, mean, var = norm
            below = layer - 1
            statistics |= {f"mean{below}": mean[None], f"var{below}": var[None]}
            found[f"gamma{below}"] = (g * s_hat).sum(axis=0, keepdims=True)
            found[f"beta{below}"] = g.sum(axis=0, keepdims=True)
            g = p[f"gamma{below}"] / std * (g - g.mean(axis=0) - s_hat * (g * s_hat).mean(axis=0))
    return losses, s, found, statistics


def train(
    network: xpnet.NetworkConfig, start: dict, data: xpnet.data.Dataset, config: xpnet.TrainConfig, order: int
) -> Trained:
    """Train one network with one value of each setting, from the parameters `start`, in the order of a seed."""
    p = {name: np.array(tensor, np.float64) for name, tensor in start.items()}
    update = ByDefinition(config, p)
    x, labels = data.standardiser(data.train.x, "float64"), data.train.labels
    x_valid = data.standardiser(data.validation.x, "float64")
    length = config.length(len(labels), network)
    running: dict = {}
    steps: list[float] = []
    all_squares: list[float] = []
    history: dict = {name: [] for name in ("train_loss", "train_cost", "train_accuracy", "validation_loss")}
    history["validation_cost"] = []
    ties: list[float] = []
    with np.errstate(all="ignore"):
        for epoch in range(length.epochs):
            parts = Batches((order,), len(labels), config, joined=length.joined).of_epoch(epoch)
            batches = [rows for part in parts for rows in part]
            met, tied = [], 0
            for rows in batches[: length.steps - len(steps)]:
                squares = sum((w**2).sum() for name, w in p.items() if name.startswith("W"))
                losses, s, found, batch = gradients(network, p, x[rows], labels[rows], config.lam)
                met.append((losses.sum(), len(rows) * squares, (s.argmax(axis=1) == labels[rows]).sum(), len(rows)))
                largest = np.sort(s, axis=1)[:, -2:]
                tied += int((largest[:, 1] - largest[:, 0] < 1e-9 * np.maximum(1, np.abs(largest[:, 1]))).sum())
                alpha = network.bn_alpha if running else 0
                running = {name: alpha * running.get(name, 0) + (1 - alpha) * value for name, value in batch.items()}
                eta = eta_at(config, len(steps), length.steps, length.steps_per_epoch, length.n_s)
                update(p, found, eta)
                steps.append(losses.mean())
                all_squares.append(squares)
            loss, squares, hits, seen = np.sum(met, axis=0)
            history["train_loss"].append(loss / seen)
            history["train_cost"].append(loss / seen + config.lam * squares / seen)
            history["train_accuracy"].append(hits / seen)
            ties.append(tied / seen)
            valid = loss_of(forward(network, p, x_valid, running)[-1], data.validation.labels)[0].mean()
            squares = sum((w**2).sum() for name, w in p.items() if name.startswith("W"))
            history["validation_loss"].append(valid)
            history["validation_cost"].append(valid + config.lam * squares)
    columns = {name: np.array(values) for name, values in history.items()}
    return Trained(p, running, np.array(steps), np.array(all_squares), columns, np.array(ties))
