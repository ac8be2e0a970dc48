"""Small files in the layouts of CIFAR-10, written byte by byte as Python 2 did, or by Python 3."""

from __future__ import annotations

import pickle
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TRAINING = tuple(f"data_batch_{i}" for i in range(1, 6))
FILES = (*TRAINING, "test_batch")
Writer = Callable[[dict[str, Any]], bytes]


def python2(value: Any) -> bytes:
    """Return `value` as Python 2's cPickle wrote it with protocol 2: strings are byte strings."""
    return b"\x80\x02" + _emit(value) + b"."


def _emit(value: Any) -> bytes:
    if isinstance(value, dict):
        return b"}q\x01(" + b"".join(_emit(key) + _emit(item) for key, item in value.items()) + b"u"
    if isinstance(value, list):
        return b"]q\x02(" + b"".join(map(_emit, value)) + b"e"
    if isinstance(value, str):
        text = value.encode()
        return b"U" + bytes([len(text)]) + text
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    return array(value.shape, value.tobytes())


def array(shape: tuple[int, ...], content: bytes, dtype: str = "u1") -> bytes:
    """Return the instructions that make an array, which may claim what is not so."""
    code = dtype.encode()
    # Shapes beyond 31 bits are written as LONG1 with eight bytes.
    lengths = b"".join(b"\x8a\x08" + struct.pack("<q", n) for n in shape)
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01(" + lengths + b"tcnumpy\ndtype\nU" + bytes([len(code)]) + code + b"K\x00K\x01\x87R"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89T" + struct.pack("<I", len(content)) + content + b"tb"
    )


def python3(value: Any) -> bytes:
    """Return `value` as Python 3 writes it with protocol 2, with byte strings for keys."""
    return pickle.dumps({key.encode(): item for key, item in value.items()}, protocol=2)


def batch(seed: int, rows: int = 20) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "batch_label": f"batch {seed}",
        "labels": [int(label) for label in rng.integers(0, 10, rows)],
        "data": rng.integers(0, 256, (rows, 3072), dtype=np.uint8),
        "filenames": [f"{row}.png" for row in range(rows)],
    }


def write_folder(folder: Path, write: Writer = python2, **changed: dict[str, Any] | bytes) -> Path:
    """Write six batches of 20 rows and the names; `changed` files have other values, or are these bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    values: dict[str, Any] = {name: batch(seed) for seed, name in enumerate(FILES)}
    values["batches.meta"] = {"num_cases_per_batch": 20, "label_names": [f"the {name}" for name in NAMES]}
    for name, value in (values | changed).items():
        (folder / name).write_bytes(value if isinstance(value, bytes) else write(value))
    return folder


def write_archive(path: Path, folder: Path, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:
        tar.add(folder, "cifar-10-batches-py")
    return path
