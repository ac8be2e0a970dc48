"""Learning rates, as functions of the step t, counted from 0.

Each function takes steps (k, 1) and rates (R,) or scalars, and returns (k, R) in float64.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xpnet.config.definitions import Length, TrainConfig


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


# The setting that is the rate of the first step, by schedule.
FIRST_RATE = {"triangular": "eta_min", "decay": "eta", "constant": "eta", "cosine": "eta"}


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
    raise AssertionError(config.schedule)  # the settings allow no other
