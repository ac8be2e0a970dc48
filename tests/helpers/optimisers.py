"""Optimisers by their papers, in float64 and as plain as can be, and their settings as steppers take them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import xpnet
from xpnet.training.steppers import Hyperparameters

# Settings of a training by optimiser; the numbers have a value for each of up to five replicas.
CASES: dict[str, dict[str, Any]] = {
    "adamw": {
        "optimiser": "adamw",
        "beta1": (0.9, 0.5, 0.0, 0.8, 0.7),
        "beta2": (0.999, 0.9, 0.99, 0.5, 0.0),
        "adam_eps": (1e-3, 1e-2, 1e-4, 0.1, 1e-3),
        "weight_decay": (0.5, 0.0, 2.0, 1.0, 0.1),
        "lam": 0.01,
    },
    "adamw, factors": {
        "optimiser": "adamw",
        "lr_first": (0.5, 2.0, 0.0, 1.0, 3.0),
        "lr_bn": (2.0, 1, 0.5, 0, 4),
        "adam_eps": 1e-3,
    },
    "lion": {
        "optimiser": "lion",
        "beta1": (0.9, 0.5, 0.0, 0.8, 0.7),
        "weight_decay": (0.5, 0.0, 2.0, 1.0, 0.1),
        "lam": 0.01,
        "lr_first": 0.5,
    },
    "sgd, factors": {"lr_first": (0.5, 2.0, 0.0, 1.0, 3.0), "lr_bn": (2.0, 1.0, 0.5, 0.0, 4.0), "lam": 0.1},
    "momentum, factors": {"lr_first": 0.5, "lr_bn": 3.0, "momentum": (0.9, 0.5, 0, 0.5, 0.5), "lam": 0.1},
    "sgd, decay of units": {"decay_bn": (0.5, 2.0, 0.0, 1.0, 3.0), "lr_bn": 0.5, "lam": 0.1},
    "momentum, decay of units": {"decay_bn": (0.5, 2.0, 0.0, 1.0, 3.0), "lr_first": 0.5, "momentum": 0.9},
    # With a smaller adam_eps, rounding would decide on the direction of gradients near 0.
    "adamw, decay of units": {
        "optimiser": "adamw",
        "weight_decay": 0.5,
        "decay_bn": (1.0, 0.0, 0.5, 2.0, 0.1),
        "adam_eps": 1e-3,
    },
}


def settings_of(case: str, replicas: int = 1) -> dict[str, Any]:
    """Return the settings of a case for so many replicas."""
    values = CASES[case].items()
    cut = {name: value[:replicas] if isinstance(value, tuple) else value for name, value in values}
    return {name: value[0] if isinstance(value, tuple) and replicas == 1 else value for name, value in cut.items()}


def hyper_of(case: str, replicas: int = 1, asarray: Callable[[Any], Any] = np.array) -> Hyperparameters:
    """Return the settings of a case for a stepper."""
    return Hyperparameters.of(xpnet.TrainConfig(**settings_of(case, replicas)), replicas, asarray)


class ByDefinition:
    """The update of one network's parameters by the settings of its training, which have one value each."""

    def __init__(self, config: Any, parameters: dict[str, Any]) -> None:
        self.config, self.t = config, 0
        self.m, self.v = ({name: np.zeros_like(p) for name, p in parameters.items()} for _ in range(2))

    def __call__(self, parameters: dict[str, Any], gradients: dict[str, Any], eta: float) -> None:
        """Take a step along the gradients of the cost, in place."""
        self.t += 1
        for name, g in gradients.items():
            weights = name.startswith("W")
            rate = eta * (self.config.lr_first if name == "W1" else 1.0 if weights else self.config.lr_bn)
            decay = self.config.weight_decay if weights else self.config.decay_bn
            getattr(self, self.config.optimiser)(parameters[name], name, g, rate, decay)

    def sgd(self, p: Any, name: str, g: Any, rate: float, decay: float) -> None:
        """Momentum, or without, of Sutskever et al. (2013)."""
        rho = self.config.momentum
        if not name.startswith("W"):
            g = g + decay * p
        self.v[name] = rho * self.v[name] - rate * g
        p += rho * self.v[name] - rate * g if self.config.nesterov else self.v[name]

    def adamw(self, p: Any, name: str, g: Any, rate: float, decay: float) -> None:
        """Algorithm 2 of Loshchilov and Hutter (2019), with the rate in place of its schedule multiplier."""
        one, two = self.config.beta1, self.config.beta2
        self.m[name] = one * self.m[name] + (1 - one) * g
        self.v[name] = two * self.v[name] + (1 - two) * g**2
        m_hat, v_hat = self.m[name] / (1 - one**self.t), self.v[name] / (1 - two**self.t)
        p -= rate * (m_hat / (np.sqrt(v_hat) + self.config.adam_eps) + decay * p)

    def lion(self, p: Any, name: str, g: Any, rate: float, decay: float) -> None:
        """Algorithm 2 of Chen et al. (2023)."""
        one, two = self.config.beta1, self.config.beta2
        update = np.sign(one * self.m[name] + (1 - one) * g)
        self.m[name] = two * self.m[name] + (1 - two) * g
        p -= rate * (update + decay * p)
