"""The data of a search on a device, and its folds, with the transform that each trial asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xpnet.config.settings import Settings
from xpnet.data.folds import Fold
from xpnet.training.device_data import DeviceData, to_device
from xpnet.tuning.cross_validation import fold_data
from xpnet.tuning.fold_trainer import FoldTrainer
from xpnet.tuning.searchable import OF_TRANSFORM
from xpnet.tuning.space import Space


class TrialData:
    """The data of a search; that of the last transform is kept, since trials of one transform follow each other.

    Args:
        data: The data set on the device, with the transform of the settings that all trials share.
        space: The space of the search.
    """

    def __init__(self, data: DeviceData, space: Space) -> None:
        self._data, self._searched = data, space.transforms
        self._last: tuple[Any, DeviceData] | None = None

    def of(self, settings: Settings) -> DeviceData:
        """Return the data of a trial.

        Raises:
            DataError: There are no pictures to pool, or fewer principal components than asked for.
        """
        if not self._searched:
            return self._data
        transform = tuple(getattr(settings.data, name) for name in OF_TRANSFORM)
        if self._last is None or self._last[0] != transform:
            self._last = None  # frees its memory first
            data = self._data.data.refitted(settings.data)
            self._last = transform, to_device(data, self._data.backend, self._data.dtype)
        return self._last[1]


class TrialFolds:
    """The folds by which the trials of a search are scored, each with a transform that is fitted on its own rows.

    The folds of the last transform are kept, since trials of one transform follow each other.

    Args:
        folds: Rows of the training set.
        dtype: ``"float32"`` or ``"float64"``.
    """

    def __init__(self, folds: Sequence[Fold], dtype: str) -> None:
        self._folds, self._dtype = folds, dtype
        self._last: tuple[DeviceData, FoldTrainer] | None = None

    def of(self, settings: Settings, data: DeviceData) -> FoldTrainer:
        """Return what trains the folds of a trial; `data` is what :meth:`TrialData.of` returns for it."""
        if self._last is None or self._last[0] is not data:
            self._last = None  # frees its memory first
            held_out = fold_data(data.data, self._folds, settings.data, validate_held_out=True)
            self._last = data, FoldTrainer(held_out, data.backend, self._dtype)
        return self._last[1]
