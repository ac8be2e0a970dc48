"""The part on the stepper `persistent`.

It has a process of its own, so that an error of its kernel, whose blocks wait for each other, costs no other part.
"""

from __future__ import annotations

from typing import Any

from bench.gpu.context import Context, Steps, figures
from bench.gpu.correct import check_losses, compare_losses
from xpnet.analysis.step_benchmark import noise
from xpnet.errors import ConfigError
from xpnet.nn.network import Network
from xpnet.training.device_data import to_device

# Inputs and samples of a batch.  With few samples a step is what blocks wait for each other; with few inputs as well,
# there is one cluster, whose blocks wait for no other.
SHAPES = {"all blocks": (None, 100), "all blocks, few samples": (None, 8), "one cluster, few samples": (32, 8)}


def persistent(context: Context) -> dict[str, Any]:
    """Compare losses with those of the CPU, then time epochs, and steps that are nearly all waiting."""
    worst: dict[str, float] = {}
    rows: dict[str, dict[str, Any]] = {}
    context.found |= {"worst": worst, "rows": rows}
    data = noise(context.samples if context.small else 2000, context.inputs, others=50)
    try:
        for dtype in ("float64", "float32"):
            compare_losses(context, data, ("persistent",), dtype, 1, worst)
    except ConfigError as error:  # a GPU without clusters, or without room for them
        return {"skipped": str(error)}
    words = check_losses(worst)
    for name, (inputs, batch) in SHAPES.items():
        inputs = inputs or context.inputs
        part = context.on_device
        if inputs != context.inputs:
            part = to_device(noise(context.samples, inputs, others=50), context.backend, "float32").train
        network = Network(context.network((50, 50), inputs=inputs), backend=context.backend)
        rows[name] = {}
        for kind in ("persistent", "small"):
            steps = Steps(network, part, kind, batch=batch, most=2 if context.small else 450)
            row = rows[name][kind] = figures(context.seconds(steps.epoch), steps.count)
            if kind == "persistent":
                plan: Any = steps.stepper.plan  # type: ignore[attr-defined]
                row |= {"clusters": plan.clusters, "rows": plan.rows}
                context.tell(f"{name}: {plan.clusters} clusters, {plan.rows} rows of W1 a block")
            context.tell(f"{name:26} {kind:10} {row['median']:9.1f} us a step (min {row['min']:.1f})")
    most = ", ".join(f"{kind} {row['median']:.1f}" for kind, row in rows["all blocks"].items())
    return {"worst": worst, "rows": rows, "summary": f"{words}; us a step: {most}"}
