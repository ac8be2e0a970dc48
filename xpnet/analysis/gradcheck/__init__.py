"""The gradient checker: hand-written gradients against central differences of the cost.

``xpnet.gradcheck(...)`` is :func:`~xpnet.analysis.gradcheck.check.gradcheck`, for this package can be called.
"""

from __future__ import annotations

from xpnet.analysis.gradcheck.check import EPS, TOLERANCE, H, check_network, gradcheck
from xpnet.analysis.gradcheck.report import GradcheckReport, TensorReport
from xpnet.analysis.gradcheck.step_sweep import sweep_h
from xpnet.called import call_as

__all__ = ["EPS", "TOLERANCE", "GradcheckReport", "H", "TensorReport", "check_network", "gradcheck", "sweep_h"]

call_as(__name__, gradcheck)
