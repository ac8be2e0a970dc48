"""Rows of a table that are encoded when they are read."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.encoder import Encoder
from xpnet.utils.lazy_arrays import Features, Rows


class EncodedRows(Rows):
    """Codes (n, d) of a table whose encoded rows (n, k), float64, are computed when they are read."""

    def __init__(self, x: Features, encoder: Encoder) -> None:
        self.x, self.encoder, self.dtype = x, encoder, np.dtype(np.float64)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and encoded numbers."""
        return int(self.x.shape[0]), self.encoder.outputs

    def __len__(self) -> int:
        return int(self.x.shape[0])

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        """Return the encoded values of `rows`, a slice or indices."""
        return self.encoder(self.x[rows])
