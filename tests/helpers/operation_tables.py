"""The tables of operations that are compared."""

from __future__ import annotations

import numpy as np

from xpnet.ops import (
    numba_activations,
    numba_moments,
    numba_ops,
    numpy_activations,
    numpy_moments,
    numpy_ops,
    table,
)

REFERENCE = table(np)
OF_NUMPY = numpy_ops, numpy_activations, numpy_moments
MODULES = {
    "numpy": numpy_ops,
    "numba": numba_ops,
    "numpy activations": numpy_activations,
    "numba activations": numba_activations,
    "numpy moments": numpy_moments,
    "numba moments": numba_moments,
}
STACKS = {"numpy": OF_NUMPY, "numba": (numba_ops, numba_activations, numba_moments, *OF_NUMPY)}
TABLES = {name: table(np, *modules) for name, modules in STACKS.items()}
