"""Which settings each stepper and each set of operations supports; new settings must be added by hand.

Kernels compute the settings that were known when they were written.  A setting that a stepper's list lacks is never
ignored: another stepper takes over, or an error names the setting.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from xpnet.config.fields import setting_name, shown

# The supported values of each setting; None for all of them.
Known = Mapping[str, Collection[Any] | None]

# Settings that all support.  These lists do not grow: a new setting is added below, to the lines of the steppers and
# operations that compute it, as the activations are.
_NETWORK = dict.fromkeys(
    ["inputs", "hidden", "classes", "batch_norm", "bn_alpha", "bn_eps", "bias_before_bn", "init", "init_bias"]
)
_TRAINING = dict.fromkeys([
    "lam", "batch_size", "drop_last", "schedule", "eta_min", "eta_max", "n_s", "eta", "decay", "cycles", "epochs",
    "momentum", "nesterov", "shuffle_seed", "shuffle", "train_metrics", "stepper",
])  # fmt: skip
# Fields of xpnet.training.steppers.Hyperparameters, by which settings of the training reach a stepper.
_STEPS = dict.fromkeys(["lam", "rho", "nesterov", "orders"])
_ALL = _NETWORK | _TRAINING | _STEPS
_NO_MOMENTUM: Known = {name: None for name in _ALL if name != "rho"}
_NAMES = {
    "lam": "lambda",
    "rho": "momentum",
    "smoothing": "label_smoothing",
    "masks": "dropout",
    "weights": "class_weight or sample_weight",
    "factor_first": "lr_first",
    "factor_units": "lr_bn",
    "decay_units": "decay_bn",
    "rounded": "bf16",
}

# Settings that concern no stepper.
_ELSEWHERE = dict.fromkeys([
    "warmup", "anneal", "restart_factor", "border", "views", "patience", "restore", "class_weight", "bf16",
])  # fmt: skip
# Optimisers and their settings, which steppers know that update parameters by a rule of
# xpnet.training.steppers.update_rule; the settings of AdamW and Lion have no effect on SGD.
_MOMENTS = dict.fromkeys(["beta1", "beta2", "adam_eps", "weight_decay"])
_RULES = dict.fromkeys(["optimiser", "lr_first", "lr_bn", "decay_bn", "factor_first", "factor_units", "decay_units"])
_RULES |= _MOMENTS
_NO_RULES: dict[str, Any] = {"optimiser": ["sgd"], "lr_first": [1.0], "lr_bn": [1.0], "decay_bn": [0.0], **_MOMENTS}
_NO_RULES |= {"factor_first": (), "factor_units": (), "decay_units": ()}
# Settings of the samples, the labels, dropout and the updates: steppers that call the operations of a step one by one
# know all values.
_DROPOUT = ("dropout", "input_dropout")
_SAMPLES = dict.fromkeys([
    "flip", "shift", "cutout", "label_smoothing", "smoothing", "weights", *_DROPOUT, "masks",
])  # fmt: skip
_SAMPLES |= _RULES | _ELSEWHERE
_NO_SAMPLES: dict[str, Any] = {"flip": ["none"], "shift": [0], "cutout": [0], "label_smoothing": [0.0]}
_NO_SAMPLES |= dict.fromkeys(_DROPOUT, (0.0,)) | _NO_RULES | _ELSEWHERE
# Of these, settings of the loss.
_LOSS = dict.fromkeys(["label_smoothing", "smoothing", "weights"])

# Activations: steppers that call the operations have those of the operations.
_ACTIVATIONS: Known = {"activation": None}
_CUDA: Known = {"activation": ["relu", "leaky-relu", "gelu", "silu", "tanh", "sigmoid", "identity"]}  # of activation.cu
_RELU: Known = {"activation": ["relu"]}
# Products of factors that are rounded to bfloat16.
_ROUNDED: Known = {"rounded": None}
_EXACT: Known = {"rounded": [False]}

KNOWN: dict[str, Known] = {
    # Operations, by their module; the passes over the reference define a network.
    **{name: {**_NETWORK, **_ACTIVATIONS} for name in ("reference", "numpy_ops", "numba_ops")},
    "cuda_ops": {**_NETWORK, **_CUDA},
    # Steppers.
    "plain": {**_ALL, **_SAMPLES, **_ACTIVATIONS, **_ROUNDED},
    "population": {**_ALL, **_SAMPLES, **_ACTIVATIONS, **_ROUNDED},
    "units": {**_ALL, **_SAMPLES, **_ACTIVATIONS, **_ROUNDED},
    "compiled": {**_ALL, **_SAMPLES, **_NO_RULES, **_RELU, **_EXACT},
    "split": {**_NO_MOMENTUM, **_NO_SAMPLES, **_ACTIVATIONS, **_EXACT},
    "fused": {**_ALL, **_SAMPLES, **_CUDA, **_EXACT},
    "graph": {**_ALL, **_SAMPLES, **_CUDA, **_EXACT},
    **{
        name: {**_ALL, **_NO_SAMPLES, **_LOSS, **_RELU, **_EXACT}
        for name in ("small", "multi", "multi-bf16", "persistent")
    },
}


def unknown(who: str, *settings: Any) -> str | None:
    """Return a setting that `who`, a key of :data:`KNOWN`, does not support, or None.

    Args:
        who: Name of a stepper, or of a module of operations.
        settings: Instances of dataclasses; a field that is None is not set.

    Returns:
        The name of the setting; with its value if other values are supported.
    """
    known = KNOWN[who]
    for group in settings:
        for field in dataclasses.fields(group):
            value, values = getattr(group, field.name), known.get(field.name, ())
            if value is None or values is None or (values and value in values):
                continue
            name = _NAMES.get(field.name) or setting_name(field)
            return f"{name} = {shown(value)}" if values else name
    return None
