"""The five reports as data (``*.toml``), and the code that repeats their experiments."""

from xpnet.reproduction.experiments import REPORTS, Experiment, Reported, Study, choose, load
from xpnet.reproduction.outcome import CellOutcome, Outcome
from xpnet.reproduction.runner import Runner

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
