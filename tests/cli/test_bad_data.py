"""Broken and hostile data, given on the command line as a new user would."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from command_line import run


def batches(folder: Path, rows: int = 20) -> None:
    """Write a small CIFAR-10 in the Python layout."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        batch = {b"data": rng.integers(0, 256, (rows, 3072), np.uint8), b"labels": [i % 10 for i in range(rows)]}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=4))


def rewrite(path: Path, **changes) -> None:
    batch = pickle.loads(path.read_bytes())
    path.write_bytes(pickle.dumps(batch | {name.encode(): value for name, value in changes.items()}, protocol=4))


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("harm",)


def test_a_small_cifar10_trains(capsys):
    batches(Path("c"))
    code, _, err = run(capsys, "train", "--data", "c", "--split", "80/20", "--epochs", "1", "--batch-size", "20")
    assert code == 0, err


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda p: p.unlink(), "data_batch_3"),
        (lambda p: p.write_bytes(p.read_bytes()[:30_000]), "30,000 bytes"),
        (lambda p: p.write_bytes(b""), "0 bytes"),
        (lambda p: rewrite(p, data=np.zeros((20, 3000), np.uint8)), "3000"),
        (lambda p: rewrite(p, labels=[0] * 19), "19"),
        (lambda p: rewrite(p, labels=[10] * 20), "10"),
        (lambda p: rewrite(p, labels=[Hostile()] * 20), "mkdir"),
        (lambda p: rewrite(p, data=np.array([[object()]])), "data_batch_3"),
        (lambda p: p.write_bytes(pickle.dumps([1, 2])), "data_batch_3"),
    ],
)
def test_a_broken_batch_gets_one_sentence_that_names_it(capsys, harm, message):
    batches(Path("c"))
    harm(Path("c", "data_batch_3"))
    refused(capsys, "c", "data_batch_3", message)
    assert not Path("harm").exists()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.ones((9, 3)), "y": np.arange(8) % 2}, "8"),
        ({"x": np.ones(9), "y": np.arange(9) % 2}, "(9,)"),
        ({"x": np.ones((9, 3)), "y": 2**40 * (np.arange(9) % 2)}, "1099511627776"),
        ({"x": np.ones((9, 3)), "y": np.arange(9) / 2}, "0.5"),
        ({"x": np.where(np.eye(9, 3) > 0, np.nan, 1), "y": np.arange(9) % 2}, "3 "),
        ({"x": np.ones((9, 3)), "y": np.zeros(9, int)}, "at least 2 classes"),
        ({"x": np.ones((9, 3), object), "y": np.arange(9) % 2}, "object"),
        ({"a": np.ones((9, 3))}, "x"),
        (
            {
                "x_train": np.ones((9, 3)),
                "y_train": np.arange(9) % 2,
                "x_test": np.ones((9, 4)),
                "y_test": np.arange(9),
            },
            "4",
        ),
    ],
)
def test_arrays_that_cannot_be_used_are_named(capsys, arrays, message):
    np.savez("own.npz", **arrays)
    refused(capsys, "own.npz", "own.npz", message)


def test_a_truncated_npz_and_an_unknown_file(capsys):
    np.savez("own.npz", x=np.ones((90, 30)), y=np.arange(90) % 3)
    whole = Path("own.npz").read_bytes()
    Path("own.npz").write_bytes(whole[:-100])
    refused(capsys, "own.npz", "own.npz", f"{len(whole) - 100:,} bytes")
    Path("notes.txt").write_text("hello")
    refused(capsys, "notes.txt", "notes.txt", "it can be")


def refused(capsys, data: str, name: str, message: str) -> None:
    code, out, err = run(capsys, "train", "--data", data, "--epochs", "1", "--split", "4/1")
    assert code == 2
    assert out == ""
    lines = [line for line in err.splitlines() if not line.startswith("device:")]
    assert len(lines) == 1
    assert lines[0].startswith("xpnet: ")
    assert name in lines[0]
    assert message in lines[0]
    assert not Path("runs").exists()
