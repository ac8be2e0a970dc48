"""The kernel that trains a network on each multiprocessor does the steps of the plain stepper."""

from __future__ import annotations

import emulator
import numpy as np
import pytest
from kernel_steps import LOSS, PUSHED, check_same, hyper_of, problem, trained
from stepping import check_step_is_gradient, state_of
from strict import gpu_backend

import xpnet
from xpnet.errors import ConfigError
from xpnet.nn.network import Network
from xpnet.ops.cuda_ops import cuda_ops
from xpnet.training.steppers import Hyperparameters, StepMetrics, make_stepper
from xpnet.training.steppers.cuda_multi import MultiStepper

pytestmark = pytest.mark.skipif(emulator.compiler() is None, reason="there is no C++ compiler")


@pytest.fixture
def gpu(monkeypatch):
    return gpu_backend(monkeypatch)


@pytest.mark.parametrize(
    ("inputs", "kept_as_bytes", "settings"),
    [
        (200, True, {"n": 37}),  # four chunks of features, the last one short; bytes wait in shared memory
        (130, True, {"hidden": (33,), "n": 8}),  # rows of bytes that begin anywhere
        (64, False, {"hidden": (3,), "batch_norm": False}),
        (65, False, {"hidden": (), "n": 60}),
        (96, True, {"hidden": (64, 9), "n": 1, "batch_norm": False}),
    ],
    ids=str,
)
def test_multi_takes_the_steps_of_the_plain_stepper(gpu, inputs, kept_as_bytes, settings):
    data = problem(inputs, kept_as_bytes)
    plain, ours = (trained(gpu, kind, data, numbers=(0, 2), **settings) for kind in ("plain", "multi"))
    check_same(ours, plain, rtol=1e-9, atol=1e-11)


def test_multi_step_of_float32_is_that_of_plain_up_to_rounding(gpu):
    data, settings = problem(128, dtype="float32"), {"hidden": (50, 50), "n": 100, "steps": 2, "dtype": "float32"}
    plain, ours = (trained(gpu, kind, data, **settings) for kind in ("plain", "multi"))
    check_same(ours, plain, rtol=2e-3, atol=2e-5)


@pytest.mark.parametrize(
    ("inputs", "settings"),
    [
        (128, {"hidden": (50, 50), "n": 100}),
        (200, {"hidden": (20, 5), "n": 37}),  # the last chunk, the last tile of samples and that of units are short
        (64, {"hidden": (), "n": 16}),
        (68, {"hidden": (64,), "n": 2, "batch_norm": False}),
        (132, {"hidden": (20, 5), "n": 37, "more": PUSHED | LOSS}),
        pytest.param(68, {"hidden": (9,), "n": 16, "more": LOSS}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_multi_on_tensor_cores_takes_the_steps_of_float64_up_to_rounding(gpu, inputs, settings):
    exact = trained(gpu, "plain", problem(inputs), steps=2, **settings)
    found = trained(gpu, "multi-bf16", problem(inputs, dtype="float32"), steps=2, dtype="float32", **settings)
    assert found.keys() == exact.keys()
    for name, value in exact.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-6 * np.abs(value).max(initial=1), err_msg=name)


@pytest.mark.parametrize(
    ("kind", "dtype", "more"),
    [
        ("multi", "float64", {}),
        ("multi-bf16", "float32", {}),
        ("multi-bf16", "float32", PUSHED | LOSS),
        pytest.param("multi", "float64", PUSHED | LOSS, marks=pytest.mark.slow),
    ],
)
def test_multi_replicas_have_the_bits_of_solo_runs_in_any_order_of_threads(gpu, kind, dtype, more):
    data, settings = problem(140, dtype=dtype), {"n": 20, "dtype": dtype, "more": more}
    together = trained(gpu, kind, data, numbers=(0, 1, 2), **settings)
    gpu.xp.backwards = True
    check_same(trained(gpu, kind, data, numbers=(0, 1, 2), **settings), together)
    for r in range(3):
        alone = trained(gpu, kind, data, numbers=(r,), **settings)
        part = {name: value[:, [r]] if "metrics" in name else value[[r]] for name, value in together.items()}
        check_same(alone, part)


@pytest.mark.parametrize(
    ("kind", "batch_norm", "loss"), [("multi", True, {}), ("multi", False, {}), ("small", True, LOSS)]
)
def test_step_is_eta_times_the_gradient(gpu, kind, batch_norm, loss):
    (x, labels), numbers = problem(100), (0, 2)
    config = xpnet.NetworkConfig(inputs=100, hidden=(9, 5), classes=4, batch_norm=batch_norm)
    net, hyper = Network(config, backend=gpu, dtype="float64", replicas=2), hyper_of(gpu.xp, numbers, "float64", **loss)
    stepper = make_stepper(net, x.to(gpu.xp.asarray), gpu.xp.asarray(labels), hyper, kind, batch=30)
    lam, smoothing, weights = (None if v is None else v._a for v in (hyper.lam, hyper.smoothing, hyper.weights))
    check_step_is_gradient(stepper, net, np.arange(30), np.array([0.1, 0.2]), lam, smoothing, weights)


def test_stand_in_notices_an_argument_of_another_type(gpu):
    four, whole = (gpu.xp.asarray(np.ones(4, kind)) for kind in (float, int))
    with pytest.raises(emulator.EmulationError, match=r"relu: const real\* s got an array of int64"):
        cuda_ops(gpu).launch("relu", four.dtype, (1,), (4,), whole, four, np.int64(4))


def test_multi_step_on_tensor_cores_is_eta_times_the_gradient(gpu):
    x, labels = problem(100, dtype="float32")
    config, to = xpnet.NetworkConfig(inputs=100, hidden=(9, 5), classes=4), gpu.xp.asarray
    net, rows, eta = Network(config, backend=gpu, dtype="float32"), np.arange(30), 64.0
    stepper = make_stepper(net, x.to(to), to(labels), Hyperparameters(to(np.zeros(1))), "multi-bf16", batch=30)
    before = Network(config, dtype="float64", backend=xpnet.get_backend("cpu"))
    for name, p in net.parameters.items():
        before.parameters[name][...] = p._a
    inputs = (x.x[rows].astype(float) - x.whole - x.rest) * x.factor
    _, gradients = before.cost_and_gradients(inputs, labels[rows], 0.0)
    metrics = StepMetrics.empty(gpu.xp, 1, 1)
    stepper.run(state_of(net), to(rows[None]), to(np.full((1, 1), eta)), metrics)
    for name, gradient in gradients.items():
        moved = (before.parameters[name] - net.parameters[name]._a) / eta
        np.testing.assert_allclose(moved, gradient, rtol=0, atol=1e-6 * np.abs(gradient).max(), err_msg=name)


@pytest.mark.parametrize(
    ("inputs", "kept_as_bytes", "dtype", "reason"),
    [
        (8, True, "float64", "it computes in float32, not in float64"),
        (8, False, "float32", "samples must be bytes, with a multiple of four features"),
        (7, True, "float32", "samples must be bytes, with a multiple of four features"),
    ],
)
def test_multi_on_tensor_cores_refuses_what_they_cannot_multiply(gpu, inputs, kept_as_bytes, dtype, reason):
    with pytest.raises(ConfigError, match=f"^stepper = multi-bf16: cannot train this network: {reason}"):
        trained(gpu, "multi-bf16", problem(inputs, kept_as_bytes, dtype), dtype=dtype)


def test_multi_on_tensor_cores_refuses_a_gpu_without_such(gpu, monkeypatch):
    monkeypatch.setattr(gpu.xp.cuda.Device, "compute_capability", "75")
    with pytest.raises(ConfigError, match=r"it needs a GPU of compute capability 8\.0 or more, not 7\.5; take graph"):
        trained(gpu, "multi-bf16", problem(8, dtype="float32"), dtype="float32")


def test_multi_call_is_one_launch_for_fifty_steps_and_waits_for_nothing(gpu):
    seen = []
    for steps in (50, 51):
        launches, waits = gpu.xp.launches, gpu.xp.synchronisations
        trained(gpu, "multi", problem(5), hidden=(3,), steps=steps, n=2)
        seen.append((gpu.xp.launches - launches, gpu.xp.synchronisations - waits))
    (fifty, waits), (more, waits_too) = seen
    assert more - fifty <= 12  # a second kernel, with its batches, rates and metrics
    assert waits == waits_too


def test_multi_kernels_are_compiled_only_where_they_are_used(gpu, monkeypatch):
    compiled, original = [], gpu.xp.RawModule
    monkeypatch.setattr(gpu.xp, "RawModule", lambda **given: compiled.append(given["code"]) or original(**given))
    trained(gpu, "graph", problem(5))
    assert ["multi_steps(" in code for code in compiled] == [False]
    trained(gpu, "multi", problem(5))
    assert ["multi_steps(" in code for code in compiled] == [False, True]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"hidden": (65,)}, "it has layers of more than 64 units"),
        ({"n": 257}, "the batch has more than 256 samples"),
        (
            {"hidden": (64,), "n": 136},
            "the batch has more samples than the first layer's 64 units leave threads for in ",
        ),
        ({"hidden": (50, 50), "n": 100}, r"it needs \d+,\d+ bytes of a multiprocessor's memory, which has 232,448"),
    ],
    ids=str,
)
def test_multi_refuses_what_it_has_no_room_for(gpu, settings, reason):
    with pytest.raises(ConfigError, match=f"^stepper = multi: cannot train this network: {reason}"):
        trained(gpu, "multi", problem(5), **settings)


def test_multi_is_never_chosen_automatically(gpu):
    x, labels = problem(5)
    for replicas in (1, 9, 200):
        net = Network(xpnet.NetworkConfig(inputs=5, hidden=(3,), classes=4), backend=gpu, replicas=replicas)
        hyper = Hyperparameters(gpu.xp.asarray(np.full(replicas, 0.1)))
        there = x.to(gpu.xp.asarray)
        assert type(make_stepper(net, there, gpu.xp.asarray(labels), hyper, "auto", batch=10)) is not MultiStepper
