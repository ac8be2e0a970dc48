"""Broken and hostile data on the command line; what each reader says of it is tested with the readers."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

BATCH = Path("c", "data_batch_3")


@pytest.fixture
def cifar10() -> None:
    """Write a small CIFAR-10 in the Python layout."""
    BATCH.parent.mkdir()
    rng = np.random.default_rng(0)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        batch = {b"data": rng.integers(0, 256, (20, 3072), np.uint8), b"labels": [i % 10 for i in range(20)]}
        BATCH.with_name(name).write_bytes(pickle.dumps(batch, protocol=4))


def rewrite(**changes) -> None:
    batch = pickle.loads(BATCH.read_bytes()) | {name.encode(): value for name, value in changes.items()}
    BATCH.write_bytes(pickle.dumps(batch, protocol=4))


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("harm",)


def refused(command, data: str) -> str:
    """Train on data that must be refused before there is a folder; return the only line beside that on the device."""
    done = command("train", "--data", data, "--epochs", "1", "--split", "4/1", code=2)
    (line,) = (line for line in done.err.splitlines() if not line.startswith("device:"))
    assert line.startswith("xpnet: ")
    assert done.out == ""
    assert not Path("runs").exists()
    return line


def test_train_small_cifar10(command, cifar10):
    command("train", "--data", "c", "--split", "80/20", "--epochs", "1", "--batch-size", "20", "--hidden", "8")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (BATCH.unlink, "data_batch_3"),
        (lambda: BATCH.write_bytes(BATCH.read_bytes()[:30_000]), "30,000 bytes"),
        (lambda: rewrite(labels=[10] * 20), "10"),
        (lambda: rewrite(labels=[Hostile()] * 20), "mkdir"),
        (lambda: rewrite(data=np.array([[object()]])), "data_batch_3"),
    ],
)
def test_train_broken_batch_is_named_in_one_sentence(command, cifar10, harm, message):
    harm()
    sentence = refused(command, "c")
    assert "data_batch_3" in sentence
    assert message in sentence
    assert not Path("harm").exists()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.ones((9, 3)), "y": np.arange(8) % 2}, "8"),
        ({"x": np.where(np.eye(9, 3) > 0, np.inf, 1), "y": np.arange(9) % 2}, "3 "),
        ({"x": np.ones((9, 3), object), "y": np.arange(9) % 2}, "object"),
        ({"a": np.ones((9, 3))}, "x"),
    ],
)
def test_train_unusable_arrays_are_named(command, arrays, message):
    np.savez("own.npz", **arrays)
    sentence = refused(command, "own.npz")
    assert "own.npz" in sentence
    assert message in sentence


def test_train_truncated_npz_and_unknown_file_are_named(command):
    np.savez("own.npz", x=np.ones((90, 30)), y=np.arange(90) % 3)
    content = Path("own.npz").read_bytes()
    Path("own.npz").write_bytes(content[:-100])
    assert f"{len(content) - 100:,} bytes" in refused(command, "own.npz")
    Path("notes.txt").write_text("hello")
    assert "notes.txt: " in (sentence := refused(command, "notes.txt"))
    assert "it can be" in sentence
