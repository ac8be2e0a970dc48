"""Probabilities of raw samples, and networks that take raw, standardised features."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from xpnet.backend import Array
from xpnet.data import Transform
from xpnet.data.views import evaluated_views
from xpnet.errors import ConfigError, DataError
from xpnet.nn.input_checks import raw_samples, transformed

# Number of raw samples that are transformed at a time.
_ROWS = 1000


def probabilities(network: Any, x: Any, views: int, *, standardised: bool) -> Array:
    """Return the probabilities (R, n, classes); see :meth:`xpnet.Network.predict_proba`."""
    transform = network.transform
    if standardised or transform is None:
        if views > 1:
            raise DataError(f"views = {views}: needs raw pictures, and a network that was trained on pictures")
        x, _ = network.checked(x)
        return network.ops.softmax(network.logits(x))
    x, parts = raw_samples(x, network), []
    for inputs in _inputs_of(network, transform, x, views):
        seen = [network.ops.softmax(network.logits(network.backend.asarray(view))) for view in inputs]
        parts.append(seen[0] if views == 1 else sum(seen[1:], seen[0]) / views)
    return parts[0] if len(parts) == 1 else network.backend.xp.concatenate(parts, axis=1)


def _inputs_of(network: Any, transform: Transform, x: Any, views: int) -> Iterator[list[Array]]:
    """Yield the inputs of some raw samples at a time, on the host: an array for each view of them.

    Raises:
        DataError: See :func:`transformed`; or several views are asked for, and samples are not pictures.
    """
    if views > 1 and network.image_shape is None:
        raise DataError(f"views = {views}: needs pictures, and this network was trained on features of another kind")
    for start in range(0, x.shape[-2], _ROWS):
        rows = slice(start, start + _ROWS)
        part = x[rows] if x.ndim == 2 else x[:, rows]
        inputs = [transformed(part, transform, network.dtype, start)]
        if views > 1:
            flat = part.reshape(-1, part.shape[-1])
            seen, numbers = transform.lazily(flat, str(network.dtype), network.image_shape), np.arange(len(flat))
            others = (seen.take(numbers | view) for view in evaluated_views(views)[1:])
            inputs += [view.reshape(inputs[0].shape) for view in others]
        yield inputs


def folded(network: Any) -> Any:
    """Return networks whose first weights include the transform; see :meth:`xpnet.Network.folded`."""
    if network.transform is None:
        raise ConfigError("folded: this network does not say how its data was transformed; train it with xpnet")
    standardiser = network.transform.plain_standardiser()
    config = dataclasses.replace(network.config, inputs=len(standardiser.mean))
    plain = type(network)(config, backend=network.backend, dtype=str(network.dtype), seed=network.seeds)
    W1 = network.transform.unfolded(network.backend.to_numpy(network.parameters["W1"]))
    for group in ("parameters", "running"):
        for name, tensor in getattr(network, group).items():
            getattr(plain, group)[name] = network.backend.asarray(W1) if name == "W1" else tensor
    for name in ("class_names", "image_shape", "feature_names"):
        setattr(plain, name, getattr(network, name))
    plain.transform = Transform(standardiser, encoder=network.transform.encoder)
    return plain
