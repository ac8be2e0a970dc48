"""Exported models predict what the networks do, in the programs that they are for, which do not have xpnet."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import exported
import numpy as np
import pytest
from exported import FORMATS, HAS_TORCH, check, session
from hypothesis import given, settings
from hypothesis import strategies as st

import xpnet
from xpnet.errors import ConfigError, MissingExtraError, RunError
from xpnet.exporters.folded import ACTIVATIONS, fold
from xpnet.ops import activations


def network(data=None, replicas=1, train=True, **values) -> xpnet.Network:
    """Return networks, trained for an epoch on `data` so that their running statistics differ from the first ones."""
    about = {"inputs": 12, "classes": 4} if data is None else {"inputs": data.inputs, "classes": data.classes}
    net = xpnet.Network(xpnet.NetworkConfig(**{"hidden": (8, 5), **about, **values}), replicas=replicas)
    if data is not None:
        xpnet.train(net, data, xpnet.TrainConfig(epochs=1, batch_size=50))
    return net


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_export_of_every_activation_predicts_as_the_network(blobs, activation, batch_norm):
    for replicas in (1, 3):
        check(network(blobs, replicas, activation=activation, batch_norm=batch_norm), blobs.test.x)


def test_every_activation_is_exported_or_refused_by_name(blobs, monkeypatch):
    assert set(activations.ACTIVATIONS) == set(ACTIVATIONS)
    monkeypatch.setattr("xpnet.exporters.folded.ACTIVATIONS", ("tanh",))
    with pytest.raises(ConfigError, match="activation = relu: cannot be exported yet"):
        xpnet.export(network(), "m.onnx")


@pytest.mark.parametrize(
    ("values", "keeps"),
    [
        ({}, set()),
        ({"pool": 4}, set()),
        (
            {"pool": 4, "pca": 30},
            {"centre", "projection"},
        ),  # 3072 x 30 and five of 30 x 8 are less than five of 3072 x 8
    ],
    ids=["plain", "pooled", "components of pooled"],
)
def test_export_of_pictures_takes_them_as_they_are(values, keeps):
    data = xpnet.load_data("patterns:300/100", **values)
    net = network(data, replicas=5)
    assert set(fold(net).steps()) == keeps
    check(net, data.test.x)
    assert "projection" not in fold(net.select([0])).steps()  # the first layer of one small network is smaller
    check(net.select([0]), data.test.x, formats=("onnx",))
    assert json.loads(session("exported-0/m.onnx").get_modelmeta().custom_metadata_map["image_shape"]) == [3, 32, 32]


@settings(max_examples=5, deadline=None)
@given(
    hidden=st.lists(st.integers(1, 6), max_size=3),
    batch_norm=st.booleans(),
    bias=st.booleans(),
    activation=st.sampled_from(ACTIVATIONS),
    replicas=st.integers(1, 3),
    offset=st.sampled_from([0.0, 3.0, 1e4]),
    seed=st.integers(0, 99),
)
def test_folded_arrays_predict_as_any_network(hidden, batch_norm, bias, activation, replicas, offset, seed):
    rng = np.random.default_rng(seed)
    config = xpnet.NetworkConfig(
        inputs=4, hidden=hidden, classes=3, batch_norm=batch_norm, bias_before_bn=bias and batch_norm,
        activation=activation if hidden else "relu",
    )  # fmt: skip
    net = xpnet.Network(config, dtype="float64", seed=seed, replicas=replicas)
    for tensors in (net.parameters, net.running):
        for tensor in tensors.values():
            tensor += rng.uniform(0.1, 1, tensor.shape)
    x = (offset + rng.standard_normal((50, 4))).astype(np.float32)
    net.transform = xpnet.Transform.fit(x)
    model = fold(net)
    z = x if model.centre is None else x - model.centre
    for number, (W, b) in enumerate(model.layers, start=1):
        z = z @ W + b
        z = activations.ACTIVATIONS[activation].y(np, z) if number < len(model.layers) else z
    p = np.exp(z - z.max(axis=-1, keepdims=True))
    p = np.tensordot(model.weights, p / p.sum(axis=-1, keepdims=True), 1)
    np.testing.assert_allclose(p, net.predict_proba(x).mean(axis=0), rtol=0, atol=1e-5)
    assert (model.centre is not None) == (offset == 1e4 or (offset == 3.0 and model.centre is not None))


def test_export_of_prepared_inputs_takes_what_the_network_takes():
    net = network(replicas=2)
    check(net, np.random.default_rng(0).standard_normal((20, 12)), formats=("onnx", "numpy"))
    assert xpnet.export(net, "m.npz").classes == ("0", "1", "2", "3")


def test_networks_that_diverged_are_left_out(blobs):
    net = network(blobs, replicas=3)
    expected = net.select([0, 2]).predict_proba(blobs.test.x).mean(axis=0)
    net.parameters["W2"][1] = np.nan
    check(net, blobs.test.x, expected, formats=("onnx", "numpy"))
    assert xpnet.export(net, "m.npz").notes[0] == "left out 1 of 3 networks: diverged, or without a weight"
    with pytest.raises(RunError, match="the network has diverged in training; there is nothing to export"):
        xpnet.export(net.select([1]), "n.npz")


SERVE = """
import sys
sys.modules["xpnet"] = None  # importing it fails
import numpy as np
import onnxruntime
x = np.load("x.npy")
label, onnx = onnxruntime.InferenceSession("m.onnx").run(["label", "probabilities"], {"x": x})
import numpy_model
np.savez("served.npz", label=label, onnx=onnx, numpy=numpy_model.predict_proba(x))
"""


def test_models_are_served_by_a_process_that_cannot_import_xpnet(blobs):
    net = network(blobs, replicas=2)
    xpnet.export(net, "m.onnx")
    xpnet.export(net, "numpy_model.py")
    np.save("x.npy", blobs.test.x)
    subprocess.run([sys.executable, "-c", SERVE], check=True)
    served, expected = np.load("served.npz"), net.predict_proba(blobs.test.x).mean(axis=0)
    np.testing.assert_array_equal(served["label"], expected.argmax(axis=1))
    for name in ("onnx", "numpy"):
        np.testing.assert_allclose(served[name], expected, rtol=0, atol=1e-5)


def test_file_for_numpy_is_a_program_too(blobs):
    net = network(blobs)
    xpnet.export(net, "model.py")
    np.savetxt("rows.csv", blobs.test.x, delimiter=",")
    done = subprocess.run([sys.executable, "model.py", "rows.csv"], check=True, capture_output=True, text=True)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [int(name) for name, _ in lines] == net.predict(blobs.test.x)[0].tolist()
    assert len(Path("model.py").read_text().splitlines()) < 60


def test_names_of_classes_are_kept_whatever_they_are(blobs):
    net = network(blobs)
    net.class_names = ('"""', "'); import os #", "ü\n\\", "</x>")
    for name, file in FORMATS.items():
        xpnet.export(net, file, name)
    meta = session("m.onnx").get_modelmeta().custom_metadata_map
    assert tuple(json.loads(meta["classes"])) == net.class_names
    assert tuple(exported.module_at(Path("numpy_model.py")).CLASSES) == net.class_names
    source = Path("torch_model.py").read_text(encoding="ascii")
    assert source.count('"""') % 2 == 1  # only the one in the name
    if HAS_TORCH:
        assert net.class_names == exported.module_at(Path("torch_model.py")).CLASSES


@pytest.mark.skipif(not HAS_TORCH, reason="needs PyTorch")
def test_tensors_for_torch_are_those_of_torch_save(blobs):
    import io

    import torch

    net = network(blobs, replicas=2)
    xpnet.export(net, "m.pt")
    tensors = torch.load("m.pt", weights_only=True, mmap=True)
    model = exported.module_at(Path("m.py")).Model()
    assert list(tensors) == list(model.state_dict())
    assert all(tensors[name].shape == tensor.shape for name, tensor in model.state_dict().items())
    again = io.BytesIO()
    torch.save(tensors, again)
    again.seek(0)
    assert all(torch.equal(torch.load(again, weights_only=True)[name], tensors[name]) for name in list(tensors)[:1])
    model.load_state_dict(tensors)
    x = torch.from_numpy(blobs.test.x)
    torch.nn.functional.nll_loss(model(x).log(), torch.from_numpy(blobs.test.labels)).backward()
    assert model.members[1][0].weight.grad.abs().sum() > 0  # it can be trained on


def test_equal_networks_are_equal_files(blobs):
    net = network(blobs)
    for folder in (Path("a"), Path("b")):
        folder.mkdir()
        for name, file in FORMATS.items():
            xpnet.export(net, folder / file, name)
    assert sorted(path.name for path in Path("a").iterdir()) == [
        "m.onnx", "numpy_model.npz", "numpy_model.py", "torch_model.pt", "torch_model.py",
    ]  # fmt: skip
    assert all(path.read_bytes() == Path("b", path.name).read_bytes() for path in Path("a").iterdir())


def test_arrays_have_the_names_of_the_documentation(blobs):
    xpnet.export(network(blobs), "m.npz")
    arrays = np.load("m.npz", allow_pickle=False)
    page = (Path(__file__).parents[2] / "docs" / "exporting.md").read_text(encoding="utf-8")
    shapes = {"W1": (1, 12, 8), "b1": (1, 1, 8), "W3": (1, 5, 4), "weights": (1,)}
    assert {name: arrays[name].shape for name in shapes} == shapes
    for name in arrays.files:
        assert f"`{name.rstrip('123') + '1' if name[0] in 'Wb' else name}" in page, name
    assert arrays["format"] == "xpnet-arrays-1"


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda net: setattr(net.transform.standardiser.mean, "flat", 1.7e9), None, "hardly holds"),
        (lambda net: setattr(net.transform.standardiser.std, "flat", 1e-44), ConfigError, "weights are beyond float32"),
        (lambda net: setattr(net.transform.standardiser.mean, "flat", 1e60), ConfigError, "biases are beyond float32"),
    ],
    ids=["told", "refused", "mean"],
)
def test_numbers_beyond_float32_are_told_or_refused(blobs, change, error, words):
    net = network()
    net.transform = xpnet.Transform.fit(np.array(blobs.train.x))
    change(net)
    if error is None:
        assert any(words in note for note in xpnet.export(net, "m.npz").notes)
    else:
        with pytest.raises(error, match=words):
            xpnet.export(net, "m.npz")


@pytest.mark.parametrize(
    ("path", "to", "error", "words"),
    [
        ("m", None, ConfigError, "its ending says no format; it must be one of .onnx"),
        ("m.npz", "onnx", ConfigError, "must end with .onnx for to = onnx, such as model.onnx"),
        ("m.onnx", "tf", ConfigError, "to = tf: must be onnx, torch, numpy or npz"),
        ("my-model.py", None, ConfigError, "names a Python module too"),
        ("none/m.onnx", None, RunError, "there is no folder none"),
        ("there.py", None, RunError, "there.npz exists already; nothing is overwritten"),
        (7, None, ConfigError, "path = 7: must be a path"),
    ],
)
def test_export_refuses_in_one_sentence(path, to, error, words):
    Path("there.npz").touch()
    with pytest.raises(error) as caught:
        xpnet.export(network(), path, to)
    assert words in str(caught.value)
    assert [path.name for path in Path.cwd().iterdir()] == ["there.npz"]


def test_export_refuses_what_is_no_network(monkeypatch):
    with pytest.raises(ConfigError, match="network: a dict must be a Network or a fitted classifier"):
        xpnet.export({}, "m.npz")
    monkeypatch.setattr("xpnet.exporters.onnx_file._MOST_BYTES", 100)
    with pytest.raises(ConfigError, match=r"has 784 bytes, and an ONNX file at most 100; export fewer networks"):
        xpnet.export(network(), "m.onnx")


def test_package_that_is_missing_is_named_with_what_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"an ONNX file needs onnx, which is .*: pip install 'xpnet\[export\]'"):
        xpnet.export(network(), "m.onnx")


@pytest.mark.slow
@pytest.mark.cifar
def test_export_of_cifar_networks_predicts_as_they_do(cifar):
    data = xpnet.load_data(str(cifar), split="9k")
    net = network(data, replicas=2, hidden=(50, 50))
    check(net, data.test.x)
    data = xpnet.load_data(str(cifar), split="9k", pool=2, pca=100)
    check(network(data, hidden=(50, 50)), data.test.x)
