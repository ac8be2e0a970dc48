"""Learning rates, as functions of the step t, counted from 0.

Each function takes steps (k, 1) and rates (R,) or scalars, and returns (k, R) in float64.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xpnet.config.cycles import cycle_ends, cycle_lengths
from xpnet.config.length import Length
from xpnet.config.training import TrainConfig


def triangular(t: ArrayLike, eta_min: ArrayLike, eta_max: ArrayLike, n_s: int) -> NDArray[np.float64]:
    """Return the cyclical rate of Smith (2017): up from `eta_min` to `eta_max` in `n_s` steps, down in as many.

    With c = t mod 2 n_s, the rate is eta_min + (c / n_s) (eta_max - eta_min) for c < n_s and
    eta_min + (2 - c / n_s) (eta_max - eta_min) for the rest.
    """
    c = np.asarray(t) % (2 * n_s) / n_s
    low, high = np.asarray(eta_min, float), np.asarray(eta_max, float)
    return np.asarray(low + np.minimum(c, 2 - c) * (high - low))


def step_decay(t: ArrayLike, eta: ArrayLike, decay: float, steps_per_epoch: int) -> NDArray[np.float64]:
    """Return `eta` multiplied by `decay` after every epoch."""
    return np.asarray(np.asarray(eta, float) * decay ** (np.asarray(t) // steps_per_epoch))


def constant(t: ArrayLike, eta: ArrayLike) -> NDArray[np.float64]:
    """Return `eta` for every step."""
    return np.asarray(np.asarray(eta, float) + np.zeros(np.shape(t)))


def cosine(t: ArrayLike, eta: ArrayLike, eta_min: ArrayLike, steps: int) -> NDArray[np.float64]:
    """Return half a cosine from `eta` at t = 0 down to `eta_min` at t = `steps` (Loshchilov and Hutter, 2017)."""
    low, high = np.asarray(eta_min, float), np.asarray(eta, float)
    return np.asarray(low + (high - low) * (1 + np.cos(np.pi * np.asarray(t) / steps)) / 2)


def one_cycle(
    t: ArrayLike, eta_min: ArrayLike, eta_max: ArrayLike, steps: int, warmup: float, anneal: str
) -> NDArray[np.float64]:
    """Return the rate of one cycle (Smith and Topin, 2018): up to `eta_max`, and down again over the rest of `steps`.

    With the share f = (t + 1/2) / steps of the training that is done, the rate is eta_min + h (eta_max - eta_min).  At
    first h = f / warmup; from f = warmup on, with g = (f - warmup) / (1 - warmup), h = 1 - g if `anneal` is
    ``"linear"``, and h = (1 + cos(pi g)) / 2 if it is ``"cosine"``.
    """
    f = (np.asarray(t) + 0.5) / steps
    g = (f - warmup) / (1 - warmup)
    falling = 1 - g if anneal == "linear" else (1 + np.cos(np.pi * g)) / 2
    low, high = np.asarray(eta_min, float), np.asarray(eta_max, float)
    return np.asarray(low + np.where(f < warmup, np.minimum(f, warmup) / (warmup or 1), falling) * (high - low))


def cosine_restarts(t: ArrayLike, eta: ArrayLike, eta_min: ArrayLike, first: int, factor: float) -> NDArray[np.float64]:
    """Return half a cosine from `eta` down to `eta_min` in each cycle (SGDR of Loshchilov and Hutter, 2017).

    The first cycle has `first` steps, and each `factor` times those of the one before.  With c steps taken in a cycle
    of T, the rate is eta_min + (eta - eta_min) (1 + cos(pi c / T)) / 2.
    """
    t = np.asarray(t)
    ends = [0, *cycle_ends(first, factor, int(t.max(initial=0)) + 1)]
    lengths = np.fromiter(cycle_lengths(first, factor), np.int64, len(ends))
    cycle = np.searchsorted(ends, t, side="right") - 1
    low, high = np.asarray(eta_min, float), np.asarray(eta, float)
    share = (t - np.asarray(ends)[cycle]) / lengths[cycle]
    return np.asarray(low + (high - low) * (1 + np.cos(np.pi * share)) / 2)


def coslog4(t: ArrayLike, eta: ArrayLike, steps: int) -> NDArray[np.float64]:
    """Return four waves between 0 and `eta`, each twice as long as the one before (Holzmueller et al., 2024).

    With the share f = (t + 1/2) / steps of the training, the rate is eta (1 - cos(2 pi log2(1 + 15 f))) / 2.
    """
    f = (np.asarray(t) + 0.5) / steps
    return np.asarray(np.asarray(eta, float) * (1 - np.cos(2 * np.pi * np.log2(1 + 15 * f))) / 2)


# The setting that is the rate of the first step, by schedule; None for a rate near 0.
FIRST_RATE: dict[str, str | None] = {
    "triangular": "eta_min",
    "decay": "eta",
    "constant": "eta",
    "cosine": "eta",
    "one-cycle": "eta_min",
    "cosine-restarts": "eta",
    "coslog4": None,
}


def learning_rates(config: TrainConfig, length: Length, replicas: int) -> NDArray[np.float64]:
    """Return the learning rate of every step and replica: (steps, R)."""
    t = np.arange(length.steps)[:, None]
    settings = config.eta, config.eta_min, config.eta_max
    eta, low, high = (np.broadcast_to(np.asarray(value, float), (replicas,)) for value in settings)
    match config.schedule:
        case "triangular":
            return triangular(t, low, high, length.n_s)
        case "decay":
            return step_decay(t, eta, config.decay, length.steps_per_epoch)
        case "constant":
            return constant(t, eta)
        case "cosine":
            return cosine(t, eta, low, length.steps)
        case "one-cycle":
            return one_cycle(t, low, high, length.steps, config.warmup, config.anneal)
        case "cosine-restarts":
            return cosine_restarts(t, eta, low, 2 * length.n_s, config.restart_factor)
        case "coslog4":
            return coslog4(t, eta, length.steps)
    raise AssertionError(config.schedule)  # the settings allow no other
