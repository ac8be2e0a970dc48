"""``xpnet bench``."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import numpy as np
from cyclopts import Group, Parameter

from xpnet.cli.console import Output
from xpnet.cli.options import Debug, Json, Quiet, given, settings_options
from xpnet.config.definitions import NetworkConfig
from xpnet.config.settings import Settings
from xpnet.errors import ConfigError, DeviceError

if TYPE_CHECKING:
    from xpnet.backend import Backend
    from xpnet.data import Dataset

    BenchOptions: TypeAlias = Any
else:
    BenchOptions = settings_options("hidden", "batch_norm", "batch_size")

_BENCH = Group("Benchmark", sort_key=3)
_INPUTS, _CLASSES = 3072, 10
_ETA, _LAM = 0.01, 0.005
_WIDTHS = (50, 100, 200, 400, 800, 1200, 2048)
_BATCHES = (50, 100, 200, 500, 1000, 2000)
_STEPS = 10  # of a point of a sweep, in a round
_PAUSE = 0.05


def bench(
    options: Annotated[BenchOptions | None, Parameter(name="*")] = None,
    *,
    samples: Annotated[
        int, Parameter(group=_BENCH, metavar="N", allow_leading_hyphen=True, help="Samples of an epoch.")
    ] = 45_000,
    rounds: Annotated[
        int, Parameter(group=_BENCH, metavar="N", allow_leading_hyphen=True, help="Epochs that count; one warms up.")
    ] = 5,
    device: Annotated[
        str | None,
        Parameter(
            group=_BENCH,
            metavar="cpu,gpu:0,...",
            show_default=False,
            help="Devices to compare. [default: the CPU and every GPU]",
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,  # noqa: ARG001 - looked for before parsing, since parsing can fail too
) -> None:
    """Time training on the devices of this machine, on noise of CIFAR-10's shape.

    Beside the CPU stands its floor: the gather of the batches and the matrix products alone, by NumPy.
    """
    output = Output(as_json=json, quiet=quiet)
    settings = Settings.from_mapping({} if options is None else given(options)).single("xpnet bench")
    batch = settings.train.batch_size
    if samples < batch:
        raise ConfigError(f"samples = {samples}: must be at least the batch size, which is {batch}")
    if rounds < 1:
        raise ConfigError(f"rounds = {rounds}: must be a whole number of at least 1")
    config = settings.network_config(_INPUTS, _CLASSES)
    if config.batch_norm and config.hidden and batch == 1:
        raise ConfigError("batch_size = 1: batch normalisation needs at least 2; or pass --no-batch-norm")
    backends = _backends(device, output)

    rows = _epochs(config, batch, samples, rounds, backends)
    result: dict[str, Any] = {
        "network": _title(config, batch),
        "samples": samples,
        "rounds": rounds,
        "steps": samples // batch,
        "devices": rows,
        "sweeps": _sweeps(config, batch, backends),
    }
    output.result(result, result["network"], _table(rows, samples // batch), *_words(result))


def _backends(device: str | None, output: Output) -> list[Backend]:
    """Return the backends of the `device` list, or of all devices that work."""
    from xpnet.backend import get_backend

    if device is not None:
        names = list(dict.fromkeys(part.strip() for part in device.split(",")))
        if any(name in ("", "auto") for name in names):
            raise ConfigError(f"device = {device}: must be a list such as cpu,gpu:0")
        return [get_backend(name) for name in names]
    backends = [get_backend("cpu")]
    try:
        first = get_backend("gpu")
    except DeviceError as error:
        reason = str(error).removeprefix("device = gpu: cannot be used: ")
        output.note(f"no GPU, so the CPU alone: {reason}")
        return backends
    count = first.xp.cuda.runtime.getDeviceCount()
    return [*backends, first, *(get_backend(f"gpu:{index}") for index in range(1, count))]


def _epochs(
    config: NetworkConfig, batch: int, samples: int, rounds: int, backends: list[Backend]
) -> dict[str, dict[str, Any]]:
    """Time epochs of every device and of the CPU's floor, in turn."""
    from xpnet.analysis.benchmark import Floor, in_turn, noise, order, summary

    data = noise(samples, _INPUTS, _CLASSES)
    steps = samples // batch
    eta = np.full(steps, _ETA)
    contenders: dict[str, Callable[[int], float]] = {}
    for backend in backends:
        # CuPy's current device belongs to the thread: each turn makes its own GPU current.
        contenders[backend.device] = _on_device(backend, config, data, lambda n: order(samples, batch, steps, n), eta)
    cpu = next((backend for backend in backends if backend.name == "cpu"), None)
    if cpu is not None:
        floor = Floor((_INPUTS, *config.hidden, _CLASSES), batch, data.standardiser(data.train.x))
        contenders["floor"] = _timed(lambda n: floor(order(samples, batch, steps, n)))
    times = in_turn(contenders, rounds, _PAUSE)
    rows = {name: summary(values[1:]) for name, values in times.items()}
    for name, row in rows.items():
        row["us_per_step"] = row["median"] / steps * 1e6
        row["first_seconds"] = times[name][0]
    if cpu is not None:
        rows["cpu"]["floor_reached"] = rows["floor"]["median"] / rows["cpu"]["median"]
    return rows


def _on_device(
    backend: Backend,
    config: NetworkConfig,
    data: Dataset,
    batches: Callable[[int], Any],
    eta: Any,
) -> Callable[[int], float]:
    """Return what takes the steps of ``batches(round)`` on a device and tells their seconds."""
    from xpnet.analysis.benchmark import Steps
    from xpnet.backend import get_backend
    from xpnet.nn.network import Network
    from xpnet.training.device_data import to_device

    get_backend(backend.device)
    network = Network(config, backend=backend)
    steps = Steps(network, to_device(data, backend, network.dtype).train, _LAM)

    def turn(number: int) -> float:
        perm = batches(number)
        get_backend(backend.device)
        begin = time.perf_counter()
        steps(perm, eta)
        return time.perf_counter() - begin

    return turn


def _timed(work: Callable[[int], object]) -> Callable[[int], float]:
    def turn(number: int) -> float:
        begin = time.perf_counter()
        work(number)
        return time.perf_counter() - begin

    return turn


def _sweeps(config: NetworkConfig, batch: int, backends: list[Backend]) -> dict[str, Any]:
    """Return the times of a step by width and by batch size, and from where on the first GPU wins.

    Empty unless there are a CPU and a GPU.
    """
    from dataclasses import replace

    from xpnet.analysis.benchmark import in_turn, noise, order, wins_from

    pair = [next((b for b in backends if b.name == name), None) for name in ("cpu", "gpu")]
    if None in pair:
        return {}
    samples = max(_BATCHES) * 2
    data = noise(samples, _INPUTS, _CLASSES)
    eta = np.full(_STEPS, _ETA)
    depth = max(1, len(config.hidden))
    points = {
        "width": [(width, replace(config, hidden=(width,) * depth), batch) for width in _WIDTHS],
        "batch_size": [(n, config, n) for n in _BATCHES],
    }
    found: dict[str, Any] = {}
    for axis, sizes in points.items():
        times = []
        for size, network, n in sizes:
            rows = min(n, samples)

            def batches(number: int, rows: int = rows) -> Any:
                return np.stack([order(samples, rows, 1, 1000 * number + step)[0] for step in range(_STEPS)])

            turns = {b.device: _on_device(b, network, data, batches, eta) for b in pair if b is not None}
            seconds = in_turn(turns, 2)
            cpu, gpu = (min(values[1:]) / _STEPS for values in seconds.values())
            times.append((size, cpu, gpu))
        found[axis] = {
            "points": [{"size": s, "cpu_us": 1e6 * c, "gpu_us": 1e6 * g} for s, c, g in times],
            "gpu": pair[1].device if pair[1] is not None else "",
            "gpu_wins_from": wins_from(times),
        }
    return found


def _title(config: NetworkConfig, batch: int) -> str:
    sizes = "-".join(map(str, (config.inputs, *config.hidden, config.classes)))
    norm = "with BN" if config.batch_norm and config.hidden else "without BN"
    return f"{sizes} {norm}, batch {batch}"


def _table(rows: dict[str, dict[str, Any]], steps: int) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True)
    for column in ("s an epoch", "min", "quartiles", "µs a step", "floor reached"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, row in rows.items():
        reached = f"{100 * row['floor_reached']:.0f} %" if "floor_reached" in row else ""
        table.add_row(
            "floor (gather and products)" if name == "floor" else name,
            f"{row['median']:.3f}",
            f"{row['min']:.3f}",
            f"{row['q1']:.3f} to {row['q3']:.3f}",
            f"{1e6 * row['median'] / steps:,.0f}",
            reached,
        )
    return table


def _words(result: dict[str, Any]) -> list[str]:
    """Return a line for each sweep: from where on the GPU wins."""
    lines = []
    for axis, sweep in result["sweeps"].items():
        size = sweep["gpu_wins_from"]
        name = axis.replace("_", " ")
        sizes = [point["size"] for point in sweep["points"]]
        if size is None:
            lines.append(f"{sweep['gpu']} does not win at a {name} of {sizes[0]} to {sizes[-1]}")
        else:
            lines.append(f"{sweep['gpu']} wins from a {name} of {size} on (of {', '.join(map(str, sizes))})")
    return lines
