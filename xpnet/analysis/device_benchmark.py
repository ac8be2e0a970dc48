"""Timing of training on several devices in turn: epochs, and single steps by layer width and by batch size."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.analysis.step_benchmark import Floor, Steps, in_turn, noise, order, summary, wins_from
from xpnet.backend import Backend, get_backend
from xpnet.config.definitions import NetworkConfig
from xpnet.data import Dataset
from xpnet.nn.network import Network
from xpnet.training.device_data import to_device

INPUTS, CLASSES = 3072, 10
WIDTHS = (50, 100, 200, 400, 800, 1200, 2048)
BATCHES = (50, 100, 200, 500, 1000, 2000)
SWEEP_STEPS = 10  # steps of each size in a round
_ETA, _LAM = 0.01, 0.005
_PAUSE = 0.05

Batches = Callable[[int], NDArray[np.int64]]


def time_epochs(
    config: NetworkConfig, batch: int, samples: int, rounds: int, backends: Sequence[Backend]
) -> dict[str, dict[str, Any]]:
    """Return the times of epochs on every device, in turn, and of the CPU's floor if the CPU is among the devices.

    Args:
        config: The network.
        batch: Samples in a step.
        samples: Samples of an epoch; an incomplete batch is dropped.
        rounds: Timed epochs, after one warm-up epoch.
        backends: The devices.

    Returns:
        The :func:`~xpnet.analysis.step_benchmark.summary` of each device and of ``floor``, with ``us_per_step`` and
        with ``first_seconds``, the time of the warm-up epoch; for the CPU also ``floor_reached``, the floor's share of
        its time.
    """
    data, steps = noise(samples, INPUTS, CLASSES), samples // batch

    def batches(number: int) -> NDArray[np.int64]:
        return order(samples, batch, steps, number)

    contenders = {backend.device: _epoch(backend, config, data, batches) for backend in backends}
    on_cpu = "cpu" in contenders
    if on_cpu:
        floor = Floor((INPUTS, *config.hidden, CLASSES), batch, data.transform(data.train.x))
        contenders["floor"] = _timed(batches, floor)
    times = in_turn(contenders, rounds, _PAUSE)
    rows = {name: summary(values[1:]) for name, values in times.items()}
    for name, row in rows.items():
        row["us_per_step"] = row["median"] / steps * 1e6
        row["first_seconds"] = times[name][0]
    if on_cpu:
        rows["cpu"]["floor_reached"] = rows["floor"]["median"] / rows["cpu"]["median"]
    return rows


def time_sizes(config: NetworkConfig, batch: int, backends: Sequence[Backend]) -> dict[str, dict[str, Any]]:
    """Return the times of steps on the CPU and on the first GPU, by the width of hidden layers and by batch size.

    Returns:
        For ``width`` and for ``batch_size``: the ``points``, each a size and the microseconds per step; the name of the
        ``gpu``; and the smallest size from which the GPU is always faster.  Empty without both a CPU and a GPU.
    """
    cpu, gpu = (next((b for b in backends if b.name == name), None) for name in ("cpu", "gpu"))
    if cpu is None or gpu is None:
        return {}
    samples = max(BATCHES) * 2
    data = noise(samples, INPUTS, CLASSES)
    depth = max(1, len(config.hidden))
    sizes = {
        "width": [(width, replace(config, hidden=(width,) * depth), batch) for width in WIDTHS],
        "batch_size": [(n, config, n) for n in BATCHES],
    }
    found: dict[str, dict[str, Any]] = {}
    for axis, cases in sizes.items():
        points = []
        for size, network, n in cases:
            rows = min(n, samples)

            def batches(number: int, rows: int = rows) -> NDArray[np.int64]:
                return np.stack([order(samples, rows, 1, 1000 * number + step)[0] for step in range(SWEEP_STEPS)])

            seconds = in_turn({b.device: _epoch(b, network, data, batches) for b in (cpu, gpu)}, 2)
            on_cpu, on_gpu = (min(values[1:]) / SWEEP_STEPS for values in seconds.values())
            points.append((size, on_cpu, on_gpu))
        found[axis] = {
            "points": [{"size": size, "cpu_us": 1e6 * a, "gpu_us": 1e6 * b} for size, a, b in points],
            "gpu": gpu.device,
            "gpu_wins_from": wins_from(points),
        }
    return found


def _epoch(backend: Backend, config: NetworkConfig, data: Dataset, batches: Batches) -> Callable[[int], float]:
    """Return a function that trains the batches of a round on a device and returns the seconds that this took."""
    get_backend(backend.device)
    network = Network(config, backend=backend)
    steps = Steps(network, to_device(data, backend, network.dtype).train, _LAM)

    def take(perm: NDArray[np.int64]) -> None:
        steps(perm, np.full(len(perm), _ETA))

    def prepare(number: int) -> NDArray[np.int64]:
        perm = batches(number)
        get_backend(backend.device)  # CuPy's current device belongs to the thread: each turn sets its own
        return perm

    return _timed(prepare, take)


def _timed(prepare: Batches, work: Callable[[NDArray[np.int64]], object]) -> Callable[[int], float]:
    def turn(number: int) -> float:
        perm = prepare(number)
        begin = time.perf_counter()
        work(perm)
        return time.perf_counter() - begin

    return turn
