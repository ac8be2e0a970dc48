"""Unusual numbers: the figures of the definition, or one sentence."""

from __future__ import annotations

import dataclasses

import definition
import numpy as np
import pytest
from examples import pairs
from training_cases import network, tensors

import xpnet
from xpnet.errors import ConfigError, DataError, DivergedError
from xpnet.training.train import train

pytestmark = pytest.mark.guarantee("numbers")
# Largest deviation from the definition, relative to the largest number of a tensor.
TOLERANCE = {"float64": 1e-8, "float32": 3e-3}
# Equal logits in float32 count as the first being the largest, so accuracies may differ.
FIGURES = {
    "float32": ("train_loss", "train_cost", "validation_loss", "validation_cost"),
    "float64": ("train_loss", "train_cost", "validation_loss", "validation_cost", "train_accuracy"),
}


def samples(split="40/10", *, scale=1.0, missing=False, constant=False, features=6, dtype=np.float64, **options):
    """Return 60 samples of overlapping classes from 0 to 3."""
    rng = np.random.default_rng(7)
    labels = np.arange(60) % 4
    x = rng.standard_normal((60, features)) + rng.standard_normal((4, features))[labels]
    if constant:
        x[:, 1] = 3.25
    if missing:
        labels = np.where(labels == 2, 0, labels)
    return xpnet.data_from_arrays((x * scale).astype(dtype), labels, split=split, **options)


def of(data, replicas=1, **values):
    return network(replicas, **{"inputs": data.features, "hidden": (5,)} | values)


def initial(net, r):
    return {name: net.backend.to_numpy(p)[r].astype(float) for name, p in net.parameters.items()}


def check_as_defined(data, config, net):
    """Train, and compare every replica with its definition."""
    tolerance = TOLERANCE[str(net.dtype)]
    starts = [initial(net, r) for r in range(net.replicas)]
    result = train(net, data, config)
    assert not result.diverged
    # With next to no weights, outputs of equally frequent classes are equal but for rounding, and so is the best one.
    ties = np.max([np.abs(start["W1"]).max() for start in starts]) < 1e-20
    figures = [name for name in FIGURES[str(net.dtype)] if not (ties and name.endswith("accuracy"))]
    for r, start in enumerate(starts):
        one = definition.train(net.config, start, data, config, net.seeds[r])
        for name, tensor in (one.parameters | one.running).items():
            # A mean of next to nothing is right to a share of the deviation.
            spread = np.sqrt(one.running[name.replace("mean", "var")].max()) if name.startswith("mean") else 0.0
            close(tensors(net)[name][r], tensor, tolerance, name, spread)
        for name in figures:
            close(np.reshape(result.history[name], (-1, net.replicas))[:, r], one.history[name], tolerance, name)


def close(actual, expected, tolerance, name, scale=0.0):
    scale = max(np.abs(expected).max(), scale, np.finfo(np.float32).tiny)
    np.testing.assert_allclose(actual / scale, expected / scale, atol=tolerance, rtol=0, err_msg=name)


# Data, network and settings that are unusual, and right.
UNUSUAL = {
    "a batch larger than the set": ({}, {}, {"batch_size": 1000}),
    "two samples, normalised": ({"split": "2/10"}, {}, {}),
    "one sample": ({"split": "1/10"}, {"batch_norm": False}, {}),
    "batches of one sample": ({}, {"batch_norm": False}, {"batch_size": 1}),
    "a last batch of one sample": ({}, {"batch_norm": False}, {"batch_size": 13}),
    "a last batch of one sample, dropped": ({}, {}, {"batch_size": 13, "drop_last": True}),
    "a last batch of two samples": ({}, {}, {"batch_size": 19}),
    "a normalised rest of one, joined to the last batch": ({}, {}, {"batch_size": 13}),
    "a normalised rest of one, joined to the only batch": ({}, {}, {"batch_size": 39}),
    "one validation sample": ({"split": "40/1"}, {}, {}),
    "one unit": ({}, {"hidden": (1,)}, {}),
    "layers of one unit": ({}, {"hidden": (1, 1)}, {}),
    "no hidden layer": ({}, {"hidden": ()}, {}),
    "one feature": ({"features": 1}, {}, {}),
    "a class that no sample has": ({"missing": True}, {}, {}),
    "a constant feature": ({"constant": True}, {}, {}),
    "features of 1e30": ({"scale": 1e30}, {}, {}),
    "features of 1e30 in float32": ({"scale": 1e30, "dtype": np.float32}, {}, {}),
    "features of 1e30, kept raw": ({"scale": 1e30, "in_memory": "raw"}, {}, {}),
    "features of 1e-30": ({"scale": 1e-30}, {}, {}),
    "features of 1e-30, kept raw": ({"scale": 1e-30, "in_memory": "raw"}, {}, {}),
    "features of 1e100": ({"scale": 1e100}, {}, {}),
    "no penalty": ({}, {}, {"lam": 0.0}),
    "a penalty that leaves no weights": ({}, {}, {"lam": 50.0, "schedule": "constant", "eta": 0.01}),
    "a rate from 0": ({}, {}, {"eta_min": 0.0}),
    "rates next to 0": ({}, {}, {"schedule": "constant", "eta": 1e-30}),
    "initial weights of 1e-30": ({}, {"init": 1e-30, "batch_norm": False}, {}),
    "initial weights of 1e4": ({}, {"init": 1e4, "hidden": (), "batch_norm": False}, {"lam": 0.0}),
    "a variance that forgets at once": ({}, {"bn_alpha": 0.0}, {}),
    "a variance with nothing added": ({}, {"bn_eps": 1e-30}, {}),
}


CPU = [("NumPy", 3, "float64"), ("Numba", 1, "float32"), ("Numba", 3, "float64")]
DEVICES = [("strict", 2, "float64"), ("gpu", 2, "float64")]


@pytest.mark.parametrize(
    ("device", "replicas", "dtype", "name"), pairs(CPU, UNUSUAL) + pairs(DEVICES, list(UNUSUAL)[:16])
)
def test_train_unusual_case_gives_the_figures_of_the_definition(device, replicas, dtype, name, backend, harm):
    of_data, of_network, settings = UNUSUAL[name]
    data = samples(**of_data)
    config = xpnet.TrainConfig(**({"epochs": 2, "batch_size": 10 if backend is None else 20} | settings))
    check_as_defined(data, config, of(data, replicas, dtype=dtype, backend=backend, **of_network))
    harm.did("unusual trainings")


def test_batch_of_one_sample_is_normalised_to_its_shift():
    """Its variance is 0: s_hat is 0, so the layer gives beta, and gamma and the weights below have no gradient."""
    data = samples()
    net = of(data, 2, dtype="float64", hidden=(5, 3))
    net.parameters["beta1"][...] = np.linspace(-1, 1, 5)
    net.parameters["beta2"][...] = [0.5, -0.5, 2.0]
    x = data.standardiser(data.train.x[:1], "float64")
    cost, gradients = net.cost_and_gradients(x, data.train.labels[:1], 0.0)
    for r in range(2):
        logits = np.array([0.5, 0, 2.0]) @ net.parameters["W3"][r] + net.parameters["b3"][r]
        expected = -np.log(np.exp(logits) / np.exp(logits).sum())[0, data.train.labels[0]]
        assert cost[r] == pytest.approx(expected, rel=1e-12)
    for name in ("W1", "W2", "gamma1", "gamma2"):
        assert not gradients[name].any(), name
    assert gradients["beta2"].any()


SENTENCES = {
    "a normalised batch of one": ({}, {}, {"batch_size": 1}, "batch_size = 1: leaves a batch of one of the 40"),
    "one normalised sample": ({"split": "1/10"}, {}, {}, "leaves a batch of one of the 1 training samples"),
    "no batch": ({}, {}, {"batch_size": 41, "drop_last": True}, "drop_last leaves no batch"),
    "no validation set": ({"split": "40/0"}, {}, {}, "split = '40/0': must be .*, or N/M with both at least 1"),
    "no training set": ({"split": "0/40"}, {}, {}, "split = '0/40': must be"),
    "values that have no squares": ({"scale": 1e200}, {}, {}, r"x_train has values beyond 1e\+150"),
    "weights beyond the type": ({}, {"init": 1e300}, {}, r"init = 1e\+300: gives W1 numbers of .*float32 holds"),
    "biases beyond the type": ({}, {"init_bias": 1e39}, {}, r"init_bias = 1e\+39: gives b2 numbers of .*init_bias$"),
    "weights that are 0": ({}, {"init": 1e-60}, {}, "init = 1e-60: gives W1 numbers of .*take another init$"),
    "raw values too large": (
        {"scale": 1e60, "in_memory": "raw"},
        {},
        {},
        "in_memory = raw: column 0 .* beyond float32",
    ),
    "raw values next to 0": ({"scale": 1e-60, "in_memory": "raw"}, {}, {}, "in_memory = raw: column 0 .* rescale it"),
    "no rate": ({}, {}, {"schedule": "constant", "eta": 0}, "eta = 0: must be a finite number above 0"),
    "an infinite penalty": ({}, {}, {"lam": np.inf}, "lambda = inf: must be a finite number"),
}


@pytest.mark.parametrize("name", SENTENCES)
def test_train_impossible_case_is_an_error_of_one_sentence(name, harm):
    of_data, of_network, settings, message = SENTENCES[name]

    def attempt():
        data = samples(**of_data)
        train(of(data, **of_network), data, xpnet.TrainConfig(**({"epochs": 2, "batch_size": 10} | settings)))

    with pytest.raises((ConfigError, DataError), match=message) as raised:
        attempt()
    assert "\n" not in str(raised.value)
    harm.did("settings that cannot be trained")


@pytest.mark.parametrize("which", ["train", "validation", "test"])
def test_train_empty_set_is_an_error(which):
    data = samples()
    full = getattr(data, which)
    empty = dataclasses.replace(data, **{which: dataclasses.replace(full, x=full.x[:0], labels=full.labels[:0])})
    with pytest.raises(ConfigError, match=r"data: arrays has no samples to .*; every set needs at least one"):
        train(of(data), empty)


@pytest.mark.parametrize("label", [np.inf, -np.inf, np.nan, 1e300, 0.5, 2**40])
def test_labels_that_are_no_classes_are_an_error(label):
    x, labels = np.random.default_rng(0).standard_normal((30, 3)), np.r_[np.arange(29.0) % 3, [label]]
    with pytest.raises(DataError, match=r"labels_train has the label .*; labels must be whole numbers"):
        xpnet.data_from_arrays(x, labels)


def test_labels_of_one_class_are_an_error():
    with pytest.raises(DataError, match="labels_train has the label 0 alone; there must be at least 2 classes"):
        xpnet.data_from_arrays(np.random.default_rng(0).standard_normal((30, 3)), np.zeros(30, int))


# Trainings that overflow, and in which type; with the first step at which that must have been noticed.
EXPLODING = {
    "a rate of 1e30": ({"batch_norm": False}, {"schedule": "constant", "eta": 1e30}, "float32"),
    "a rate of 1e30, normalised": ({}, {"schedule": "constant", "eta": 1e30}, "float32"),
    "a rate of 1e300": ({}, {"schedule": "constant", "eta": 1e300}, "float64"),
    "a rate that rises too far": ({"batch_norm": False}, {"eta_max": 1e7, "n_s": 30, "lam": 0.0}, "float32"),
    "a penalty of 1e30": ({}, {"lam": 1e30}, "float32"),
    "a penalty next to the largest": ({}, {"lam": 1.7e308}, "float64"),
    "initial weights of 1e30": ({"batch_norm": False, "init": 1e30}, {}, "float32"),
    "initial weights of 1e30, normalised": ({"init": 1e30}, {}, "float32"),
    "initial weights of 1e300, normalised": ({"init": 1e300}, {}, "float64"),
    "initial biases of 1e38": ({"init_bias": 1e38, "batch_norm": False}, {}, "float32"),
}


@pytest.mark.parametrize(("device", "name"), pairs(["NumPy", "Numba", "strict", "gpu"], EXPLODING))
def test_train_overflow_is_an_error_with_its_step(name, device, backend, harm):
    of_network, settings, dtype = EXPLODING[name]
    data = samples()
    config = xpnet.TrainConfig(**({"epochs": 15, "batch_size": 10} | settings))
    net = of(data, dtype=dtype, backend=backend, **of_network)
    start = initial(net, 0)
    with pytest.raises(DivergedError, match=r"(the loss became|the numbers outgrew) .* at step \d+, with") as raised:
        train(net, data, config)
    divergence = raised.value.diverged[0]
    one = definition.train(net.config, start, data, config, 0)
    # By the definition nothing is lost before, and the squares of the weights by then at the latest.
    lost = ~(np.isfinite(one.steps) & (one.squares <= np.finfo(dtype).max))
    assert lost.any()
    step, first = divergence.step, lost.argmax()
    assert step == first or (step < first and not np.isfinite(divergence.loss))
    assert np.isfinite(one.steps[:step]).all()
    assert divergence.eta == pytest.approx(definition.eta_at(config, step, 60, 4, config.length(40).n_s), rel=1e-12)
    for tensor in tensors(net).values():
        assert np.isnan(tensor).all()
    harm.did("trainings that overflow")
