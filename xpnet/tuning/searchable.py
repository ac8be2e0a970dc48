"""The settings that can be searched, and their usual ranges."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A setting that can be searched.

    Attributes:
        setting: The setting of ``xpnet train`` that it sets; ``hidden`` for width and depth.
        low, high: The default range.
        log: Whether values are drawn uniformly in the exponent.
        whole: Whether values are whole numbers.
        least, most: The limits of the setting, which a finer round must not leave.
        values: The default list of a setting that has names and no range.
        help: What it means, if this is not what its setting means.
    """

    setting: str
    low: float = math.nan
    high: float = math.nan
    log: bool = True
    whole: bool = False
    least: float = 1e-12
    most: float = 1e3
    values: tuple[str, ...] = ()
    help: str = ""


_SIGMA = "Standard deviation of the initial weights."
KINDS = {
    "lambda": Kind("lambda", 1e-5, 1e-1),
    "eta": Kind("eta", 1e-3, 0.5),  # eta_max with schedules that have one
    "eta_max": Kind("eta_max", 1e-3, 0.5),
    "eta_min": Kind("eta_min", 1e-6, 1e-3),
    "n_s": Kind("n_s", 500, 5000, whole=True),
    "cycles": Kind("cycles", 1, 5, log=False, whole=True),
    "epochs": Kind("epochs", 5, 50, whole=True),
    "momentum": Kind("momentum", 0, 0.95, log=False, least=0, most=0.999),
    "beta1": Kind("beta1", 0.8, 0.98, log=False, least=0, most=0.999),
    "beta2": Kind("beta2", 0.9, 0.999, log=False, least=0, most=0.9999),
    "adam_eps": Kind("adam_eps", 1e-10, 1e-4),
    "weight_decay": Kind("weight_decay", 1e-3, 10),
    "lr_first": Kind("lr_first", 0.1, 10),
    "lr_bn": Kind("lr_bn", 0.1, 10),
    "decay_bn": Kind("decay_bn", 1e-5, 1e-2),
    "decay": Kind("decay", 0.8, 1, log=False, least=1e-6, most=1),
    "warmup": Kind("warmup", 0.05, 0.5, log=False, least=0, most=0.999),
    "label_smoothing": Kind("label_smoothing", 0, 0.3, log=False, least=0, most=0.999),
    "dropout": Kind("dropout", 0, 0.5, log=False, least=0, most=0.999),
    "input_dropout": Kind("input_dropout", 0, 0.3, log=False, least=0, most=0.999),
    "sigma": Kind("init", 1e-3, 0.3, help=_SIGMA),
    "init": Kind("init", 1e-3, 0.3, help=_SIGMA),
    "init_bias": Kind("init_bias", 1e-3, 0.3),
    "activation": Kind("activation", log=False, values=("relu", "leaky-relu", "gelu", "silu", "tanh")),
    "bn_alpha": Kind("bn_alpha", 0.5, 0.99, log=False, least=0, most=0.999),
    "width": Kind("hidden", 10, 500, whole=True),
    "depth": Kind("hidden", 1, 6, log=False, whole=True, help="Number of hidden layers."),
    "batch_size": Kind("batch_size", 20, 500, whole=True),
    "pool": Kind("pool", 1, 2, log=False, whole=True),
    "pca": Kind("pca", 50, 500, whole=True),
    "pca_eps": Kind("pca_eps", 0.01, 10),
    "shift": Kind("shift", 0, 4, log=False, whole=True),
    "cutout": Kind("cutout", 0, 16, log=False, whole=True),
}
# Settings of the transform that brings samples to a network's inputs.
OF_TRANSFORM = ("pool", "pca", "pca_eps")
