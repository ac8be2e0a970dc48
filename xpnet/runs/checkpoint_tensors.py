"""Whether the tensors of a checkpoint are those of one training: names, types and shapes that belong together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.errors import RunError, one_line
from xpnet.training.history import OF_NETWORKS

Tensors = Mapping[str, NDArray[Any]]
_GROUPS = ("parameters.", "running.", "velocities.")
_STANDARDISER = ("standardise.mean", "standardise.std")
_COLUMNS = tuple(f"history.{name}" for name in OF_NETWORKS)


def check_training(tensors: Tensors, epochs: int, called: str) -> None:
    """Hold the tensors of a checkpoint against each other.

    Args:
        tensors: By name, as :mod:`xpnet.runs.checkpoints` writes them.
        epochs: Finished epochs, by the description.
        called: What messages call the file.

    Raises:
        RunError: One is missing, is one too many, or is not of the others' sizes.
    """

    def wrong(why: str) -> RunError:
        return RunError(f"{called}: does not hold a training ({why}); take another copy of it")

    parameters = {name: t for name, t in tensors.items() if name.startswith("parameters.")}
    if not parameters:
        raise wrong("it has no parameters")
    first = parameters[min(parameters)]
    replicas = len(first) if first.ndim else 0
    for name, tensor in tensors.items():
        if name.startswith(_GROUPS):
            if tensor.ndim < 2 or len(tensor) != replicas or tensor.dtype != first.dtype or tensor.dtype.kind != "f":
                raise wrong(f"{one_line(name, 60)} is {tensor.dtype} {tensor.shape}, for {replicas} networks")
            if name.startswith("velocities."):
                of = tensors.get(name.replace("velocities.", "parameters.", 1))
                if of is None or of.shape != tensor.shape:
                    raise wrong(f"{one_line(name, 60)} is of no parameter")
    steps = len(tensors["totals.loss"]) if "totals.loss" in tensors else 0
    gone, dropped, alive = (
        tensors[name].size if name in tensors else 0 for name in ("diverged.replica", "dropped.replica", "alive")
    )
    expected: dict[str, tuple[tuple[int, ...], str]] = {
        "alive": ((alive,), "i"),
        "diverged.replica": ((gone,), "i"),
        "diverged.step": ((gone,), "i"),
        "diverged.eta": ((gone,), "f"),
        "diverged.loss": ((gone,), "f"),
        "dropped.replica": ((dropped,), "i"),
        "dropped.step": ((dropped,), "i"),
        "totals.loss": ((steps, replicas), "f"),
        "totals.correct": ((steps, replicas), "i"),
        "totals.penalty": ((steps, replicas), "f"),
        "history.step": ((epochs,), "i"),
        "history.seconds": ((epochs, 2), "f"),
        **dict.fromkeys(_COLUMNS, ((epochs, replicas), "f")),
    }
    for name, (shape, kind) in expected.items():
        found = tensors.get(name)
        if found is None:
            raise wrong(f"it has no {name}")
        if found.shape != shape or found.dtype.kind != kind or found.dtype.itemsize != 8:
            raise wrong(f"{name} is {found.dtype} {found.shape}, not {shape}")
    if others := [
        name for name in tensors if not (name in expected or name in _STANDARDISER or name.startswith(_GROUPS))
    ]:
        raise wrong(f"it has the tensor {one_line(min(others), 60)}")
    for name, low in (("history.step", 1), ("history.seconds", 0), ("history.eta", 0)):
        if not (np.isfinite(tensors[name]) & (tensors[name] >= low)).all():
            raise wrong(f"{name} has a number that is not finite, or below {low}")
    for name in ("alive", "diverged.replica", "dropped.replica"):
        numbers = tensors[name]
        if len(np.unique(numbers)) != len(numbers) or ((numbers < 0) | (numbers >= replicas)).any():
            raise wrong(f"{name} are not numbers of its {replicas} networks, each once")
