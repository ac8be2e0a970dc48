"""Frames and tensors of other libraries as arrays."""

from __future__ import annotations

from typing import Any

import narwhals as nw
import numpy as np
from numpy.typing import NDArray


def labels_of(y: Any) -> Any:
    """Return a column, or a frame of labels, as an array; other values as they are."""
    frame = nw.from_native(y, pass_through=True, allow_series=True)
    return frame.to_numpy() if isinstance(frame, nw.DataFrame | nw.Series) else plain(y)


def plain(values: Any, names: Any = None) -> Any:
    """Return data frames with numeric columns, in the order of `names` if these are theirs, and tensors as arrays.

    Other values are returned as they are.  This is the only place that knows frames: an encoder of categories and
    missing cells takes the place of `_numeric`.
    """
    if isinstance(values, np.ndarray):
        return values
    frame = nw.from_native(values, pass_through=True, allow_series=True)
    if isinstance(frame, nw.LazyFrame):
        frame = frame.collect()
    if isinstance(frame, nw.DataFrame):
        if names is not None and list(names) != frame.columns and set(names) <= set(frame.columns):
            frame = frame.select(*names) if len(names) == len(frame.columns) else frame
        return _numeric(frame)
    if isinstance(frame, nw.Series):
        return frame.to_numpy()
    if hasattr(values, "__dlpack__") and not hasattr(values, "__array_function__"):
        return _from_dlpack(values)
    return values


def _numeric(frame: nw.DataFrame[Any]) -> Any:
    """Return a frame in its own library, with columns of float64; refuse a column that is not numeric."""
    for name, dtype in frame.schema.items():
        if not (dtype.is_numeric() or dtype == nw.Boolean):
            raise ValueError(
                f"X has the column {name!r} of type {dtype}, which holds no numbers; encode it, such as with "
                "sklearn.preprocessing.OneHotEncoder, or leave it out"
            )
    return frame.select(nw.all().cast(nw.Float64)).to_native()


def _from_dlpack(values: Any) -> NDArray[Any]:
    """Return a tensor of another library as an array on the host."""
    kind = f"{type(values).__module__.split('.')[0]}.{type(values).__name__}"
    try:
        try:
            return np.from_dlpack(values)
        except (RuntimeError, BufferError, TypeError, ValueError):  # lies on a GPU
            return np.from_dlpack(values, device="cpu", copy=True)
    except Exception as error:  # each library has errors of its own
        raise ValueError(f"a {kind} cannot become a NumPy array ({error}); pass one on the host, detached") from None
