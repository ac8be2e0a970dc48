"""Training on a pretended GPU on pictures in views, with smoothed labels: as on the CPU, and captured in graphs."""

from __future__ import annotations

import dataclasses

import emulator
import numpy as np
import pytest
from examples import pairs
from resumed import check_resumed
from strict import gpu_backend

import xpnet
from xpnet.data import LabelledSet, Rows, Transform, TransformedRows, on_host
from xpnet.errors import ConfigError
from xpnet.nn.network import Network
from xpnet.training.device_data import seen_in_views, to_device
from xpnet.training.steppers import Hyperparameters, StepMetrics, StreamingStepper, make_stepper
from xpnet.training.steppers.cuda_graph import GraphStepper
from xpnet.training.steppers.cuda_small import SmallStepper
from xpnet.training.steppers.stepper_state import State

pytestmark = pytest.mark.skipif(emulator.compiler() is None, reason="there is no C++ compiler")
ALL = {
    "flip": "random", "shift": 1, "cutout": 2, "label_smoothing": (0.1, 0.3), "class_weight": (1, 2, 3, 0.5),
}  # fmt: skip
SETTINGS = [
    {"flip": "alternating"},
    {"shift": 2, "border": "constant"},
    {"cutout": 3},
    {"label_smoothing": 0.2},
    {"class_weight": (1, 2, 3, 0)},
    {**ALL, "shuffle": "shared"},
    {**ALL, "shuffle": "independent", "momentum": 0.5, "train_metrics": "full"},
]

OTHER_INPUTS = [{"pca": None}, {"pool": 1, "pca": None}, {"kind": np.float32, "pca": None}, {"kind": np.float64}]


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr("xpnet.training.steppers.cuda_graph.CAPACITY", 3)
    return gpu_backend(monkeypatch)


def pictures(kind=np.uint8, shape=(3, 4, 6), pool=2, pca=5):
    """Return a data set of small pictures."""
    rng = np.random.default_rng(4)
    x = rng.integers(0, 256, (150, int(np.prod(shape))), np.uint8).astype(kind)
    data = xpnet.data_from_arrays(x, np.arange(150) % 4, split="90/20")
    return dataclasses.replace(data, image_shape=shape, transform=Transform.fit(data.train.x, shape, pool, pca))


def trained(backend, data, stepper="auto", **settings):
    network = xpnet.NetworkConfig(inputs=data.inputs, hidden=(6, 5), classes=data.classes)
    net = Network(network, backend=backend, dtype="float64", replicas=2)
    config = xpnet.TrainConfig(epochs=2, batch_size=20, stepper=stepper, **settings)
    return xpnet.train(net, data, config)


def check_equal(found, expected, rtol=0.0):
    for column in ("train_loss", "train_cost", "train_accuracy", "validation_loss"):
        np.testing.assert_allclose(found.history[column], expected.history[column], rtol=rtol, err_msg=column)
    np.testing.assert_allclose(found.test.losses, expected.test.losses, rtol=rtol)
    if expected.test_views is not None:
        np.testing.assert_allclose(found.test_views.losses, expected.test_views.losses, rtol=rtol)
        np.testing.assert_array_equal(found.test_views.accuracies, expected.test_views.accuracies)


@pytest.mark.parametrize(("stepper", "settings"), pairs(["graph", "fused", "plain"], SETTINGS), ids=str)
def test_training_in_views_is_that_of_the_cpu(gpu, stepper, settings):
    data = pictures()
    found = trained(gpu, data, stepper, views=6, **settings)
    check_equal(found, trained(xpnet.get_backend("cpu"), data, "plain", views=6, **settings), rtol=1e-9)


@pytest.mark.parametrize(("views", "how"), pairs([1, 2], OTHER_INPUTS), ids=str)
def test_training_on_other_inputs_is_that_of_the_cpu(gpu, how, views):
    data = pictures(**how)
    found = trained(gpu, data, views=views, **ALL)
    check_equal(found, trained(xpnet.get_backend("cpu"), data, views=views, **ALL), rtol=1e-9)


@pytest.mark.parametrize("stepper", ["graph", "plain"])
@pytest.mark.parametrize(("kind", "shuffle"), pairs([np.uint8, np.float64], ["shared", "independent"]))
def test_pictures_that_do_not_fit_on_the_device_train_the_same(monkeypatch, gpu, stepper, kind, shuffle):
    data, settings = pictures(kind), {**ALL, "views": 2, "shuffle": shuffle, "train_metrics": "full"}
    fits = trained(gpu, data, stepper, **settings)
    # Two steps are a block.
    size = 2 * 20 * data.features * (8 if kind == np.float64 else 1) * (2 if shuffle == "independent" else 1)
    monkeypatch.setattr("xpnet.training.steppers.streaming._BLOCK_BYTES", size)
    gpu.xp.free = 2_000  # bytes; every set of pictures has more
    check_equal(trained(gpu, data, stepper, **settings), fits)


@pytest.mark.parametrize("free", [2**33, 2_000])
@pytest.mark.parametrize("kind", [np.uint8, np.int16])
def test_pictures_on_the_disk_and_of_other_types_train_the_same(monkeypatch, gpu, kind, free):
    monkeypatch.setattr("xpnet.training.steppers.streaming._BLOCK_BYTES", 2 * 20 * 72 * 8)
    data, gpu.xp.free = pictures(pool=1, pca=4), free

    def on_disk(part):
        return LabelledSet(Rows(part.x, np.arange(len(part)), kind), part.labels)

    sets = {name: on_disk(getattr(data, name)) for name in ("train", "validation", "test")}
    found = trained(gpu, dataclasses.replace(data, **sets), views=2, **ALL)
    check_equal(found, trained(xpnet.get_backend("cpu"), data, views=2, **ALL), rtol=1e-9)


def test_where_pictures_lie_depends_on_the_free_memory(gpu):
    data, config = pictures(), xpnet.TrainConfig(views=2, **ALL)
    there = seen_in_views(to_device(data, gpu, "float32", config), config)
    assert not on_host(there.train.x)
    assert not on_host(there.views.x)
    gpu.xp.free = 9_000  # the training set has 6480 bytes, the test set 2880
    there = seen_in_views(to_device(data, gpu, "float32", config), config)
    assert on_host(there.train.x)
    assert not on_host(there.views.x)
    net = Network(xpnet.NetworkConfig(inputs=data.inputs, classes=4), backend=gpu)
    assert type(make_stepper(net, there.train.x, there.train.labels, Hyperparameters(0.0))) is StreamingStepper


@pytest.mark.parametrize("config", [None, xpnet.TrainConfig(flip="random")])
def test_bytes_that_are_on_the_device_are_not_moved_again(gpu, config):
    there = to_device(pictures(pool=1, pca=None), gpu, "float32", config)
    again = seen_in_views(there, xpnet.TrainConfig(flip="random", cutout=2, border="constant", views=2))
    assert again.train.x.x is there.train.x.x
    assert again.views.x.x is there.test.x.x
    assert (again.train.x.border, again.train.x.cutout, again.views.x.cutout) == ("constant", 2, 0)


def test_a_captured_step_in_views_is_few_launches_and_never_waits(gpu):
    data, config = pictures(), xpnet.TrainConfig(flip="random")
    part = to_device(data, gpu, "float64", config).train
    net = Network(xpnet.NetworkConfig(inputs=data.inputs, hidden=(6, 5), classes=4), backend=gpu, dtype="float64")
    hyper = Hyperparameters(0.01, smoothing=0.1)
    stepper = make_stepper(net, part.x, part.labels, hyper, "graph")
    state = State(net.parameters, {}, net.running)

    def run(steps):
        rows = gpu.xp.asarray(np.arange(steps * 10).reshape(steps, 10) % 90 | 1 << 32)
        eta = gpu.xp.asarray(np.full((steps, 1), 0.1))
        stepper.run(state, rows, eta, StepMetrics.empty(gpu.xp, steps, 1))

    run(1)
    launches, waits = gpu.xp.launches, gpu.xp.synchronisations
    run(1)  # captured
    assert gpu.xp.launches - launches <= 42
    run(3)
    assert [pool.bytes() for pool in gpu.xp.pools] == [0, 0]  # nothing is allocated in a step
    graphs, launches = gpu.xp.graph_launches, gpu.xp.launches
    run(3)
    assert gpu.xp.graph_launches - graphs == 1
    assert gpu.xp.launches - launches <= 14  # with the rows, made here
    assert gpu.xp.synchronisations == waits


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"flip": "random"}, "flip = random"),
        ({"shift": 2}, "shift = 2"),
        ({"cutout": 3}, "cutout = 3"),
    ],
)
def test_the_small_stepper_refuses_what_it_does_not_compute_and_auto_takes_the_graph(gpu, settings, name):
    data = pictures()
    net = Network(xpnet.NetworkConfig(inputs=data.inputs, classes=4), backend=gpu)
    part = to_device(data, gpu, "float32").train

    def chosen(**options):
        return type(make_stepper(net, part.x, part.labels, Hyperparameters(0.0), **options))

    with pytest.raises(ConfigError, match=f"stepper = small: does not know the setting {name}; take auto, graph"):
        chosen(kind="small", training=xpnet.TrainConfig(**settings))
    assert chosen(training=xpnet.TrainConfig(**settings)) is GraphStepper
    assert chosen(training=xpnet.TrainConfig()) is SmallStepper


def test_the_small_stepper_reads_no_pictures_in_views(gpu):
    data = pictures()
    part = to_device(data, gpu, "float32", xpnet.TrainConfig(flip="random")).train
    assert isinstance(part.x, TransformedRows)
    net = Network(xpnet.NetworkConfig(inputs=data.inputs, classes=4), backend=gpu)
    assert type(make_stepper(net, part.x, part.labels, Hyperparameters(0.0))) is GraphStepper
    with pytest.raises(ConfigError, match="stepper = small: cannot train this network: it reads no pictures in views"):
        make_stepper(net, part.x, part.labels, Hyperparameters(0.0), "small")


@pytest.mark.thorough
@pytest.mark.guarantee("resume")
def test_a_training_in_views_that_is_resumed_ends_with_the_same_bits(gpu):
    config = xpnet.TrainConfig(epochs=3, batch_size=16, **ALL)
    check_resumed(gpu, pictures(pool=1, pca=None), (6, 5), "float64", config, [1, 5])
