"""The part on the stepper `multi`: it has a process of its own, so that an error of its kernel costs no other part."""

from __future__ import annotations

from typing import Any

from bench.gpu.context import Context, Steps, figures
from bench.gpu.correct import check_losses, compare_losses
from xpnet.analysis.step_benchmark import noise
from xpnet.backend import give_back
from xpnet.nn.network import Network

# Beside sizes of the part `populations`, one and two networks for each of an H200's multiprocessors.
REPLICAS = (1, 10, 50, 132, 200, 264, 1000)


def multi(context: Context) -> dict[str, Any]:
    """Compare losses with those of the CPU, then time epochs of R networks with one order of samples."""
    worst: dict[str, float] = {}
    rows: dict[str, dict[str, Any]] = {}
    context.found |= {"worst": worst, "rows": rows}
    data = noise(context.samples if context.small else 2000, context.inputs, others=50)
    for dtype in ("float64", "float32"):
        compare_losses(context, data, ("multi",), dtype, 3, worst)
    words = check_losses(worst)
    for replicas in (1, 3) if context.small else REPLICAS:
        network = Network(context.network((50, 50)), backend=context.backend, replicas=replicas)
        steps = Steps(network, context.on_device, "multi")
        row = figures(context.seconds(steps.epoch, epochs=1 if context.small else 3, warm=1), steps.count)
        # Networks x epochs: what a search of many networks waits for.
        row["epochs_a_second"] = replicas / (1e-6 * row["median"] * steps.count)
        rows[str(replicas)] = {"multi": row}
        context.tell(f"R = {replicas:5} {row['median']:9.1f} us a step, {row['epochs_a_second']:9.1f} epochs a second")
        del network, steps
        give_back(context.backend)
    best = max(row["multi"]["epochs_a_second"] for row in rows.values())
    return {"worst": worst, "rows": rows, "summary": f"{words}; {best:,.0f} networks x epochs a second at most"}
