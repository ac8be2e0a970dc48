"""The tensors of a checkpoint: made of a training state, checked against each other, and turned into a state again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.errors import RunError, one_line
from xpnet.training.history import OF_NETWORKS
from xpnet.training.result import Divergence
from xpnet.training.state import Tensors, TrainState

_GROUPS = ("parameters.", "running.", "velocities.")
_STANDARDISER = ("standardise.mean", "standardise.std")
_COLUMNS = tuple(f"history.{name}" for name in OF_NETWORKS)


def tensors_of(state: TrainState) -> dict[str, NDArray[Any]]:
    """Return everything in a training state that is a number, to the last bit, by the names in a checkpoint."""
    tensors: dict[str, Any] = {}
    for group in ("parameters", "running", "velocities"):
        tensors |= {f"{group}.{name}": tensor for name, tensor in getattr(state, group).items()}
    tensors["alive"] = np.array(state.alive, np.int64)
    diverged = list(state.diverged.items())
    tensors["diverged.replica"] = np.array([replica for replica, _ in diverged], np.int64)
    tensors["diverged.step"] = np.array([where.step for _, where in diverged], np.int64)
    for name in ("eta", "loss"):
        tensors[f"diverged.{name}"] = np.array([getattr(where, name) for _, where in diverged], np.float64)
    tensors["dropped.replica"] = np.array(list(state.dropped), np.int64)
    tensors["dropped.step"] = np.array(list(state.dropped.values()), np.int64)
    for name, values in zip(("loss", "correct", "penalty"), state.step_metrics, strict=True):
        tensors[f"totals.{name}"] = values
    tensors |= {f"history.{name}": column for name, column in state.history.items()}
    return {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}


def state_of(tensors: Tensors, about: Mapping[str, Any]) -> TrainState:
    """Return the training state that tensors of a checkpoint and its description hold."""

    def group(name: str) -> dict[str, Any]:
        return {key.removeprefix(f"{name}."): t for key, t in tensors.items() if key.startswith(f"{name}.")}

    places = zip(*(tensors[f"diverged.{name}"] for name in ("replica", "step", "eta", "loss")), strict=True)
    dropped = zip(tensors["dropped.replica"], tensors["dropped.step"], strict=True)
    evaluation, of_epoch = about["seconds"]
    return TrainState(
        step=int(about["step"]),
        parameters=group("parameters"),
        running=group("running"),
        velocities=group("velocities"),
        alive=tuple(map(int, tensors["alive"])),
        diverged={int(replica): Divergence(int(step), float(eta), float(loss)) for replica, step, eta, loss in places},
        dropped={int(replica): int(step) for replica, step in dropped},
        step_metrics=tuple(tensors[f"totals.{name}"] for name in ("loss", "correct", "penalty")),
        history=group("history"),
        seconds_evaluation=float(evaluation),
        seconds_of_epoch=float(of_epoch),
        validated=about.get("validated", True),
    )


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
