"""Networks that diverge: left out at steps that no clock chooses, and NaN from there on."""

from __future__ import annotations

import definition
import numpy as np
import pytest
from calls import Calls
from training_cases import assert_same_bits, network, tensors

import xpnet
from xpnet.analysis.prediction import predict
from xpnet.nn.network import Network
from xpnet.training.batches import Batches
from xpnet.training.evaluation import finite
from xpnet.training.result import Divergence, first_lost
from xpnet.training.train import train

pytestmark = pytest.mark.guarantee("numbers")
# The last network diverges within 20 steps, of 60 or more in an epoch; it is noticed at step 50.
LATE = {
    "schedule": "constant",
    "epochs": 2,
    "batch_size": 4,
    "lam": (0.0, 0.0, 0.0, 30.0),
    "eta": (0.02, 0.1, 0.05, 1.0),
}


@pytest.fixture(scope="module")
def wide():
    """Return samples of so many features that W1 is large: in float32 replicas of one order share a product."""
    rng = np.random.default_rng(0)
    return xpnet.data_from_arrays(rng.standard_normal((300, 700)), np.arange(300) % 4, split="240/10")


def four(**values):
    return network(seed=[3, 3, 4, 4], **{"hidden": (30, 6)} | values)


@pytest.mark.parametrize("device", ["NumPy", "Numba", "strict", "gpu"])
def test_all_but_one_diverge_the_last_goes_on_as_alone(blobs, backend, harm):
    common = {"schedule": "constant", "epochs": 3, "batch_size": 50}
    config = xpnet.TrainConfig(eta=(1e30, 1e200, 0.05, 0.1), lam=(0.0, 0.0, 0.01, 1e30), **common)
    net = four(dtype="float64", backend=backend)
    result = train(net, blobs, config)
    alone = Network(net.config, dtype="float64", backend=backend, seed=[4])
    expected = train(alone, blobs, xpnet.TrainConfig(eta=0.05, lam=0.01, **common))
    assert sorted(result.diverged) == [0, 1, 3]
    for name, tensor in tensors(alone).items():
        np.testing.assert_allclose(tensors(net)[name][2], tensor[0], rtol=1e-9, atol=1e-12)
        assert np.isnan(tensors(net)[name][[0, 1, 3]]).all(), name
    assert result.test.losses[2] == pytest.approx(expected.test.loss, rel=1e-9)
    assert np.isnan(result.test.losses[[0, 1, 3]]).all()
    assert np.isnan(result.history["train_cost"][:, [0, 1, 3]]).all()
    assert np.isfinite(result.history["train_cost"][:, 2]).all()
    assert (result.diverged[0].eta, result.diverged[0].step < 24) == (1e30, True)
    figures = result.to_json()
    assert figures["diverged"] == 3
    assert figures["test"]["accuracy"]["values"] == [None, None, expected.test.accuracy, None]
    assert figures["test"]["accuracy"]["mean"] == pytest.approx(expected.test.accuracy)
    harm.did("networks that diverge", 3)


def test_diverged_networks_are_saved_and_loaded_and_predict_nothing(blobs, tmp_path):
    net = four()
    train(net, blobs, xpnet.TrainConfig(eta_max=(0.1, 1e30, 0.1, 1e30), epochs=2))
    net.save(tmp_path / "model.safetensors")
    again = xpnet.load(tmp_path / "model.safetensors")
    for name, tensor in tensors(net).items():
        np.testing.assert_array_equal(tensors(again)[name], tensor)
    x = blobs.test.x[:5]
    expected = net.select([0, 2]).predict_proba(blobs.standardiser(x), standardised=True)
    np.testing.assert_allclose(predict(again, x), expected.mean(axis=0), rtol=1e-6)


@pytest.mark.guarantee("determinism")
@pytest.mark.parametrize("shuffle", ["shared", "independent", None])
def test_time_of_a_call_changes_no_bit(wide, monkeypatch, shuffle, harm):
    """In float32 replicas share a product: the last bits depend on the step at which one is left out."""
    trainings = []
    for seconds in (0.0, 1e9):
        monkeypatch.setattr("xpnet.training.trainer._SECONDS_A_CALL", seconds)
        net, calls = four(inputs=700, batch_norm=False), []
        result = train(net, wide, xpnet.TrainConfig(shuffle=shuffle, **LATE), callbacks=[Calls(on_steps=calls.append)])
        assert max(calls) == (1 if seconds == 0 else 40)
        trainings.append((net, result))
        harm.did("lengths of calls")
    assert list(trainings[0][1].diverged) == [3]
    assert trainings[0][1].diverged[3].step % 50
    assert_same_bits(*trainings)


@pytest.mark.guarantee("determinism", "resume")
@pytest.mark.parametrize("stop", [3, 20, 50, 61])
def test_state_between_a_divergence_and_its_notice_changes_no_bit(wide, stop):
    def trained(**options):
        net = four(inputs=700, batch_norm=False)
        return net, train(net, wide, xpnet.TrainConfig(**LATE), **options)

    complete = trained()
    assert complete[1].diverged[3].step < 20
    taken, states = [], []
    callback = Calls(
        on_steps=taken.append,
        should_stop=lambda: sum(taken) >= stop,
        on_checkpoint=lambda point: states.append(point.state()),
    )
    trained(callbacks=[callback])
    assert_same_bits(complete, trained(start=states[-1]))


def test_batches_equal_by_chance_change_no_bit(monkeypatch):
    """The second epochs of these two seeds begin with the same four samples, and end with others."""
    rng = np.random.default_rng(0)
    data = xpnet.data_from_arrays(rng.standard_normal((20, 700)), np.arange(20) % 4, split="8/5")
    config = xpnet.TrainConfig(epochs=3, batch_size=4)
    batches = [Batches((seed,), 8, config).of_epoch(1)[0] for seed in (1264, 1265)]
    assert [(a == b).all() for a, b in zip(*batches, strict=True)] == [True, False]
    trainings = []
    for seconds in (0.0, 1e9):
        monkeypatch.setattr("xpnet.training.trainer._SECONDS_A_CALL", seconds)
        net = network(3, inputs=700, hidden=(30,), seed=1264)
        trainings.append((net, train(net, data, config)))
    assert_same_bits(*trainings)


def test_divergence_before_a_pruning_point_is_noticed_there_with_its_step(blobs):
    seen = []
    net = four()
    config = xpnet.TrainConfig(**LATE)
    expected = train(four(), blobs, config).diverged[3]
    callback = Calls(prune_at=[30], on_prune=lambda point: seen.append(point.replicas) or [])
    result = train(net, blobs, config, callbacks=[callback])
    assert seen == [(0, 1, 2)]
    assert repr(result.diverged[3]) == repr(expected)
    assert expected.step < 30


def test_divergence_loss_is_the_mean_of_the_batch(blobs):
    net = four(hidden=())
    start = {name: p[3].astype(float) for name, p in net.parameters.items()}
    divergence = train(net, blobs, xpnet.TrainConfig(**LATE)).diverged[3]
    alone = xpnet.TrainConfig(**(LATE | {"eta": 1.0, "lam": 30.0}))
    losses = definition.train(net.config, start, blobs, alone, 4).steps
    assert 1e15 < divergence.loss < 1e25
    assert divergence.loss == pytest.approx(losses[divergence.step], rel=1e-3)


def test_infinities_that_the_loss_hides_are_found_at_the_end_of_an_epoch(blobs):
    """A ReLU makes 0 of -inf, and an infinite variance 0 of what it normalises: the loss stays finite."""
    config = xpnet.TrainConfig(epochs=2, batch_size=50)
    for name, value in (("b1", -np.inf), ("mean1", np.inf), ("var1", np.inf), ("beta1", -np.inf)):
        net = four(bias_before_bn=True)
        (net.running if name in net.running else net.parameters)[name][1, 0, 5] = value
        np.testing.assert_array_equal(finite(net), [True, False, True, True])
        if name in net.parameters:  # the first batch overwrites running statistics
            result = train(net, blobs, config)
            assert list(result.diverged) == [1]
            sentence = result.diverged[1].sentence(config, 1)
            assert "the numbers of replica 1 outgrew" in sentence or np.isnan(result.diverged[1].loss)
            assert np.isfinite(result.test.losses[[0, 2, 3]]).all()


def test_first_lost_returns_the_first_step_of_each_replica():
    losses = np.array([[1.0, 1.0, np.inf, 1.0], [np.nan, 1.0, np.nan, 1.0], [1.0, 1.0, 1.0, 1.0]])
    penalties = np.array([[1.0, 1e39, 1.0, 3e38], [1.0, 1.0, 1.0, 1.0], [1.0, np.nan, np.inf, 1.0]])
    np.testing.assert_array_equal(first_lost(losses, penalties, "float32"), [1, 0, 0, 3])
    np.testing.assert_array_equal(first_lost(losses, penalties, "float64"), [1, 2, 0, 3])


@pytest.mark.parametrize(("normalised", "batch_norm"), [(True, False), (False, True)])
def test_divergence_advises_batch_normalisation_only_where_there_is_none(normalised: bool, batch_norm: bool):
    words = Divergence(3, 9.0, float("nan")).sentence(xpnet.TrainConfig(lam=0.0), None, normalised=normalised)
    assert ("batch normalisation" in words) == batch_norm
    assert "a smaller eta_max" in words
