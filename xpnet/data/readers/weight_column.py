"""The column of a table that holds the weights of its samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xpnet.data.readers.columns import TableRows, find_column
from xpnet.data.weights import as_weights
from xpnet.errors import DataError


def split_weights(rows: TableRows, weight: str, path: Path) -> tuple[TableRows, NDArray[np.float64]]:
    """Return a table without its column of weights, which is not a feature, and the weights (n,).

    Args:
        rows: The table.
        weight: The column, by name or by its number from 0, as in the settings.
        path: Name of the file in messages.

    Raises:
        DataError: There is no such column, it is that of the labels, or its values are no weights.
    """
    columns = rows.columns
    place = find_column("weight", weight, columns.names, columns.named, str(path))
    title = columns.title(place)
    if place == columns.target:
        raise DataError(f"weight = {weight}: {path}: {title} has the labels; name another column")
    if place not in columns.kept:
        raise DataError(f"weight = {weight}: {path}: {title} is left out by drop_columns; name it in one of them")
    at = columns.kept.index(place)
    if rows.kinds and rows.kinds[at].kind != "number":
        raise DataError(f"{path}: {title} holds no numbers, and cannot be the weights of samples; name another column")
    weights = as_weights(rows.x[:, at], f"{path}: {title}", len(rows.x), str(path))
    kept = columns.kept[:at] + columns.kept[at + 1 :]
    kinds = rows.kinds[:at] + rows.kinds[at + 1 :]
    return rows._replace(columns=columns._replace(kept=kept), x=np.delete(rows.x, at, axis=1), kinds=kinds), weights
