"""Every public function, called with arguments of wrong types and out of every range: it works, or says what is wrong.

Errors that a caller's own function raises are the caller's.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
from examples import every

import xpnet
import xpnet.testing
from xpnet.analysis.gradcheck import sweep_h
from xpnet.errors import ConfigError, RunError, XpnetError
from xpnet.tuning import SearchConfig

# A device of these tests alone: were one of the machine's replaced by a file, everything else would suffer from it.
TERMINAL = os.openpty() if os.name == "posix" else ()
DEVICE = os.ttyname(TERMINAL[1]) if TERMINAL else "NUL"

HOSTILE = {
    "none": None,
    "true": True,
    "text": "x",
    "empty": "",
    "negative": -1,
    "zero": 0,
    "huge": 2**70,
    "endless": 10**400,
    "nan": float("nan"),
    "inf": float("inf"),
    "fraction": 0.5,
    "list": [],
    "dict": {},
    "object": object(),
    "bytes": b"x",
    "nul": "a\0b",
    "long": "n" * 300,
    "folder": ".",
    "device": DEVICE,
    "surrogate": "\ud800",
    "ragged": [[1], [1, 2]],
    "texts": ["x"],
    "negatives": (-1,),
    "objects": np.array([None, 1], dtype=object),
    "scalar": np.array(3),
    "rows of nothing": np.empty((0, 4), np.float32),
    "not finite": np.full((3, 4), np.nan, np.float32),
    "unsigned": np.array([2**63], np.uint64),
}
CONFIG = xpnet.NetworkConfig(inputs=4, hidden=(3,), classes=3)
TRAIN = xpnet.TrainConfig(epochs=1, batch_size=20)
X, LABELS = np.random.default_rng(0).standard_normal((90, 4)).astype(np.float32), np.arange(90) % 3
ROWS, CLASSES = np.ones((3, 4), np.float32), np.array([0, 1, 2])
SETTINGS = xpnet.Settings.from_mapping({"epochs": 1})
SEARCHED = {"epochs": 1, "batch_size": 20, "hidden": [3]}


def squares(x):
    return (x**2).sum()


def fields(config):
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}


def none_of(*names):
    return dict.fromkeys(names)


def entries():
    """Return every public function with arguments that are right."""
    data = xpnet.data_from_arrays(X, LABELS)
    backend = xpnet.get_backend("cpu")
    network = xpnet.Network(CONFIG)
    population = xpnet.Population.of(SETTINGS, 4, 3)
    Path("here").mkdir(exist_ok=True)
    network.save("here/model.safetensors", replace=True)
    standardiser = xpnet.Standardiser.fit(X)
    history = xpnet.train(network, data, TRAIN).history
    projected = xpnet.data_from_arrays(X, LABELS, pca=2)
    of_training = {"start": None, "callbacks": ()}
    batch = {"x": ROWS, "labels": CLASSES}
    return {
        "Network": (xpnet.Network, {"config": CONFIG, "backend": None, "dtype": "float32", "seed": 0, "replicas": 1}),
        "NetworkConfig": (xpnet.NetworkConfig, fields(CONFIG)),
        "TrainConfig": (xpnet.TrainConfig, fields(TRAIN)),
        "TrainConfig.length": (TRAIN.length, {"samples": 60}),
        "DataConfig": (xpnet.DataConfig, fields(xpnet.DataConfig())),
        "SearchConfig": (SearchConfig, fields(SearchConfig())),
        "Settings.from_mapping": (xpnet.Settings.from_mapping, {"values": {}}),
        "Settings.network_config": (SETTINGS.network_config, {"inputs": 4, "classes": 3}),
        "get_backend": (xpnet.get_backend, {"device": "cpu", "tf32": False}),
        "Backend.asarray": (backend.asarray, {"values": [1], "dtype": "float32"}),
        "Backend.to_numpy": (backend.to_numpy, {"array": X}),
        "Backend.own": (backend.own, {"argument": "x", "array": X}),
        "data_from_arrays": (
            xpnet.data_from_arrays,
            {"x_train": X, "labels_train": LABELS, "x_test": X, "labels_test": LABELS, "split": "60/30", "seed": 0}
            | {"class_names": ["a", "b", "c"], "test_fraction": None, "in_memory": "auto"}
            | {"pool": 1, "pca": 2, "pca_eps": 1.0},
        ),
        "load_data": (xpnet.load_data, {"source": "patterns:60/20", "split": None}),
        "load": (xpnet.load, {"path": "here", "backend": None}),
        "Network.load": (xpnet.Network.load, {"path": "here/model.safetensors", "backend": None}),
        "Network.save": (network.save, {"path": "here/model.safetensors", "replace": True}),
        "Network.cost_and_gradients": (
            network.cost_and_gradients,
            batch | {"lam": 0.0, "label_smoothing": 0.1, "dropout": xpnet.Dropout(hidden=0.1)},
        ),
        "Progress": (xpnet.Progress, {"validation": True}),
        "TensorBoard": (xpnet.TensorBoard, {"folder": "there", "names": None, "warn": print}),
        "export": (xpnet.export, {"network": network, "path": "here/m.npz", "to": "npz"}),
        "list_runs": (xpnet.list_runs, {"folder": "here"}),
        "Dropout": (xpnet.Dropout, fields(xpnet.Dropout(hidden=(0.1,), inputs=0.2, seeds=3))),
        "Network.predict_proba": (network.predict_proba, {"x": ROWS, "views": 1}),
        "Network.select": (network.select, {"replicas": [0]}),
        "Network.checked": (network.checked, batch),
        "Network.learn_about": (network.learn_about, {"data": data}),
        "train": (
            xpnet.train,
            {"network": network, "data": data, "config": TRAIN, "orders": None, "final": ("test",)} | of_training,
        ),
        "train_population": (
            xpnet.train_population,
            {"population": population, "data": data, "backend": None, "dtype": "float32", "max_replicas": None}
            | {"final": ("test",), "cuts": None, "starts": {}, "callbacks": (), "orders": None},
        ),
        "cross_validate": (
            xpnet.cross_validate,
            {"population": population, "data": data, "folds": 2, "stratify": True, "config": None, "backend": None}
            | {"dtype": "float32", "max_replicas": None, "callbacks": ()},
        ),
        "train_with_diagnosis": (
            xpnet.train_with_diagnosis,
            {"network": network, "data": data, "config": TRAIN, "samples": 10, "every": 1, "orders": None}
            | {"callbacks": ()},
        ),
        "diagnose": (xpnet.diagnose, batch | {"network": network, "lam": 0.0, "eta": 1.0}),
        "evaluate": (xpnet.evaluate, batch | {"network": network, "lam": 0.0}),
        "gradcheck": (
            xpnet.gradcheck,
            batch
            | {"network": CONFIG, "lam": 0.0, "gradients": None, "coverage": None, "h": 6e-6, "eps": 1e-6, "seed": 0}
            | {"label_smoothing": 0.1, "dropout": 0.1, "input_dropout": 0.1}
            | {"tolerance": 1e-5, "method": "fast", "precision": "float64", "threads": None}
            | none_of("progress", "should_stop"),
        ),
        "sweep_h": (
            sweep_h,
            batch
            | {"network": CONFIG, "steps": (1e-6,), "entries": 5, "eps": 1e-6, "seed": 0, "label_smoothing": 0.1}
            | {"dropout": 0.1, "input_dropout": 0.1},
        ),
        "lr_range": (
            xpnet.lr_range,
            {"config": CONFIG, "data": data, "train": TRAIN, "from_": 1e-6, "to": 10.0, "steps": 20, "seeds": 0}
            | {"spacing": "log", "backend": None, "dtype": "float32", "callbacks": ()},
        ),
        "to_device": (xpnet.to_device, {"data": data, "backend": backend, "dtype": "float32", "config": TRAIN}),
        "write_report": (lambda path, **more: xpnet.write_report(path, **more), {"path": "here", "data": None}),
        "search": (
            xpnet.search,
            {"space": {"lambda": [0.1]}, "data": data, "settings": SEARCHED, "backend": None, "study": "s"}
            | none_of("storage", "on_change")
            | {"callbacks": ()},
        ),
        "Population.of": (xpnet.Population.of, {"settings": SETTINGS, "inputs": 4, "classes": 3}),
        "Population.part": (population.part, {"start": 0, "stop": 1}),
        "recipe": (xpnet.recipe, {"name": "fast-50"}),
        "Transform()": (projected.transform, {"x": X, "dtype": "float32"}),
        "Transform.lazily": (projected.transform.lazily, {"x": X, "dtype": "float32"}),
        "Standardiser": (xpnet.Standardiser, {"mean": np.zeros(4), "std": np.ones(4)}),
        "Standardiser.fit": (xpnet.Standardiser.fit, {"x": X}),
        "Standardiser()": (standardiser, {"x": X, "dtype": "float32"}),
        "Standardiser.lazily": (standardiser.lazily, {"x": X, "dtype": "float32"}),
        "History": (xpnet.History, {"initial_eta": np.array([0.1]), "columns": None}),
        "History[]": (history.__getitem__, {"column": "train_loss"}),
        "check_gradients": (
            xpnet.testing.check_gradients,
            {"function": squares, "gradient": lambda x: 2 * x, "x": np.ones(3), "h": 6e-6, "eps": 1e-6, "seed": 0}
            | {"tolerance": 1e-5, "coverage": None, "name": "x"},
        ),
        "assert_gradients": (
            xpnet.testing.assert_gradients,
            {"function": squares, "gradient": lambda x: 2 * x, "x": np.ones(3)},
        ),
    }


NAMES = [
    *("Network", "NetworkConfig", "TrainConfig", "TrainConfig.length", "DataConfig", "SearchConfig"),
    *("Settings.from_mapping", "Settings.network_config", "get_backend", "Backend.asarray", "Backend.to_numpy"),
    *("Backend.own", "data_from_arrays", "load_data", "load", "Network.load", "Network.save"),
    *("Network.cost_and_gradients", "Network.predict_proba", "Network.select", "Network.checked", "Dropout"),
    *("Network.learn_about", "train", "train_population", "train_with_diagnosis", "diagnose", "evaluate", "gradcheck"),
    *("sweep_h", "lr_range", "to_device", "write_report", "search", "Population.of", "Population.part"),
    *("cross_validate", "Progress", "TensorBoard", "export", "list_runs"),
    *(
        "Transform()",
        "Transform.lazily",
        "Standardiser",
        "Standardiser.fit",
        "Standardiser()",
        "Standardiser.lazily",
        "History",
        "History[]",
    ),
    *("check_gradients", "assert_gradients", "recipe"),
]
# What mappings raise for a key that they lack, and what tests raise.
OTHERS = {"History[]": KeyError, "assert_gradients": AssertionError}


@pytest.fixture(autouse=True)
def _plain(monkeypatch):
    monkeypatch.setenv("XPNET_FAST", "0")


@pytest.mark.guarantee("numbers")
@pytest.mark.parametrize("name", every(2, NAMES))
def test_hostile_arguments_are_refused_in_a_sentence(name, harm):
    function, right = entries()[name]
    allowed = (XpnetError, OTHERS.get(name, XpnetError))
    wrong = []
    for argument in right:
        for kind, value in HOSTILE.items():
            harm.did("arguments of wrong types and sizes")
            try:
                function(**(right | {argument: value}))
            except allowed as error:
                wrong += [f"{argument} = {kind}: two lines"] * (len(str(error).splitlines()) > 1)
            except Exception as error:
                wrong.append(f"{argument} = {kind}: {type(error).__name__}: {error}")
    assert wrong == []


def test_every_public_name_is_put_to_the_test():
    """Those that only hold what others return are not called."""
    held = {
        "Backend",
        "Callback",
        "Data",
        "Dataset",
        "LRRange",
        "Metrics",
        "Population",
        "Settings",
        "TrainResult",
        "Transform",
        "XpnetError",
    }
    assert set(xpnet.__all__) - held <= set(NAMES)
    assert set(NAMES) == set(entries())


@pytest.mark.skipif(os.name != "posix", reason="devices of POSIX")
def test_saving_replaces_files_alone():
    network = xpnet.Network(CONFIG)
    Path("folder").mkdir()
    os.mkfifo("pipe")
    Path("link").symlink_to("target")
    for path in (DEVICE, "folder", "pipe", ".", "/", ".."):
        with pytest.raises(RunError, match=r"cannot be written \(is no "):
            network.save(path, replace=True)
    for path in (DEVICE, "folder", "pipe", ".", "/", ".."):
        with pytest.raises(RunError, match=r"cannot be written|exists already"):
            network.save(path)
    assert Path(DEVICE).is_char_device()
    assert Path("pipe").is_fifo()
    network.save("link", replace=True)
    assert not Path("link").is_symlink()
    assert not Path("target").exists()


def test_sentences_name_the_argument_and_what_would_be_right():
    for call, words in {
        lambda: xpnet.Network(CONFIG, seed=-1): "seed = -1: must be a whole number of at least 0",
        lambda: xpnet.Network(CONFIG, replicas=10**9): "replicas = 1000000000: must be a whole number .* at most 20000",
        lambda: xpnet.Network(None): "config = None: must be a NetworkConfig, and is of the type NoneType",
        lambda: xpnet.Network(CONFIG).save("a\0b"): r"path = a\\x00b: must be a path of a file or a folder",
        lambda: xpnet.load("n" * 300): "path = n*: must be a path that can be looked at, .*name too long",
        lambda: xpnet.train(
            xpnet.Network(CONFIG), xpnet.data_from_arrays(X, LABELS), callbacks=1
        ): "callbacks = 1: must be a sequence of instances of xpnet.Callback",
        lambda: xpnet.Network(CONFIG, dtype="float16"): "dtype = float16: must be float32 or float64",
    }.items():
        with pytest.raises(ConfigError, match=words):
            call()
