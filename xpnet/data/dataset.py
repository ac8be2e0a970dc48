"""A data set, before and after it is split."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.config.definitions import DataConfig
from xpnet.data.column import Column
from xpnet.data.standardise import Standardiser
from xpnet.data.transform import Transform
from xpnet.utils.display import Displayed
from xpnet.utils.lazy_arrays import Features


@dataclass(frozen=True, eq=False)
class RawDataset:
    """A data set as it was read; the other attributes are those of :class:`Dataset`.

    Attributes:
        x: Features (n, d), uint8 or floating, from which training and validation sets are taken; in memory, or
            :class:`~xpnet.data.Rows` that stay on the disk.
        labels: Classes (n,), int64 from 0.
        x_test: Features of the test set (m, d).
        labels_test: Classes of the test set (m,).
        default_split: The split to use if none is given.
        about: Facts for `xpnet data info`, such as its kind and the files that were left out.
        weights: Weight of each sample of `x` in the loss (n,); None for 1.
        columns: What the features of a table mean; see :class:`Dataset`.
        lines_test: Lines of the test samples in their file (m,), from 1; None if it has no lines.
    """

    name: str
    location: str
    x: Features
    labels: NDArray[np.int64]
    x_test: Features
    labels_test: NDArray[np.int64]
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int] | None
    default_split: str
    feature_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)
    weights: NDArray[np.float64] | None = None
    columns: tuple[Column, ...] = ()
    lines_test: NDArray[np.int64] | None = None


@dataclass(frozen=True, eq=False)
class LabelledSet:
    """Samples: raw features `x` (n, d), classes `labels` (n,), and their `weights` in the loss (n,), None for 1.

    `lines` (n,) are those of the test samples of a CSV file, from 1; None for other samples.
    """

    x: Features
    labels: NDArray[np.int64]
    weights: NDArray[np.float64] | None = None
    lines: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False, repr=False)
class Dataset(Displayed):
    """A data set, split and ready to train on.

    Attributes:
        name: Its name.
        location: The path or the built-in name by which :func:`xpnet.load_data` finds it.
        split: How many samples train and validate, such as ``45000/5000``, or the name of the split.
        train: The training set: raw features ``train.x`` (n, d), uint8 or floating, and classes ``train.labels`` (n,),
            int64 from 0; ``len(train)`` is n.
        validation: The validation set, in the same form.
        test: The test set, in the same form.
        class_names: Name of each class; for labels that are numbers, the label as text.
        image_shape: (channels, height, width) where a row is an image in channel planes; None for other data.
        transform: Function that brings features to the inputs of a network: ``transform(test.x)``; it standardises them
            over the training set, after pooling pictures and before projecting on principal components, if asked for.
        feature_names: Names of the columns of a table; empty for other data.
        notes: Sentences for users of the data, such as which files were left out.
        in_memory: How features are held during training: ``"auto"``, ``"raw"`` or ``"float"``; see
            :class:`xpnet.DataConfig`.
        columns: What the features of a table mean: numbers, booleans, or numbers of categories; see
            :class:`xpnet.data.Column`.  Empty if all features are numbers.
        unused: Samples of its training files that neither train nor validate.
    """

    name: str
    location: str
    split: str
    train: LabelledSet
    validation: LabelledSet
    test: LabelledSet
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int] | None
    transform: Transform
    feature_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    in_memory: str = "auto"
    columns: tuple[Column, ...] = ()
    unused: int = 0

    @property
    def features(self) -> int:
        """Number of features d."""
        return int(self.train.x.shape[1])

    @property
    def inputs(self) -> int:
        """Number of inputs that a network for this data has; that of features, unless they are pooled or projected."""
        return self.transform.inputs

    @property
    def standardiser(self) -> Standardiser:
        """The step of `transform` that brings features to mean 0 and standard deviation 1 over the training set."""
        return self.transform.standardiser

    def refitted(self, config: DataConfig) -> Dataset:
        """Return this data with the transform of other settings, fitted on its training set."""
        encoding: Any = {"numeric": config.numeric, "max_categories": config.max_categories, "columns": self.columns}
        shape, settings = self.image_shape, (config.pool, config.pca, config.pca_eps)
        return dataclasses.replace(self, transform=Transform.fit(self.train.x, shape, *settings, **encoding))

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def counts(self) -> dict[str, int]:
        """Number of samples by set."""
        return {"train": len(self.train), "validation": len(self.validation), "test": len(self.test)}

    def _facts(self) -> Mapping[str, str]:
        samples = ", ".join(f"{count:,} {name}" for name, count in self.counts.items())
        shape = {} if self.image_shape is None else {"image_shape": "x".join(map(str, self.image_shape))}
        sizes = {"features": f"{self.features:,}", "inputs": f"{self.inputs:,}", "classes": str(self.classes)}
        return {"": self.name, "samples": samples} | sizes | shape
