"""Parts that measure."""

from __future__ import annotations

import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from bench.gpu.context import Context, Steps, figures, timed
from bench.problem import NINE
from xpnet.analysis.step_benchmark import noise, wins_from
from xpnet.backend import give_back
from xpnet.config.definitions import NetworkConfig
from xpnet.data import TransformedRows
from xpnet.data.views import Augmentation
from xpnet.nn.network import Network
from xpnet.ops import fast_is_on, get_ops
from xpnet.training.device_data import DeviceSet, to_device

NETWORKS: dict[str, tuple[tuple[int, ...], bool, int]] = {
    "3072-50-50-10 with BN": ((50, 50), True, 100),
    "3072-50-50-10 without BN": ((50, 50), False, 100),
    "nine layers with BN": (NINE, True, 100),
    "3072-512-512-10 with BN": ((512, 512), True, 100),
}
# The first of these with Nesterov's momentum and smoothed labels.
NESTEROV = "3072-50-50-10 with BN, Nesterov and smoothed labels"
# Flips and shifts of pictures of 32 x 32, pooled to 768 features and projected on 300; batches of 500.
RECIPE = "300-1024-512-10 in views"
REPLICAS = (1, 2, 5, 10, 50, 200, 1000)
KINDS = ("auto", "small", "graph")
# Replicas of the population that is timed with an order of samples for each.
_OWN_ORDERS = 50


def epochs(context: Context) -> dict[str, Any]:
    """Time epochs of every stepper."""
    rows: dict[str, dict[str, Any]] = {}
    context.found["rows"] = rows
    for network, (hidden, batch_norm, batch) in NETWORKS.items():
        rows[network] = {}
        for kind in ("small", "graph", "fused", "plain"):
            if kind != "small" or max(hidden) <= 64:
                row = partial(_ours, context, kind, hidden, batch_norm, batch)
                _contender(context, rows, network, f"xpnet {kind}", row)
        if network.startswith("3072-512") and not context.small:
            row = partial(_ours, context, "graph", hidden, batch_norm, batch, tf32=True)
            _contender(context, rows, network, "xpnet graph, TF32", row)
        if network == next(iter(NETWORKS)):
            rows[NESTEROV] = {}
            for kind in ("small", "graph"):
                row = partial(_ours, context, kind, hidden, batch_norm, batch, rho=0.9, smoothing=0.1)
                _contender(context, rows, NESTEROV, f"xpnet {kind}", row)
    rows[RECIPE] = {}
    for name, kind, options in (
        ("xpnet graph", "graph", {}),
        ("xpnet graph, TF32", "graph", {"tf32": True}),
        ("xpnet graph, inputs stored", "graph", {"stored": True}),
        ("xpnet fused", "fused", {}),
        ("xpnet plain", "plain", {}),
    ):
        _contender(context, rows, RECIPE, name, partial(_recipe, context, kind, **options))
    return {"rows": rows, "summary": _first(rows)}


def _contender(
    context: Context, rows: dict[str, dict[str, Any]], network: str, name: str, run: Callable[[], dict[str, Any]]
) -> None:
    """Time one contender; what it raises is its row."""
    try:
        rows[network][name] = row = run()
    except Exception as error:
        rows[network][name] = {"failed": f"{type(error).__name__}: {error}"}
        context.tell(f"{network:26} {name:32} FAILED {type(error).__name__}: {str(error)[:120]}")
        return
    mark = f", made no CUDA graph {row['graph_skips']} times" if row.get("graph_skips") else ""
    context.tell(f"{network:26} {name:32} {row['median']:9.1f} us a step (min {row['min']:.1f}){mark}")


def _first(rows: dict[str, dict[str, Any]]) -> str:
    first = rows["3072-50-50-10 with BN"]
    return ", ".join(f"{name} {row['median']:.0f} us" for name, row in first.items() if "median" in row)


def _ours(
    context: Context,
    kind: str,
    hidden: tuple[int, ...],
    batch_norm: bool,
    batch: int,
    *,
    tf32: bool = False,
    **settings: float,
) -> dict[str, Any]:
    """Time a stepper; `settings` are those of the steps."""
    backend = replace(context.backend, tf32=True) if tf32 else context.backend
    network = Network(context.network(hidden, batch_norm), backend=backend)
    steps = Steps(network, context.on_device, kind, batch=batch, **settings)
    return figures(context.seconds(steps.epoch, epochs=3 if kind == "plain" else None), steps.count)


def _recipe(context: Context, kind: str, *, tf32: bool = False, stored: bool = False) -> dict[str, Any]:
    """Time steps on pictures in views, or on their inputs, computed before; with momentum and smoothed labels."""
    backend = replace(context.backend, tf32=True) if tf32 else context.backend
    side, k, hidden, batch = (4, 6, (12, 8), 50) if context.small else (32, 300, (1024, 512), 500)
    size, held = 3 * (side // 2) ** 2, context.on_device
    ones, draw = np.ones(size, np.float32), np.random.default_rng(0)
    projection = draw.standard_normal((size, k)).astype(np.float32) / np.float32(size**0.5)
    pictures = TransformedRows(held.x.x, (3, side, side), 2, 127 * ones, ones / 2, ones / 37, projection)
    x: Any = pictures.to(backend.asarray)
    if stored:
        x = get_ops(backend).gather(backend.xp.arange(context.samples), x)
    network = Network(NetworkConfig(inputs=k, hidden=hidden), backend=backend)
    views = None if stored else Augmentation("random", 2, 0, side, side)
    part = DeviceSet(x, held.labels)
    steps = Steps(network, part, kind, batch=batch, augmentation=views, rho=0.9, smoothing=0.1)
    return figures(context.seconds(steps.epoch, epochs=3 if kind == "plain" else None), steps.count)


def peers(context: Context) -> dict[str, Any]:
    """Time other libraries on the same data, each at its best: of the first network all, of the wide one the best."""
    if context.small:
        return {"skipped": "a dry run"}
    there = [name for name in ("torch", "jax") if importlib.util.find_spec(name) is not None]
    if not there:
        return {"skipped": "neither PyTorch nor JAX is installed"}
    first, wide = "3072-50-50-10 with BN", "3072-512-512-10 with BN"
    rows: dict[str, dict[str, Any]] = {first: {}, wide: {}}
    context.found["rows"] = rows
    # What is most worth knowing comes first, for each compiles for tens of seconds.
    contenders = [
        *((network, "torch", mode) for network in (first, wide) for mode in ("graph",)),
        *((network, "jax", unroll) for network in (first, wide) for unroll in (10,)),
        (first, "torch", "reduce-overhead"),
        (first, "jax", 1),
        (first, "torch", "eager"),
        (wide, "torch", "reduce-overhead"),
        (first, "torch", "default"),
    ]
    for network, library, how in contenders:
        if library in there:
            name = f"PyTorch {how}" if library == "torch" else f"JAX scan{f', unroll {how}' if how != 1 else ''}"
            _contender(context, rows, network, name, partial(_peer, context, library, how, NETWORKS[network]))
    return {"rows": rows, "summary": _first(rows)}


def _peer(context: Context, library: str, how: Any, network: tuple[tuple[int, ...], bool, int]) -> dict[str, Any]:
    hidden, batch_norm, batch = network
    if library == "torch":
        from bench.gpu import torch_cuda

        peer: Any = torch_cuda.Peer(context.noise, hidden, batch_norm, batch, how)
    else:
        from bench.gpu import jax_cuda

        peer = jax_cuda.Peer(context.noise, hidden, batch_norm, batch, how)
    row = figures(peer.seconds(context.warm, context.epochs), peer.count) | {"version": peer.version}
    skips = peer.graph_skips() if library == "torch" else 0
    return row | ({"graph_skips": skips} if skips else {})


def populations(context: Context) -> dict[str, Any]:
    """Time R networks of the first kind that train at once, with one order of samples, and with one for each."""
    rows: dict[str, dict[str, Any]] = {}
    context.found["rows"] = rows
    sizes = (1, 2) if context.small else REPLICAS
    own = 2 if context.small else _OWN_ORDERS
    for replicas in sizes:
        network = Network(context.network((50, 50)), backend=context.backend, replicas=replicas)
        few = {"epochs": 2, "warm": 1} if replicas >= 200 or context.small else {"epochs": 3}
        # An epoch of a thousand networks may take many seconds.
        most = 100 if replicas >= 200 else None
        for own_orders in (False, True) if replicas == own else (False,):
            name = f"{replicas}, own orders" if own_orders else str(replicas)
            rows[name] = {}
            for kind in KINDS:
                steps = Steps(network, context.on_device, kind, own_orders=own_orders, most=most)
                row = rows[name][kind] = figures(context.seconds(steps.epoch, **few), steps.count)
                row["stepper"] = type(steps.stepper).__name__
                each = row["median"] / replicas
                context.tell(f"R = {name:16} {kind:6} {row['median']:9.1f} us a step, {each:8.2f} us a network")
        del network, steps
        give_back(context.backend)
    last = rows[str(own)]
    return {"rows": rows, "summary": ", ".join(f"R = {own} {kind} {last[kind]['median']:.0f} us" for kind in KINDS)}


def crossover(context: Context) -> dict[str, Any]:
    """Time steps on CPU and GPU by width and by batch size."""
    widths = (10, 20) if context.small else (10, 50, 256, 1024, 4096)
    batches = (10, 20) if context.small else (10, 100, 1000, 10_000)
    data = noise(100 if context.small else 20_000, context.inputs)
    points: dict[str, list[tuple[int, float, float]]] = {"width": [], "batch_size": []}
    context.found |= {"points": points, "cpu_with_numba": fast_is_on()}
    if not fast_is_on():
        context.tell("the CPU computes without Numba, and so more slowly than it might")
    sets = [(backend, to_device(data, backend, "float32").train) for backend in (context.cpu, context.backend)]
    for axis, sizes in (("width", widths), ("batch_size", batches)):
        for size in sizes:
            hidden, batch = ((size, size), 100) if axis == "width" else ((50, 50), size)
            times = []
            for backend, part in sets:
                network = Network(context.network(hidden), backend=backend)
                steps = Steps(network, part, "auto", batch=min(batch, len(data.train)), most=50)
                # Half a second each is enough to see which is faster; the first two make kernels and graphs.
                (seconds,) = timed(steps.epoch, backend.synchronize, 1, 1)
                rounds = max(1, min(5, int(0.5 / seconds)))
                times.append(1e6 * min(timed(steps.epoch, backend.synchronize, 0, rounds)) / steps.count)
            points[axis].append((size, *times))
            context.tell(f"{axis} {size:6}: CPU {times[0]:11.1f}, GPU {times[1]:9.1f} us a step")
    found = {axis: {"points": points[axis], "gpu_wins_from": wins_from(points[axis])} for axis in points}
    wins = [
        f"the GPU wins from a {axis} of {known['gpu_wins_from']} on"
        if known["gpu_wins_from"] is not None
        else f"the GPU wins at no {axis} of these"
        for axis, known in found.items()
    ]
    for line in wins:
        context.tell(line)
    summary = "; ".join(wins) + ("" if fast_is_on() else ", of a CPU without Numba")
    return found | {"summary": summary}


_FIRST_STEP = """
import time
begin = time.perf_counter()
import xpnet
data = xpnet.load_data("patterns:1000/100")
net = xpnet.Network(xpnet.NetworkConfig(inputs=data.features), backend=xpnet.get_backend("gpu"))
xpnet.train(net, data, xpnet.TrainConfig(epochs=1, batch_size=1000))
print(time.perf_counter() - begin)
"""


def start(context: Context) -> dict[str, Any]:
    """Time processes from their start to a first step: the first compiles all kernels, for the others too."""
    if context.small:
        return {"skipped": "a dry run"}
    times: list[float] = []
    context.found["seconds"] = times
    with tempfile.TemporaryDirectory() as cache:
        for _ in range(4):
            begin = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-c", _FIRST_STEP],
                capture_output=True,
                text=True,
                check=False,
                env=os.environ | {"CUPY_CACHE_DIR": cache},
            )
            if done.returncode:
                raise RuntimeError(done.stderr[-2000:])
            times.append(time.perf_counter() - begin)
            context.tell(f"{times[-1]:.2f} s")
    first, warm = times[0], statistics.median(times[1:])
    line = f"first process {first:.2f} s, then {warm:.2f} s to the end of one step and its evaluation"
    context.tell(line)
    return {"seconds": times, "summary": line}


def memory(context: Context) -> dict[str, Any]:
    """Measure what training takes on the device, beside its data set."""
    pool = context.backend.xp.get_default_memory_pool()
    part = context.on_device
    images = part.x.shape[0] * part.x.shape[1] / 2**20
    rows: dict[str, float] = {}
    for replicas in (1, 2) if context.small else (1, 50):
        give_back(context.backend)
        before = pool.used_bytes()
        network = Network(context.network((50, 50)), backend=context.backend, replicas=replicas)
        steps = Steps(network, part, "graph")
        steps.epoch()
        context.backend.synchronize()
        rows[str(replicas)] = used = (pool.used_bytes() - before) / 2**20
        context.tell(f"R = {replicas}: {used:.0f} MiB beside the {images:.0f} of the images")
        del steps, network
    return {"rows": rows, "summary": context.lines[0].strip()}
