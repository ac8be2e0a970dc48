"""``xpnet export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from xpnet.cli.console import STANDARD, Output
from xpnet.cli.options import OUTPUT
from xpnet.nn.model_file import model_path
from xpnet.utils.plural import counted

_FORMATS = "onnx|torch|numpy|npz"
_NAMES = {"onnx": "model.onnx", "torch": "model_torch.pt", "numpy": "model_numpy.py", "npz": "model.npz"}
_USES = {
    "onnx": 'in Python: onnxruntime.InferenceSession("{file}").run(["label", "probabilities"], {{"x": x}})',
    "torch": "in Python, in the folder of these files: from {stem} import load; probabilities = load()(x)",
    "numpy": "in Python, in the folder of these files: from {stem} import predict_proba; or python {file} SAMPLES.csv",
    "npz": "docs/exporting.md of xpnet says what each array is",
}


def export(
    run: Annotated[Path, Parameter(help="Run folder, model file, or checkpoint (its .json).")],
    /,
    *,
    to: Annotated[
        Literal["onnx", "torch", "numpy", "npz"] | None,
        Parameter(
            group=OUTPUT,
            metavar=_FORMATS,
            help="Format: a graph for ONNX runtimes; a module for PyTorch; a file for NumPy; or its arrays alone. "
            "[default: by the ending of --out, else onnx]",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        Parameter(
            group=OUTPUT,
            metavar="FILE",
            help="New file: .onnx, .pt, .py or .npz. [default: model.onnx, model_torch.pt, ... in the run folder]",
        ),
    ] = None,
    output: Output = STANDARD,
) -> None:
    """Export the network of a run for programs that do not have xpnet.

    The exported model takes raw samples, as the network was trained on, and gives the probabilities of the classes:
    standardisation, components, encoded columns and batch normalisation are part of it. Several networks of a run
    predict together, as in xpnet predict.
    """
    from xpnet.exporters.export import check_files, files_of
    from xpnet.exporters.export import export as write
    from xpnet.runs.checkpoints import load_network

    model_path(run)
    if out is None:
        to = to or "onnx"
        out = (run if run.is_dir() else run.parent) / _NAMES[to]
    check_files(files_of(out, to))  # before slow work begins
    exported = write(load_network(run), out, to)
    output.notes(*exported.notes)
    result = {
        "to": exported.to,
        "files": [str(file) for file in exported.files],
        "networks": exported.networks,
        "features": exported.features,
        "classes": list(exported.classes),
        "notes": list(exported.notes),
        "run": str(run),
    }
    sizes = f"{counted(exported.features, 'feature')} -> {counted(len(exported.classes), 'class')}"
    files = " and ".join(map(str, exported.files))
    use = _USES[exported.to].format(file=exported.files[0], stem=exported.files[0].stem)
    output.result(result, f"{files}: {counted(exported.networks, 'network')}, {sizes}", use)
