"""A setting that a kernel does not know is never left out: another takes the work, or it is refused by name."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass

import emulator
import numpy as np
import pytest
from strict import gpu_backend, strict_backend

import xpnet
from xpnet.config.definitions import NetworkConfig
from xpnet.config.fields import choice, optional, setting
from xpnet.config.supported import KNOWN, unknown
from xpnet.config.training import TrainConfig
from xpnet.errors import ConfigError
from xpnet.nn.network import Network
from xpnet.ops import get_ops, get_reference
from xpnet.training.steppers import Hyperparameters, PlainStepper, make_stepper
from xpnet.training.validate import check_stepper

needs_compiler = pytest.mark.skipif(emulator.compiler() is None, reason="there is no C++ compiler")
GPU, CPU = ("graph", "fused", "small", "multi", "multi-bf16", "persistent", "plain"), ("split", "population", "plain")


@dataclass(frozen=True, kw_only=True)
class WithGate(NetworkConfig):
    gate: str | None = setting("tanh", optional(choice("relu", "tanh")), "What no kernel knows.")


@dataclass(frozen=True, kw_only=True)
class WithNoisyLabels(TrainConfig):
    noisy_labels: float = setting(0.5, float, "What no kernel knows.")


@dataclass(frozen=True)
class WithNoise(Hyperparameters):
    noise: float = 1.0


def knows(monkeypatch, setting, *those, values=None):
    """Let the lists of some have a setting, with some values or all."""
    for name in those:
        monkeypatch.setitem(KNOWN, name, {**KNOWN[name], setting: values})


def images():
    rng = np.random.default_rng(0)
    # A first layer that is worth splitting, on images kept as bytes.
    return xpnet.data_from_arrays(rng.integers(0, 256, (300, 1024), np.uint8), np.arange(300) % 4, split="200/50")


def config(kind=NetworkConfig):
    return kind(inputs=1024, hidden=(50,), classes=4)


def stepper(backend, network, training, hyper=Hyperparameters, replicas=1):
    net = Network(network, backend=backend, replicas=replicas)
    part = xpnet.to_device(images(), backend, "float32").train
    lam = backend.asarray(np.full(replicas, 0.01))
    return make_stepper(net, part.x, part.labels, hyper(lam), training.stepper, 100, training)


@pytest.fixture(params=["gpu", "cpu"])
def backend(request, monkeypatch):
    if request.param == "cpu":
        monkeypatch.setattr("xpnet.training.steppers.feature_parallel.blas_threads", lambda: 2)
        return xpnet.get_backend("cpu")
    if emulator.compiler() is None:
        pytest.skip("there is no C++ compiler")
    return gpu_backend(monkeypatch)


def kinds(backend):
    return GPU if backend.name == "gpu" else CPU


def test_todays_settings_are_known_to_all(backend):
    chosen = {kind: type(stepper(backend, config(), TrainConfig(stepper=kind))).__name__ for kind in kinds(backend)}
    names = {
        "graph": "GraphStepper",
        "fused": "GraphStepper",
        "small": "SmallStepper",
        "multi": "MultiStepper",
        "multi-bf16": "MultiBf16Stepper",
        "persistent": "PersistentStepper",
        "plain": "PlainStepper",
    }
    names |= {"split": "FeatureParallelStepper", "population": "ReplicaParallelStepper"}
    expected = {kind: names[kind] for kind in kinds(backend)}
    assert chosen == expected
    auto = stepper(backend, config(), TrainConfig())
    assert type(auto).__name__ == ("SmallStepper" if backend.name == "gpu" else "FeatureParallelStepper")
    assert get_ops(backend, config()).softmax_cross_entropy == get_ops(backend).softmax_cross_entropy


def test_no_network_has_a_setting_that_nothing_computes():
    with pytest.raises(ConfigError, match="gate: is a setting that no network has yet"):
        Network(config(WithGate))
    # What is not set changes nothing.
    Network(WithGate(inputs=3, gate=None))


def test_of_a_setting_some_values_may_be_known(backend, monkeypatch):
    knows(monkeypatch, "gate", "reference", "plain")
    knows(monkeypatch, "gate", *KNOWN.keys() - {"reference", "plain"}, values=["relu"])

    def chosen(gate, kind="auto"):
        network = WithGate(inputs=1024, hidden=(50,), classes=4, gate=gate)
        return type(stepper(backend, network, TrainConfig(stepper=kind)))

    assert chosen("relu") is type(stepper(backend, config(), TrainConfig()))
    assert chosen("tanh") is PlainStepper
    kind = kinds(backend)[0]
    with pytest.raises(ConfigError, match=f"stepper = {kind}: does not know the setting gate = tanh; take auto"):
        chosen("tanh", kind)


@pytest.mark.parametrize("which", ["network", "training", "hyper"])
def test_what_a_stepper_does_not_know_is_refused_by_name_or_goes_to_another(backend, monkeypatch, which):
    name = {"network": "gate", "training": "noisy_labels", "hyper": "noise"}[which]
    network = config(WithGate if which == "network" else NetworkConfig)
    training = WithNoisyLabels if which == "training" else TrainConfig
    hyper = WithNoise if which == "hyper" else Hyperparameters
    knows(monkeypatch, name, "reference")
    for kind in ("auto", *kinds(backend)):
        with pytest.raises(ConfigError, match=f"{name}: is a setting that no stepper on {backend.device} knows yet"):
            stepper(backend, network, training(stepper=kind), hyper)
    knows(monkeypatch, name, "plain")
    for kind in kinds(backend)[:-1]:
        with pytest.raises(ConfigError, match=f"stepper = {kind}: does not know the setting {name}; take auto or pl"):
            stepper(backend, network, training(stepper=kind), hyper)
    for replicas in (1, 3):
        for kind in ("auto", "plain"):
            assert type(stepper(backend, network, training(stepper=kind), hyper, replicas)) is PlainStepper


def test_what_faster_operations_do_not_know_goes_to_the_definitions(backend, monkeypatch):
    knows(monkeypatch, "gate", "reference", "plain")
    reference = get_reference(backend)
    for fast in ("0", "1"):  # NumPy's and Numba's
        monkeypatch.setenv("XPNET_FAST", fast)
        network = Network(config(WithGate), backend=backend)
        for ops in (network.ops, copy.deepcopy(network).ops):  # pickles bring none along, either
            assert {f.func for f in ops} == {f.func for f in reference}
        ours = get_ops(backend, config())
        assert ours.affine is get_ops(backend).affine or backend.name == "gpu"
        assert getattr(ours.affine, "func", None) is not reference.affine.func


@needs_compiler
def test_a_network_that_the_kernels_do_not_know_is_trained_and_evaluated_by_others(monkeypatch):
    knows(monkeypatch, "gate", "reference", "plain")
    data, gpu = xpnet.load_data("patterns:330/60"), gpu_backend(monkeypatch)
    results = []
    for kind in (WithGate, NetworkConfig):
        net = Network(kind(inputs=data.features, hidden=(6,)), backend=gpu, dtype="float64")
        results.append(xpnet.train(net, data, TrainConfig(epochs=2, stepper="plain")))
    np.testing.assert_allclose(results[0].test.losses, results[1].test.losses, rtol=1e-9)
    assert gpu.xp.graph_launches  # by the second alone
    np.testing.assert_allclose(results[0].history["train_loss"], results[1].history["train_loss"], rtol=1e-9)


def test_a_training_is_refused_before_anything_is_made():
    net, data = Network(config()), images()
    with pytest.raises(ConfigError, match="noisy_labels: is a setting that no stepper on cpu knows yet"):
        check_stepper(net, data, WithNoisyLabels())
    with pytest.raises(ConfigError, match="noisy_labels: is a setting that no stepper on cpu knows yet"):
        xpnet.train(net, data, WithNoisyLabels(epochs=1))
    with pytest.raises(ConfigError, match="noisy_labels: is a setting that no stepper on cpu knows yet"):
        xpnet.lr_range(net.config, data, WithNoisyLabels())


def test_other_backends_have_the_plain_stepper():
    assert type(stepper(strict_backend(), config(), TrainConfig())) is PlainStepper


def test_the_lists_hold_what_there_is():
    there = {f.name for kind in (NetworkConfig, TrainConfig, Hyperparameters) for f in dataclasses.fields(kind)}
    for name, known in KNOWN.items():
        assert known.keys() <= there, f"{name}: {known.keys() - there} are no settings"
    # Steppers end at the plain one, which is the passes over the reference.
    assert all(KNOWN[name].keys() <= KNOWN["plain"].keys() for name in (*GPU, *CPU))
    networks = {f.name for f in dataclasses.fields(NetworkConfig)}
    assert KNOWN["plain"].keys() & networks == KNOWN["reference"].keys()
    for name in ("graph", "fused", "small", "multi", "multi-bf16", "persistent"):
        assert KNOWN[name].keys() & networks <= KNOWN["cuda_ops"].keys(), name
    for name in ("numpy_ops", "numba_ops", "cuda_ops"):
        assert KNOWN[name].keys() <= KNOWN["reference"].keys()


def test_a_setting_is_called_as_users_call_it():
    for name in ("small", "multi", "multi-bf16", "persistent", "split"):
        rest = {"rho": 0.9} if name == "split" else {"factor_first": 0.5, "rho": 0.9}
        assert unknown(name, Hyperparameters(0.1, **rest)) == ("momentum" if name == "split" else "lr_first")
        assert unknown(name, Hyperparameters(0.1)) is None
