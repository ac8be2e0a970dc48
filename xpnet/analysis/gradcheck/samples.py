"""The samples that a gradient check is made on."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.analysis.gradcheck.sampling import choose_rows
from xpnet.data import Dataset
from xpnet.errors import ConfigError
from xpnet.nn.network import Network


def checked_samples(data: Dataset, samples: int, choose: str, seed: int, network: Network) -> tuple[Any, Any]:
    """Return standardised features (n, d), float64, and labels (n,) of samples of the training set.

    Args:
        data: The data set.
        samples: How many, n.
        choose: ``"first"``, or ``"random"`` by `seed`.
        seed: Of the choice.
        network: Takes the first d of the features.

    Raises:
        ConfigError: There are fewer samples, or one alone would be normalised.
    """
    count = len(data.train)
    if not 1 <= samples <= count:
        raise ConfigError(f"samples = {samples}: must be from 1 to {count:,}, which the training set has")
    if samples == 1 and network.config.batch_norm and network.config.hidden:
        raise ConfigError("samples = 1: batch normalisation of one sample gives nothing but beta; take at least 2")
    rows = choose_rows(count, samples, seed) if choose == "random" else np.arange(samples)
    x = data.standardiser(data.train.x[rows], "float64")[:, : network.config.inputs]
    return np.ascontiguousarray(x), data.train.labels[rows]
