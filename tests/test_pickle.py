"""Networks and what they are made with go through pickle, as joblib and multiprocessing send them, and deepcopy."""

from __future__ import annotations

import copy
import importlib
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from strict import pretended_cupy, strict_backend

import xpnet
from xpnet.backend import get_backend
from xpnet.errors import DeviceError


def by_cloudpickle(value):
    """Return a value that went through what joblib uses for functions and closures."""
    return pickle.loads(pytest.importorskip("numba.cloudpickle").dumps(value, protocol=5))


def with_buffers(value):
    """Return a value whose arrays lie in memory that cannot be written, as joblib maps large ones."""
    buffers = []
    body = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(body, buffers=[bytes(buffer.raw()) for buffer in buffers])


WAYS = {
    "oldest": lambda value: pickle.loads(pickle.dumps(value, protocol=2)),
    "newest": lambda value: pickle.loads(pickle.dumps(value, protocol=5)),
    "buffers": with_buffers,
    "cloudpickle": by_cloudpickle,
    "deepcopy": copy.deepcopy,
}
ways = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
TRAIN = xpnet.TrainConfig(schedule="constant", eta=0.05, epochs=2, batch_size=10, momentum=0.9)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    x = rng.standard_normal((90, 4)) + labels[:, None]
    return xpnet.data_from_arrays(x.astype(np.float32), labels, class_names=["a", "b", "c"])


def network(backend=None, **options):
    return xpnet.Network(xpnet.NetworkConfig(inputs=4, hidden=(5,), classes=3), backend=backend, **options)


def tensors_of(net):
    return {**net.parameters, **net.running}


def assert_equal_networks(one, other):
    assert one.description() == other.description()
    assert (one.dtype, one.backend) == (other.dtype, other.backend)
    for name, tensor in tensors_of(one).items():
        np.testing.assert_array_equal(one.backend.to_numpy(tensor), other.backend.to_numpy(tensors_of(other)[name]))


@ways
def test_a_backend_is_the_same_value_again(way):
    backend = xpnet.get_backend("cpu")
    again = way(backend)
    assert again == backend
    assert again.xp is np


@ways
def test_a_network_trains_on_to_the_same_bits(way, data):
    trained = network(seed=(3, 5))
    xpnet.train(trained, data, TRAIN)
    again = way(trained)
    assert_equal_networks(trained, again)
    assert again.standardiser is not None
    before = trained.parameters["W1"].copy()
    results = [xpnet.train(net, data, TRAIN) for net in (trained, again)]
    assert_equal_networks(trained, again)
    np.testing.assert_array_equal(results[0].test.losses, results[1].test.losses)
    assert (trained.parameters["W1"] != before).any()


def test_a_copy_of_a_network_has_tensors_of_its_own_and_a_shallow_one_shares_them(data):
    net = network(dtype="float64")
    deep, shallow = copy.deepcopy(net), copy.copy(net)
    net.parameters["W1"][...] = 7
    assert (deep.parameters["W1"] != 7).all()
    assert shallow.parameters["W1"] is net.parameters["W1"]
    shallow.class_names = ("x", "y", "z")
    assert net.class_names == ()
    # Its small tensors lie side by side, as those of any network: they move in one call.
    assert all(np.shares_memory(deep.parameters["b2"], block) for block in [deep.parameters.flat["units"]])


@ways
def test_everything_that_is_public_and_holds_values(way, data):
    config = xpnet.NetworkConfig(inputs=4, hidden=(5,), classes=3)
    settings = xpnet.Settings.from_mapping({"lambda": [0.1, 0.2], "epochs": 2})
    population = xpnet.Population.of(settings, 4, 3)
    result = xpnet.train(network(seed=(1, 2)), data, TRAIN)
    for value in (config, TRAIN, xpnet.DataConfig(split="9/1"), settings, population):
        assert way(value) == value
    again = way(result)
    assert again.to_json() == result.to_json()
    assert again.history.to_csv() == result.history.to_csv()
    same = way(data)
    assert (same.counts, same.class_names, same.split) == (data.counts, data.class_names, data.split)
    np.testing.assert_array_equal(same.standardiser(same.test.x), data.standardiser(data.test.x))
    prepared = way(xpnet.to_device(data, get_backend("cpu"), "float32"))
    for on in (same, prepared):
        assert xpnet.train(network(seed=(1, 2)), on, TRAIN).test.losses.tolist() == result.test.losses.tolist()
    report = xpnet.gradcheck(config, np.ones((3, 4)), np.array([0, 1, 2]))
    assert way(report) == report
    tested = xpnet.lr_range(config, data, steps=20)
    assert way(tested).to_csv() == tested.to_csv()
    found = xpnet.diagnose(network(), np.ones((3, 4), np.float32), np.array([0, 1, 2]))
    assert repr(way(found)) == repr(found)
    error = DeviceError("no")
    assert str(way(error)) == "no"


@pytest.mark.parametrize("mapped", [True, False])
def test_rows_on_the_disk_go_by_their_file(monkeypatch, mapped):
    rng = np.random.default_rng(0)
    np.save("x.npy", rng.standard_normal((200, 30)).astype(np.float32))
    np.save("x_labels.npy", np.arange(200) % 4)
    monkeypatch.setattr("xpnet.data.readers.npy.MAPPED_FROM", 1000)
    if not mapped:
        monkeypatch.setattr(np, "memmap", lambda *_: (_ for _ in ()).throw(OSError(12, "no room")))
    data = xpnet.load_data("x.npy", target="x_labels.npy")
    content = pickle.dumps(data.train.x, protocol=5)
    assert len(content) < data.train.x.size * 4 / 2
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    np.testing.assert_array_equal(pickle.loads(content)[:], data.train.x[:])
    np.testing.assert_array_equal(copy.deepcopy(data).test.x[:], data.test.x[:])


def test_a_network_of_a_gpu_goes_through_the_host(monkeypatch):
    module = pretended_cupy(monkeypatch)
    backend = get_backend("gpu")
    net = network(backend, seed=(1, 2))
    content = pickle.dumps(net, protocol=5)
    for again in (pickle.loads(content), copy.deepcopy(net)):
        assert again.backend == backend
        assert again.backend.xp is module
        assert isinstance(again.parameters["W1"], module.ndarray)
        assert_equal_networks(net, again)
        x = backend.asarray(np.ones((2, 4), np.float32))
        np.testing.assert_array_equal(module.asnumpy(again.predict_proba(x)), module.asnumpy(net.predict_proba(x)))
    real = importlib.import_module

    def no_cupy(name):
        if name == "cupy":
            raise ModuleNotFoundError("no", name="cupy")
        return real(name)

    monkeypatch.setattr(importlib, "import_module", no_cupy)
    with pytest.raises(DeviceError, match="device = gpu:0: cannot be used: CuPy is not installed"):
        pickle.loads(content)


def test_a_backend_that_has_no_name_says_so():
    backend = strict_backend()
    assert copy.deepcopy(backend) is backend
    with pytest.raises(DeviceError, match="device = strict:0: cannot be opened again by its name"):
        pickle.dumps(backend)


def test_selecting_networks_copies_no_more_than_them():
    backend = strict_backend()
    net = network(backend, seed=(1, 2, 3))
    before = backend.xp.synchronisations
    assert net.select([0, 2]).seeds == (1, 3)
    assert backend.xp.synchronisations == before


def test_another_process_takes_a_network(data):
    net = network(seed=4)
    xpnet.train(net, data, TRAIN)
    code = "import pickle, sys; net = pickle.load(sys.stdin.buffer); net.save('again.safetensors')"
    subprocess.run([sys.executable, "-c", code], input=pickle.dumps(net), check=True)
    net.save("here.safetensors")
    assert Path("again.safetensors").read_bytes() == Path("here.safetensors").read_bytes()
