"""The tables of operations that are compared."""

from __future__ import annotations

import numpy as np

from xpnet.ops import numba_ops, numpy_ops, table

REFERENCE = table(np)
MODULES = {"numpy": numpy_ops, "numba": numba_ops}
TABLES = {"numpy": table(np, numpy_ops), "numba": table(np, numba_ops, numpy_ops)}
