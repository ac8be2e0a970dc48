"""Fingerprints, which tell data sets apart."""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from xpnet.data.dataset import Dataset
from xpnet.data.labels import without_numbering

# The checksum covers all features of sets up to this size; of larger sets, which may be on a disk, a sample of rows.
_MOST_BYTES = 2 * 2**30
_ROWS = 4096


def as_earlier(data: Dataset, seen: Mapping[str, Any]) -> Dataset:
    """Return data in the form in which a run with the fingerprint `seen` began with it.

    Earlier versions used integer labels as class numbers, with an empty class for each missing number.
    """
    if not seen or seen.get("classes") == data.classes or not all(map(str.isdecimal, data.class_names)):
        return data
    numbers = np.array([int(name) for name in data.class_names])
    if int(numbers.max()) + 1 != seen.get("classes") or seen["classes"] > 2 * data.classes + 10:
        return data
    sets: dict[str, Any] = {
        name: dataclasses.replace(samples, labels=numbers[samples.labels])
        for name, samples in (("train", data.train), ("validation", data.validation), ("test", data.test))
    }
    earlier = dataclasses.replace(
        data, class_names=tuple(map(str, range(seen["classes"]))), notes=without_numbering(data.notes), **sets
    )
    facts = fingerprint(earlier)
    return earlier if all(facts.get(name) == value for name, value in seen.items()) else data


def fingerprint(data: Dataset) -> dict[str, Any]:
    """Return the sizes of a data set, its names, and a check sum of labels, classes and features."""
    crc = zlib.crc32("\n".join(data.class_names).encode())
    for samples in (data.train, data.validation, data.test):
        crc = zlib.crc32(np.ascontiguousarray(samples.labels).tobytes(), crc)
        size = len(samples) * data.features * samples.x.dtype.itemsize
        every = -(-size // _MOST_BYTES) or 1
        for start in range(0, len(samples), _ROWS * every):
            rows = np.ascontiguousarray(samples.x[start : start + _ROWS * every : every])
            crc = zlib.crc32(rows.data, crc)
    facts: dict[str, Any] = {
        "training samples": len(data.train),
        "validation samples": len(data.validation),
        "test samples": len(data.test),
        "features": data.features,
        "classes": data.classes,
        "check sum": f"{crc:08x}",
    }
    if data.train.weights is not None:
        facts["weights"] = f"{zlib.crc32(np.ascontiguousarray(data.train.weights).tobytes()):08x}"
    # A network stores the names of columns and uses them to predict.
    if data.feature_names:
        facts["names of features"] = f"{zlib.crc32(chr(10).join(data.feature_names).encode()):08x}"
    categories = [column.categories for column in data.columns if column.kind == "category"]
    if categories:
        facts["categories"] = f"{zlib.crc32(json.dumps(categories).encode()):08x}"
    if data.image_shape is not None:
        facts["shape of images"] = list(data.image_shape)
    return facts
