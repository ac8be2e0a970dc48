"""xpnet: fast, verified fully connected classifiers on NVIDIA GPUs and CPUs.

One network implementation over an array module runs on the CPU through NumPy and on NVIDIA GPUs
through CuPy.  Importing this package is cheap: what a name needs is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from xpnet.backend import Backend, get_backend
    from xpnet.config import DataConfig, NetworkConfig, TrainConfig
    from xpnet.data import Data, Standardiser, data_from_arrays, load_data
    from xpnet.device_data import to_device
    from xpnet.diagnosis import diagnose, train_with_diagnosis
    from xpnet.errors import XpnetError
    from xpnet.evaluation import evaluate
    from xpnet.gradcheck.check import gradcheck
    from xpnet.history import History, Metrics
    from xpnet.network import Network
    from xpnet.population import Population, train_population
    from xpnet.rate_range import lr_range
    from xpnet.report.write import write_report
    from xpnet.results import TrainResult
    from xpnet.search.session import search
    from xpnet.settings import Settings
    from xpnet.suggestion import LRRange
    from xpnet.training import train

_HOMES = {
    "Backend": "backend",
    "get_backend": "backend",
    "DataConfig": "config",
    "NetworkConfig": "config",
    "Settings": "settings",
    "TrainConfig": "config",
    "Data": "data",
    "Standardiser": "data",
    "load_data": "data",
    "XpnetError": "errors",
    "diagnose": "diagnosis",
    "History": "history",
    "LRRange": "suggestion",
    "Metrics": "history",
    "Network": "network",
    "Population": "population",
    "TrainResult": "results",
    "data_from_arrays": "data",
    "evaluate": "evaluation",
    "lr_range": "rate_range",
    "to_device": "device_data",
    "train": "training",
    "train_population": "population",
    "train_with_diagnosis": "diagnosis",
    "write_report": "report.write",
}

__all__ = [
    "Backend",
    "Data",
    "DataConfig",
    "History",
    "LRRange",
    "Metrics",
    "Network",
    "NetworkConfig",
    "Population",
    "Settings",
    "Standardiser",
    "TrainConfig",
    "TrainResult",
    "XpnetError",
    "data_from_arrays",
    "diagnose",
    "evaluate",
    "get_backend",
    "gradcheck",
    "load",
    "load_data",
    "lr_range",
    "search",
    "to_device",
    "train",
    "train_population",
    "train_with_diagnosis",
    "write_report",
]


def load(path: Any, *, backend: Backend | None = None) -> Network:
    """Read a network that was trained.

    Args:
        path: A run folder, a model file (``.safetensors``), or the description of a checkpoint (``.json``).
        backend: Where its arrays shall live, as :func:`xpnet.get_backend` returns it; the CPU if not given.

    Returns:
        The network with all its replicas, and what it was trained on: ``network.standardiser``, ``class_names``, ...

    Raises:
        RunError: There is no such file, or it does not hold a whole network.
        ConfigError: `path` is no path.
    """
    from xpnet.checkpoints import load_network

    return load_network(path, backend=backend)


# Modules that are reached as attributes too; gradcheck and search can be called.
_MODULES = ("gradcheck", "search", "testing")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"xpnet.{name}")
    if name in _HOMES:
        value = getattr(importlib.import_module(f"xpnet.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'xpnet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_HOMES, *_MODULES]
