"""Parts that measure."""

from __future__ import annotations

import importlib.util
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from bench.gpu.context import NINE, Context, Steps, figures
from xpnet.benchmark import noise, wins_from
from xpnet.memory import give_back

NETWORKS: dict[str, tuple[tuple[int, ...], bool, int]] = {
    "3072-50-50-10 with BN": ((50, 50), True, 100),
    "3072-50-50-10 without BN": ((50, 50), False, 100),
    "nine layers with BN": (NINE, True, 100),
    "3072-512-512-10 with BN": ((512, 512), True, 100),
}
REPLICAS = (1, 2, 5, 10, 50, 200)


def epochs(context: Context) -> dict[str, Any]:
    """Time epochs of every stepper and of the peers, on the same data."""
    rows: dict[str, dict[str, Any]] = {}
    lines = []
    for network, (hidden, batch_norm, batch) in NETWORKS.items():
        rows[network] = {}
        of = (hidden, batch_norm, batch)
        contenders = [
            (f"xpnet {kind}", partial(_ours, context, kind, *of)) for kind in ("small", "graph", "fused", "plain")
        ]
        contenders = [one for one in contenders if max(hidden) <= 64 or one[0] != "xpnet small"]
        if network.startswith("3072-512") and not context.small:
            contenders.append(("xpnet graph, TF32", partial(_ours, context, "graph", *of, tf32=True)))
        # Each peer compiles for tens of seconds: the first network has them all, the wide one the best of them.
        if not context.small and network in ("3072-50-50-10 with BN", "3072-512-512-10 with BN"):
            contenders += _peers(context, hidden, batch_norm, batch, every=len(hidden) == 2 and hidden[0] == 50)
        for name, run in contenders:
            try:
                rows[network][name] = row = run()
            except Exception as error:
                rows[network][name] = {"failed": f"{type(error).__name__}: {error}"}
                lines.append(f"   {network:26} {name:32} FAILED {type(error).__name__}: {str(error)[:120]}")
                continue
            lines.append(f"   {network:26} {name:32} {row['median']:9.1f} us a step (min {row['min']:.1f})")
    first = rows["3072-50-50-10 with BN"]
    summary = ", ".join(f"{name} {row['median']:.0f} us" for name, row in first.items() if "median" in row)
    return {"rows": rows, "lines": lines, "summary": summary}


def _ours(
    context: Context, kind: str, hidden: tuple[int, ...], batch_norm: bool, batch: int, *, tf32: bool = False
) -> dict[str, Any]:
    from dataclasses import replace

    backend = replace(context.backend, tf32=True) if tf32 else context.backend
    steps = Steps(backend, context.network(hidden, batch_norm), context.noise(), kind, batch=batch)
    return figures(context.seconds(steps.epoch, epochs=3 if kind == "plain" else None), steps.count)


def _peers(
    context: Context, hidden: tuple[int, ...], batch_norm: bool, batch: int, *, every: bool
) -> list[tuple[str, Callable[[], Any]]]:
    found: list[tuple[str, Callable[[], Any]]] = []
    if importlib.util.find_spec("torch") is not None:
        from bench.gpu import torch_cuda

        modes = ("eager", "default", "reduce-overhead", "graph") if every else ("reduce-overhead",)
        for mode in modes:

            def run(mode: str = mode) -> dict[str, Any]:
                peer = torch_cuda.Peer(context.noise(), hidden, batch_norm, batch, mode)
                row = figures(peer.seconds(context.warm, context.epochs), peer.count) | {"version": peer.version}
                if skips := peer.graph_skips():
                    raise RuntimeError(f"made no CUDA graph, {skips} times")
                return row

            found.append((f"PyTorch {mode}", run))
    if importlib.util.find_spec("jax") is not None:

        def scan() -> dict[str, Any]:
            from bench.gpu import jax_cuda

            peer = jax_cuda.Peer(context.noise(), hidden, batch_norm, batch)
            return figures(peer.seconds(context.warm, context.epochs), peer.count) | {"version": peer.version}

        found.append(("JAX scan", scan))
    return found


def populations(context: Context) -> dict[str, Any]:
    """Time R networks of the first kind that train at once with one order of samples."""
    rows, lines = {}, []
    for replicas in (1, 2) if context.small else REPLICAS:
        steps = Steps(context.backend, context.network((50, 50)), context.noise(), "graph", replicas=replicas)
        row = rows[replicas] = figures(context.seconds(steps.epoch, epochs=3), steps.count)
        each = row["median"] / replicas
        lines.append(f"   R = {replicas:4} {row['median']:9.1f} us a step, {each:8.2f} us a network")
    return {"rows": rows, "lines": lines, "summary": lines[-1].strip()}


def crossover(context: Context) -> dict[str, Any]:
    """Time steps on CPU and GPU by width and by batch size."""
    widths = (10, 20) if context.small else (10, 50, 256, 1024, 4096)
    batches = (10, 20) if context.small else (10, 100, 1000, 10_000)
    data = noise(100 if context.small else 20_000, context.inputs)
    points: dict[str, list[tuple[int, float, float]]] = {"width": [], "batch_size": []}
    for axis, sizes in (("width", widths), ("batch_size", batches)):
        for size in sizes:
            hidden, batch = ((size, size), 100) if axis == "width" else ((50, 50), size)
            times = []
            for backend in (context.cpu, context.backend):
                steps = Steps(backend, context.network(hidden), data, "auto", batch=min(batch, len(data.train)))
                # Half a second each is enough to see which is faster.
                begin = time.perf_counter()
                steps.epoch()
                backend.synchronize()
                rounds = max(1, min(5, int(0.5 / (time.perf_counter() - begin))))
                times.append(min(_timed(backend, steps, rounds)))
            points[axis].append((size, *times))
    lines, found = [], {}
    for axis, measured in points.items():
        found[axis] = {"points": measured, "gpu_wins_from": wins_from(measured)}
        lines += [f"   {axis} {size:6}: CPU {c:11.1f}, GPU {g:9.1f} us a step" for size, c, g in measured]
        lines.append(f"   the GPU wins from a {axis} of {found[axis]['gpu_wins_from']} on")
    return found | {"lines": lines, "summary": "; ".join(line.strip() for line in lines if "wins" in line)}


def _timed(backend: Any, steps: Steps, rounds: int) -> list[float]:
    times = []
    for _ in range(rounds):
        backend.synchronize()
        begin = time.perf_counter()
        steps.epoch()
        backend.synchronize()
        times.append(1e6 * (time.perf_counter() - begin) / steps.count)
    return times


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
    """Time a process from its start to a first step, its kernels compiled by the one before."""
    if context.small:
        return {"skipped": "a dry run"}
    times = []
    for _ in range(4):
        begin = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", _FIRST_STEP], capture_output=True, text=True, check=False, env=os.environ
        )
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        times.append(time.perf_counter() - begin)
    first, warm = times[0], statistics.median(times[1:])
    line = f"first process {first:.2f} s, then {warm:.2f} s to the end of one step and its evaluation"
    return {"seconds": times, "lines": [f"   {line}"], "summary": line}


def memory(context: Context) -> dict[str, Any]:
    """Measure what training takes on the device, above its data set."""
    pool = getattr(context.backend.xp, "get_default_memory_pool", None)
    if context.small or pool is None:
        return {"skipped": "a dry run"}
    rows, lines = {}, []
    for replicas in (1, 50):
        give_back(context.backend)
        before = pool().used_bytes()
        steps = Steps(context.backend, context.network((50, 50)), context.noise(), "graph", replicas=replicas)
        steps.epoch()
        context.backend.synchronize()
        rows[replicas] = used = (pool().used_bytes() - before) / 2**20
        lines.append(f"   R = {replicas}: {used:.0f} MiB, of which {self_data(context):.0f} the images")
        del steps
    return {"rows": rows, "lines": lines, "summary": lines[0].strip()}


def self_data(context: Context) -> float:
    """Return the MiB of the training set and the two others, as bytes."""
    samples = context.samples + 2 * (context.samples // 9)
    return samples * context.inputs / 2**20
