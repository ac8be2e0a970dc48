"""The tables of operations that are compared."""

from __future__ import annotations

from xpnet.backend import get_backend
from xpnet.ops import Ops, get_reference, numba_ops, numpy_ops

CPU = get_backend("cpu")


REFERENCE = get_reference(CPU)


MODULES = {"numpy": numpy_ops, "numba": numba_ops}


TABLES = {
    which: REFERENCE._replace(**{name: getattr(module, name) for name in Ops._fields if hasattr(module, name)})
    for which, module in MODULES.items()
}
