"""ONNX: the model as one graph, from raw float32 features to probabilities and the most probable class."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.errors import ConfigError
from xpnet.exporters.columns import intervals, owner_of_outputs
from xpnet.exporters.folded import FoldedModel
from xpnet.ops.activations import GELU_CUBIC, GELU_LINEAR, LEAK
from xpnet.utils.extras import need
from xpnet.version import __version__

# Old enough for runtimes of many years; everything that is used below is in them.
_OPSET, _IR = 17, 8
# A file of protocol buffers has at most 2 GiB.
_MOST_BYTES = 2**31 - 2**20


class _Graph:
    """A graph while its nodes are added."""

    def __init__(self, onnx: Any) -> None:
        self._onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._known: dict[Any, str] = {}

    def __call__(self, kind: str, *inputs: str | NDArray[Any] | float, out: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its output; arrays and numbers among its inputs become constants."""
        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        out = out or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(
            self._onnx.helper.make_node(kind, names, [out], name=f"{kind}_{len(self.nodes)}", **attributes)
        )
        return out

    def constant(self, value: NDArray[Any] | float, name: str = "") -> str:
        """Return the name of a constant; equal ones without a name of their own are one."""
        array = np.array(value, np.float32) if isinstance(value, float) else np.ascontiguousarray(value)
        key = None if name else (array.dtype.str, array.shape, array.tobytes())
        if key in self._known:
            return self._known[key]
        name = name or f"constant_{len(self.constants)}"
        self.constants.append(self._onnx.numpy_helper.from_array(array, name))
        if key is not None:
            self._known[key] = name
        return name


def onnx_bytes(model: FoldedModel) -> bytes:
    """Return the content of an ONNX file; equal models give equal bytes.

    Raises:
        MissingExtraError: The package onnx is missing.
        ConfigError: The model is too large for a file.
    """
    need("export", "an ONNX file")
    import onnx

    size = sum(array.nbytes for array in model.arrays().values())
    if size > _MOST_BYTES:
        raise ConfigError(
            f"to = onnx: the model has {size:,} bytes, and an ONNX file at most {_MOST_BYTES:,}; export fewer "
            "networks, or npz"
        )
    make, kinds = onnx.helper, onnx.TensorProto
    graph = _Graph(onnx)
    _add_probabilities(graph, model)
    graph("ArgMax", "probabilities", out="label", axis=1, keepdims=0)
    d, classes = model.features, len(model.class_names)
    whole = make.make_graph(
        graph.nodes,
        "xpnet",
        [make.make_tensor_value_info("x", kinds.FLOAT, ["n", d])],
        [
            make.make_tensor_value_info("probabilities", kinds.FLOAT, ["n", classes]),
            make.make_tensor_value_info("label", kinds.INT64, ["n"]),
        ],
        graph.constants,
        doc_string=f"x: {d} raw features a row, as the network was trained on; label: position in the metadata classes",
    )
    opset = make.make_opsetid("", _OPSET)
    proto = make.make_model(whole, opset_imports=[opset], ir_version=_IR, producer_name="xpnet")
    proto.producer_version = __version__
    make.set_model_props(proto, _metadata(model))
    onnx.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString(deterministic=True))


def _metadata(model: FoldedModel) -> dict[str, str]:
    about: dict[str, Any] = {"classes": model.class_names}
    about |= {"feature_names": model.feature_names} if model.feature_names else {}
    about |= {"image_shape": model.image_shape} if model.image_shape else {}
    about |= {"categories": model.table.categories} if model.table is not None and model.table.categories else {}
    return {name: json.dumps(value) for name, value in about.items()}


def _add_probabilities(graph: _Graph, model: FoldedModel) -> None:
    x = "x" if model.table is None else _columns(graph, model.table.arrays)
    if model.centre is not None:
        x = graph("Sub", x, graph.constant(model.centre, "centre"))
    if model.projection is not None:
        x = graph("MatMul", x, graph.constant(model.projection, "projection"))
    single = model.networks == 1
    for number, (W, b) in enumerate(model.layers, start=1):
        names = f"W{number}", f"b{number}"
        if single:
            x = graph("Gemm", x, graph.constant(W[0], names[0]), graph.constant(b[0, 0], names[1]))
        elif number == 1:  # the networks side by side, in one product: (n, d) times (d, R m)
            R, d, m = W.shape
            wide = graph.constant(np.ascontiguousarray(W.transpose(1, 0, 2)).reshape(d, R * m), names[0])
            x = graph("Gemm", x, wide, graph.constant(b.reshape(R * m), names[1]))
            x = graph("Transpose", graph("Reshape", x, np.array([-1, R, m])), perm=[1, 0, 2])
        else:  # (R, n, d) times (R, d, m)
            x = graph("Add", graph("MatMul", x, graph.constant(W, names[0])), graph.constant(b, names[1]))
        if number < len(model.layers):
            x = _activation(graph, model.activation, x)
    if single:
        graph("Softmax", x, out="probabilities", axis=-1)
        return
    weighted = graph("Mul", graph("Softmax", x, axis=-1), graph.constant(model.weights[:, None, None], "weights"))
    graph("ReduceSum", weighted, np.array([0]), out="probabilities", keepdims=0)


def _activation(graph: _Graph, name: str, z: str) -> str:
    """Add an activation, by the formulas of :mod:`xpnet.ops.activations`."""
    if name == "leaky-relu":
        return graph("LeakyRelu", z, alpha=LEAK)
    if name == "silu":
        return graph("Mul", z, graph("Sigmoid", z))
    if name == "gelu":
        inner = graph("Add", graph("Mul", graph("Mul", z, z), float(GELU_CUBIC)), float(GELU_LINEAR))
        t = graph("Tanh", graph("Mul", z, inner))
        return graph("Mul", graph("Mul", z, 0.5), graph("Add", t, 1.0))
    return z if name == "identity" else graph({"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid"}[name], z)


def _columns(graph: _Graph, arrays: dict[str, NDArray[Any]]) -> str:
    """Add what turns raw features into columns; see :class:`~xpnet.exporters.columns.TableArrays`."""
    missing = graph("IsNaN", "x")
    x = graph("Where", missing, arrays["fill"], "x")
    groups = []
    for name, make in (("linear", _linear), ("robust", _robust), ("quantile", _quantile), ("ple", _ple)):
        if name in arrays:
            groups.append(make(graph, arrays, graph("Gather", x, arrays[name], axis=1)))
    if "category" in arrays:
        groups.append(_category(graph, arrays, graph("Gather", x, arrays["category"], axis=1)))
    if "missing" in arrays:
        groups.append(graph("Cast", graph("Gather", missing, arrays["missing"], axis=1), to=1))
    return groups[0] if len(groups) == 1 else graph("Concat", *groups, axis=1)


def _linear(_: _Graph, __: dict[str, NDArray[Any]], v: str) -> str:
    return v


def _less(graph: _Graph, v: str, value: NDArray[Any], rest: NDArray[Any]) -> str:
    v = graph("Sub", v, value)
    return graph("Sub", v, rest) if rest.any() else v


def _robust(graph: _Graph, arrays: dict[str, NDArray[Any]], v: str) -> str:
    z = graph("Mul", _less(graph, v, arrays["robust_median"], arrays["robust_rest"]), arrays["robust_factor"])
    z = graph("Clip", z, -1e6, 1e6)
    third = graph("Mul", z, 1 / 3)
    return graph("Div", z, graph("Sqrt", graph("Add", graph("Mul", third, third), 1.0)))


def _quantile(graph: _Graph, arrays: dict[str, NDArray[Any]], v: str) -> str:
    """Find each value's interval by counting the knots that are not above it, and interpolate in it."""
    knots, values = arrays["quantile_knots"], arrays["quantile_values"]
    start, slope, value = intervals(knots, values)
    each = graph("Unsqueeze", v, np.array([2]))
    counted = graph("ReduceSum", graph("Cast", graph("GreaterOrEqual", each, knots), to=7), np.array([2]), keepdims=0)
    at = graph("Add", counted, np.arange(len(knots)) * start.shape[1])
    start, slope, value = (table.reshape(-1) for table in (start, slope, value))
    within = graph("Mul", graph("Sub", v, graph("Gather", start, at)), graph("Gather", slope, at))
    return graph("Add", within, graph("Gather", value, at))


def _ple(graph: _Graph, arrays: dict[str, NDArray[Any]], v: str) -> str:
    share = graph("Div", _less(graph, v, arrays["ple_low"], arrays["ple_rest"]), arrays["ple_width"])
    return graph("Min", graph("Max", share, arrays["ple_least"]), arrays["ple_most"])


def _category(graph: _Graph, arrays: dict[str, NDArray[Any]], v: str) -> str:
    code = graph("Cast", graph("Min", graph("Max", v, 0.0), arrays["category_last"].astype(np.float32)), to=7)
    place = graph("Gather", arrays["category_places"], graph("Add", code, arrays["category_first"]))  # (n, c)
    owner = owner_of_outputs(arrays)
    one = graph("Equal", graph("Gather", place, owner, axis=1), np.arange(len(owner)))
    return graph("Cast", one, to=1)
