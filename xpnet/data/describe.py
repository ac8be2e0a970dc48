"""Description of a data set: shapes, classes, ranges, duplicates, constant features."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.dataset import RawDataset
from xpnet.data.feature_table import rows_at_a_time
from xpnet.utils.lazy_arrays import Features

_LISTED = 20


def describe_raw(raw: RawDataset) -> dict[str, Any]:
    """Return the facts that `xpnet data info` shows, in types that JSON has.

    Constant features have one value in all samples of training and validation; duplicates are equal in every feature.
    """
    sets = {"training and validation": (raw.x, raw.labels), "test": (raw.x_test, raw.labels_test)}
    counts = {name: np.bincount(labels, minlength=len(raw.class_names)) for name, (_, labels) in sets.items()}
    kinds = [column.kind for column in raw.columns] or ["number"] * raw.x.shape[1]
    numbers = np.array(kinds) == "number"
    ranges = {name: _ranges(x, numbers) for name, (x, _) in sets.items()}
    constant = np.flatnonzero(ranges["training and validation"][0] == ranges["training and validation"][1])
    names = raw.feature_names
    return {
        "name": raw.name,
        "what": raw.about.get("what", "built-in data"),
        "location": raw.location,
        "test_set": raw.about.get("test_set", "its own"),
        "samples": {name: len(labels) for name, (_, labels) in sets.items()},
        "features": int(raw.x.shape[1]),
        "feature_names": list(names),
        "image_shape": None if raw.image_shape is None else list(raw.image_shape),
        "dtype": str(raw.x.dtype),
        "bytes": sum(x.size * x.dtype.itemsize for x, _ in sets.values()),
        "default_split": raw.default_split,
        "classes": [
            {"class": name, **{subset: int(count[number]) for subset, count in counts.items()}}
            for number, name in enumerate(raw.class_names)
        ],
        "values": {
            name: {"min": float(np.min(low[numbers])), "max": float(np.max(high[numbers])), "mean": float(mean)}
            for name, (low, high, mean) in ranges.items()
            if np.isfinite(mean)
        },
        "constant_features": {
            "count": len(constant),
            "first": [names[i] if names else int(i) for i in constant[:_LISTED]],
        },
        "duplicates": _duplicates(raw),
        "left_out": list(raw.about.get("left out", [])),
        "notes": list(raw.notes),
    }


def _chunks(x: Features) -> Iterator[NDArray[Any]]:
    rows = rows_at_a_time(x.shape, 8)
    return (x[start : start + rows] for start in range(0, len(x), rows))


def _ranges(x: Features, numbers: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Return the lowest and highest value of each feature, and the mean of all `numbers`; NaN if there are none."""
    low = np.full(x.shape[1], np.inf)
    high = np.full(x.shape[1], -np.inf)
    total, count = 0.0, 0
    for chunk in _chunks(x):
        np.fmin(low, np.fmin.reduce(chunk, axis=0), out=low)
        np.fmax(high, np.fmax.reduce(chunk, axis=0), out=high)
        values = chunk if numbers.all() else chunk[:, numbers]
        gaps = int(np.isnan(values).sum()) if values.dtype.kind == "f" else 0
        total += float((np.nan_to_num(values) if gaps else values).sum(dtype=np.float64))
        count += values.size - gaps
    return low, high, total / count if count else float("nan")


def _duplicates(raw: RawDataset) -> dict[str, int]:
    """Return how many samples equal an earlier sample, compared by digests of their values."""
    first: dict[bytes, int] = {}  # class of the first sample with these values
    contradicted: set[bytes] = set()
    for digest, label in _digests(raw.x, raw.labels):
        if first.setdefault(digest, label) != label:
            contradicted.add(digest)
    tests = [digest for digest, _ in _digests(raw.x_test, raw.labels_test)]
    return {
        "training and validation": len(raw.labels) - len(first),
        "different ones that have several labels": len(contradicted),
        "test": len(tests) - len(set(tests)),
        "test samples that are in training and validation": sum(digest in first for digest in tests),
    }


def _digests(x: Features, labels: NDArray[np.int64]) -> Iterator[tuple[bytes, int]]:
    start = 0
    for chunk in _chunks(x):
        chunk = np.ascontiguousarray(chunk + 0 if chunk.dtype.kind == "f" else chunk)  # -0.0 equals 0.0
        for row, label in zip(chunk, labels[start : start + len(chunk)].tolist(), strict=True):
            yield hashlib.blake2b(row.tobytes(), digest_size=12).digest(), label
        start += len(chunk)
