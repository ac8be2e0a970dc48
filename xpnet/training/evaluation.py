"""Full passes over a set of samples, in evaluation mode."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.backend import Array
from xpnet.config.arguments import kind, numbers, takes
from xpnet.config.supported import unknown
from xpnet.data import StandardisedRows, TransformedRows, kept_as_bytes, on_host
from xpnet.data.views import evaluated_views
from xpnet.errors import ArrayError
from xpnet.nn.initialisers import per_replica
from xpnet.nn.network import Network
from xpnet.ops.blas import on_all_cores
from xpnet.training.history import Metrics

# A full pass takes chunks of rows whose widest activation has about this size, and at most this many rows.
_CHUNK_BYTES = {"cpu": 16 * 2**20, "gpu": 64 * 2**20}
_CHUNK_ROWS = {"cpu": 1000, "gpu": 5000}


@takes(network=kind(Network), lam=numbers)
def evaluate(network: Network, x: Array, labels: Array, lam: Any = 0.0) -> Metrics:
    """Return the figures of R networks on standardised samples with the running statistics, in one full pass.

    Args:
        network: The networks.
        x: Standardised features (n, d) in the network's dtype, on its device; or the features of a set from
            :func:`xpnet.to_device`.
        labels: Classes (n,), integers, on its device.
        lam: Strength of the penalty in the cost, a number or one for each replica (R,).

    Returns:
        Accuracies, losses and costs, each (R,).

    Raises:
        ArrayError: `x` or `labels` lie on another device, or have the wrong shape, dtype or range.
        ConfigError: `lam` is not a number of at least 0, or one for each replica.
    """
    if np.ndim(lam):
        per_replica("lam", tuple(lam), network.replicas)
    # Raw samples, and samples on the host for a GPU, come from :func:`to_device`; only their shapes are checked here.
    if isinstance(x, StandardisedRows | TransformedRows) or (
        isinstance(x, np.ndarray) and network.backend.xp is not np
    ):
        labels = network.backend.own("labels", labels)
        if x.shape[1] != network.config.inputs or labels.shape != x.shape[:1]:
            raise ArrayError(f"x, labels: have shapes {tuple(x.shape)} and {tuple(labels.shape)}, which do not fit")
    else:
        x, labels = network.checked(x, labels, needed=True)
        if x.ndim != 2:
            raise ArrayError(f"x: has shape {tuple(x.shape)}; all networks are evaluated on the same (n, d)")
    return Evaluation(network, x, labels)(lam)


def finite(network: Network) -> NDArray[np.bool_]:
    """Return whether all parameters and running statistics of each replica are finite numbers (R,)."""
    xp = network.backend.xp
    nothing: Any = 0.0
    with np.errstate(invalid="ignore"):
        for tensors in (network.parameters, network.running):
            for tensor in (*tensors.flat.values(), *(tensors[name] for name in tensors.large)):
                # An infinity or a NaN is an extreme, and 0 times it is NaN; this needs no copy of the tensor.
                nothing = nothing + 0 * xp.max(tensor, axis=(-2, -1)) + 0 * xp.min(tensor, axis=(-2, -1))
    return np.asarray(np.isfinite(network.backend.to_numpy(nothing)))


class Evaluation:
    """Full passes of a network over one set of samples, one for each call.

    On a GPU, the first pass launches its kernels one by one; later passes are launched as a CUDA graph.
    """

    def __init__(self, network: Network, x: Array, labels: Array) -> None:
        """Prepare passes over `x` (n, d) and `labels` (n,) on the network's device."""
        self._network, self._x, self._labels = network, x, labels
        self._samples = int(x.shape[0])
        self._device: _OnDevice | None = None

    def __call__(self, lam: Any = 0.0) -> Metrics:
        """Return the figures of the network in its present state; see :func:`evaluate`."""
        network = self._network
        with np.errstate(all="ignore"):  # losses may be infinite, or NaN for networks that have diverged
            if network.backend.name == "gpu" and unknown("cuda_ops", network.config) is None:
                self._device = self._device or _OnDevice(network, self._x, self._labels)
                sums = self._device()
            else:
                sums = self._by_chunks()
            losses, hits, squares = map(network.backend.to_numpy, sums)
            mean = losses / self._samples
            # The hits of a diverged network have no meaning.
            accuracies = np.where(np.isnan(mean), np.nan, hits / self._samples)
            return Metrics(accuracies, mean, mean + np.asarray(lam) * squares)

    def _by_chunks(self) -> list[Array]:
        """Return the sums of the losses, the hits, and the sums of the squared weights, each (R,)."""
        network, xp = self._network, self._network.backend.xp

        def chunk(rows: slice) -> tuple[Array, Array]:
            logits = network.logits(_features(network, self._x, rows))
            entropy = network.ops.softmax_cross_entropy(logits, self._labels[rows], 1.0)
            return entropy.losses.sum(axis=-1, dtype="float64"), entropy.correct.sum(axis=-1)

        jobs = [partial(chunk, rows) for rows in _chunks(network, self._samples)]
        results = on_all_cores(jobs) if network.backend.name == "cpu" else [job() for job in jobs]
        losses = xp.zeros((network.replicas,), dtype="float64")
        hits = xp.zeros((network.replicas,), dtype="int64")
        for loss, hit in results:
            losses += loss
            hits += hit
        weights = [network.parameters[layer.W].astype("float64") for layer in network.layers]
        return [losses, hits, sum(xp.sum(W**2, axis=(-2, -1)) for W in weights)]


class _OnDevice:
    """A pass by fused kernels that sums its figures on the device."""

    def __init__(self, network: Network, x: Array, labels: Array) -> None:
        xp, replicas = network.backend.xp, network.replicas
        self._network, self._x, self._labels = network, x, labels.astype("int32")
        self._chunks = _chunks(network, int(x.shape[0]))
        self._on_host = on_host(x)
        lazy = (kept_as_bytes(x) or isinstance(x, TransformedRows)) and not self._on_host
        self._rows = [xp.arange(rows.start, rows.stop) if lazy else rows for rows in self._chunks]
        self._figures = [xp.zeros((replicas,), dtype=dtype) for dtype in ("float64", "int64", "float64")]
        self._work: dict[str, Any] = {}
        self._passes = 0
        self._graph: Any = None

    def __call__(self) -> list[Array]:
        """Return the sums of the losses, the hits, and the sums of the squared weights, each (R,)."""
        for figures in self._figures:
            figures[...] = 0
        if self._passes == 1 and not self._on_host:
            from xpnet.ops.cuda.graphs import captured

            self._graph = captured(self._network.backend.xp, self._launch)
        if self._graph is None:
            self._launch()
        else:
            self._graph.launch()
        self._passes += 1
        return self._figures

    def _launch(self) -> None:
        network, ops = self._network, self._network.ops
        losses, hits, squares = self._figures
        for chunk, rows in zip(self._chunks, self._rows, strict=True):
            if self._on_host:
                x = _transferred(network, self._x, chunk)
            else:
                x = self._x[rows] if isinstance(rows, slice) else ops.gather(rows, self._x)
            ops.tally(ops.softmax_cross_entropy(network.logits(x), self._labels[chunk], 1.0), losses, hits)
        for layer in network.layers:
            self._work[layer.W] = ops.add_squares(network.parameters[layer.W], squares, self._work.get(layer.W))


def evaluate_views(network: Network, x: TransformedRows, labels: Array, views: int) -> Metrics:
    """Return the accuracies (R,) and losses (R,) of probabilities that are averaged over views of pictures.

    Args:
        network: The networks.
        x: The pictures, to be read in views.
        labels: Classes (n,), integers, on the network's device.
        views: Number of views: 1, 2 or 6; see :class:`xpnet.TrainConfig`.

    Returns:
        The figures; costs are NaN.
    """
    xp, n = network.backend.xp, int(x.shape[0])
    moved = network.backend.name == "gpu" and on_host(x)
    losses, hits = xp.zeros((network.replicas,), dtype="float64"), xp.zeros((network.replicas,), dtype="int64")

    def chunk(rows: slice) -> tuple[Array, Array]:
        samples, true = xp.arange(rows.start, rows.stop), labels[rows]
        pictures = x
        mean: Any = 0.0
        if moved:
            pictures, samples = x.part(rows).to(network.backend.asarray), xp.arange(rows.stop - rows.start)
        for view in evaluated_views(views):
            mean = mean + network.ops.softmax(network.logits(network.ops.gather(samples | view, pictures)))
        mean = mean / views
        of_label = xp.take_along_axis(mean, xp.broadcast_to(true, mean.shape[:-1])[..., None], axis=-1)[..., 0]
        return -xp.log(of_label).sum(axis=-1, dtype="float64"), (mean.argmax(axis=-1) == true).sum(axis=-1)

    jobs = [partial(chunk, rows) for rows in _chunks(network, n)]
    with np.errstate(all="ignore"):  # probabilities of 0, or NaN for networks that have diverged
        for loss, hit in on_all_cores(jobs) if network.backend.name == "cpu" else [job() for job in jobs]:
            losses, hits = losses + loss, hits + hit
    mean_loss, count = network.backend.to_numpy(losses) / n, network.backend.to_numpy(hits) / n
    return Metrics(np.where(np.isnan(mean_loss), np.nan, count), mean_loss, np.full(network.replicas, np.nan))


def confusion_matrix(network: Network, x: Array, labels: Array) -> NDArray[np.int64]:
    """Return the number of samples by class and prediction: (R, classes, classes), rows are true classes."""
    xp, c = network.backend.xp, network.config.classes
    counts = np.zeros((network.replicas, c, c), np.int64)
    for rows in _chunks(network, int(x.shape[0])):
        with np.errstate(all="ignore"):
            logits = network.logits(_features(network, x, rows))
        predicted = network.backend.to_numpy(xp.argmax(logits, axis=-1))
        true = network.backend.to_numpy(labels[rows])
        for r in range(network.replicas):
            np.add.at(counts[r], (true, predicted[r]), 1)
    return counts


def _transferred(network: Network, x: Any, rows: slice) -> Array:
    """Return the inputs of `rows` of samples that stay on the host."""
    backend = network.backend
    if isinstance(x, TransformedRows):
        on_device: Any = x.part(rows).to(backend.asarray)
    elif kept_as_bytes(x):
        on_device = StandardisedRows(backend.asarray(x.x[rows]), x.whole, x.rest, x.factor)
    else:
        return backend.asarray(x[rows])
    return network.ops.gather(backend.xp.arange(rows.stop - rows.start), on_device)


def _features(network: Network, x: Any, rows: slice) -> Array:
    if network.backend.name == "gpu" and on_host(x):
        return _transferred(network, x, rows)
    if isinstance(x, StandardisedRows | TransformedRows):
        return network.ops.gather(network.backend.xp.arange(rows.start, rows.stop), x)
    return x[rows]


def _chunks(network: Network, n: int) -> list[slice]:
    device = "gpu" if network.backend.name == "gpu" else "cpu"
    widest = max(*network.config.hidden, network.config.classes, 1) * network.replicas * network.dtype.itemsize
    size = max(64, min(_CHUNK_ROWS[device], _CHUNK_BYTES[device] // widest))
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]
