"""The tensors of a checkpoint: made from a training state, checked against each other, and read back as a state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.errors import RunError, one_line
from xpnet.nn.model_description import TRANSFORM
from xpnet.training.history import OF_NETWORKS
from xpnet.training.result import Divergence
from xpnet.training.state import Tensors, TrainState

_GROUPS = ("parameters.", "running.", "velocities.", "second_moments.")
_MOMENTS = ("velocities", "second_moments")
# Parameters and running statistics of each network's best epoch, where networks end with them.
_BEST = "best."
_BEST_EPOCH = f"{_BEST}epoch"
_METRICS = ("totals.loss", "totals.correct", "totals.penalty")
# Tensors whose lengths are sizes of other tensors: networks that are alive, have diverged or were dropped, and steps of
# the unfinished epoch.
_SIZES = {
    "alive": "alive",
    "diverged": "diverged.replica",
    "dropped": "dropped.replica",
    "stopped": "stopped.replica",
    "k": "totals.loss",
}
# Dimensions and kind of numbers (of 8 bytes each) of the tensors outside _GROUPS, for R networks and E finished epochs.
_LAYOUT = {
    "alive": ("alive", "i"),
    "diverged.replica": ("diverged", "i"),
    "diverged.step": ("diverged", "i"),
    "diverged.eta": ("diverged", "f"),
    "diverged.loss": ("diverged", "f"),
    "dropped.replica": ("dropped", "i"),
    "dropped.step": ("dropped", "i"),
    "totals.loss": ("k R", "f"),
    "totals.correct": ("k R", "i"),
    "totals.penalty": ("k R", "f"),
    "history.step": ("E", "i"),
    "history.seconds": ("E 2", "f"),
    **{f"history.{name}": ("E R", "f") for name in OF_NETWORKS},
}
# The same of tensors that a checkpoint has only if there is something to say.
_OPTIONAL = {"stopped.replica": ("stopped", "i"), "stopped.epoch": ("stopped", "i"), _BEST_EPOCH: ("R", "i")}


def tensors_of(state: TrainState) -> dict[str, NDArray[Any]]:
    """Return the tensors of a training state, bit for bit, by their names in a checkpoint."""
    tensors: dict[str, Any] = {
        f"{group}{name}": tensor for group in _GROUPS for name, tensor in getattr(state, group[:-1]).items()
    }
    tensors |= {"alive": state.alive, "diverged.replica": list(state.diverged)}
    for name in ("step", "eta", "loss"):
        tensors[f"diverged.{name}"] = [getattr(divergence, name) for divergence in state.diverged.values()]
    tensors |= {"dropped.replica": list(state.dropped), "dropped.step": list(state.dropped.values())}
    if state.stopped:
        tensors |= {"stopped.replica": list(state.stopped), "stopped.epoch": list(state.stopped.values())}
    tensors |= {f"{_BEST}{name}": tensor for name, tensor in state.best.items()}
    tensors |= dict(zip(_METRICS, state.step_metrics, strict=True))
    tensors |= {f"history.{name}": column for name, column in state.history.items()}
    types, layout = {"i": np.int64, "f": np.float64}, _LAYOUT | _OPTIONAL
    return {
        name: np.ascontiguousarray(tensor, types[layout[name][1]] if name in layout else None)
        for name, tensor in tensors.items()
    }


def state_of(tensors: Tensors, about: Mapping[str, Any]) -> TrainState:
    """Return the training state in the tensors and the description of a checkpoint."""

    def group(prefix: str) -> dict[str, Any]:
        return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}

    diverged = zip(*(tensors[f"diverged.{name}"].tolist() for name in ("replica", "step", "eta", "loss")), strict=True)
    dropped = zip(*(tensors[f"dropped.{name}"].tolist() for name in ("replica", "step")), strict=True)
    stopped = [tensors[name].tolist() for name in ("stopped.replica", "stopped.epoch") if name in tensors]
    evaluation, of_epoch = about["seconds"]
    return TrainState(
        step=int(about["step"]),
        parameters=group("parameters."),
        running=group("running."),
        velocities=group("velocities."),
        second_moments=group("second_moments."),
        alive=tuple(tensors["alive"].tolist()),
        diverged={replica: Divergence(*numbers) for replica, *numbers in diverged},
        dropped=dict(dropped),
        step_metrics=tuple(tensors[name] for name in _METRICS),
        history=group("history."),
        seconds_evaluation=float(evaluation),
        seconds_of_epoch=float(of_epoch),
        validated=about.get("validated", True),
        transform={name: tensor for name, tensor in tensors.items() if name.startswith(TRANSFORM)},
        stopped=dict(zip(*stopped, strict=True)),
        best=group(_BEST),
    )


def check_training(tensors: Tensors, epochs: int, called: str) -> None:
    """Check the tensors of a checkpoint against each other.

    Args:
        tensors: By name, as :mod:`xpnet.runs.checkpoints` writes them.
        epochs: Number of finished epochs in the description.
        called: The name of the file in messages.

    Raises:
        RunError: A tensor is missing, unknown, differs in size from the others, or has impossible values.
    """
    try:
        _check_layout(tensors, _check_networks(tensors), epochs)
    except ValueError as error:
        raise RunError(f"{called}: does not hold a training ({error}); take another copy of it") from None


def _check_networks(tensors: Tensors) -> int:
    """Check parameters, running statistics and moments; return the number of networks."""
    parameters = [name for name in tensors if name.startswith("parameters.")]
    if not parameters:
        raise ValueError("it has no parameters")
    first = tensors[min(parameters)]
    replicas = len(first) if first.ndim else 0
    for name, tensor in tensors.items():
        if not name.startswith((*_GROUPS, _BEST)) or name == _BEST_EPOCH:
            continue
        if tensor.ndim < 2 or len(tensor) != replicas or tensor.dtype != first.dtype or tensor.dtype.kind != "f":
            raise ValueError(f"{one_line(name, 60)} is {tensor.dtype} {tensor.shape}, for {replicas} networks")
        group, _, of = name.partition(".")
        last = (f"parameters.{of}" if group in _MOMENTS else name).removeprefix(_BEST)
        if last not in tensors or not last.startswith(_GROUPS) or tensors[last].shape != tensor.shape:
            raise ValueError(f"{one_line(name, 60)} is of no parameter")
    best = {name.removeprefix(_BEST) for name in tensors if name.startswith(_BEST) and name != _BEST_EPOCH}
    if best and best != {name for name in tensors if name.startswith(_GROUPS[:2])}:
        raise ValueError("it has best weights of some parameters alone")
    if bool(best) != (_BEST_EPOCH in tensors):
        raise ValueError("it has best weights and no best epoch, or a best epoch and no weights")
    return replicas


def _check_layout(tensors: Tensors, replicas: int, epochs: int) -> None:
    """Check all other tensors, and that no further tensors exist."""
    sizes = {"R": replicas, "E": epochs, "2": 2}
    for size, name in _SIZES.items():
        sizes[size] = len(tensors[name]) if name in tensors and tensors[name].ndim else 0
    optional = {name: layout for name, layout in _OPTIONAL.items() if name in tensors}
    if len(optional.keys() & {"stopped.replica", "stopped.epoch"}) == 1:
        raise ValueError("it has one of stopped.replica and stopped.epoch alone")
    for name, (dimensions, kind) in (_LAYOUT | optional).items():
        tensor, shape = tensors.get(name), tuple(sizes[size] for size in dimensions.split())
        if tensor is None:
            raise ValueError(f"it has no {name}")
        if tensor.shape != shape or tensor.dtype.kind != kind or tensor.dtype.itemsize != 8:
            raise ValueError(f"{name} is {tensor.dtype} {tensor.shape}, not {shape}")
    groups = (*_GROUPS, _BEST, *TRANSFORM)
    if others := [name for name in tensors if name not in (_LAYOUT | optional) and not name.startswith(groups)]:
        raise ValueError(f"it has the tensor {one_line(min(others), 60)}")
    for name, low in (("history.step", 1), ("history.seconds", 0), ("history.eta", 0)):
        if not (np.isfinite(tensors[name]) & (tensors[name] >= low)).all():
            raise ValueError(f"{name} has a number that is not finite, or below {low}")
    for name in ("stopped.epoch", _BEST_EPOCH):
        if name in optional and ((tensors[name] < 0) | (tensors[name] > epochs)).any():
            raise ValueError(f"{name} has a number that is no epoch of its {epochs}")
    for name in ("alive", "diverged.replica", "dropped.replica", "stopped.replica"):
        numbers = tensors.get(name, np.empty(0, np.int64))
        if len(np.unique(numbers)) != len(numbers) or ((numbers < 0) | (numbers >= replicas)).any():
            raise ValueError(f"{name} are not numbers of its {replicas} networks, each once")
