"""Dropout: its masks, its gradients and their check, every stepper, and replicas that have their own."""

from __future__ import annotations

import re

import emulator
import numpy as np
import pytest
from calls import Calls
from examples import examples
from gradcheck_cases import network as checked_network
from gradcheck_cases import samples
from hypothesis import given
from hypothesis import strategies as st
from kernel_pair import Both
from operation_tables import TABLES
from resumed import check_resumed
from stepping import check_step_is_gradient, state_of, take
from strict import gpu_backend
from training_cases import FIGURES, network, tensors

import xpnet
from xpnet.analysis.gradcheck import check_network, sweep_h
from xpnet.errors import ConfigError
from xpnet.nn.dropout import Dropout
from xpnet.ops import reference
from xpnet.ops.masks import kept
from xpnet.training.steppers import Hyperparameters, make_stepper
from xpnet.utils.philox import philox
from xpnet.utils.rng import Purpose, words

needs_compiler = pytest.mark.skipif(emulator.compiler() is None, reason="there is no C++ compiler")
ARCHITECTURE = xpnet.NetworkConfig(inputs=6, hidden=(9, 8), classes=3)
CPU = xpnet.get_backend("cpu")


def masks(dtype="float64", **dropout):
    """Return the masks of three replicas for each layer."""
    found = Dropout(**{"hidden": 0.3, "inputs": 0.2} | dropout).masks_for(ARCHITECTURE, CPU, np.dtype(dtype), 3)
    assert found is not None
    return found


# -- masks --------------------------------------------------------------------------------------------------


def test_a_value_is_dropped_if_its_word_of_philox_is_below_p():
    _, mask, _ = masks(seeds=(5, 6, 7), step=123)
    found = kept(np, mask, 4, 9)
    for r, seed in enumerate((5, 6, 7)):
        for sample in range(4):
            for unit in range(9):
                word = philox((unit // 4, sample, 1, 123), words(seed, Purpose.DROPOUT))[unit % 4]
                assert found[r, sample, unit] == (word >= 0.3 * 2**32)


@examples(20, 200)
@given(
    st.sampled_from([*TABLES, "emulated"]),
    st.sampled_from(["float32", "float64"]),
    st.tuples(st.integers(1, 7), st.integers(1, 13)),
    st.sampled_from([1, 3]),
    st.sampled_from([None, 1, 3]),
    st.integers(0, 20),
)
def test_every_implementation_drops_the_same_values_to_the_same_bits(table, dtype, size, each, replicas, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(size if replicas is None else (replicas, *size)).astype(dtype)
    x.reshape(-1)[0] = np.inf  # is 0 where it is dropped
    mask = masks(dtype, seeds=(seed, seed + 1, seed + 2) if each > 1 else seed, step=seed)[1]
    expected = reference.dropout(np, x, mask)
    g = rng.standard_normal(expected.y.shape).astype(dtype)
    by_definition = g.copy()
    reference.dropout_gradient(np, by_definition, expected)
    np.testing.assert_array_equal(by_definition == 0, ~np.broadcast_to(expected.kept, g.shape))
    to, back, ops = np.copy, np.asarray, TABLES.get(table)
    if table == "emulated":
        if emulator.compiler() is None:
            return
        both = Both()
        to, back, ops = both.to, both.back, both.ops
        mask = type(mask)(*map(both.to, mask))
    first = ops.dropout(to(x), mask)
    again = ops.dropout(to(x), mask, first)
    own = to(g)
    ops.dropout_gradient(own, again)
    for found, wanted in ((again.y, expected.y), (again.kept, expected.kept), (own, by_definition)):
        np.testing.assert_array_equal(back(found), wanted)
    assert back(again.y).dtype == x.dtype


@pytest.mark.parametrize("table", TABLES)
def test_parts_of_a_mask_are_the_mask(table):
    mask, x = masks(seeds=(5, 6, 7))[1], np.ones((3, 8, 23))
    whole = reference.dropout(np, x, mask).y
    for sample, unit in ((0, 16), (3, 0), (2, 5)):
        part = TABLES[table].dropout(x[:, sample:, unit:], mask._replace(sample=sample, unit=unit))
        np.testing.assert_array_equal(part.y, whole[:, sample:, unit:])
    wide = np.ones((8, 3, 23)).transpose(1, 0, 2)  # replicas side by side in memory
    dropped = TABLES[table].dropout(wide, mask)
    np.testing.assert_array_equal(dropped.y, whole)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_mean_of_dropped_values_is_the_value(p):
    mask = masks(hidden=p, seeds=3)[1]
    y = reference.dropout(np, np.ones((400, 1000)), mask).y
    assert set(np.unique(y)) == {0.0, 1 / (1 - p)}
    deviation = np.sqrt(p / (1 - p) / y.size)
    assert abs(y.mean() - 1) < 4 * deviation
    # No unit, and no sample, is dropped more often than others.
    for axis, count in ((0, 400), (1, 1000)):
        assert abs(y.mean(axis=axis) - 1).max() < 5 * np.sqrt(p / (1 - p) / count)


def test_masks_differ_by_seed_step_layer_sample_and_unit():
    found = {
        kept(np, mask, 50, 50).tobytes()
        for options in ({"seeds": 1}, {"seeds": 2}, {"seeds": 1, "step": 1})
        for mask in masks(inputs=0.3, **options)
    }
    assert len(found) == 9
    drawn = kept(np, masks(seeds=1)[1], 50, 50)[0]
    assert len(np.unique(drawn, axis=0)) == len(np.unique(drawn, axis=1)) == 50


def test_replicas_of_one_seed_and_probability_share_a_mask():
    inputs, hidden, _ = masks(hidden=(0.1, 0.2, 0.2), inputs=0.5, seeds=4)
    assert (len(inputs.keys), len(hidden.keys)) == (1, 3)
    assert reference.dropout(np, np.ones((5, 6)), inputs).y.shape == (5, 6)
    assert reference.dropout(np, np.ones((5, 6)), hidden).y.shape == (3, 5, 6)


# -- gradients, and the steppers ----------------------------------------------------------------------------


def problem(backend=CPU, replicas=1, hidden=(70, 66), **settings):
    """Return networks, samples and labels, and a generator."""
    rng = np.random.default_rng(0)
    config = xpnet.NetworkConfig(inputs=12, hidden=hidden, classes=4, init_bias=0.2, **settings)
    net = xpnet.Network(config, backend=backend, dtype="float64", replicas=replicas)
    return net, backend.asarray(rng.standard_normal((60, 12))), backend.asarray(rng.integers(0, 4, 60)), rng


STEPPERS = ["plain", "numpy", "population", "units", "graph", "fused", "plain on gpu"]


@pytest.fixture(params=STEPPERS)
def stepping(request, monkeypatch):
    """Return a backend and the name of a stepper on it."""
    if "g" in request.param or request.param == "fused":
        if emulator.compiler() is None:
            pytest.skip("there is no C++ compiler")
        return gpu_backend(monkeypatch), request.param.split()[0]
    if request.param in ("units", "population"):
        pytest.importorskip("numba")
        monkeypatch.setattr("xpnet.training.steppers.threads_for_units", lambda *_: 2)
    if request.param == "numpy":
        monkeypatch.setenv("XPNET_FAST", "0")
    return CPU, request.param.replace("numpy", "plain")


def stepper_for(net, x, labels, kind, hyper):
    return make_stepper(net, x, labels, hyper, kind, batch=20)


@pytest.mark.parametrize("batch_norm", [True, False])
def test_step_of_every_stepper_is_the_gradient_with_dropout(stepping, batch_norm):
    backend, kind = stepping
    replicas = 1 if kind == "units" else 3
    net, x, labels, rng = problem(backend, replicas, batch_norm=batch_norm)
    lam, seeds = np.full(replicas, 0.05), (7, 8, 8)[:replicas]
    dropout = Dropout(hidden=(0.3, 0.0, 0.5)[:replicas], inputs=0.2, seeds=seeds)
    hyper = Hyperparameters(backend.asarray(lam), masks=dropout)
    stepper, rows = stepper_for(net, x, labels, kind, hyper), rng.integers(0, 60, 20)
    check_step_is_gradient(stepper, net, rows, 0.01 * (1 + np.arange(replicas)), lam, dropout=dropout)


def test_steps_of_every_stepper_are_those_of_the_plain_one(stepping):
    backend, kind = stepping
    net, x, labels, rng = problem(backend)
    plain, *data, _ = problem()
    perm, eta = rng.integers(0, 60, (5, 20)), np.full((5, 1), 0.05)
    dropout = Dropout(hidden=0.4, inputs=0.1, seeds=(3,))
    expected = state_of(plain, momentum=True)
    hyper = Hyperparameters(np.full(1, 0.01), np.full(1, 0.9), masks=dropout)
    take(stepper_for(plain, *data, "plain", hyper), expected, perm, eta)
    to, state = backend.asarray, state_of(net, momentum=True)
    stepper = stepper_for(net, x, labels, kind, Hyperparameters(to(hyper.lam), to(hyper.rho), masks=dropout))
    metrics = xpnet.training.steppers.StepMetrics.empty(backend.xp, 5, 1)
    for a, b in ((0, 3), (3, 5)):  # the masks of the fourth step do not depend on where a call ends
        stepper.run(state, to(perm[a:b]), to(eta[a:b]), metrics.part(a, b))
    for group in ("parameters", "velocities", "running"):
        for name, tensor in getattr(expected, group).items():
            found = backend.to_numpy(getattr(state, group)[name])
            np.testing.assert_allclose(found, tensor, rtol=1e-9, atol=1e-11, err_msg=name)


def test_a_training_without_dropout_keeps_its_bits_and_its_operations(blobs):
    nets = [network(2) for _ in range(3)]
    for net, values in zip(nets, ({}, {"dropout": 0, "input_dropout": (0, 0)}, {"dropout": (0, 0.5)}), strict=True):
        if net is not nets[2]:
            net.ops = net.ops._replace(dropout=None)  # is not called
        xpnet.train(net, blobs, xpnet.TrainConfig(epochs=2, batch_size=50, shuffle="shared", **values))
    for name, tensor in tensors(nets[0]).items():
        np.testing.assert_array_equal(nets[1].parameters.get(name, nets[1].running.get(name)), tensor)
    # Neither does a replica whose p is 0 beside another one, except for the last bits of wider products.
    np.testing.assert_allclose(nets[2].parameters["W1"][0], nets[0].parameters["W1"][0], rtol=1e-3, atol=1e-5)
    assert abs(nets[2].parameters["W1"][1] - nets[0].parameters["W1"][1]).max() > 1e-3


@pytest.mark.parametrize("values", [{}, {"momentum": 0.5}, {"shuffle": "shared"}, {"shuffle_seed": 9}])
def test_values_for_each_replica_are_single_trainings(blobs, values):
    settings = {"epochs": 2, "batch_size": 50, **values}
    together = network(3, dtype="float64")
    result = xpnet.train(together, blobs, xpnet.TrainConfig(**settings, dropout=(0, 0.1, 0.5), input_dropout=0.2))
    for r, p in enumerate((0, 0.1, 0.5)):
        alone = network(dtype="float64", seed=r)
        # The order of the population's replica r.
        order = values.get("shuffle_seed", 0) + (0 if "shuffle" in values else r)
        single = settings | {"shuffle_seed": order, "dropout": p, "input_dropout": 0.2}
        found = xpnet.train(alone, blobs, xpnet.TrainConfig(**single))
        for name, tensor in alone.parameters.items():
            np.testing.assert_allclose(together.parameters[name][r], tensor[0], rtol=1e-9, atol=1e-12)
        for column in FIGURES[2:]:
            np.testing.assert_allclose(result.history[column][:, r], found.history[column], rtol=1e-9)


def test_replicas_keep_their_masks_when_others_are_dropped(blobs):
    settings = {"epochs": 2, "batch_size": 50, "dropout": (0.5, 0.0, 0.2), "input_dropout": (0.0, 0.1, 0.3)}
    whole, fewer = network(3, dtype="float64"), network(3, dtype="float64")
    xpnet.train(whole, blobs, xpnet.TrainConfig(**settings))
    xpnet.train(fewer, blobs, xpnet.TrainConfig(**settings), callbacks=[Calls(prune_at=[3], on_prune=lambda _: [0])])
    np.testing.assert_allclose(fewer.parameters["W1"][1:], whole.parameters["W1"][1:], rtol=1e-9, atol=1e-12)


def test_training_that_is_stopped_within_an_epoch_goes_on_with_the_same_bits(blobs):
    config = xpnet.TrainConfig(epochs=3, batch_size=20, dropout=(0.2, 0.5), input_dropout=0.1)
    check_resumed(CPU, blobs, (8, 5), "float32", config, [7])


@pytest.mark.thorough
@needs_compiler
def test_training_on_a_gpu_is_that_of_the_cpu_and_goes_on_with_the_same_bits(blobs, monkeypatch):
    backend = gpu_backend(monkeypatch)
    config = xpnet.TrainConfig(epochs=2, batch_size=50, dropout=(0.2, 0.5), input_dropout=0.1)
    nets = [network(2, dtype="float64", backend=b) for b in (CPU, backend)]
    for net in nets:
        xpnet.train(net, blobs, config)
    for name, tensor in tensors(nets[0]).items():
        np.testing.assert_allclose(tensors(nets[1])[name], tensor, rtol=1e-9, atol=1e-12)
    check_resumed(backend, blobs, (8, 5), "float32", config, [7])


def test_evaluation_and_inference_drop_nothing(blobs):
    net = network(dtype="float64")
    config = xpnet.TrainConfig(epochs=1, dropout=0.5, input_dropout=0.5, train_metrics="full")
    result = xpnet.train(net, blobs, config)
    for part, figures in ((blobs.test, result.test), (blobs.train, result.train)):
        p = net.predict_proba(part.x)[0]
        assert figures.loss == pytest.approx(-np.log(p[np.arange(len(p)), part.labels]).mean(), rel=1e-9)


# -- the gradient check -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["fast", "naive"])
@pytest.mark.parametrize(("options", "p"), [({}, 0.2), ({"batch_norm": False}, 0.2), ({}, 0.0), ({"hidden": ()}, 0.0)])
def test_gradcheck_of_dropout_passes(method, options, p):
    report = check_network(
        checked_network(**options), *samples(), 0.1, dropout=p, input_dropout=0.1, method=method, seed=3
    )
    assert report.passed, report.reason
    assert report.checked == report.of
    assert (report.settings["dropout"], report.settings["input_dropout"]) == (p, 0.1)


@pytest.mark.parametrize("operation", ["dropout_gradient", "dropout"])
def test_gradcheck_of_a_network_that_forgets_dropout_fails(operation):
    net = checked_network()
    broken = {
        "dropout_gradient": lambda g, dropped: None,
        "dropout": lambda x, mask, out=None: original(x, mask, out)._replace(y=x),
    }
    original = net.ops.dropout
    net.ops = net.ops._replace(**{operation: broken[operation]})
    assert check_network(net, *samples(), 0.1, coverage=50).passed
    assert not check_network(net, *samples(), 0.1, coverage=50, dropout=0.3).passed


def test_sweep_of_steps_with_dropout_has_small_errors_of_small_steps():
    rows = sweep_h(checked_network(), *samples(), 0.1, dropout=0.3, input_dropout=0.1, steps=(1e-2, 1e-5), entries=20)
    errors = {row["h"]: row["median"] for row in rows if row["kind"] == "all"}
    assert errors[1e-5] < 1e-7 < errors[1e-2]


# -- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [1, 1.5, -0.1, "some", float("nan")])
@pytest.mark.parametrize("name", ["dropout", "input_dropout"])
def test_probability_out_of_its_range_is_refused(name, p):
    for refuse in (
        lambda: xpnet.TrainConfig(**{name: p}),
        lambda: check_network(checked_network(), *samples(), **{name: p}),
        lambda: Dropout(**{name.replace("input_dropout", "inputs").replace("dropout", "hidden"): p}),
    ):
        with pytest.raises(ConfigError, match=rf"^{name} = .*: must be a finite number of at least 0 and below 1$"):
            refuse()


def test_probabilities_for_another_number_of_replicas_are_refused(blobs):
    with pytest.raises(ConfigError, match=r"^dropout: has 2 values for 3 replicas; give one, or one for each$"):
        xpnet.train(network(3), blobs, xpnet.TrainConfig(epochs=1, dropout=(0, 0.1)))
    for name, values in (("input_dropout", {"inputs": (0, 0.1)}), ("seeds", {"inputs": 0.1, "seeds": (1, 2)})):
        with pytest.raises(ConfigError, match=rf"^{name}: has 2 values for 1 replicas; give one, or one for each$"):
            checked_network().cost_and_gradients(*samples(), dropout=Dropout(**values))


def test_dropout_of_a_network_without_hidden_layers_is_refused(blobs):
    words_of_it = "dropout = 0.5: has no effect on a network without hidden layers; set hidden, or drop inputs by input"
    for refuse in (
        lambda: xpnet.train(network(hidden=()), blobs, xpnet.TrainConfig(epochs=1, dropout=0.5)),
        lambda: check_network(checked_network(hidden=()), *samples(), dropout=0.5),
    ):
        with pytest.raises(ConfigError, match=f"^{re.escape(words_of_it)}"):
            refuse()
    xpnet.train(network(hidden=()), blobs, xpnet.TrainConfig(epochs=1, input_dropout=0.5))


@pytest.mark.parametrize("setting", ["dropout", "input_dropout"])
def test_stepper_that_does_not_know_dropout_refuses_it_by_name(blobs, setting):
    with pytest.raises(ConfigError, match=rf"^stepper = split: does not know the setting {setting} = 0.1; take auto, "):
        xpnet.train(network(), blobs, xpnet.TrainConfig(epochs=1, stepper="split", **{setting: 0.1}))
    with pytest.raises(ConfigError, match=r"^stepper = split: does not know the setting dropout; take auto, "):
        make_stepper(*problem()[:3], Hyperparameters(0.1, masks=Dropout(inputs=0.5)), "split")
