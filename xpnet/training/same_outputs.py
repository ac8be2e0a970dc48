"""The first layer whose outputs do not depend on the sample: why a network is as good as chance."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.nn.backprop import Tape, forward
from xpnet.nn.network import Network

# Samples to compare; outputs that differ by less than this share of the largest differ by rounding alone.
_SAMPLES, _ROUNDING = 64, 1e-5


def first_blind_layer(network: Network, replica: int, x: Any) -> int | None:
    """Return the number of the first layer, from 1, whose outputs are the same for all samples; None if none is.

    Args:
        network: The networks; it must have the transform of their features.
        replica: Which of them.
        x: Raw features (n, d), of which the first 64 are compared; at least 2.
    """
    transform = network.transform
    if transform is None or len(x) < 2:
        return None
    one, tape = network.select([replica]), Tape()
    inputs = one.backend.asarray(np.ascontiguousarray(transform(x[:_SAMPLES], str(one.dtype))))
    with np.errstate(all="ignore"):
        forward(one.ops, one.layers, one.parameters, one.config.bn_eps, inputs, tape)
    for number, record in enumerate(tape.layers, start=1):
        y = one.backend.to_numpy(record.s if number == len(one.layers) else record.activation.y)[0]
        spread = float((y.max(axis=0) - y.min(axis=0)).max())
        if spread <= _ROUNDING * float(np.abs(y).max()):
            return number
    return None
