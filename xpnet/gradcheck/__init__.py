"""The gradient checker: hand-written gradients against central differences of the cost.

``xpnet.gradcheck(...)`` is :func:`~xpnet.gradcheck.check.gradcheck`; this package can be called, since
a function of its name cannot stand beside it in the namespace of ``xpnet``.
"""

from __future__ import annotations

import sys
import types
from typing import Any

from xpnet.gradcheck.check import EPS, TOLERANCE, H, check_network, gradcheck
from xpnet.gradcheck.report import GradcheckReport, TensorReport
from xpnet.gradcheck.sweep import sweep_h

__all__ = ["EPS", "TOLERANCE", "GradcheckReport", "H", "TensorReport", "check_network", "gradcheck", "sweep_h"]


class _Callable(types.ModuleType):
    def __call__(self, *args: Any, **options: Any) -> GradcheckReport:
        return gradcheck(*args, **options)


sys.modules[__name__].__class__ = _Callable
