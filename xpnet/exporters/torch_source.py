"""The source of a PyTorch module that predicts, and the tensors of its state."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.exporters.columns import intervals, owner_of_outputs
from xpnet.exporters.folded import FoldedModel
from xpnet.exporters.numpy_source import about, samples
from xpnet.ops.activations import LEAK
from xpnet.version import __version__

_ACTIVATIONS = {
    "relu": "nn.ReLU()",
    "leaky-relu": f"nn.LeakyReLU({LEAK})",
    "gelu": 'nn.GELU(approximate="tanh")',
    "silu": "nn.SiLU()",
    "tanh": "nn.Tanh()",
    "sigmoid": "nn.Sigmoid()",
    "identity": "nn.Identity()",
}

_HEAD = '''"""A classifier, exported by xpnet {version}: {about}.

    from {module} import CLASSES, load

    model = load()  # the tensors of {module}.pt beside this file
    probabilities = model(x)  # (n, {classes}), for raw samples x (n, {d}) in float32

It needs PyTorch alone.
{samples}
"""

from pathlib import Path

import torch
from torch import nn

CLASSES = {names}
'''

_COLUMNS = {
    "linear": ["parts.append(x[:, self.linear])"],
    "robust": [
        "z = ((x[:, self.robust] - self.robust_median - self.robust_rest) * self.robust_factor).clamp(-1e6, 1e6)",
        "parts.append(z / (1 + (z / 3) ** 2).sqrt())",
    ],
    "quantile": [
        "v = x[:, self.quantile]",
        "at = (v[:, :, None] >= self.quantile_knots).sum(dim=2) + self.quantile_first  # the interval of each value",
        "parts.append((v - self.quantile_start[at]) * self.quantile_slope[at] + self.quantile_value[at])",
    ],
    "ple": [
        "share = (x[:, self.ple] - self.ple_low - self.ple_rest) / self.ple_width",
        "parts.append(torch.minimum(torch.maximum(share, self.ple_least), self.ple_most))",
    ],
    "category": [
        "code = torch.minimum(x[:, self.category].clamp(min=0), self.category_last).long()",
        "place = self.category_places[self.category_first + code]",
        "outputs = torch.arange(len(self.category_owner), device=x.device)",
        "parts.append((place[:, self.category_owner] == outputs).to(x.dtype))",
    ],
    "missing": ["parts.append(missing[:, self.missing].to(x.dtype))"],
}


def torch_state(model: FoldedModel) -> dict[str, NDArray[Any]]:
    """Return the tensors of the module, by the names of its ``state_dict``."""
    state = {name: array for name, array in model.steps().items() if name != "category_outputs"}
    if "quantile" in state:
        tables = intervals(state["quantile_knots"], state.pop("quantile_values"))
        state["quantile_first"] = np.arange(len(tables[0])) * tables[0].shape[1]
        for name, table in zip(("start", "slope", "value"), tables, strict=True):
            state[f"quantile_{name}"] = table.reshape(-1)
    if "category" in state:
        state["category_owner"] = owner_of_outputs(model.steps())
        state["category_last"] = state["category_last"].astype(np.float32)
    state["weights"] = model.weights
    for member in range(model.networks):
        for number, (W, b) in enumerate(model.layers):
            state[f"members.{member}.{2 * number}.weight"] = np.ascontiguousarray(W[member].T)
            state[f"members.{member}.{2 * number}.bias"] = b[member, 0]
    return state


def torch_source(model: FoldedModel, module: str) -> str:
    """Return the source of the module; class names are in it as literals alone."""
    d, classes = model.features, len(model.class_names)
    names = ascii(tuple(model.class_names))
    parts = [
        _HEAD.format(
            version=__version__,
            about=about(model),
            module=module,
            classes=classes,
            d=d,
            samples=samples(model).replace(", which `codes` makes of its cells", ""),
            names=names,
        )
    ]
    buffers = {name: array for name, array in torch_state(model).items() if not name.startswith("members.")}
    lines = [
        f'self.register_buffer("{name}", torch.zeros({array.shape}, dtype=torch.{array.dtype}))'
        for name, array in buffers.items()
    ]
    layers = [f"nn.Linear({n}, {m})" for n, m in zip(model.sizes[:-1], model.sizes[1:], strict=True)]
    network = f", {_ACTIVATIONS[model.activation]}, ".join(layers)
    init = [
        "super().__init__()",
        *lines,
        "self.members = nn.ModuleList(",
        f"    nn.Sequential({network})",
        f"    for _ in range({model.networks})",
        ")",
    ]
    parts.append(_method("class Model(nn.Module):", f'"""Networks whose probabilities are averaged; x is (n, {d})."""'))
    parts.append("\n\n    def __init__(self):\n        " + "\n        ".join(init))
    logits = [f"x = x.reshape(len(x), {d})"]
    if model.table is not None:
        code = [line for group, lines_of in _COLUMNS.items() if group in buffers for line in lines_of]
        body = ["missing = x.isnan()", "x, parts = torch.where(missing, self.fill, x), []", *code]
        body.append("return torch.cat(parts, dim=1)")
        parts.append("\n\n    def columns(self, x):\n        " + "\n        ".join(body))
        logits.append("x = self.columns(x)")
    logits += ["x = x - self.centre"] if model.centre is not None else []
    logits += ["x = x @ self.projection"] if model.projection is not None else []
    logits.append("return torch.stack([member(x) for member in self.members])")
    says = f'"""Return the logits of each network ({model.networks}, n, {classes})."""'
    parts.append("\n\n    def logits(self, x):\n        " + "\n        ".join([says, *logits]))
    says = f'"""Return the probabilities (n, {classes})."""'
    mean = 'return torch.einsum("r,rnc->nc", self.weights, self.logits(x).softmax(dim=-1))'
    parts.append(f"\n\n    def forward(self, x):\n        {says}\n        {mean}\n")
    return "".join(parts) + _LOAD


def _method(head: str, *lines: str) -> str:
    return "\n\n" + "\n    ".join([head, *lines])


_LOAD = '''

def load(path=Path(__file__).with_suffix(".pt")):
    """Return the model with its tensors, for prediction."""
    model = Model()
    model.load_state_dict(torch.load(path, weights_only=True))
    return model.eval()
'''
