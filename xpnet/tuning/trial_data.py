"""The data of a search on a device, with the transform that each trial asks for."""

from __future__ import annotations

from typing import Any

from xpnet.config.settings import Settings
from xpnet.training.device_data import DeviceData, to_device
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
