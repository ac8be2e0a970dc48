"""The problem that all contenders get: data, initial weights, batches, learning rates and penalty."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

INPUTS, CLASSES = 3072, 10
LAM, ETA_MIN, ETA_MAX, N_S = 0.005, 1e-5, 0.1, 2250
# Of one network, and of the first and last of a population.
LAMBDAS = (1e-5, 1e-1)
NINE = (50, 30, 20, 20, 10, 10, 10, 10)
NETWORKS = {
    "a": ((50, 50), True, 100),
    "b": ((50, 50), False, 100),
    "c": (NINE, True, 100),
    "d": ((512, 512), True, 100),
    "e": ((512, 512), True, 1000),
}


@dataclasses.dataclass(frozen=True)
class Problem:
    """One training problem, the same for every contender.

    Attributes:
        folder: Holds ``x.npy`` (N, inputs), float32, standardised, ``labels.npy`` (N,), int64, and the raw features.
        hidden: Units of each hidden layer.
        batch_norm: Whether hidden layers are normalised.
        batch: Samples in a step.
        replicas: Networks, each with its own weights and lambda, all with the same batches.
        samples: Samples of the training set that are used; None for all.
    """

    folder: str
    hidden: tuple[int, ...]
    batch_norm: bool
    batch: int
    replicas: int = 1
    samples: int | None = None

    @classmethod
    def of(cls, network: str, folder: Path, **changes: Any) -> Problem:
        """Return the problem of one of ``NETWORKS``."""
        hidden, batch_norm, batch = NETWORKS[network]
        return cls(**({"folder": str(folder), "hidden": hidden, "batch_norm": batch_norm, "batch": batch} | changes))

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Problem:
        """Return the problem that `values` describe: one of pictures, if they name a recipe."""
        if "recipe" in values:
            from bench.learn.pictures import PictureProblem

            cls = PictureProblem
        return cls(**(values | {"hidden": tuple(values["hidden"])}))

    def to_json(self) -> dict[str, Any]:
        """Return what :meth:`from_json` takes."""
        return dataclasses.asdict(self)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return inputs, hidden sizes and classes."""
        return (INPUTS, *self.hidden, CLASSES)

    @property
    def lam(self) -> np.ndarray:
        """Return the strength of each replica's penalty (R,)."""
        if self.replicas == 1:
            return np.array([LAM])
        return np.geomspace(*LAMBDAS, self.replicas)

    @property
    def words(self) -> str:
        """Return the problem in words."""
        norm = "with BN" if self.batch_norm else "without BN"
        words = f"{'-'.join(map(str, self.sizes))} {norm}, batch {self.batch}"
        return words if self.replicas == 1 else f"{self.replicas} networks {words}"

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Return features (N, inputs), float32, and labels (N,), int64, in this process's own memory."""
        x, labels = _read(self.folder)
        return x[: self.samples], labels[: self.samples]

    def raw(self) -> Any:
        """Return the same data as xpnet loads it: not standardised yet, images as bytes."""
        from xpnet.data import Dataset, LabelledSet, Standardiser, Transform

        folder = Path(self.folder)
        train = LabelledSet(np.load(folder / "raw.npy")[: self.samples], self.labels().copy())
        one = LabelledSet(train.x[:1], train.labels[:1])
        scale = np.load(folder / "scale.npy")
        names = tuple(map(str, range(CLASSES)))
        transform = Transform(Standardiser(*scale))
        return Dataset("benchmark", self.folder, "", train, one, one, names, None, transform)

    def labels(self) -> np.ndarray:
        """Return the labels alone (N,)."""
        labels: np.ndarray = np.load(Path(self.folder) / "labels.npy", mmap_mode="r")
        return labels[: self.samples]

    def initial(self) -> dict[str, np.ndarray]:
        """Return the parameters of an xpnet network before its first step: ``"W1"`` (R, d, m), ``"b1"``, ..."""
        return self.network().parameters

    def network(self) -> Any:
        """Return an xpnet network."""
        import xpnet

        config = xpnet.NetworkConfig(
            inputs=INPUTS, hidden=self.hidden, classes=CLASSES, batch_norm=self.batch_norm and bool(self.hidden)
        )
        return xpnet.Network(config, replicas=self.replicas)

    def turn(self, number: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the batches (steps, batch) and the learning rates (steps,) of one round."""
        from xpnet.analysis.step_benchmark import order
        from xpnet.training.schedules import triangular

        samples = len(self.labels())
        eta = triangular(np.arange(number * steps, (number + 1) * steps), ETA_MIN, ETA_MAX, N_S)
        return order(samples, self.batch, steps, number), eta


@lru_cache(maxsize=1)
def _read(folder: str) -> tuple[np.ndarray, np.ndarray]:
    return np.load(Path(folder) / "x.npy"), np.load(Path(folder) / "labels.npy")


def write_data(folder: Path, samples: int, source: str | None) -> str:
    """Write the data that workers read, noise or that of `source`; return what it is called."""
    import xpnet
    from xpnet.analysis.step_benchmark import noise

    data = noise(samples) if source is None else xpnet.load_data(source, f"{samples}/1000")
    np.save(folder / "raw.npy", data.train.x)
    np.save(folder / "scale.npy", np.stack([data.standardiser.mean, data.standardiser.std]))
    np.save(folder / "x.npy", data.standardiser(data.train.x))
    np.save(folder / "labels.npy", data.train.labels.astype(np.int64))
    return data.name


def layers(parameters: dict[str, np.ndarray]) -> Sequence[int]:
    """Return the numbers of the layers that `parameters` belong to, from 1."""
    return range(1, sum(name.startswith("W") for name in parameters) + 1)
