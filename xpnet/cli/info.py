"""``xpnet info``."""

from __future__ import annotations

import platform
from typing import Any

from xpnet.cli.console import STANDARD, Output
from xpnet.cli.tables import facts, table
from xpnet.runs.environment import PACKAGES, blas, gpus, system, versions
from xpnet.utils.extras import EXTRAS, install_command
from xpnet.version import __version__


def info(output: Output = STANDARD) -> None:
    """Show versions, BLAS and its threads, GPUs, where CIFAR-10 was found, and the extras: optional packages."""
    from xpnet.backend import get_backend
    from xpnet.data import find_cifar10
    from xpnet.ops import fast_is_on, rounds_products

    backend = get_backend("auto")
    cifar10 = find_cifar10()
    data: dict[str, Any] = {
        "xpnet": __version__,
        "python": platform.python_version(),
        "system": system(),
        "packages": versions(PACKAGES),
        "blas": blas(),
        "cpu_operations": "compiled by Numba" if fast_is_on() else "NumPy (the extra fast adds compiled ones)",
        "bf16": rounds_products(get_backend("cpu"), "float32"),
        "device": backend.device,
        "device_reason": backend.reason,
        "gpus": gpus(backend),
        "tf32": backend.tf32,
        "cifar10": None if cifar10 is None else str(cifar10),
        "extras": _extras(),
    }
    output.result(data, facts(_facts(data)), _extras_table(data["extras"]), _advice(data["extras"]))


def _extras() -> dict[str, Any]:
    """Return each extra: whether it is installed, what it brings, and the versions of its packages."""
    return {
        name: {"installed": not extra.missing(), "brings": extra.brings, "packages": extra.versions()}
        for name, extra in EXTRAS.items()
    }


def _extras_table(extras: dict[str, Any]) -> Any:
    rows = [
        [name, "yes" if extra["installed"] else "no", extra["brings"], _versions(extra["packages"])]
        for name, extra in extras.items()
    ]
    heads = ["extra", "installed", "brings", "packages"]
    return table(heads, rows, left=heads, gap=2)


def _versions(packages: dict[str, str | None]) -> str:
    return ", ".join(name if version is None else f"{name} {version}" for name, version in packages.items())


def _advice(extras: dict[str, Any]) -> str:
    """Return how to install what is missing; one of the extras for CUDA is enough."""
    missing = [name for name, extra in extras.items() if not extra["installed"] and not name.startswith("cuda")]
    return f"{install_command(','.join(missing))} adds what is missing" if missing else ""


def _facts(data: dict[str, Any]) -> list[tuple[str, str]]:
    pairs = [("xpnet", data["xpnet"]), ("Python", f"{data['python']}, {data['system']}"), *data["packages"].items()]
    for library in data["blas"]:
        version = f"{library['library']} {library['version']} ({library['architecture']})"
        pairs.append(("BLAS", f"{version}, {library['threads']} threads"))
    pairs.append(("CPU operations", data["cpu_operations"]))
    if data["bf16"]:
        pairs.append(("bfloat16", "xpnet train --bf16 multiplies faster on this CPU"))
    for gpu in data["gpus"]:
        memory, capability = gpu["memory_bytes"] / 2**30, gpu["compute_capability"]
        pairs.append((gpu["device"], f"{gpu['name']}, {memory:.0f} GiB, compute capability {capability}"))
    if data["gpus"]:
        pairs.append(("TF32", "on" if data["tf32"] else "off (xpnet train --tf32 turns it on)"))
    pairs.append(("device", f"{data['device']}: {data['device_reason']}"))
    return [*pairs, ("CIFAR-10", data["cifar10"] or "not found")]
