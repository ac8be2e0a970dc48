"""What tells a data set from others."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from xpnet.data.dataset import Dataset, LabelledSet
from xpnet.data.labels import without_numbering

# Features up to this size are added up whole; of larger ones, which may lie on a disk, as many rows as make it up.
_MOST_BYTES = 2 * 2**30
_ROWS = 4096


def as_earlier(data: Dataset, seen: Mapping[str, Any]) -> Dataset:
    """Return data as a run that has `seen` its fingerprint began with it.

    Earlier versions took whole numbers from 0 for the classes themselves, with an empty one for each that is missing.
    """
    if not seen or seen.get("classes") == data.classes or not all(map(str.isdecimal, data.class_names)):
        return data
    numbers = np.array([int(name) for name in data.class_names])
    if int(numbers.max()) + 1 != seen.get("classes") or seen["classes"] > 2 * data.classes + 10:
        return data
    sets: dict[str, Any] = {
        name: LabelledSet(part.x, numbers[part.labels])
        for name, part in (("train", data.train), ("validation", data.validation), ("test", data.test))
    }
    earlier = dataclasses.replace(
        data, class_names=tuple(map(str, range(seen["classes"]))), notes=without_numbering(data.notes), **sets
    )
    print_ = fingerprint(earlier)
    return earlier if all(print_.get(name) == value for name, value in seen.items()) else data


def fingerprint(data: Dataset) -> dict[str, Any]:
    """Return what tells a data set from others: its sizes, names, and a check sum of labels, classes and features."""
    crc = zlib.crc32("\n".join(data.class_names).encode())
    for part in (data.train, data.validation, data.test):
        crc = zlib.crc32(np.ascontiguousarray(part.labels).tobytes(), crc)
        size = len(part) * data.features * part.x.dtype.itemsize
        every = -(-size // _MOST_BYTES) or 1
        for start in range(0, len(part), _ROWS * every):
            rows = np.ascontiguousarray(part.x[start : start + _ROWS * every : every])
            crc = zlib.crc32(rows.data, crc)
    found: dict[str, Any] = {
        "training samples": len(data.train),
        "validation samples": len(data.validation),
        "test samples": len(data.test),
        "features": data.features,
        "classes": data.classes,
        "check sum": f"{crc:08x}",
    }
    # What a network remembers of its features, and predicts by.
    if data.feature_names:
        found["names of features"] = f"{zlib.crc32(chr(10).join(data.feature_names).encode()):08x}"
    if data.image_shape is not None:
        found["shape of images"] = list(data.image_shape)
    return found
