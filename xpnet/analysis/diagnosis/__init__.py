"""Statistics of every layer of a network: at one step, and epoch by epoch.

:mod:`.layer_statistics` defines them, :mod:`.layer_history` takes them while :func:`xpnet.train` trains.
"""

from __future__ import annotations

from xpnet.analysis.diagnosis.layer_history import (
    COLUMNS,
    LayerHistory,
    LayerStatistics,
    Recorder,
    train_with_diagnosis,
)
from xpnet.analysis.diagnosis.layer_statistics import MEASURES, Diagnosis, diagnose

__all__ = [
    "COLUMNS",
    "MEASURES",
    "Diagnosis",
    "LayerHistory",
    "LayerStatistics",
    "Recorder",
    "diagnose",
    "train_with_diagnosis",
]
