"""xpnet: fast, verified fully connected classifiers on NVIDIA GPUs and CPUs.

One network implementation over an array module runs on the CPU through NumPy and on NVIDIA GPUs
through CuPy.  Importing this package is cheap: a public name loads its module when it is first used.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

if "numpy" not in sys.modules:  # whose BLAS reads the variable when it is loaded
    # After a product, idle threads of OpenBLAS keep a core busy for 2^28 cycles, a tenth of a second, which the threads
    # of a training then lack.  2^20 cycles are longer than what lies between two products of a step.
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "20")

from xpnet.version import __version__ as __version__

if TYPE_CHECKING:
    from xpnet.analysis.gradcheck.check import gradcheck
    from xpnet.analysis.layer_history import train_with_diagnosis
    from xpnet.analysis.layer_statistics import diagnose
    from xpnet.analysis.lr_range import lr_range
    from xpnet.analysis.lr_suggestion import LRRange
    from xpnet.backend import Backend, get_backend
    from xpnet.config.definitions import DataConfig, NetworkConfig
    from xpnet.config.recipes import recipe
    from xpnet.config.settings import Settings
    from xpnet.config.training import TrainConfig
    from xpnet.data import Data, Dataset, Standardiser, Transform, data_from_arrays, load_data
    from xpnet.errors import XpnetError
    from xpnet.exporters.export import export
    from xpnet.nn.dropout import Dropout
    from xpnet.nn.network import Network
    from xpnet.report.write import write_report
    from xpnet.runs.listing import list_runs
    from xpnet.training.callback import Callback
    from xpnet.training.device_data import to_device
    from xpnet.training.evaluation import evaluate
    from xpnet.training.history import History, Metrics
    from xpnet.training.population import Population
    from xpnet.training.progress import Progress
    from xpnet.training.result import TrainResult
    from xpnet.training.tensorboard import TensorBoard
    from xpnet.training.train import train
    from xpnet.training.train_population import train_population
    from xpnet.tuning.cross_validation import cross_validate
    from xpnet.tuning.search import search

# Public names by the module that defines them.
_NAMES = {
    "analysis.gradcheck.check": "gradcheck",
    "analysis.layer_history": "train_with_diagnosis",
    "analysis.layer_statistics": "diagnose",
    "analysis.lr_range": "lr_range",
    "analysis.lr_suggestion": "LRRange",
    "backend": "Backend get_backend",
    "config.definitions": "DataConfig NetworkConfig",
    "config.recipes": "recipe",
    "config.settings": "Settings",
    "config.training": "TrainConfig",
    "data": "Data Dataset Standardiser Transform data_from_arrays load_data",
    "errors": "XpnetError",
    "exporters.export": "export",
    "nn.dropout": "Dropout",
    "nn.network": "Network",
    "report.write": "write_report",
    "runs.listing": "list_runs",
    "training.callback": "Callback",
    "training.device_data": "to_device",
    "training.evaluation": "evaluate",
    "training.history": "History Metrics",
    "training.population": "Population",
    "training.progress": "Progress",
    "training.result": "TrainResult",
    "training.tensorboard": "TensorBoard",
    "training.train": "train",
    "training.train_population": "train_population",
    "tuning.cross_validation": "cross_validate",
    "tuning.search": "search",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}
# Modules that are attributes of the package too.
_MODULES = ("sklearn", "testing")

__all__ = [
    "Backend",
    "Callback",
    "Data",
    "DataConfig",
    "Dataset",
    "Dropout",
    "History",
    "LRRange",
    "Metrics",
    "Network",
    "NetworkConfig",
    "Population",
    "Progress",
    "Settings",
    "Standardiser",
    "TensorBoard",
    "TrainConfig",
    "TrainResult",
    "Transform",
    "XpnetError",
    "cross_validate",
    "data_from_arrays",
    "diagnose",
    "evaluate",
    "export",
    "get_backend",
    "gradcheck",
    "list_runs",
    "load",
    "load_data",
    "lr_range",
    "recipe",
    "search",
    "to_device",
    "train",
    "train_population",
    "train_with_diagnosis",
    "write_report",
]


def load(path: Any, *, backend: Backend | None = None) -> Network:
    """Return a trained network, read from its files.

    Args:
        path: A run folder, a model file (``.safetensors``), or the description of a checkpoint (``.json``).
        backend: Backend of the network's arrays, from :func:`xpnet.get_backend`; the CPU if not given.

    Returns:
        The network with all its replicas and the facts of its training data: ``network.standardiser``, ``class_names``,
            ...

    Raises:
        RunError: There is no such file, or it does not hold a complete network.
        ConfigError: `path` is not a path.
    """
    from xpnet.runs.checkpoints import load_network

    return load_network(path, backend=backend)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"xpnet.{name}")
    if name in _HOMES:
        value = getattr(importlib.import_module(f"xpnet.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'xpnet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *_MODULES, "__all__", "__doc__", "__file__", "__name__", "__path__", "__version__"]
