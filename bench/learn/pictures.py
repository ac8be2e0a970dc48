"""Steps of a recipe as a problem for contenders: augmented pictures, pooled and projected."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from bench.problem import CLASSES, Problem
from bench.results import BenchError

SHAPE = (3, 32, 32)
# Moderate and constant, so that rounding stays small and both forms of momentum are one.
ETA = 0.05


@dataclasses.dataclass(frozen=True)
class PictureProblem(Problem):
    """The training steps of a recipe.

    Attributes:
        recipe: Its name.
    """

    recipe: str = "fast-70"

    @classmethod
    def of(cls, network: str, folder: Path, **changes: Any) -> PictureProblem:
        """Return the problem of the recipe called `network`."""
        settings = _settings(network)
        hidden, batch = settings.network["hidden"], settings.train.batch_size
        values = {"folder": str(folder), "hidden": hidden, "batch_norm": True, "batch": batch, "recipe": network}
        return cls(**(values | changes))

    @property
    def settings(self) -> Any:
        """The recipe's settings."""
        return _settings(self.recipe)

    @property
    def config(self) -> Any:
        """The recipe's settings of the training."""
        return self.settings.train

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return components, hidden sizes and classes."""
        return (self.settings.data.pca, *self.hidden, CLASSES)

    @property
    def lam(self) -> np.ndarray:
        """Return the strength of the penalty (1,)."""
        return np.array([self.config.lam])

    @property
    def words(self) -> str:
        """Return the problem in words."""
        pooled = 3072 // self.settings.data.pool**2
        return f"{pooled} → {'-'.join(map(str, self.sizes))}, batch {self.batch}, shift {self.config.shift}"

    def raw(self) -> Any:
        """Return the pictures with the recipe's transform."""
        from xpnet.data import Dataset, LabelledSet, Standardiser, Transform

        folder, data = Path(self.folder), self.settings.data
        train = LabelledSet(np.load(folder / "raw.npy")[: self.samples], self.labels().copy())
        one = LabelledSet(train.x[:1], train.labels[:1])
        with np.load(folder / f"transform-{data.pca}.npz") as fitted:
            standardiser = Standardiser(fitted["mean"], fitted["std"])
            transform = Transform(standardiser, SHAPE, data.pool, fitted["projection"])
        names = tuple(map(str, range(CLASSES)))
        return Dataset("pictures", self.folder, "", train, one, one, names, SHAPE, transform)

    def network(self) -> Any:
        """Return an xpnet network."""
        import xpnet

        return xpnet.Network(xpnet.NetworkConfig(inputs=self.sizes[0], hidden=self.hidden, classes=CLASSES))

    def turn(self, number: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows (steps, batch), which are samples with their views, and the rates (steps,) of one round."""
        from xpnet.analysis.step_benchmark import order
        from xpnet.data.views import Augmentation

        samples = order(len(self.labels()), self.batch, steps, number)
        augmentation = Augmentation(self.config.flip, self.config.shift, self.config.cutout, *SHAPE[1:])
        rows = augmentation.rows(samples.reshape(-1), 0, number).reshape(samples.shape)
        return rows, np.full(steps, ETA)


def _settings(name: str) -> Any:
    from xpnet.config.recipes import recipe
    from xpnet.config.settings import Settings

    return Settings.from_mapping(recipe(name).settings)


def write_pictures(folder: Path, samples: int, source: str | None, recipes: tuple[str, ...]) -> str:
    """Write the pictures that workers read, noise or those of `source`, and the transforms of `recipes`.

    Returns:
        What the data is called.
    """
    import xpnet
    from xpnet.analysis.step_benchmark import noise
    from xpnet.data import Transform

    data = noise(samples) if source is None else xpnet.load_data(source, f"{samples}/1000")
    x = np.asarray(data.train.x[:])
    if x.dtype != np.uint8 or (source is not None and data.image_shape != SHAPE):
        raise BenchError(f"--data: {data.name} has no pictures of 3 x 32 x 32 bytes")
    np.save(folder / "raw.npy", x)
    np.save(folder / "labels.npy", data.train.labels.astype(np.int64))
    for name in recipes:
        of = _settings(name).data
        fitted = Transform.fit(x, SHAPE, of.pool, of.pca, of.pca_eps)
        arrays = {"mean": fitted.standardiser.mean, "std": fitted.standardiser.std, "projection": fitted.projection}
        np.savez(folder / f"transform-{of.pca}.npz", **arrays)
    return data.name
