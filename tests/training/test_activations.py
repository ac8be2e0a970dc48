"""Networks with any activation: initial weights, steps, files, and diagnosis."""

from __future__ import annotations

import emulator
import numpy as np
import pytest
from gradcheck_cases import network as checked_network
from gradcheck_cases import samples
from stepping import check_step_is_gradient
from strict import gpu_backend
from training_cases import network

import xpnet
from xpnet.analysis.gradcheck import check_network
from xpnet.analysis.gradcheck.problem import Problem
from xpnet.errors import ConfigError
from xpnet.nn.initialisers import weight_std
from xpnet.ops.activations import ACTIVATIONS
from xpnet.training.steppers import Hyperparameters, make_stepper

OTHERS = [name for name in ACTIVATIONS if name != "relu"]
each = pytest.mark.parametrize("activation", OTHERS)


# -- initial weights ----------------------------------------------------------------------------------------


def test_he_weights_fit_the_activation_and_other_weights_do_not_depend_on_it():
    assert weight_std("he", 50) == weight_std("he", 50, "relu") == np.sqrt(2 / 50)
    assert weight_std("he", 50, "leaky-relu") == pytest.approx(np.sqrt(2 / (1 + 0.01**2) / 50), rel=1e-14)
    for name, kind in ACTIVATIONS.items():
        assert weight_std("he", 50, name) == np.sqrt(kind.gain / 50)
        assert (weight_std("xavier", 50, name), weight_std(0.3, 50, name)) == (np.sqrt(1 / 50), 0.3)


@pytest.mark.parametrize("activation", ["relu", "leaky-relu", "gelu", "silu", "identity"])
def test_he_weights_keep_the_scale_of_the_sums_through_the_layers(activation):
    net = network(inputs=150, hidden=(150,) * 4, batch_norm=False, activation=activation, dtype="float64")
    # The first sums have the variance 1, as the later ones should.
    x = np.random.default_rng(0).standard_normal((40, 150)) / np.sqrt(ACTIVATIONS[activation].gain)
    found = xpnet.diagnose(net, x, np.arange(40) % 4).s_std[0, :-1]
    np.testing.assert_allclose(found, 1, atol=0.25)


# -- steps --------------------------------------------------------------------------------------------------


@each
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("replicas", [1, 3])
def test_a_step_is_eta_times_the_gradient(activation, batch_norm, replicas):
    net = network(replicas, dtype="float64", activation=activation, batch_norm=batch_norm, init_bias=0.2)
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((60, 12)), rng.integers(0, 4, 60)
    lam = np.linspace(0.01, 0.1, replicas)
    for kind in ("plain", "population"):
        stepper = make_stepper(net.select(range(replicas)), x, labels, Hyperparameters(lam), kind)
        check_step_is_gradient(stepper, net.select(range(replicas)), np.arange(20), np.full(replicas, 0.05), lam)


@each
def test_replicas_are_single_trainings(activation, blobs):
    settings = {"epochs": 2, "batch_size": 50, "shuffle": "shared", "shuffle_seed": 3, "momentum": 0.5}
    both = network(2, dtype="float64", activation=activation)
    xpnet.train(both, blobs, xpnet.TrainConfig(**settings))
    for r in range(2):
        alone = network(dtype="float64", seed=r, activation=activation)
        xpnet.train(alone, blobs, xpnet.TrainConfig(**settings))
        np.testing.assert_allclose(both.parameters["W1"][r], alone.parameters["W1"][0], rtol=1e-9, atol=1e-10)


@pytest.mark.skipif(emulator.compiler() is None, reason="there is no C++ compiler")
def test_kernels_of_the_gpu_take_the_plain_steps_and_small_refuses(monkeypatch):
    gpu, rng = gpu_backend(monkeypatch), np.random.default_rng(0)
    to = gpu.xp.asarray
    x, labels, lam = rng.standard_normal((30, 12)), rng.integers(0, 4, 30), np.array([0.1])
    for activation, batch_norm in (("gelu", True), ("leaky-relu", True), ("silu", False)):
        values = {"dtype": "float64", "activation": activation, "batch_norm": batch_norm}
        for kind in ("graph", "fused", "plain"):
            net = network(backend=gpu, **values)
            stepper = make_stepper(net, to(x), to(labels), Hyperparameters(to(lam)), kind, batch=20)
            check_step_is_gradient(stepper, net, np.arange(20), np.array([0.05]), lam)
            host = network(**values)
            plain = make_stepper(host, x, labels, Hyperparameters(lam), "plain")
            check_step_is_gradient(plain, host, np.arange(20), np.array([0.05]), lam)
            for name, p in host.parameters.items():
                np.testing.assert_allclose(gpu.to_numpy(net.parameters[name]), p, rtol=1e-9, atol=1e-11)
        with pytest.raises(ConfigError, match=f"stepper = small: does not know the setting activation = {activation};"):
            make_stepper(net, to(x), to(labels), Hyperparameters(to(lam)), "small", batch=20)


# -- the gradient check -------------------------------------------------------------------------------------


@each
def test_naive_and_fast_checks_pass_and_smooth_activations_have_no_kinks(activation):
    for method in ("fast", "naive"):
        net = checked_network((4, 3), activation=activation, batch_norm=method == "fast")
        report = check_network(net, *samples(12), 0.1, method=method)
        assert report.passed, report.reason
        if not ACTIVATIONS[activation].kinked:
            assert report.checked == report.of
            assert not any(tensor.kinks or tensor.one_sided for tensor in report.parameters)


def test_kinks_of_leaky_relu_are_found_as_those_of_relu():
    x, labels = samples(12)
    for activation in ("relu", "leaky-relu", "tanh"):
        net = checked_network((4,), activation=activation, batch_norm=False)
        # The input of unit 0 for sample 0 is 1e-7 away from 0, which a step of 6e-6 crosses.
        net.parameters["b1"][0, 0, 0] -= x[0] @ net.parameters["W1"][0, :, 0] + net.parameters["b1"][0, 0, 0] - 1e-7
        report = check_network(net, x, labels)
        assert report.passed
        assert (report["b1"].one_sided == 1) == (activation != "tanh")


@each
def test_a_wrong_slope_fails_the_check(activation):
    net = checked_network((4, 3), activation=activation)
    right = net.ops.batch_norm_activation

    def wrong(*args):
        results = right(*args)
        return results._replace(slope=results.slope * 1.001)

    net.ops = net.ops._replace(batch_norm_activation=wrong)
    report = check_network(net, *samples())
    assert not report.passed
    assert "beta2 fails" in report.reason


def test_problem_takes_the_operations_of_its_network():
    net = checked_network((4,), activation="silu")
    x, labels = samples()
    losses, _ = Problem.of(net, x, labels, 0.0).evaluate(net.parameters)
    assert losses.mean() == pytest.approx(float(net.cost_and_gradients(x, labels)[0][0]), rel=1e-12)


# -- files, descriptions, diagnosis ---------------------------------------------------------------------------


@each
def test_saved_network_predicts_the_same_and_is_described(activation, blobs):
    net = network(activation=activation)
    result = xpnet.train(net, blobs, xpnet.TrainConfig(epochs=1, batch_size=50))
    net.save("net.safetensors")
    again = xpnet.load("net.safetensors")
    assert again.config == net.config
    np.testing.assert_array_equal(again.predict_proba(blobs.test.x), net.predict_proba(blobs.test.x))
    np.testing.assert_array_equal(net.folded().predict(blobs.test.x), net.predict(blobs.test.x))
    p = net.predict_proba(blobs.test.x)[0]
    assert result.test.loss == pytest.approx(-np.log(p[np.arange(len(p)), blobs.test.labels]).mean(), rel=1e-4)
    assert net.config.in_words() == f"12-8-5-4 with BN and {activation}"


def test_networks_of_relu_are_described_as_before():
    net = network()
    assert "activation" not in net.description()["config"]
    assert net.config.in_words() == "12-8-5-4 with BN"
    assert network(activation="gelu").description()["config"]["activation"] == "gelu"


def test_folded_network_keeps_its_activation():
    rng = np.random.default_rng(0)
    x, labels = rng.integers(0, 256, (80, 3, 8, 8), dtype=np.uint8), rng.integers(0, 3, 80)
    data = xpnet.data_from_arrays(x, labels, pool=2, pca=10)
    net = xpnet.Network(
        xpnet.NetworkConfig(inputs=data.inputs, hidden=(6,), classes=3, activation="tanh"), dtype="float64"
    )
    net.learn_about(data)
    folded = net.folded()
    assert folded.config.activation == "tanh"
    np.testing.assert_allclose(folded.predict_proba(x), net.predict_proba(x), rtol=1e-6)


def test_only_units_of_relu_can_be_dead():
    x, labels = samples()
    for activation, kind in ACTIVATIONS.items():
        found = xpnet.diagnose(checked_network((4,), activation=activation), x, labels)
        assert np.isnan(found.dead[0]).tolist() == [not kind.rests, True]
        assert np.isnan(found.inactive[0]).tolist() == [not kind.rests, True]
        assert np.isfinite(found.y_std).all()


def test_activation_without_hidden_layers_or_unknown_is_refused():
    with pytest.raises(ConfigError, match=r"^activation = gelu: has no effect without hidden layers; leave it out$"):
        xpnet.Settings.from_mapping({"hidden": [], "activation": "gelu"})
    with pytest.raises(ConfigError, match=r"^activation = swish: must be relu, leaky-relu, gelu"):
        xpnet.Settings.from_mapping({"activation": "swish"})
