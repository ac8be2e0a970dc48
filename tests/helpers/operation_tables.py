"""The tables of operations that are compared."""

from __future__ import annotations

import numpy as np

from xpnet.ops import numba_moments, numba_ops, numpy_moments, numpy_ops, table

REFERENCE = table(np)
OF_NUMPY = numpy_ops, numpy_moments
MODULES = {"numpy": numpy_ops, "numba": numba_ops, "numpy's moments": numpy_moments, "numba's moments": numba_moments}
TABLES = {"numpy": table(np, *OF_NUMPY), "numba": table(np, numba_ops, numba_moments, *OF_NUMPY)}
