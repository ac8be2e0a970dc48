"""The tables of operations that are compared."""

from __future__ import annotations

import numpy as np

from xpnet.ops import numba_activations, numba_ops, numpy_activations, numpy_ops, table

REFERENCE = table(np)
MODULES = {
    "numpy": numpy_ops,
    "numba": numba_ops,
    "numpy activations": numpy_activations,
    "numba activations": numba_activations,
}
STACKS = {
    "numpy": (numpy_ops, numpy_activations),
    "numba": (numba_ops, numba_activations, numpy_ops, numpy_activations),
}
TABLES = {name: table(np, *modules) for name, modules in STACKS.items()}
