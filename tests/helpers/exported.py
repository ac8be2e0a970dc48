"""Exported models, opened and run by the programs that they are for."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

import xpnet

HAS_TORCH = importlib.util.find_spec("torch") is not None
FORMATS = {"onnx": "m.onnx", "numpy": "numpy_model.py", "torch": "torch_model.pt"}


def module_at(path: Path) -> Any:
    """Return the module in a file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def session(path: str | Path) -> Any:
    """Return an ONNX model in onnxruntime, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options)


def probabilities_of(path: Path, x: Any) -> np.ndarray:
    """Return what the model in a file makes of raw samples, in float32; an ONNX model's labels are checked too."""
    x = np.asarray(x, np.float32)
    if path.suffix == ".onnx":
        label, probabilities = session(path).run(["label", "probabilities"], {"x": x})
        np.testing.assert_array_equal(label, probabilities.argmax(axis=1))
        return probabilities
    if path.suffix == ".pt":
        import torch

        return module_at(path.with_suffix(".py")).load()(torch.from_numpy(x)).detach().numpy()
    return module_at(path).predict_proba(x)


def check(net, x, expected=None, formats=FORMATS, tolerance=1e-5) -> None:
    """Export in every format, and compare probabilities and classes on raw samples x (n, d)."""
    x = np.asarray(x, np.float32)
    expected = net.predict_proba(x).mean(axis=0) if expected is None else expected
    folder = Path(f"exported-{len(list(Path.cwd().iterdir()))}")
    folder.mkdir()
    for name in formats:
        if name != "torch" or HAS_TORCH:
            path = folder / FORMATS[name]
            assert xpnet.export(net, path, name).files[0] == path
            found = probabilities_of(path, x)
            np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance, err_msg=name)
            np.testing.assert_array_equal(found.argmax(axis=1), expected.argmax(axis=1), err_msg=name)
