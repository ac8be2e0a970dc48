"""The part on the steppers `multi` and `multi-bf16`.

It has a process of its own, so that an error of their kernels costs no other part.
"""

from __future__ import annotations

from typing import Any

from bench.gpu.context import Context, Steps, figures
from bench.gpu.correct import check_losses, compare_losses
from xpnet.analysis.step_benchmark import noise
from xpnet.backend import give_back
from xpnet.nn.network import Network

# Beside sizes of the part `populations`, one and two networks for each of an H200's multiprocessors.
REPLICAS = (1, 10, 50, 132, 200, 264, 1000)
KINDS = ("multi", "multi-bf16")


def multi(context: Context) -> dict[str, Any]:
    """Compare losses with those of the CPU, then time epochs of R networks with one order of samples."""
    worst: dict[str, float] = {}
    rows: dict[str, dict[str, Any]] = {}
    context.found |= {"worst": worst, "rows": rows}
    data = noise(context.samples if context.small else 2000, context.inputs, others=50)
    compare_losses(context, data, KINDS[:1], "float64", 3, worst)
    compare_losses(context, data, KINDS, "float32", 3, worst)
    words = check_losses(worst)
    for replicas in (1, 3) if context.small else REPLICAS:
        network = Network(context.network((50, 50)), backend=context.backend, replicas=replicas)
        rows[str(replicas)] = {}
        for kind in KINDS:
            steps = Steps(network, context.on_device, kind, most=100 if replicas >= 200 else None)
            row = figures(context.seconds(steps.epoch, epochs=1 if context.small else 3, warm=1), steps.count)
            # Networks x epochs: what a search of many networks waits for.
            epoch = 1e-6 * row["median"] * (context.samples // 100)
            rate = row["epochs_a_second"] = replicas / epoch
            rows[str(replicas)][kind] = row
            context.tell(f"R = {replicas:5} {kind:10} {row['median']:9.1f} us a step, {rate:9.1f} epochs a second")
        del network, steps
        give_back(context.backend)
    best = {kind: max(row[kind]["epochs_a_second"] for row in rows.values()) for kind in KINDS}
    most = ", ".join(f"{kind} {rate:,.0f}" for kind, rate in best.items())
    return {"worst": worst, "rows": rows, "summary": f"{words}; networks x epochs a second at most: {most}"}
