"""The environment of a part: a device, sizes, and a clock that waits for the device."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.analysis.step_benchmark import noise
from xpnet.backend import Backend, get_backend
from xpnet.config.definitions import NetworkConfig
from xpnet.data import Dataset
from xpnet.data.views import Augmentation
from xpnet.nn.network import Network
from xpnet.training.device_data import DeviceSet, to_device
from xpnet.training.steppers import Hyperparameters, State, StepMetrics, make_stepper


def timed(run: Callable[[], object], wait: Callable[[], object], warm: int, count: int) -> list[float]:
    """Return the seconds of `count` calls of `run` after `warm` more; `wait` returns once the device is done."""
    times = []
    for _ in range(warm + count):
        wait()
        begin = time.perf_counter()
        run()
        wait()
        times.append(time.perf_counter() - begin)
    return times[warm:]


def batches(samples: int, batch: int) -> np.ndarray[Any, Any]:
    """Return the samples of each step of an epoch (steps, batch), in a random order."""
    count = samples // batch
    return np.random.default_rng(0).permutation(samples)[: count * batch].reshape(count, batch)


class Context:
    """A device and the sizes of what is measured on it, for one part.

    Attributes:
        backend: The GPU.
        small: Whether sizes are small, for a dry run.
        samples: Of the training set.
        inputs: Features of a sample.
        data: Folder or archive with CIFAR-10, or None.
        lines: The lines that the part has printed.
        found: The results of the part so far.
    """

    def __init__(self, backend: Backend, *, small: bool = False, data: str | None = None) -> None:
        self.backend, self.small, self.data = backend, small, data
        self.samples, self.inputs = (400, 48) if small else (45_000, 3072)
        self.epochs, self.warm = (1, 1) if small else (20, 3)
        self.lines: list[str] = []
        self.found: dict[str, Any] = {}
        self.on_change: Callable[[], None] = lambda: None

    def tell(self, line: str) -> None:
        """Print a line and keep it, with all that was found until now: the part may not come to its end."""
        self.lines.append(f"   {line}")
        print(self.lines[-1], flush=True)
        self.on_change()

    @property
    def cpu(self) -> Backend:
        """The CPU."""
        return get_backend("cpu")

    @property
    def name(self) -> str:
        """The device in words."""
        return str(self.describe().get("name", self.backend.device))

    def describe(self) -> dict[str, Any]:
        """Return name, memory, compute capability, driver and CUDA version of the device."""
        runtime = self.backend.xp.cuda.runtime
        index = int(self.backend.device.split(":")[1])
        found = runtime.getDeviceProperties(index)
        known = {
            "name": found["name"].decode(),
            "memory_gib": round(found["totalGlobalMem"] / 2**30, 1),
            "capability": f"{found['major']}.{found['minor']}",
            "multiprocessors": found.get("multiProcessorCount"),
        }
        for key, function in (("driver", "driverGetVersion"), ("cuda", "runtimeGetVersion")):
            if hasattr(runtime, function):
                known[key] = getattr(runtime, function)()
        return known

    @cached_property
    def noise(self) -> Dataset:
        """A data set of noise."""
        return noise(self.samples, self.inputs, others=max(10, self.samples // 9))

    @cached_property
    def on_device(self) -> DeviceSet:
        """The training set of noise, on the device."""
        return to_device(self.noise, self.backend, "float32").train

    def network(self, hidden: tuple[int, ...], batch_norm: bool = True, *, inputs: int | None = None) -> NetworkConfig:
        """Return an architecture for the training set, or for so many `inputs`."""
        return NetworkConfig(inputs=inputs or self.inputs, hidden=hidden, batch_norm=batch_norm)

    def seconds(self, run: Callable[[], object], *, epochs: int | None = None, warm: int | None = None) -> list[float]:
        """Return the seconds of calls of `run`, until the device is done, after some that warm up."""
        warm = self.warm if warm is None else warm
        return timed(run, self.backend.synchronize, warm, epochs or self.epochs)


class Steps:
    """Training steps on data that lies on the device; batches and rates do too."""

    def __init__(
        self,
        network: Network,
        part: DeviceSet,
        kind: str,
        *,
        batch: int = 100,
        own_orders: bool = False,
        most: int | None = None,
        augmentation: Augmentation | None = None,
        rho: float | None = None,
        smoothing: float | None = None,
    ) -> None:
        """Prepare an epoch on `part`, or its first `most` steps, with an order of samples for all or for each.

        `augmentation` are the views of pictures, `rho` is Nesterov's momentum, and `smoothing` that of the labels.
        """
        backend, replicas = network.backend, network.replicas
        momentum, soft = (None if v is None else backend.asarray(np.full(replicas, v)) for v in (rho, smoothing))
        lam = backend.asarray(np.geomspace(1e-5, 1e-1, replicas))
        hyper = Hyperparameters(lam, momentum, rho is not None, soft)
        self.stepper = make_stepper(network, part.x, part.labels, hyper, kind, batch)
        zeros = backend.xp.zeros_like
        velocities = {} if rho is None else {name: zeros(p) for name, p in network.parameters.items()}
        self._state = State(network.parameters, velocities, network.running)
        samples, rng = int(part.labels.shape[0]), np.random.default_rng(0)
        self.count = min(samples // batch, most or samples)
        orders = [rng.permutation(samples)[: self.count * batch] for _ in range(replicas if own_orders else 1)]
        if augmentation is not None:
            orders = [augmentation.rows(order, seed, 0) for seed, order in enumerate(orders)]
        rows = np.stack(orders, axis=1).reshape(self.count, batch, -1).swapaxes(1, 2)
        self._perm = backend.asarray(np.ascontiguousarray(rows if own_orders else rows[:, 0]))
        self._eta = backend.asarray(np.full((self.count, replicas), 1e-3))
        self._totals = StepMetrics.empty(backend.xp, self.count, replicas)

    def epoch(self) -> None:
        """Take all steps once."""
        self.stepper.run(self._state, self._perm, self._eta, self._totals)


def figures(times: list[float], steps: int) -> dict[str, Any]:
    """Return the median, the minimum and the values in microseconds a step."""
    values = [1e6 * seconds / steps for seconds in times]
    return {"median": statistics.median(values), "min": min(values), "values": values, "steps": steps}


def pretended(data: str | None) -> Context:
    """Return a context on the tests' stand-in for a GPU, whose kernels run on the host."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "helpers"))
    import emulator
    from strict import Module

    from xpnet.ops.cuda import clusters, products

    backend = Backend("gpu", Module(), "gpu:0", "pretended")
    products.load_cublas = lambda: emulator.Cublas(backend.xp)  # type: ignore[assignment]
    clusters.active_clusters = lambda *_: 1  # type: ignore[assignment]
    return Context(backend, small=True, data=data)
