"""``xpnet bench``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter
from rich.table import Table

from xpnet.cli.console import STANDARD, Output
from xpnet.cli.options import given, number, with_settings
from xpnet.cli.tables import table
from xpnet.config.settings import Settings
from xpnet.errors import ConfigError, DeviceError

if TYPE_CHECKING:
    from xpnet.backend import Backend

_BENCH = Group("Benchmark", sort_key=3)


@with_settings("hidden", "batch_norm", "activation", "batch_size")
def bench(
    options: Any = None,
    *,
    samples: Annotated[int, number(_BENCH, "N", "Samples of an epoch.")] = 45_000,
    rounds: Annotated[int, number(_BENCH, "N", "Epochs that count, after one that warms up.")] = 5,
    device: Annotated[
        str | None,
        Parameter(
            group=_BENCH,
            metavar="cpu,gpu:0,...",
            show_default=False,
            help="Devices to compare. [default: the CPU and every GPU]",
        ),
    ] = None,
    output: Output = STANDARD,
) -> None:
    """Time training on the devices of this machine, on noise of CIFAR-10's shape.

    The CPU is compared with its floor: gathering the batches and the matrix products alone, in NumPy.
    """
    from xpnet.analysis.device_benchmark import CLASSES, INPUTS, time_epochs, time_sizes

    settings = Settings.from_mapping(given(options)).single("xpnet bench")
    batch = settings.train.batch_size
    if samples < batch:
        raise ConfigError(f"samples = {samples}: must be at least the batch size, which is {batch}")
    if rounds < 1:
        raise ConfigError(f"rounds = {rounds}: must be a whole number of at least 1")
    config = settings.network_config(INPUTS, CLASSES)
    if config.batch_norm and config.hidden and batch == 1:
        raise ConfigError("batch_size = 1: batch normalisation needs at least 2; or pass --no-batch-norm")
    backends = _backends(device, output)

    devices = time_epochs(config, batch, samples, rounds, backends)
    result: dict[str, Any] = {
        "network": f"{config.in_words()}, batch {batch}",
        "samples": samples,
        "rounds": rounds,
        "steps": samples // batch,
        "devices": devices,
        "sweeps": time_sizes(config, batch, backends),
    }
    sweeps = [_sweep_in_words(axis, sweep) for axis, sweep in result["sweeps"].items()]
    output.result(result, result["network"], _table(devices), *sweeps)


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


def _table(devices: dict[str, dict[str, Any]]) -> Table:
    rows = [
        (
            "floor (gather and products)" if name == "floor" else name,
            f"{row['median']:.3f}",
            f"{row['min']:.3f}",
            f"{row['q1']:.3f} to {row['q3']:.3f}",
            f"{row['us_per_step']:,.0f}",
            f"{100 * row['floor_reached']:.0f} %" if "floor_reached" in row else "",
        )
        for name, row in devices.items()
    ]
    heads = ("", "s an epoch", "min", "quartiles", "µs a step", "floor reached")
    return table(heads, rows, rule=False, gap=2)


def _sweep_in_words(axis: str, sweep: dict[str, Any]) -> str:
    """Return a sentence about the size from which the GPU is faster."""
    size, name = sweep["gpu_wins_from"], axis.replace("_", " ")
    sizes = [point["size"] for point in sweep["points"]]
    if size is None:
        return f"{sweep['gpu']} does not win at a {name} of {sizes[0]} to {sizes[-1]}"
    return f"{sweep['gpu']} wins from a {name} of {size} on (of {', '.join(map(str, sizes))})"
