"""Populations made of lists of settings: what they are, how they are cut, and that each network is its solo run."""

from __future__ import annotations

import tracemalloc
import weakref

import numpy as np
import pytest
from calls import Calls
from hypothesis import given
from hypothesis import strategies as st
from strict import strict_backend

import xpnet
from xpnet.backend import free_memory
from xpnet.config.settings import Settings
from xpnet.errors import ConfigError, DivergedError
from xpnet.nn.network import Network
from xpnet.training.chunks import bytes_of_a_replica, chunks
from xpnet.training.population import Population, replicas_json
from xpnet.training.train import train
from xpnet.training.train_population import train_population
from xpnet.training.trainer import Trainer

SMALL = {"hidden": [6], "batch_size": 50, "epochs": 8, "n_s": 16}


def population(**values) -> Population:
    return Population.of(Settings.from_mapping({**SMALL, **values}), 12, 4)


def test_the_product_of_lists_and_runs_has_runs_outermost():
    p = population(**{"lambda": [0.1, 0.2], "init": ["he", 0.05], "runs": 2, "seed": 7})
    assert p.seeds == (7, 7, 7, 7, 8, 8, 8, 8)
    assert p.network.init == ("he", "he", 0.05, 0.05) * 2 or p.network.init == ("he", 0.05, "he", 0.05) * 2
    assert len(set(zip(p.seeds, p.network.init, p.train.lam, strict=True))) == 8
    assert p.rows[0] == {"seed": 7, "lambda": 0.1, "init": "he"}
    assert p.train.eta_max == 0.1  # what does not vary stays one value
    combinations = p.combinations()
    assert len(combinations) == 4
    assert all(p.seeds[a] == 7 and p.seeds[b] == 8 for _, (a, b) in combinations)


@pytest.mark.parametrize(
    "values",
    [
        {"lambda": "0,0.01,0.1"},
        {"init": "0.1,he,xavier", "runs": 2},
        {"eta_min": [1e-3, 1e-2], "eta_max": [0.1, 0.2]},
        {"momentum": "0,0.5,0.9"},
        {"seed": "4,2,9"},
        {"schedule": "constant", "eta": "0.1,0.01", "lambda": "0.1,0.001", "runs": 2, "n_s": None},
    ],
)
def test_every_network_equals_its_solo_run(blobs, values):
    settings = {k: v for k, v in {**SMALL, **values}.items() if v is not None}
    p = Population.of(Settings.from_mapping(settings), 12, 4)
    together, result = train_population(p, blobs, dtype="float64")
    assert result.steps >= 50
    lists = {name: v for name, v in values.items() if name in p.rows[0] and name != "seed"}
    for r, row in enumerate(p.rows):
        own = {**{k: v for k, v in settings.items() if k not in (*lists, "runs")}, **row}
        one = Settings.from_mapping(own)
        alone = Network(one.network_config(12, 4), dtype="float64", seed=one.run.seed)
        single = train(alone, blobs, one.train)
        for name, tensor in alone.parameters.items():
            np.testing.assert_allclose(together.parameters[name][r], tensor[0], rtol=1e-9, atol=1e-9, err_msg=str(row))
        assert result.test.costs[r] == pytest.approx(single.test.cost, rel=1e-9)


@pytest.mark.parametrize("most", [1, 2, 3])
def test_chunks_change_nothing(blobs, most):
    p = population(**{"lambda": [0.0, 0.01, 0.1], "runs": 2})
    whole, expected = train_population(p, blobs, dtype="float64")
    cuts, records = [], []
    callback = Calls(on_train_begin=lambda plan: cuts.extend(plan.chunks), on_epoch_end=records.append)
    parts, result = train_population(p, blobs, dtype="float64", max_replicas=most, callbacks=[callback])
    assert cuts[-1][1] == 6
    assert max(b - a for a, b in cuts) <= most
    for name, tensor in whole.parameters.items():
        np.testing.assert_allclose(parts.parameters[name], tensor, rtol=1e-9, atol=1e-12)
    for column in ("train_loss", "validation_accuracy", "eta", "epoch"):
        np.testing.assert_allclose(result.history[column], expected.history[column], rtol=1e-9)
    assert records == result.history.epochs
    np.testing.assert_allclose(result.test.losses, expected.test.losses, rtol=1e-9)
    assert parts.standardiser is not None
    assert result.steps == expected.steps


def test_a_chunk_of_which_nothing_is_left_leaves_the_others(blobs):
    settings = {"hidden": [6], "batch_norm": False, "schedule": "constant", "eta": [0.01, 1e30, 1e31], "epochs": 2}
    p = Population.of(Settings.from_mapping({**settings, "batch_size": 50}), 12, 4)
    network, result = train_population(p, blobs, max_replicas=1)
    assert sorted(result.diverged) == [1, 2]
    assert np.isfinite(result.test.losses).tolist() == [True, False, False]
    assert len(result.history) == 2
    entries = list(replicas_json(p, result))
    assert entries[0]["test"]["accuracy"] == result.test.accuracies[0]
    assert "diverged_at" not in entries[0]
    assert entries[1]["test"] == {"accuracy": None, "loss": None, "cost": None}
    assert entries[1]["diverged_at"] == result.diverged[1].step
    assert network.replicas == 3
    with pytest.raises(DivergedError):
        train_population(p.part(1, 3), blobs, max_replicas=1)


@given(st.integers(1, 5), st.integers(1, 6), st.integers(1, 40))
def test_chunks_cover_all_and_are_even(settings, runs, most):
    p = population(**({"lambda": [0.1 * i for i in range(settings)]} if settings > 1 else {}), runs=runs)
    cuts = chunks(p, most)
    assert [r for a, b in cuts for r in range(a, b)] == list(range(settings * runs))
    sizes = [b - a for a, b in cuts]
    assert max(sizes) <= most
    assert len(cuts) == -(-len(p) // most)
    assert max(sizes) - min(sizes) <= max(1, settings)


def test_cuts_lie_between_seeds_where_that_costs_nothing():
    p = population(**{"lambda": [0.1, 0.2, 0.3], "runs": 4})
    assert chunks(p, 7) == [(0, 6), (6, 12)]
    assert chunks(p, None) == [(0, 12)]


@pytest.mark.guarantee("memory")
@pytest.mark.parametrize(
    ("hidden", "inputs", "dtype", "settings"),
    [
        ((100, 100), 800, "float32", {"epochs": 1}),
        pytest.param((100, 100), 800, "float32", {"epochs": 1, "momentum": 0.9}, marks=pytest.mark.slow),
        pytest.param((100, 100), 800, "float64", {"epochs": 1, "shuffle": "independent"}, marks=pytest.mark.slow),
        # Next to nothing but learning rates, figures and the history.
        ((3,), 4, "float32", {"epochs": 5, "batch_size": 2}),
    ],
)
def test_the_estimate_of_memory_is_what_training_takes(hidden, inputs, dtype, settings, harm):
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((700, inputs), dtype=np.float32), rng.integers(0, 4, 700)
    data = xpnet.to_device(xpnet.data_from_arrays(x, labels, split="500/100"), xpnet.get_backend("cpu"), dtype)
    config = xpnet.NetworkConfig(inputs=inputs, hidden=hidden, classes=4)
    train_config = xpnet.TrainConfig(**({"batch_size": 50, "shuffle": "shared"} | settings))
    peaks = {}
    for replicas in (4, 12):
        net = Network(config, replicas=1, dtype=dtype)
        train(net, data, train_config)  # everything is imported and compiled
        tracemalloc.start()
        net = Network(config, replicas=replicas, dtype=dtype)
        train(net, data, train_config)
        peaks[replicas] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    each = (peaks[12] - peaks[4]) / 8
    estimate = bytes_of_a_replica(config, train_config, 500, dtype)
    assert 0.6 * each < estimate < 2.5 * each
    harm.did("populations whose memory was measured")


def test_memory_is_looked_up_and_what_cannot_fit_is_said(blobs, monkeypatch):
    assert free_memory(xpnet.get_backend("cpu")) > 2**20
    device = strict_backend()
    assert free_memory(device) == 2**33
    device.xp.kept_free = 2**20  # by CuPy's pool, of what it had before
    assert free_memory(device) == 2**33 + 2**20
    monkeypatch.setattr("xpnet.training.chunks.free_memory", lambda backend: 2**20)
    with pytest.raises(ConfigError, match=r"hidden = \[6\]: one network takes .* MB of cpu may be used"):
        train_population(population(**{"lambda": [0.1, 0.2]}), blobs)


def test_free_memory_decides_on_the_chunks(blobs, monkeypatch):
    p = population(**{"lambda": [0.1, 0.2, 0.3, 0.4]})
    each = bytes_of_a_replica(p.network, p.train, len(blobs.train), "float32")
    monkeypatch.setattr("xpnet.training.chunks.free_memory", lambda backend: 2 * (64 * 2**20 + 2 * each + each // 2))
    cuts = []
    train_population(p, blobs, callbacks=[Calls(on_train_begin=lambda plan: cuts.extend(plan.chunks))])
    assert cuts == [(0, 2), (2, 4)]


run = Trainer.run


def plans(function):
    """Return a callback that passes every plan of a training to a function."""

    def begin(plan):
        function(plan)

    return Calls(on_train_begin=begin, on_chunk_split=function)


def cupy_error(name: str, status: int) -> RuntimeError:
    """Return an error such as CuPy has for each of CUDA's libraries."""
    error = type(name, (RuntimeError,), {})(f"status {status}")
    error.status = status
    return error


@pytest.mark.parametrize(
    "error",
    [MemoryError(), cupy_error("CUDARuntimeError", 2), cupy_error("CUDADriverError", 2), cupy_error("CUBLASError", 3)],
    ids=lambda error: type(error).__name__,
)
def test_running_out_of_memory_splits_the_population_and_goes_on(blobs, monkeypatch, error):
    p = population(**{"lambda": [0.0, 0.01, 0.1], "runs": 2, "epochs": 2})
    expected = train_population(p, blobs, dtype="float64")[1]

    def short_of_memory(trainer, final):
        if trainer.network.replicas > 2:
            raise error
        return run(trainer, final)

    monkeypatch.setattr(Trainer, "run", short_of_memory)
    cuts: list[list[tuple[int, int]]] = []
    callback = plans(lambda plan: cuts.append(list(plan.chunks)))
    network, result = train_population(p, blobs, dtype="float64", callbacks=[callback])
    assert cuts[0] == [(0, 6)]
    assert cuts[-1] == [(0, 1), (1, 3), (3, 4), (4, 6)]
    assert network.replicas == 6
    np.testing.assert_allclose(result.test.losses, expected.test.losses, rtol=1e-12)
    np.testing.assert_allclose(result.history["train_loss"], expected.history["train_loss"], rtol=1e-12)


@pytest.mark.parametrize("resumed", [False, True])
def test_memory_that_runs_out_on_the_way_costs_what_came_after_the_last_snapshot(blobs, monkeypatch, resumed):
    p = population(**{"lambda": [0.0, 0.01, 0.1], "runs": 2, "epochs": 4})
    saved, told, taken, cuts, whole = {}, [], [], [], []
    expected = train_population(p, blobs, dtype="float64")[1]

    def until_it_is_full(trainer, final):
        whole.append(weakref.ref(trainer.network))
        return run(trainer, final)

    def full(record):
        if len(record.eta) > 3 and record.epoch == 3 and not len(cuts) > 1:
            raise MemoryError

    def keep(point):
        if point.epochs <= 2:
            saved[point.chunk] = point.state()

    def cut(plan):
        cuts.append(list(plan.chunks))
        assert not whole or whole[0]() is None, "what the whole took is free when halves are asked for"
        return {(a, b): saved[0, 6].part(a, b) for a, b in plan.chunks} if resumed and saved else None

    monkeypatch.setattr(Trainer, "run", until_it_is_full)
    callbacks = [
        plans(cut),
        Calls(on_epoch_end=told.append, on_steps=taken.append, on_checkpoint=keep),
        Calls(on_epoch_end=full),
    ]
    _, result = train_population(p, blobs, dtype="float64", callbacks=callbacks)
    assert cuts == [[(0, 6)], [(0, 3), (3, 6)]]
    assert [record.epoch for record in told] == [1, 2, 3, 4]
    per_epoch = result.steps // 4
    assert sum(taken) == 3 * per_epoch + 2 * per_epoch * (2 if resumed else 4)
    np.testing.assert_allclose(result.test.losses, expected.test.losses, rtol=1e-12)
    np.testing.assert_allclose(result.history["train_loss"], expected.history["train_loss"], rtol=1e-12)
    np.testing.assert_allclose([r.train.losses for r in told], expected.history["train_loss"], rtol=1e-12)


def test_a_chunk_that_had_gone_on_from_a_snapshot_leaves_it_to_its_halves(blobs, monkeypatch):
    p = population(**{"lambda": [0.0, 0.1], "epochs": 3})
    kept = []
    keeping = Calls(on_checkpoint=lambda point: kept.append(point.state()))
    expected = train_population(p, blobs, dtype="float64", callbacks=[keeping])[1]

    def short_of_memory(trainer, final):
        if trainer.network.replicas > 1:
            raise MemoryError
        return run(trainer, final)

    monkeypatch.setattr(Trainer, "run", short_of_memory)
    taken, told = [], []
    starts = {(0, 2): kept[1]}
    calls = Calls(on_steps=taken.append, on_epoch_end=told.append)
    result = train_population(p, blobs, dtype="float64", cuts=[(0, 2)], starts=starts, callbacks=[calls])[1]
    assert sum(taken) == 2 * result.steps // 3
    assert [record.epoch for record in told] == [3]
    np.testing.assert_allclose(result.test.losses, expected.test.losses, rtol=1e-12)


@pytest.mark.parametrize("error", [cupy_error("CUDARuntimeError", 700), ValueError("an odd shape")], ids=repr)
def test_what_is_no_lack_of_memory_ends_the_training(blobs, monkeypatch, error):
    def broken(*arguments, **options):
        raise error

    monkeypatch.setattr(Trainer, "run", broken)
    cuts = []
    callbacks = [plans(lambda plan: cuts.append(list(plan.chunks)))]
    with pytest.raises(type(error)):
        train_population(population(**{"lambda": [0.0, 0.1], "epochs": 1}), blobs, callbacks=callbacks)
    assert cuts == [[(0, 2)]]


def test_one_network_that_does_not_fit_is_one_sentence(blobs, monkeypatch):
    def out_of_memory(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(Trainer, "run", out_of_memory)
    monkeypatch.setattr("xpnet.training.chunks.free_memory", lambda _: 300 * 2**20)
    with pytest.raises(ConfigError, match=r"memory: one network with its data does not fit on cpu, which has 300 MB"):
        train_population(population(**{"lambda": [0.0, 0.1], "epochs": 1}), blobs)
