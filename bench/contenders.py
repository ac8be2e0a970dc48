"""The contenders: where each is implemented, the packages that it needs, and the environment of its process."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any, NamedTuple, Protocol

import numpy as np

from bench.problem import Problem


class Contender(Protocol):
    """A way to train one problem; it is made from the problem."""

    def epoch(self, perm: np.ndarray, eta: np.ndarray) -> Any:
        """Take the steps of `perm` (k, n) with the rates `eta` (k,); return the mean loss, or None if that costs."""

    def weights(self) -> list[np.ndarray]:
        """Return the weight matrices, (d, m) or (R, d, m)."""


class Entry(NamedTuple):
    """How a contender is started.

    Attributes:
        target: ``"module:Class"``.
        needs: Packages that must be installed.
        fast: Whether xpnet may use its compiled operations; None if it does not matter.
        batch_norm: Whether it can normalise batches.
        best: Measures that make it fast, or its limitations.
        single: It trains one network: of a population, the time of one is multiplied.
    """

    target: str
    needs: tuple[str, ...] = ()
    fast: bool | None = None
    batch_norm: bool = True
    best: str = ""
    single: bool = False


OURS = {
    "xpnet numpy": Entry("bench.ours:Stepper", fast=False, best="the stepper of training, in calls of 50 steps"),
    "xpnet fast": Entry("bench.ours:Stepper", ("numba",), fast=True, best="the same, with the extra `fast`"),
    "floor": Entry("bench.ours:Floor", fast=False, best="gather and matrix products alone, NumPy"),
}
_TRAIN = "all of `xpnet.train`, with its evaluation, which is timed separately"
TRAIN = {
    "xpnet train": Entry("bench.ours:Train", fast=True, best=f"{_TRAIN}; with the extra `fast` if it is installed"),
    "xpnet train numpy": Entry("bench.ours:Train", fast=False, best=_TRAIN),
}
PEERS = {
    "torch.compile": Entry(
        "bench.peers.torch_single:Compiled", ("torch",), best="the whole step compiled; data as float32 tensors"
    ),
    "PyTorch eager": Entry(
        "bench.peers.torch_single:Eager", ("torch",), best="index_select, fused SGD, decay on the weights alone"
    ),
    "JAX": Entry("bench.peers.jax_single:Scan", ("jax",), best="an epoch as one lax.scan, buffers donated"),
    "scikit-learn": Entry(
        "bench.peers.sklearn_mlp:Classifier",
        ("sklearn",),
        batch_norm=False,
        best="MLPClassifier.partial_fit of all samples, checks off",
    ),
    "thinc": Entry("bench.peers.thinc_chain:Chain", ("thinc",), batch_norm=False, best="NumpyOps, decay on W alone"),
    "naive NumPy": Entry("bench.peers.naive:Loop", best="float64, as written for a course"),
}
POPULATION_PEERS = {
    "torch stacked, compiled": Entry(
        "bench.peers.torch_stacked:Compiled", ("torch",), best="one wide product for the first layer, then bmm"
    ),
    "torch stacked": Entry("bench.peers.torch_stacked:Eager", ("torch",), best="the same, eager"),
    "torch.compile R times": PEERS["torch.compile"]._replace(single=True, best="one network timed, times R"),
    "PyTorch eager R times": PEERS["PyTorch eager"]._replace(single=True, best="one network timed, times R"),
    "JAX vmap": Entry("bench.peers.jax_vmap:Vmap", ("jax",), best="vmap over networks, jit, buffers donated"),
}
# Steps on pictures that are augmented, pooled and projected: those of recipes.
PICTURES = {
    "xpnet": Entry("bench.learn.ours:Stepper", ("numba",), fast=True, best="the stepper of training, with `fast`"),
    "xpnet float32": Entry("bench.learn.ours:Float32", ("numba",), fast=True, best="the same without bfloat16"),
    "xpnet without Numba": Entry("bench.learn.ours:Stepper", fast=False, best="the same, NumPy alone"),
    "products": Entry("bench.learn.ours:Products", fast=False, best="matrix products alone, NumPy"),
    "PyTorch": Entry(
        "bench.peers.torch_pictures:Eager",
        ("torch",),
        best="pooled tables by parity of the shift, windows of bytes, nn.Sequential, fused SGD",
    ),
    "PyTorch bfloat16": Entry(
        "bench.peers.torch_pictures:Rounded", ("torch",), best="the same tables; products by autocast to bfloat16"
    ),
    "PyTorch compiled": Entry(
        "bench.peers.torch_pictures:Compiled", ("torch",), best="the same tables; the whole step compiled"
    ),
}
ALL = OURS | TRAIN | PEERS | POPULATION_PEERS | PICTURES


def missing(entry: Entry) -> str | None:
    """Return why a contender cannot be made, without importing its packages; None if it can."""
    absent = [name for name in entry.needs if importlib.util.find_spec(name) is None]
    return f"{absent[0]} is not installed" if absent else None


def make(name: str, problem: Problem) -> Contender:
    """Return a contender, ready to train `problem`."""
    module, attribute = ALL[name].target.split(":")
    contender: Contender = getattr(importlib.import_module(module), attribute)(problem)
    return contender
