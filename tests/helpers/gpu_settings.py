"""Every setting of networks and trainings that a step depends on, and which steppers of a GPU know it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import xpnet
from xpnet.errors import ConfigError

STEPPERS = ("fused", "graph", "small", "multi", "persistent")
# Steppers of one network; what has a value for each of two networks, has the larger one for them.
SOLO = ("persistent",)
# A case has settings of the network, the training and the data; values for two networks are tuples.  With `refused`,
# small, multi and persistent do not know it, and say so by this name.
CASES: dict[str, dict[str, Any]] = {
    "no batch normalisation": {"network": {"batch_norm": False}},
    "biases before it": {"network": {"bias_before_bn": True, "init_bias": 0.3}},
    "its settings": {"network": {"bn_alpha": 0.7, "bn_eps": 1e-3}},
    "no hidden layer": {"network": {"hidden": ()}},
    "nine layers": {"network": {"hidden": (8, 7, 6, 5, 6, 7, 8, 9)}},
    "initial weights": {"network": {"init": ("he", 0.1)}},
    "leaky ReLU": {"network": {"activation": "leaky-relu"}, "refused": "activation = leaky-relu"},
    "GELU": {"network": {"activation": "gelu"}, "refused": "activation = gelu"},
    "SiLU": {"network": {"activation": "silu"}, "refused": "activation = silu"},
    "tanh": {"network": {"activation": "tanh"}, "refused": "activation = tanh"},
    "sigmoid": {"network": {"activation": "sigmoid"}, "refused": "activation = sigmoid"},
    "identity": {"network": {"activation": "identity"}, "refused": "activation = identity"},
    "penalties": {"training": {"lam": (0.01, 0.1)}},
    "rates": {"training": {"schedule": "one-cycle", "eta_max": (0.1, 0.2), "eta_min": 1e-3, "warmup": 0.5}},
    "an incomplete batch is left out": {"training": {"drop_last": True}},
    "one order": {"training": {"shuffle": "shared"}},
    "own orders": {"training": {"shuffle": "independent", "shuffle_seed": 3}},
    "full figures, and the best epoch": {"training": {"train_metrics": "full", "restore": "best", "patience": 1}},
    "momentum": {"training": {"momentum": (0.5, 0.9)}, },
    "Nesterov": {"training": {"momentum": 0.9, "nesterov": True}, },
    "AdamW": {
        "training": {"optimiser": "adamw", "beta1": 0.8, "beta2": 0.9, "adam_eps": 1e-3, "weight_decay": (0, 0.5)},
        "refused": "optimiser = adamw",
    },
    "Lion": {"training": {"optimiser": "lion", "beta1": 0.8}, "refused": "optimiser = lion"},
    "rate of the first layer": {"training": {"lr_first": (0.5, 2.0)}, "refused": "lr_first"},
    "rate of units": {"training": {"lr_bn": 0.5}, "refused": "lr_bn"},
    "decay of units": {"training": {"decay_bn": (0.5, 0), "momentum": 0.9}, "refused": "decay_bn"},
    "smoothed labels": {"training": {"label_smoothing": (0.1, 0.2)}},
    "dropout": {"training": {"dropout": (0.2, 0.4)}, "refused": "dropout"},
    "dropout of inputs": {"training": {"input_dropout": 0.1}, "refused": "input_dropout"},
    "weights of classes": {"training": {"class_weight": (1, 2, 0.5, 1)}},
    "weights of samples": {"data": {"weighted": True}},
    "flips": {"training": {"flip": "random"}, "refused": "flip = random"},
    "shifts": {"training": {"shift": 1, "border": "constant"}, "refused": "shift = 1"},
    "cutouts": {"training": {"cutout": 2}, "refused": "cutout = 2"},
    "means of pixels": {"data": {"pool": 2}},
    "principal components": {"data": {"pool": 2, "pca": 5}},
    "bytes": {"data": {"in_memory": "raw"}},
    "a table's quantiles": {"data": {"numeric": "quantile", "table": True}},
    "all": {
        "network": {"activation": "gelu"},
        "training": {
            "optimiser": "adamw", "lr_first": 0.5, "lr_bn": 2.0, "label_smoothing": 0.1, "dropout": 0.2,
            "input_dropout": 0.1, "class_weight": "balanced", "flip": "alternating", "shift": 1, "cutout": 1,
            "views": 2,
        },
        "data": {"pool": 2, "pca": 5},
        "refused": "",
    },
}  # fmt: skip
# What no step depends on by itself: shapes, seeds, schedules by other names, and what the host does between epochs.
ELSEWHERE = {
    *("inputs", "classes", "batch_size", "epochs", "cycles", "stepper"),
    *("eta", "n_s", "decay", "anneal", "restart_factor", "bf16"),
}


def _data(weighted: bool = False, table: bool = False, **settings: Any) -> Any:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(150, 9)) if table else rng.integers(0, 256, (150, 4, 6, 3), np.uint8)
    own = rng.random(90) if weighted else None
    labels = np.arange(150) % 4
    return xpnet.data_from_arrays(
        x[:90], labels[:90], x[90:], labels[90:], sample_weight=own, split="70/20", **settings
    )


def _trained(backend: Any, stepper: str, case: dict[str, Any], solo: bool) -> Any:
    data = _data(**case.get("data", {}))
    settings = {"inputs": data.inputs, "hidden": (6, 5), "classes": 4, "init_bias": 0.1} | case.get("network", {})
    replicas = 1 if solo else 2
    net = xpnet.Network(xpnet.NetworkConfig(**settings), backend=backend, dtype="float64", replicas=replicas)
    training = {"epochs": 2, "batch_size": 20, "stepper": stepper} | case.get("training", {})
    if solo:
        training = {name: max(v) if isinstance(v, tuple) and len(v) == 2 else v for name, v in training.items()}
    return xpnet.train(net, data, xpnet.TrainConfig(**training))


def check_setting(backend: Any, stepper: str, name: str) -> None:
    """Train with the settings of a case: as on the CPU, or refused by the name of a setting."""
    case, solo = CASES[name], stepper in SOLO
    if stepper in ("small", "multi", "persistent") and not known_to_small(name):
        words = f"stepper = {stepper}: does not know the setting {case['refused']}"
        with pytest.raises(ConfigError, match=f"^{re.escape(words)}"):
            _trained(backend, stepper, case, solo)
        return
    there, here = (_trained(b, k, case, solo) for b, k in ((backend, stepper), (xpnet.get_backend("cpu"), "plain")))
    for column in ("train_loss", "train_cost", "train_accuracy", "validation_loss", "validation_accuracy"):
        np.testing.assert_allclose(there.history[column], here.history[column], rtol=1e-9, err_msg=column)
    np.testing.assert_allclose(there.test.losses, here.test.losses, rtol=1e-9)


def known_to_small(name: str) -> bool:
    """Return whether small, multi and persistent know the settings of a case."""
    return "refused" not in CASES[name]
