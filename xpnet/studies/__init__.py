"""The five reports as data (``*.toml``), and what runs them again and sets the figures side by side."""

from xpnet.studies.model import REPORTS, Experiment, Reported, Study, choose, load
from xpnet.studies.outcome import CellOutcome, Outcome
from xpnet.studies.runner import Runner

__all__ = [
    "REPORTS",
    "CellOutcome",
    "Experiment",
    "Outcome",
    "Reported",
    "Runner",
    "Study",
    "choose",
    "load",
]
