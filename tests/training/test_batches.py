"""The batches of an epoch, and the last sample that has no batch of its own."""

from __future__ import annotations

import numpy as np
import pytest
from training_cases import network, tensors

import xpnet
from xpnet.training.batches import Batches

NORMALISED = xpnet.NetworkConfig(inputs=2, hidden=(3,), classes=2)


@pytest.mark.parametrize(
    ("samples", "batch_size", "settings", "sizes"),
    [
        (7, 3, {}, [3, 4]),
        (4, 3, {}, [4]),
        (8, 3, {}, [3, 3, 2]),
        (6, 3, {}, [3, 3]),
        (2, 3, {}, [2]),
        (7, 3, {"drop_last": True}, [3, 3]),
    ],
)
@pytest.mark.parametrize("orders", [(0,), (0, 1)])
def test_batches_of_a_normalised_network_have_several_samples_each(samples, batch_size, settings, sizes, orders):
    config = xpnet.TrainConfig(batch_size=batch_size, **settings)
    length = config.length(samples, NORMALISED)
    batches = Batches(orders, samples, config, joined=length.joined)
    found = [rows for part in batches.of_epoch(0) for rows in part]
    assert [rows.shape[-1] for rows in found] == sizes == batches.sizes(len(sizes)).tolist()
    assert length.steps_per_epoch == len(sizes)
    whole = Batches(orders, samples, xpnet.TrainConfig(batch_size=samples)).of_epoch(0)[0][0]
    np.testing.assert_array_equal(np.concatenate(found, axis=-1), whole[..., : sum(sizes)])


@pytest.mark.parametrize("other", [{"batch_norm": False}, {"hidden": ()}, None])
def test_batches_of_other_networks_may_have_one_sample(other):
    config = xpnet.TrainConfig(batch_size=3)
    architecture = None if other is None else xpnet.NetworkConfig(**{"inputs": 2, "hidden": (3,), "classes": 2} | other)
    length = config.length(7, architecture)
    assert (length.steps_per_epoch, length.joined) == (3, False)
    assert [part.shape[-1] for part in Batches((0,), 7, config).of_epoch(0)] == [3, 1]


@pytest.mark.parametrize("stepper", ["plain", "population"])
def test_joined_batch_trains_in_chunks_as_together(blobs, stepper):
    settings = xpnet.Settings.from_mapping(
        {"hidden": [6], "batch_size": 57, "runs": 3, "epochs": 2.5, "stepper": stepper, "momentum": 0.5}
    )
    population = xpnet.Population.of(settings, 12, 4)
    together, result = xpnet.train_population(population, blobs, dtype="float64")
    apart, again = xpnet.train_population(population, blobs, dtype="float64", max_replicas=1)
    assert result.steps == again.steps == 18  # two epochs and a half of seven steps
    for name, tensor in tensors(together).items():
        np.testing.assert_allclose(tensors(apart)[name], tensor, rtol=1e-9, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(result.history["train_cost"], again.history["train_cost"], rtol=1e-9)


def test_joined_batch_is_met_by_the_range_test(blobs):
    found = xpnet.lr_range(network().config, blobs, xpnet.TrainConfig(batch_size=57), steps=20)
    assert len(found.losses) == found.asked == 20
