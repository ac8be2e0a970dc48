"""What happens inside a network: measures of every layer at one moment, and epoch by epoch.

:mod:`~xpnet.diagnosis.measures` defines the measures, :mod:`~xpnet.diagnosis.course` takes them while
:func:`xpnet.train` trains.
"""

from __future__ import annotations

from xpnet.diagnosis.course import COLUMNS, Course, Moment, Recorder, train_with_diagnosis
from xpnet.diagnosis.measures import MEASURES, Diagnosis, diagnose

__all__ = ["COLUMNS", "MEASURES", "Course", "Diagnosis", "Moment", "Recorder", "diagnose", "train_with_diagnosis"]
