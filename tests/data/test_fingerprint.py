"""What tells a data set from others."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import xpnet
from xpnet.data import fingerprint


def data(x=None, labels=None, **options):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((300, 4)) if x is None else x
    return xpnet.data_from_arrays(x, np.arange(300) % 3 if labels is None else labels, split="200/50", **options)


def test_it_is_of_the_content_alone():
    first = fingerprint(data())
    assert first == fingerprint(data())
    assert (first["training samples"], first["validation samples"], first["test samples"]) == (200, 50, 30)
    assert (first["features"], first["classes"]) == (4, 3)


@pytest.mark.parametrize("row", [0, 1, 57, 158, 299])
def test_a_single_number_shows(row):
    x = np.random.default_rng(3).standard_normal((300, 4))
    x[row, 2] += 1e-12
    assert fingerprint(data(x)) != fingerprint(data())
    labels = np.arange(300) % 3
    labels[row] = (labels[row] + 1) % 3
    assert fingerprint(data(labels=labels)) != fingerprint(data())


def test_of_what_is_large_rows_are_taken(monkeypatch):
    whole = fingerprint(data())
    monkeypatch.setattr(sys.modules["xpnet.data.fingerprint"], "_MOST_BYTES", 1000)
    some = fingerprint(data())
    assert some["check sum"] != whole["check sum"]
    assert some == fingerprint(data())


def test_bytes_on_the_disk_are_those_in_memory(tmp_path):
    x = np.random.default_rng(1).integers(0, 255, (300, 4), np.uint8)
    assert fingerprint(data(x, in_memory="raw")) == fingerprint(data(np.asfortranarray(x), in_memory="raw"))
