"""``xpnet info``."""

from __future__ import annotations

import platform
from typing import Any

from xpnet.cli.console import Output
from xpnet.cli.options import Debug, Json, Quiet
from xpnet.runs.environment import PACKAGES, gpus, system, versions
from xpnet.runs.environment import blas as blas_libraries
from xpnet.version import __version__


def info(*, json: Json = False, quiet: Quiet = False, debug: Debug = False) -> None:  # noqa: ARG001
    """Show versions, BLAS and its threads, GPUs, and where CIFAR-10 was found."""
    from xpnet.backend import get_backend
    from xpnet.data import find_cifar10
    from xpnet.ops import fast_is_on

    output = Output(as_json=json, quiet=quiet)
    backend = get_backend("auto")
    cifar10 = find_cifar10()
    data = {
        "xpnet": __version__,
        "python": platform.python_version(),
        "system": system(),
        "packages": versions(PACKAGES),
        "blas": blas_libraries(),
        "cpu_operations": "compiled by Numba" if fast_is_on() else "NumPy (the extra fast adds compiled ones)",
        "device": backend.device,
        "device_reason": backend.reason,
        "gpus": gpus(backend),
        "tf32": backend.tf32,
        "cifar10": None if cifar10 is None else str(cifar10),
    }
    output.result(data, _table(data))


def _table(data: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    table.add_row("xpnet", data["xpnet"])
    table.add_row("Python", f"{data['python']}, {data['system']}")
    for name, version in data["packages"].items():
        table.add_row(name, version)
    for blas in data["blas"]:
        table.add_row(
            "BLAS", f"{blas['library']} {blas['version']} ({blas['architecture']}), {blas['threads']} threads"
        )
    table.add_row("CPU operations", data["cpu_operations"])
    for gpu in data["gpus"]:
        memory = gpu["memory_bytes"] / 2**30
        table.add_row(gpu["device"], f"{gpu['name']}, {memory:.0f} GiB, compute capability {gpu['compute_capability']}")
    if data["gpus"]:
        table.add_row("TF32", "on" if data["tf32"] else "off (xpnet train --tf32 turns it on)")
    table.add_row("device", f"{data['device']}: {data['device_reason']}")
    table.add_row("CIFAR-10", data["cifar10"] or "not found")
    return table
