"""The lines of a text file that the rows of its table are on."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class LineNumbers:
    """Line of each row, kept as the few rows that are not on the line after the one before."""

    def __init__(self) -> None:
        self._rows, self._offsets = array("q"), array("q")

    def add(self, row: int, records: Sequence[tuple[int, Any]]) -> None:
        """Add rows from number `row` on, as records that begin with the numbers of their lines."""
        first, last = records[0][0], records[-1][0]
        follow = last - first == len(records) - 1
        for at, line in enumerate([first] if follow else [record[0] for record in records], start=row):
            if not self._offsets or line - at != self._offsets[-1]:
                self._rows.append(at)
                self._offsets.append(line - at)

    def of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the lines, from 1, of rows, from 0; of a row of several lines the last."""
        starts, offsets = (np.frombuffer(values, np.int64) for values in (self._rows, self._offsets))
        return np.asarray(rows + offsets[np.searchsorted(starts, rows, side="right") - 1])
