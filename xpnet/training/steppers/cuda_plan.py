"""Where the block that computes all layers of a network but the first has their tensors, in shared memory."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xpnet.data import TransformedRows
from xpnet.nn.layers import layers_of
from xpnet.ops.cuda.kernels import MACROS, Macros
from xpnet.training.steppers.stepper_state import Hyperparameters, State

if TYPE_CHECKING:
    from xpnet.nn.network import Network

# The same values as in upper.cu and multi.cu: most units of a layer, threads of the block by bytes per number, features
# of a chunk of W1, and numbers of a row of inputs.
WIDTH, CHUNK, ROW = 64, 64, 68
THREADS = {4: 512, 8: 256}
# Each thread has one sample's label.
SAMPLES = 256
# Static memory of the kernels, in bytes.
_STATIC = 8 * 512 + 64


class Variant(NamedTuple):
    """What the kernels are compiled for, beside plain gradient descent; see ``upper.cu``."""

    momentum: bool = False
    modified_loss: bool = False  # smoothed labels or weights of samples

    @classmethod
    def of(cls, hyper: Hyperparameters) -> Variant:
        """Return what a training needs."""
        return cls(hyper.rho is not None, hyper.smoothing is not None or hyper.weights is not None)

    @property
    def macros(self) -> Macros:
        """The macros that the kernels are compiled with."""
        return tuple(macro for macro, needed in zip(MACROS, self, strict=True) if needed)

    @property
    def names(self) -> tuple[str, ...]:
        """The numbers of a plan before the layers', in the order of the kernels' struct."""
        return (*_NAMES, *(_WITH_MOMENTUM if self.momentum else ()), *(_WITH_LOSS if self.modified_loss else ()))


_PLAIN = Variant()


class Plan:
    """The layout of shared memory; see ``Plan`` in ``upper.cu``.

    Attributes:
        numbers: The plan as the kernels read it, int32.
        bytes: Dynamic shared memory that a block needs.
    """

    def __init__(
        self,
        network: Any,
        dtype: Any,
        n: int,
        state: State | None = None,
        *,
        streams: str = "",
        variant: Variant = _PLAIN,
        head: int = 0,
    ) -> None:
        """Lay out the memory for batches of `n`.

        Args:
            network: The network's settings.
            dtype: Its type.
            n: Samples of a batch.
            state: Where the tensors are; None if only the size is asked for.
            streams: ``"float"`` or ``"bf16"`` if the block also streams W1, by multi.cu or multi_bf16.cu: while it
                does, it has no activations, so they share memory.
            variant: What the kernels are compiled for.
            head: Integers that lie before the plan.
        """
        self._at, size = 0, np.dtype(dtype).itemsize
        sizes = (*network.hidden, network.classes)
        padded = [_padded(m) for m in sizes]
        self._take(-(-4 * (head + len(variant.names) + _RECORD * len(sizes)) // size))  # the plan itself
        # Each layer has at most a bias, gamma and beta, a mean and a variance.
        units = 3 * sum(sizes) if state is None else _flat(state.parameters, "units")
        running = 2 * sum(sizes) if state is None else _flat(state.running, "all")
        places = {"hidden": len(sizes) - 1, "units": units, "running": running, "g_size": n * max(padded)}
        kept = {"at_units": units, "at_running": running, "at_labels": n, "at_part": THREADS[size]}
        kept |= {"at_g": 2 * places["g_size"], "at_rows": 2 * n if streams else 0, "at_totals": 2 * WIDTH}
        kept |= {"at_unit_velocities": units, "at_rho": 1} if variant.momentum else {}
        kept |= {"at_smoothing": 1, "at_sample_weights": n} if variant.modified_loss else {}
        places |= {name: self._take(count) for name, count in kept.items()}
        start = self._at
        weights = [-1, *(self._take(below * above) for below, above in pairwise(padded))]
        places["behind"] = self._take(self._at - start if variant.momentum else 0) - start
        # From here on, activations of one phase of a step, and what streams in the other.
        begin = self._at
        streamed = _streamed(streams, n, padded[0], size)
        streamed |= {"at_V1": CHUNK * padded[0] if streams and variant.momentum else 0}
        places |= {name: self._take(count) for name, count in streamed.items()}
        end, self._at = self._at, begin
        records = self._records(network, n, padded, weights, {} if state is None else offsets_of(state))
        self.bytes = max(end, self._at) * size
        self.numbers = np.array([*(places[name] for name in variant.names), *records], np.int32)

    def _records(
        self, network: Any, n: int, padded: list[int], weights: list[int], offsets: dict[str, int]
    ) -> list[int]:
        """Return the numbers of each layer, with places for its activations."""
        records: list[int] = []
        sizes = (*network.hidden, network.classes)
        for layer, m, wide, at_W in zip(layers_of(network), sizes, padded, weights, strict=True):
            at_y = self._take(n * wide)
            at_hat = self._take((n + 1) * wide) if layer.gamma is not None else -1
            names = (layer.W, layer.b, layer.gamma, layer.beta, layer.mean, layer.var)
            records += [m, wide, *(offsets.get(name or "", -1) for name in names), at_W, at_y, at_hat]
        return records

    def _take(self, count: int) -> int:
        """Return the place of `count` numbers."""
        start = self._at
        self._at += _padded(count)
        return start


# The numbers before the layers', and how many each layer has, in the order of the kernels' structs.
_NAMES = (
    *("hidden", "units", "running", "at_units", "at_running", "at_labels", "at_part", "at_g", "g_size", "at_rows"),
    *("at_W1", "at_raw", "at_scales", "at_before", "at_now", "at_W_parts", "at_g_parts", "at_totals"),
)
_WITH_MOMENTUM = ("behind", "at_unit_velocities", "at_rho", "at_V1")
_WITH_LOSS = ("at_smoothing", "at_sample_weights")
_RECORD = 11


def _streamed(form: str, n: int, padded: int, size: int) -> dict[str, int]:
    """Return how many numbers of `size` bytes a chunk of W1 needs, as ``Stream`` in multi.cu has them; 0 without."""
    counts = dict.fromkeys(_NAMES[10:17], 0)
    if not form:
        return counts
    counts |= {"at_W1": 2 * CHUNK * padded, "at_raw": -(-2 * n * ROW // size), "at_scales": 6 * CHUNK}
    if form == "float":
        return counts | {"at_before": n * ROW, "at_now": CHUNK * (-(-n // 8) * 8)}
    # Two bfloat16 in four bytes, rows with eight more, samples in tiles of 16, units in tiles of 8.
    samples, units = -(-n // 16) * 16, -(-padded // 8) * 8
    counts |= {"at_before": CHUNK * (samples // 2 + 4), "at_now": samples * (CHUNK // 2 + 4)}
    return counts | {"at_W_parts": 3 * units * (CHUNK // 2 + 4), "at_g_parts": 3 * units * (samples // 2 + 4)}


def _padded(count: int) -> int:
    """Return `count` rounded up to a multiple of four, as kernels load four numbers at once."""
    return (count + 3) // 4 * 4


def _flat(tensors: Any, which: str) -> int:
    """Return how many numbers a replica has in a flat array."""
    flat = tensors.flat.get(which)
    return 0 if flat is None else int(flat.shape[-1])


def offsets_of(state: State) -> dict[str, int]:
    """Return where each small tensor begins in its flat array."""
    offsets: dict[str, int] = {}
    for tensors in (state.parameters, state.running):
        for names in tensors.members.values():
            start = 0
            for name in names:
                offsets[name] = start
                start += int(np.prod(tensors[name].shape[1:]))
    return offsets


def flat_tensors(state: State) -> list[Any]:
    """Return the flat arrays of weights, units and running statistics, each with the size of a replica's part."""
    tensors = (state.parameters.flat.get("weights"), state.parameters.flat["units"], state.running.flat.get("all"))
    return [part for t in tensors for part in (t, np.int64(0 if t is None else t.shape[-1]))]


class Extras:
    """The last arguments of the kernels, which their macros need; null without them.

    Attributes:
        rho: The momentum of each replica (R,), in the network's dtype.
        nesterov: Whether it is Nesterov's.
    """

    def __init__(self, stepper: Any, state: State) -> None:
        self._weights, self._name = stepper.weights, stepper.layers[0].W
        hyper, replicas = stepper.hyper, state.parameters[self._name].shape[0]
        self.rho, self._smoothing = None, None
        if hyper.rho is not None:
            self.rho = stepper.xp.zeros((replicas,), dtype=stepper.dtype)
            self.rho[...] = hyper.rho
        if hyper.smoothing is not None:
            self._smoothing = stepper.xp.zeros((replicas,), dtype=stepper.dtype)
            self._smoothing[...] = hyper.smoothing
        self.nesterov = np.bool_(hyper.nesterov)

    def of_first(self, state: State) -> Any:
        """Return the velocities of the first layer's weights."""
        return None if self.rho is None else state.velocities[self._name]

    def of_upper(self, state: State) -> list[Any]:
        """Return what the kernels of the upper layers are given."""
        flat = {} if self.rho is None else state.velocities.flat
        settings = (self.rho, self.nesterov, self._smoothing, self._weights)
        return [flat.get("weights"), flat.get("units"), *settings]


def source_of(x: Any) -> tuple[Any, ...]:
    """Return features as the kernels take them: bytes or values, and how they are standardised."""
    raw = hasattr(x, "whole")
    return (x.x, None, x.whole, x.rest, x.factor) if raw else (None, x, None, None, None)


def why_not(network: Network, x: Any, batch: int) -> str | None:
    """Return why no kernel has a network's upper layers in one block, or None; not how much memory it needs."""
    config = network.config
    if max(*config.hidden, config.classes, 1) > WIDTH:
        return f"it has layers of more than {WIDTH} units"
    if batch > SAMPLES:
        return f"the batch has more than {SAMPLES} samples"
    if x.ndim != 2:
        return "samples must be rows of features"
    if isinstance(x, TransformedRows):
        return "it reads no pictures in views"
    return None


def too_large(network: Network, *needs: int) -> str | None:
    """Return that a block needs more shared memory than there is, or None; `needs` are bytes of dynamic memory."""
    most = int(network.backend.xp.cuda.Device().attributes["MaxSharedMemoryPerBlockOptin"])
    need = max(needs) + _STATIC
    return f"it needs {need:,} bytes of a multiprocessor's memory, which has {most:,}" if need > most else None
