"""The gradient checker: hand-written gradients against central differences of the cost."""

from __future__ import annotations

from xpnet.analysis.gradcheck.check import EPS, H, check_network, gradcheck
from xpnet.analysis.gradcheck.report import GradcheckReport, TensorReport
from xpnet.analysis.gradcheck.step_sweep import sweep_h
from xpnet.analysis.gradcheck.verdict import TOLERANCE

__all__ = ["EPS", "TOLERANCE", "GradcheckReport", "H", "TensorReport", "check_network", "gradcheck", "sweep_h"]
