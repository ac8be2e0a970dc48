"""A training that was stopped goes on to the same end, to the last bit, wherever it was stopped."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from calls import Calls
from strict import strict_backend

import xpnet
from xpnet.errors import ConfigError, DivergedError
from xpnet.nn.network import Network
from xpnet.training.evaluation import Evaluation
from xpnet.training.train import train

SETTINGS = {
    "two cycles": {"n_s": 9, "cycles": 2},
    "one and a half": {"n_s": 12, "epochs": 4},
    "decay, momentum": {"schedule": "decay", "epochs": 4, "momentum": 0.9},
    "cosine, Nesterov": {"schedule": "cosine", "epochs": 4, "batch_size": 70, "momentum": 0.5, "nesterov": True},
    "own orders": {"schedule": "cosine", "epochs": 4, "batch_size": 70, "shuffle": "independent"},
    "full metrics": {"schedule": "constant", "epochs": 4, "train_metrics": "full"},
}
pytestmark = pytest.mark.guarantee("resume")


def run(data, config, *, replicas, dtype="float32", stop=None, start=None, backend=None, init="he", **functions):
    """Train; return the network, the result and the last snapshot."""
    network = Network(
        xpnet.NetworkConfig(inputs=12, classes=4, hidden=(8, 5), init=init),
        dtype=dtype,
        seed=range(replicas),
        backend=backend,
    )
    taken, kept = [], []
    result = train(
        network,
        data,
        config,
        start=start,
        callbacks=[
            Calls(
                on_steps=taken.append,
                should_stop=lambda: stop is not None and sum(taken) >= stop,
                on_checkpoint=lambda point: kept.append(point.state()),
                **functions,
            )
        ],
    )
    return network, result, kept[-1] if kept else None


def check_same(one, other):
    (network, result, _), (again, result_again, _) = one, other
    good = np.isfinite(result.validation.losses)
    for tensors, same in ((network.parameters, again.parameters), (network.running, again.running)):
        for name in tensors:
            np.testing.assert_array_equal(tensors[name][good], same[name][good], err_msg=name)
    for column in ("epoch", "step", "eta", "train_loss", "train_cost", "train_accuracy", "validation_loss"):
        np.testing.assert_array_equal(result.history[column], result_again.history[column], err_msg=column)
    for which in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(result, which).costs, getattr(result_again, which).costs)
    assert result.dropped == result_again.dropped
    assert result.diverged.keys() == result_again.diverged.keys()
    assert result_again.steps == result.steps
    assert not result_again.interrupted


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_goes_on_from_anywhere(blobs, name, replicas, dtype, harm):
    config = xpnet.TrainConfig(**SETTINGS[name])
    whole = run(blobs, config, replicas=replicas, dtype=dtype)
    for stop in (1, 3, 4, 9, whole[1].steps - 1):
        *_, snapshot = run(blobs, config, replicas=replicas, dtype=dtype, stop=stop)
        harm.did("trainings stopped")
        assert stop <= snapshot.step <= whole[1].steps
        again = run(blobs, config, replicas=replicas, dtype=dtype, start=snapshot)
        check_same(whole, again)
        assert (snapshot.seconds_evaluation > 0) == (snapshot.epochs > 0)
        assert again[1].seconds_evaluation > snapshot.seconds_evaluation


def test_it_goes_on_twice_within_an_epoch(blobs):
    config = xpnet.TrainConfig(n_s=9, cycles=2, batch_size=20)
    whole = run(blobs, config, replicas=2)
    *_, first = run(blobs, config, replicas=2, stop=2)
    *_, second = run(blobs, config, replicas=2, stop=2, start=first)
    assert len(first.step_metrics[0]) < len(second.step_metrics[0]) < 20
    assert 0 < first.seconds_of_epoch < second.seconds_of_epoch
    assert not second.epochs
    again = run(blobs, config, replicas=2, start=second)
    check_same(whole, again)
    # The epoch took what its parts took.
    assert again[1].seconds_training[0] > second.seconds_of_epoch


def test_diverged_and_dropped_networks_stay_so(blobs):
    config = xpnet.TrainConfig(n_s=20, cycles=1, eta_max=(0.1, 1e30, 0.05, 0.2), batch_size=20, momentum=0.5)
    marks = {"prune_at": [4], "on_prune": lambda _: [2]}
    whole = run(blobs, config, replicas=4, **marks)
    assert list(whole[1].diverged) == [1]
    assert whole[1].dropped == {2: 4}
    for stop, alive in ((2, 4), (5, 2), (17, 2), (20, 2), (21, 2)):
        *_, snapshot = run(blobs, config, replicas=4, stop=stop, **marks)
        within = len(snapshot.step_metrics[0])
        assert (len(snapshot.alive), within > 0) == (alive, snapshot.step % 20 > 0), "those that are left, in an epoch"
        again = run(blobs, config, replicas=4, start=snapshot, **marks)
        check_same(whole, again)


def test_parts_go_on_without_each_other(blobs):
    config = xpnet.TrainConfig(n_s=100, cycles=1, eta_max=(0.1, 1e30, 0.05, 0.2, 1e30), batch_size=4, momentum=0.5)
    options = {"dtype": "float64", "prune_at": [4], "replicas": 5}
    whole = run(blobs, config, on_prune=lambda _: [2], **options)
    *_, snapshot = run(blobs, config, on_prune=lambda _: [2], stop=101, **options)
    assert snapshot.epochs == 1
    assert len(snapshot.step_metrics[0]) > 0
    parts = {cut: snapshot.part(*cut) for cut in ((0, 2), (2, 4), (4, 5))}
    assert [(part.alive, list(part.diverged), part.dropped) for part in parts.values()] == [
        ((0,), [1], {}),
        ((1,), [], {0: 4}),
        ((), [0], {}),
    ]
    for name in ("seconds_evaluation", "seconds_of_epoch"):
        assert sum(getattr(part, name) for part in parts.values()) == pytest.approx(getattr(snapshot, name))
    for (start, stop), part in parts.items():
        of_part = dataclasses.replace(config, eta_max=config.eta_max[start:stop])
        network = Network(whole[0].config, dtype="float64", seed=range(start, stop))
        if stop == 5:
            with pytest.raises(DivergedError) as gone:
                train(network, blobs, of_part, start=part)
            assert list(gone.value.diverged) == [0]
            assert len(gone.value.history) == 1
        else:
            result = train(network, blobs, of_part, start=part, orders=range(start, stop))
            assert result.diverged.keys() == part.diverged.keys()
            assert result.dropped == part.dropped
            expected = whole[1].history["validation_cost"][:, start:stop]
            np.testing.assert_allclose(result.history["validation_cost"], expected, rtol=1e-9)
            np.testing.assert_allclose(network.parameters["W1"], whole[0].parameters["W1"][start:stop], rtol=1e-9)


def test_a_part_of_which_all_were_dropped_has_no_figures(blobs):
    config = xpnet.TrainConfig(n_s=9, cycles=2, batch_size=20)
    *_, snapshot = run(blobs, config, replicas=3, stop=21, prune_at=[4], on_prune=lambda _: [1, 2])
    network = Network(xpnet.NetworkConfig(inputs=12, classes=4, hidden=(8, 5)), seed=(1, 2))
    result = train(network, blobs, config, start=snapshot.part(1, 3))
    assert (result.dropped, result.diverged, result.interrupted) == ({0: 4, 1: 4}, {}, False)
    assert np.isnan(result.test.losses).all()


def test_costs_of_another_lambda_are_not_taken_for_those_of_the_end(blobs):
    config = xpnet.TrainConfig(n_s=9, cycles=2, lam=0.1)
    *_, snapshot = run(blobs, config, replicas=2)
    other = dataclasses.replace(config, lam=1.0)
    taken, again = (
        run(blobs, other, replicas=2, start=dataclasses.replace(snapshot, validated=validated))[1].validation
        for validated in (True, False)
    )
    np.testing.assert_allclose(again.costs - again.losses, 10 * (taken.costs - taken.losses), rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"replicas": 2}, r"W1 has the shape \(1, 12, 8\), not \(2, 12, 8\)"),
        ({"dtype": "float64"}, "W1 is float32, not float64"),
        ({"batch_norm": False}, r"gamma1 has the shape \(1, 1, 8\), not None|b1 has the shape None"),
        ({"hidden": (7, 5)}, r"has the shape \(1, 12, 8\), not \(1, 12, 7\)"),
        ({"epochs": 1}, "it has trained 2 epochs already, and 1 are asked for"),
        ({"batch_size": 50}, "it stands at step 8, which would be step 16 with epochs of 8 steps"),
        ({"alive": (0, 0)}, r"its networks are \[0, 0\], not 1 each of which trains"),
    ],
)
def test_what_is_of_another_training_is_refused(blobs, change, sentence):
    kept = []
    settings = {"schedule": "constant", "epochs": 4}

    def train_it(start=None, **change):
        config = xpnet.TrainConfig(**settings | {k: v for k, v in change.items() if k in ("epochs", "batch_size")})
        layers = {"hidden": (8, 5)} | {k: v for k, v in change.items() if k in ("hidden", "batch_norm")}
        network = Network(
            xpnet.NetworkConfig(inputs=12, classes=4, **layers),
            dtype=change.get("dtype", "float32"),
            replicas=change.get("replicas", 1),
        )
        callback = Calls(on_checkpoint=lambda point: kept.append(point.state()))
        train(network, blobs, config, start=start, callbacks=[callback])

    train_it()
    start = kept[1]
    if "alive" in change:
        start = dataclasses.replace(start, **change)
    with pytest.raises(ConfigError, match=f"^start: the network cannot go on from it, .*{sentence}"):
        train_it(start, **change)


def test_of_a_finished_training_only_the_figures_are_made_again(blobs):
    config = xpnet.TrainConfig(n_s=9, cycles=2, momentum=0.5)
    whole = run(blobs, config, replicas=2)
    again = run(blobs, config, replicas=2, start=whole[2])
    check_same(whole, again)
    assert again[2] is None  # no epoch, no checkpoint


def test_on_a_device(blobs):
    config = xpnet.TrainConfig(n_s=9, cycles=2, momentum=0.5)
    whole = run(blobs, config, replicas=2, dtype="float64", backend=strict_backend())
    *_, snapshot = run(blobs, config, replicas=2, dtype="float64", backend=strict_backend(), stop=5)
    assert all(isinstance(tensor, np.ndarray) for tensor in snapshot.parameters.values())
    _, result, _ = run(blobs, config, replicas=2, dtype="float64", backend=strict_backend(), start=snapshot)
    np.testing.assert_array_equal(result.history["train_loss"], whole[1].history["train_loss"])
    np.testing.assert_array_equal(result.test.costs, whole[1].test.costs)


def test_a_snapshot_is_not_touched_by_what_goes_on(blobs):
    config = xpnet.TrainConfig(n_s=9, cycles=2)
    *_, snapshot = run(blobs, config, replicas=2, stop=4)
    before = {name: tensor.copy() for name, tensor in snapshot.parameters.items()}
    run(blobs, config, replicas=2, start=snapshot)
    run(blobs, config, replicas=2, start=dataclasses.replace(snapshot))
    for name, tensor in snapshot.parameters.items():
        np.testing.assert_array_equal(tensor, before[name])


def test_the_last_validation_of_a_network_that_was_lost_there_is_not_made_again(blobs, monkeypatch):
    """Full passes of fewer networks have other chunks: their last bits would be others."""
    config = xpnet.TrainConfig(schedule="constant", eta=(0.01, 1e30), epochs=1, batch_size=500)
    whole = run(blobs, config, replicas=2)
    assert list(whole[1].diverged) == [1]
    passes = []
    real = Evaluation.__call__
    monkeypatch.setattr(Evaluation, "__call__", lambda self, lam: passes.append(len(lam)) or real(self, lam))
    again = run(blobs, config, replicas=2, start=whole[2])
    assert passes == [1, 1]  # of the training and the test set
    np.testing.assert_array_equal(again[1].validation.losses, whole[1].validation.losses)
