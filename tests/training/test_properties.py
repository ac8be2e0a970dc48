"""Trainings of any shape, type and settings: each network of a population is as defined, and as trained alone."""

from __future__ import annotations

import dataclasses

import definition
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import xpnet
from xpnet.errors import ConfigError
from xpnet.nn.network import Network
from xpnet.training.batches import order_seeds
from xpnet.training.history import summary
from xpnet.training.train import train

pytestmark = pytest.mark.guarantee("numbers")
TOLERANCE = {"float32": 5e-3, "float64": 1e-7}


@st.composite
def trainings(draw):
    """Return data, an architecture, settings of R replicas, their seeds, and the type of it all."""
    replicas = draw(st.integers(1, 4))
    seeds = [draw(st.integers(0, 3)) + r * draw(st.integers(0, 1)) for r in range(replicas)]

    def each(low, high):
        one = st.floats(low, high)
        return draw(st.one_of(one, st.tuples(*[one] * replicas)))

    schedule = draw(st.sampled_from(["triangular", "decay", "constant", "cosine", "cosine-restarts", "coslog4"]))
    optimiser = draw(st.sampled_from(["sgd", "sgd", "adamw"]))
    momentum = each(0.1, 0.9) if optimiser == "sgd" and draw(st.booleans()) else 0.0
    values = {
        "lam": each(0, 0.3),
        "batch_size": draw(st.integers(4, 40)),
        "drop_last": draw(st.booleans()),
        "schedule": schedule,
        "momentum": momentum,
        "nesterov": bool(momentum) and draw(st.booleans()),
        "shuffle": draw(st.sampled_from([None, "shared", "independent"])),
        "train_metrics": "running",
        "optimiser": optimiser,
        "lr_first": each(0, 2) if draw(st.booleans()) else 1.0,
        "lr_bn": each(0, 2) if draw(st.booleans()) else 1.0,
    }
    if optimiser == "adamw":
        values |= {"beta1": each(0, 0.95), "beta2": each(0, 0.999), "adam_eps": 1e-3, "weight_decay": each(0, 2)}
    if schedule == "triangular":
        values |= {"eta_max": each(0.01, 0.1), "n_s": draw(st.integers(1, 7))}
        values |= {"cycles": 1} if draw(st.booleans()) else {"epochs": draw(st.integers(1, 3))}
    elif schedule == "cosine-restarts":
        values |= {"eta": each(0.01, 0.1), "n_s": draw(st.integers(1, 4)), "restart_factor": draw(st.floats(1, 3))}
        values |= {"cycles": 2} if draw(st.booleans()) else {"epochs": draw(st.integers(1, 3))}
    else:
        values |= {"eta": each(0.01, 0.1), "epochs": draw(st.integers(1, 3)), "decay": draw(st.floats(0.5, 1))}
    # AdamW divides by the size of the gradient, and so enlarges its rounding.
    dtype = "float64" if optimiser == "adamw" else draw(st.sampled_from(["float32", "float64"]))
    network = {
        "inputs": draw(st.sampled_from([1, 3, 20])),
        "hidden": draw(st.lists(st.sampled_from([1, 2, 7, 65]), max_size=3).map(tuple)),
        "classes": draw(st.integers(2, 5)),
        "batch_norm": draw(st.booleans()),
        "bias_before_bn": draw(st.booleans()),
        "bn_alpha": draw(st.floats(0, 0.99)),
        # What is added to a small variance keeps rounding small.
        "bn_eps": draw(st.floats(1e-2, 1)),
    }
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    rows = draw(st.integers(5, 45))
    labels = np.arange(rows + 20) % network["classes"]
    x = rng.standard_normal((rows + 20, network["inputs"]))
    data = xpnet.data_from_arrays(
        x, labels, split=f"{rows}/10", in_memory=draw(st.sampled_from(["auto", "raw", "float"]))
    )
    return data, xpnet.NetworkConfig(**network), xpnet.TrainConfig(**values), tuple(seeds), dtype


def alone(config: xpnet.TrainConfig, r: int) -> xpnet.TrainConfig:
    """Return the settings of replica `r`."""
    lists = {f.name: v[r] for f in dataclasses.fields(config) if isinstance(v := getattr(config, f.name), tuple)}
    return dataclasses.replace(config, **lists)


def close(actual, expected, tolerance, name):
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(actual / scale, expected / scale, rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("fast", ["0", "1"], ids=["NumPy", "Numba"])
@settings(max_examples=15, deadline=None)
@given(training=trainings())
def test_train_any_settings_is_as_defined_and_each_network_as_alone(fast, training):
    data, architecture, config, seeds, dtype = training
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XPNET_FAST", fast)
        net = Network(architecture, dtype=dtype, seed=seeds)
        starts = [{name: p[r].astype(float) for name, p in net.parameters.items()} for r in range(len(seeds))]
        try:
            result = train(net, data, config)
        except ConfigError as error:
            assume("leaves a batch of one" not in str(error))
            assume("drop_last leaves no batch" not in str(error))
            raise
        orders = order_seeds(config, seeds)
        for r, seed in enumerate(seeds):
            own = alone(config, r)
            one = definition.train(architecture, starts[r], data, own, orders[r])
            for tensors, expected in ((net.parameters, one.parameters), (net.running, one.running)):
                for name, tensor in expected.items():
                    close(tensors[name][r], tensor, TOLERANCE[dtype], name)
            for name, values in one.history.items():
                actual = np.reshape(result.history[name], (-1, len(seeds)))[:, r]
                if name != "train_accuracy":
                    close(actual, values, TOLERANCE[dtype], name)
                elif dtype == "float64":  # rounding decides which of equal scores is the largest
                    assert (np.abs(actual - values) <= one.ties + 1e-9).all()
            if dtype == "float64":
                solo = Network(architecture, dtype=dtype, seed=[seed])
                single = train(solo, data, own, orders=orders[r : r + 1])
                for name, tensor in solo.parameters.items():
                    np.testing.assert_allclose(net.parameters[name][r], tensor[0], rtol=1e-9, atol=1e-9, err_msg=name)
                assert single.validation.loss == pytest.approx(result.validation.losses[r], rel=1e-9)


@settings(max_examples=20, deadline=None)
@given(training=trainings(), scale=st.sampled_from([0.1, 1.0, 30.0]), n=st.integers(1, 9))
def test_gradients_of_any_network_are_differences_of_the_cost(training, scale, n):
    """Along a random direction of all parameters, for weights and inputs of any scale."""
    data, architecture, config, seeds, _ = training
    assume(n > 1 or not architecture.batch_norm)
    net = Network(architecture, dtype="float64", seed=seeds)
    x = scale * data.standardiser(data.train.x[:5], "float64")[np.arange(n) % 5]
    # Samples apart from each other, so that no unit is without variance.
    x = x + scale * np.random.default_rng(n).standard_normal(x.shape)
    labels = data.train.labels[np.arange(n) % 5]
    lam = np.broadcast_to(np.asarray(config.lam, float), (len(seeds),))
    rng = np.random.default_rng(0)
    for name, p in net.parameters.items():
        if not name.startswith("W"):  # without biases a layer whose units are all off lies on the kinks of the next
            p += rng.standard_normal(p.shape)
    _, gradients = net.cost_and_gradients(x, labels, lam)
    along = {name: rng.standard_normal(p.shape) for name, p in net.parameters.items()}
    expected = sum((gradients[name] * along[name]).sum(axis=(1, 2)) for name in along)
    parameters = {name: p.copy() for name, p in net.parameters.items()}

    def cost(h):
        for name, p in parameters.items():
            net.parameters[name] = p + h * along[name]
        return np.array(net.cost_and_gradients(x, labels, lam)[0], dtype=float)

    slopes = [(cost(h) - cost(-h)) / (2 * h) for h in (1e-6, 3e-7)]
    # If the slopes of two steps differ, a ReLU has a kink between.
    smooth = np.abs(slopes[0] - slopes[1]) <= 1e-4 * np.maximum(1, np.abs(expected))
    error = np.abs(slopes[1] - expected) / np.maximum(1, np.abs(expected))
    assert (error[smooth] < 1e-4 * max(1, scale)).all()
    assume(smooth.any())


@given(
    st.lists(st.sampled_from([0.0, 1.0, 1e-30, 1e30, 1e150, np.inf, -np.inf, np.nan]), min_size=1, max_size=6),
)
def test_summary_is_of_finite_values_and_fits_json(values):
    values = np.array(values)
    result = summary(values)
    good = values[np.isfinite(values)]
    if len(values) == 1:
        assert result == (float(values[0]) if good.size else None)
        return
    assert result["values"] == [float(v) if np.isfinite(v) else None for v in values]
    assert result["mean"] == (None if not good.size else pytest.approx(good.mean()))
    assert (result["std"] is None) == (good.size < 2)
