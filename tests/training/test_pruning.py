"""Pruning a population while it trains."""

from __future__ import annotations

import numpy as np
import pytest
from calls import Calls
from strict import strict_backend

from xpnet.config.settings import Settings
from xpnet.nn.network import Network
from xpnet.training.callback import PruningPoint
from xpnet.training.population import Population
from xpnet.training.train import train
from xpnet.training.train_population import train_population

SMALL = {"hidden": [6], "batch_size": 50, "cycles": 3, "n_s": 5, "lambda": [0.0, 0.01, 0.1]}  # 8 steps an epoch


def population(**values) -> Population:
    return Population.of(Settings.from_mapping({**SMALL, **values}), 12, 4)


def run(p: Population, blobs, prune_at=(), on_prune=None, **options):
    callbacks = [Calls(prune_at=prune_at, on_prune=on_prune)] if on_prune else []
    return train_population(p, blobs, dtype="float64", callbacks=callbacks, **options)


def test_pruning_points_lie_between_epochs_and_change_nothing(blobs):
    p, seen = population(), []
    whole, expected = run(p, blobs)
    network, result = run(p, blobs, prune_at=[10, 20, 30, 99], on_prune=lambda point: seen.append(point) or [])
    assert [point.step for point in seen] == [10, 20]  # 30 is the end
    assert all(point.replicas == (0, 1, 2) for point in seen)
    assert all(point.chunk == (0, 3) for point in seen)
    for name, tensor in whole.parameters.items():
        np.testing.assert_array_equal(network.parameters[name], tensor)
    np.testing.assert_array_equal(result.history["train_loss"], expected.history["train_loss"])
    # What a point tells is what a training of that length ends with: the rate does not depend on the length.
    _, shorter = run(population(cycles=1), blobs)
    np.testing.assert_array_equal(seen[0].validation.accuracies, shorter.validation.accuracies)
    np.testing.assert_array_equal(seen[0].validation.losses, shorter.validation.losses)


@pytest.mark.parametrize("most", [None, 2])
@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_dropped_networks_stay_as_they_are_and_the_others_do_not_notice(blobs, most, momentum):
    p = population(momentum=momentum, runs=2)
    whole, expected = run(p, blobs)
    short, _ = run(population(momentum=momentum, runs=2, cycles=1), blobs)
    network, result = run(
        p, blobs, prune_at=[10], on_prune=lambda point: {1, 4} & set(point.replicas), max_replicas=most and 3
    )
    assert result.dropped == {1: 10, 4: 10}
    for name in whole.parameters:
        for r in range(6):
            other = short if r in (1, 4) else whole
            np.testing.assert_allclose(network.parameters[name][r], other.parameters[name][r], rtol=1e-9, atol=1e-12)
    gone = np.isin(np.arange(6), [1, 4])
    for metrics in (result.train, result.validation, result.test):
        np.testing.assert_array_equal(np.isnan(metrics.losses), gone)
    np.testing.assert_allclose(result.test.losses[~gone], expected.test.losses[~gone], rtol=1e-9)
    # Epoch 1 has all of them, from epoch 2 on, in whose middle they were dropped, the others alone.
    np.testing.assert_array_equal(np.isnan(result.history["validation_loss"][0]), False)
    for column in ("validation_loss", "train_loss", "train_accuracy"):
        np.testing.assert_array_equal(np.isnan(result.history[column][1]), gone)


def test_a_chunk_is_asked_about_its_own(blobs):
    seen = []
    run(population(runs=2), blobs, prune_at=[10], on_prune=lambda point: seen.append(point) or [], max_replicas=4)
    assert [point.chunk for point in seen] == [(0, 3), (3, 6)]
    for point in seen:
        assert point.replicas == tuple(range(*point.chunk))
        assert np.flatnonzero(np.isfinite(point.validation.losses)).tolist() == list(point.replicas)


def test_fewer_networks_take_fewer_operations(blobs, monkeypatch):
    from xpnet.training.steppers.replica_parallel import ReplicaParallelStepper

    trained = []
    real = ReplicaParallelStepper.run

    def counted(self, state, perm, eta, totals):
        trained.append((int(eta.shape[0]), int(state.parameters["W1"].shape[0])))
        real(self, state, perm, eta, totals)

    monkeypatch.setattr(ReplicaParallelStepper, "run", counted)
    run(population(), blobs, prune_at=[10], on_prune=lambda _: [2])
    assert sum(steps for steps, replicas in trained if replicas == 3) == 10
    assert sum(steps for steps, replicas in trained if replicas == 2) == 20
    assert {replicas for _, replicas in trained} == {2, 3}


def test_when_all_are_dropped_training_ends(blobs):
    p = population()
    network, result = run(p, blobs, prune_at=[10, 20], on_prune=lambda point: point.replicas)
    short, _ = run(population(cycles=1), blobs)
    assert result.steps == 10
    assert not result.interrupted
    assert result.dropped == {0: 10, 1: 10, 2: 10}
    assert np.isnan(result.test.losses).all()
    np.testing.assert_array_equal(network.parameters["W1"], short.parameters["W1"])


def test_only_the_sets_that_are_wanted_are_evaluated_at_the_end(blobs):
    _, result = run(population(), blobs, final=("validation",))
    assert np.isnan(result.test.accuracies).all()
    assert np.isnan(result.train.losses).all()
    _, expected = run(population(), blobs)
    np.testing.assert_array_equal(result.validation.accuracies, expected.validation.accuracies)


def test_a_network_that_diverges_is_not_asked_about(blobs):
    p = population(**{"lambda": 0.0, "eta_max": [0.1, 1e38], "batch_norm": False})
    seen: list[PruningPoint] = []
    _, result = run(p, blobs, prune_at=[10, 20], on_prune=lambda point: seen.append(point) or [])
    assert list(result.diverged) == [1]
    assert [point.replicas for point in seen] == [(0,), (0,)]
    assert np.isnan(seen[0].validation.losses[1])


def test_on_a_device_that_counts_synchronisations(blobs):
    backend = strict_backend()
    p = population()
    _, expected = run(p, blobs, prune_at=[10], on_prune=lambda _: [0])
    network, result = run(p, blobs, backend=backend, prune_at=[10], on_prune=lambda _: [0])
    assert result.dropped == {0: 10}
    np.testing.assert_allclose(result.validation.losses, expected.validation.losses, rtol=1e-9)
    assert network.replicas == 3


def test_selected_networks_are_copies(blobs):
    network = Network(population().network, dtype="float64", seed=[3, 4, 5])
    train(network, blobs, population(**{"lambda": 0.01}).train)
    part = network.select([2, 0])
    assert part.seeds == (5, 3)
    np.testing.assert_array_equal(part.parameters["W1"], network.parameters["W1"][[2, 0]])
    np.testing.assert_array_equal(part.running["mean1"], network.running["mean1"][[2, 0]])
    part.parameters["W1"] = part.parameters["W1"] * 0
    assert network.parameters["W1"].any()
    assert Network(population(init=["he", 0.1, "xavier"], **{"lambda": 0.1}).network, seed=[0, 1, 2]).select(
        [1]
    ).config.init == (0.1,)
