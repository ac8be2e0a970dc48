"""The source of a Python file that predicts with NumPy alone, from the arrays of a file beside it."""

from __future__ import annotations

from xpnet.exporters.folded import FoldedModel
from xpnet.ops.activations import GELU_CUBIC, GELU_LINEAR, LEAK
from xpnet.utils.plural import counted
from xpnet.version import __version__

_ACTIVATIONS = {
    "relu": "np.maximum(z, 0)",
    "leaky-relu": f"np.maximum(z, np.float32({LEAK}) * z)",
    "gelu": f"0.5 * z * (1 + np.tanh(z * ({GELU_LINEAR} + {GELU_CUBIC} * z * z)))",
    "silu": "z * (0.5 + 0.5 * np.tanh(0.5 * z))",
    "tanh": "np.tanh(z)",
    "sigmoid": "0.5 + 0.5 * np.tanh(0.5 * z)",
    "identity": "z",
}

_HEAD = '''"""A classifier, exported by xpnet {version}: {about}.

Its probabilities of raw samples x (n, {d}), and its classes of them:

    from {module} import CLASSES, predict, predict_proba

On the command line: python {module}.py SAMPLES.npy (or .csv, without a header).
It needs NumPy, and the arrays in the .npz file of the same name beside it.
{samples}
"""

import sys
from pathlib import Path

import numpy as np

A = dict(np.load(Path(__file__).with_suffix(".npz"), allow_pickle=False))
CLASSES = A["classes"].tolist()
'''

_CODES = '''
def codes(rows):
    """Return rows of cells (texts, numbers, None where one is missing) as numbers (n, {d}), for `predict`."""
    x = np.empty((len(rows), {d}), np.float32)
    for j in range({d}):
        names = A[f"categories_{{j}}"].tolist() if f"categories_{{j}}" in A else None
        for i, row in enumerate(rows):
            cell, missing = row[j], row[j] is None or row[j] != row[j]
            if names is not None and isinstance(cell, str):
                x[i, j] = names.index(cell) if cell in names else len(names)
            else:
                x[i, j] = np.nan if missing else cell
    return x

'''

_COLUMNS = {
    "linear": ['parts.append(x[:, A["linear"]])'],
    "robust": [
        'z = np.clip((x[:, A["robust"]] - A["robust_median"] - A["robust_rest"]) * A["robust_factor"], -1e6, 1e6)',
        "parts.append(z / np.sqrt(1 + (z / 3) ** 2))",
    ],
    "quantile": [
        'for j, knots, values in zip(A["quantile"], A["quantile_knots"], A["quantile_values"]):',
        "    parts.append(np.interp(x[:, j], knots, values)[:, None])",
    ],
    "ple": [
        'share = (x[:, A["ple"]] - A["ple_low"] - A["ple_rest"]) / A["ple_width"]',
        'parts.append(np.clip(share, A["ple_least"], A["ple_most"]))',
    ],
    "category": [
        'code = np.clip(x[:, A["category"]], 0, A["category_last"]).astype(int)',
        'ones = np.zeros((len(x), A["category_outputs"]))',
        'ones[np.arange(len(x))[:, None], A["category_places"][A["category_first"] + code]] = 1',
        "parts.append(ones)",
    ],
    "missing": ['parts.append(missing[:, A["missing"]])'],
}

_MAIN = '''

def predict(x):
    """Return the most probable class of each sample, as its position in CLASSES (n,)."""
    return predict_proba(x).argmax(axis=1)


if __name__ == "__main__":
    samples = np.load(sys.argv[1]) if sys.argv[1].endswith(".npy") else np.loadtxt(sys.argv[1], delimiter=",", ndmin=2)
    for p in predict_proba(samples):
        print(CLASSES[p.argmax()], f"{p.max():.4f}")
'''


def numpy_source(model: FoldedModel, module: str) -> str:
    """Return the source of the file, which is imported as `module`; nothing in it is text of the data set."""
    d, steps = model.features, model.steps()
    head = _HEAD.format(version=__version__, about=about(model), d=d, module=module, samples=samples(model))
    parts = [head]
    if model.table is not None and model.table.categories:
        parts.append("\n" + _CODES.format(d=d).rstrip() + "\n")
    if model.table is not None:
        lines = [line for group, code in _COLUMNS.items() if group in steps for line in code]
        body = "\n    ".join(
            [
                "missing = np.isnan(x)",
                'x, parts = np.where(missing, A["fill"], x), []',
                *lines,
                "return np.concatenate(parts, axis=1, dtype=np.float32)",
            ]
        )
        parts.append(f'\n\ndef columns(x):\n    """Return raw features as columns of numbers."""\n    {body}\n')
    parts.append(f"\n\ndef activation(z):\n    return {_ACTIVATIONS[model.activation]}\n")
    lines = [
        f"x = np.asarray(x, np.float32).reshape(len(x), {d})",
        *(["x = columns(x)"] if model.table is not None else []),
        *(['x = x - A["centre"]'] if model.centre is not None else []),
        *(['x = x @ A["projection"]'] if model.projection is not None else []),
        f"for layer in range(1, {len(model.layers)}):",
        '    x = activation(x @ A[f"W{layer}"] + A[f"b{layer}"])  # (networks, n, units)',
        f'z = x @ A["W{len(model.layers)}"] + A["b{len(model.layers)}"]',
        "p = np.exp(z - z.max(axis=-1, keepdims=True))",
        'return np.tensordot(A["weights"], p / p.sum(axis=-1, keepdims=True), 1)',
    ]
    says = (
        f'"""Return the probabilities (n, {len(model.class_names)}) of samples x (n, {d}), in the order of CLASSES."""'
    )
    parts.append("\n\ndef predict_proba(x):\n    " + "\n    ".join([says, *lines]) + "\n")
    return "".join(parts) + _MAIN


def about(model: FoldedModel) -> str:
    """Return the model in a few words."""
    hidden = "-".join(map(str, model.sizes[1:-1])) or "no hidden"
    networks = "" if model.networks == 1 else f", {model.networks} networks"
    return f"{counted(model.features, 'feature')}, {hidden} units, {len(model.class_names)} classes{networks}"


def samples(model: FoldedModel) -> str:
    """Return a sentence on what a sample is."""
    if model.image_shape is not None:
        channels, height, width = model.image_shape
        return (
            f"A sample is a picture, {channels} x {height} x {width} values (channels, rows, columns), as in training."
        )
    if model.table is not None and model.table.categories:
        return "A sample is a row of a table as numbers, which `codes` makes of its cells."
    return "A sample is a row of numbers." if model.table is None else "A sample is a row of numbers, NaN if missing."
