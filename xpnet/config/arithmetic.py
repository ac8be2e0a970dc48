"""The arithmetic of a training, by formula."""

from __future__ import annotations

from itertools import pairwise

from xpnet.config.definitions import NetworkConfig


def flop_of_sample(network: NetworkConfig, projected: int | None = None) -> int:
    """Return the floating point operations of a sample in a training step.

    They are 2 (d k + 2 k m_1 + 3 (m_1 m_2 + ...)): the projection of d features on k components, which is fixed; the
    products forward and of the weights' gradients; and those of the inputs' gradients, except that of the first layer,
    which nothing needs.  Elementwise work, which is a few per cent, and evaluation are not counted.

    Args:
        network: The architecture; its inputs are k.
        projected: Features d that are projected on the inputs in every batch; None without a projection.
    """
    first, *others = (a * b for a, b in pairwise((network.inputs, *network.hidden, network.classes)))
    return 2 * ((projected or 0) * network.inputs + 2 * first + 3 * sum(others))
