"""The same small data set in every form that xpnet reads."""

from __future__ import annotations

import csv
import gzip
import os
import struct
import sys
import tarfile
import zlib
from pathlib import Path

import cifar_files
import hypothesis
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from xpnet.data import load_data
from xpnet.errors import DataError

# With --thorough many; processes of pytest-xdist hear of it by the variable.
THOROUGH = "--thorough" in sys.argv or "XPNET_TEST_THOROUGH" in os.environ
few_examples = hypothesis.settings(max_examples=1000 if THOROUGH else 30)


def refused(message: str, data: object, *split: str, **settings: object) -> None:
    """Hold that data is refused with one sentence, which matches `message`."""
    with pytest.raises(DataError, match=message) as caught:
        load_data(data, *split, **settings)
    assert "\n" not in str(caught.value)


CIFAR100_NAMES = {"fine": [f"fine {i}" for i in range(100)], "coarse": [f"coarse {i}" for i in range(20)]}


def write_binary(folder: Path, rows: int = 20) -> Path:
    """Write CIFAR-10's binary layout, with the images and labels of :mod:`cifar_files`."""
    folder.mkdir(parents=True)
    for seed, name in enumerate(cifar_files.FILES):
        batch = cifar_files.batch(seed, rows)
        records = np.hstack([np.array(batch["labels"], np.uint8)[:, None], batch["data"]])
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    (folder / "batches.meta.txt").write_text("\n".join(f"the {name}" for name in cifar_files.NAMES) + "\n\n")
    return folder


def write_matlab(folder: Path, rows: int = 20, *, compressed: bool = False) -> Path:
    """Write CIFAR-10's MATLAB layout, with the images and labels of :mod:`cifar_files`."""
    folder.mkdir(parents=True)
    for seed, name in enumerate(cifar_files.FILES):
        batch = cifar_files.batch(seed, rows)
        values = {"data": batch["data"], "labels": np.array(batch["labels"], np.uint8)[:, None], "batch_label": name}
        savemat(folder / f"{name}.mat", values, do_compression=compressed)
    names = np.array([[f"the {name}"] for name in cifar_files.NAMES], dtype=object)
    savemat(folder / "batches.meta.mat", {"label_names": names})
    return folder


def cifar100(seed: int, rows: int = 12) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    fine = rng.integers(0, 100, rows)
    return {"data": rng.integers(0, 256, (rows, 3072), np.uint8), "fine": fine, "coarse": fine // 5}


def write_cifar100(folder: Path, layout: str) -> Path:
    """Write CIFAR-100 in one of its layouts."""
    folder.mkdir(parents=True)
    for seed, name in enumerate(("train", "test")):
        values = cifar100(seed)
        data, fine, coarse = values["data"], values["fine"], values["coarse"]
        if layout == "python":
            batch = {"fine_labels": fine.tolist(), "coarse_labels": coarse.tolist(), "data": data, "filenames": ["a"]}
            (folder / name).write_bytes(cifar_files.python2(batch))
        elif layout == "binary":
            records = np.hstack([coarse[:, None].astype(np.uint8), fine[:, None].astype(np.uint8), data])
            (folder / f"{name}.bin").write_bytes(records.tobytes())
        else:
            labels = {"fine_labels": fine[:, None].astype(np.uint8), "coarse_labels": coarse[:, None].astype(np.uint8)}
            savemat(folder / f"{name}.mat", {"data": data, **labels})
    if layout == "python":
        names = {f"{kind}_label_names": texts for kind, texts in CIFAR100_NAMES.items()}
        (folder / "meta").write_bytes(cifar_files.python2(names))
    elif layout == "binary":
        for kind, texts in CIFAR100_NAMES.items():
            (folder / f"{kind}_label_names.txt").write_text("\n".join(texts) + "\n")
    else:
        cells = {
            f"{kind}_label_names": np.array([[t] for t in texts], dtype=object)
            for kind, texts in CIFAR100_NAMES.items()
        }
        savemat(folder / "meta.mat", cells)
    return folder


def idx(array: np.ndarray) -> bytes:
    """Return an array of uint8 as an IDX file."""
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx(folder: Path, first: tuple[int, ...] = (5, 0, 4, 1, 9, 2, 1, 3), *, zipped: bool = False) -> Path:
    """Write the four files of MNIST: 40 images of 6 x 5 to train with, 10 to test with."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(3)
    for part, rows in (("train", 40), ("t10k", 10)):
        labels = np.concatenate([first, np.arange(rows - len(first)) % 10]).astype(np.uint8)
        images = rng.integers(0, 256, (rows, 6, 5), np.uint8)
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            path = folder / f"{part}-{kind}-ubyte"
            content = idx(values)
            path = path.with_name(path.name + ".gz") if zipped else path
            path.write_bytes(gzip.compress(content) if zipped else content)
    return folder


def table(rows: int = 60, *, seed: int = 4) -> tuple[list[str], np.ndarray, list[str]]:
    """Return names of columns, features and labels of a small table."""
    rng = np.random.default_rng(seed)
    labels = [("cat", "dog", "emu")[i % 3] for i in range(rows)]
    x = np.round(rng.standard_normal((rows, 4)) + 2 * (np.arange(rows) % 3)[:, None], 3)
    return ["height", "weight", "age", "tail"], x, labels


def write_csv(path: Path, rows: int = 60, *, delimiter: str = ",", header: bool = True, seed: int = 4) -> Path:
    """Write a table whose labels are the third column."""
    names, x, labels = table(rows, seed=seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        if header:
            writer.writerow([*names[:2], "animal", *names[2:]])
        for row, label in zip(x.tolist(), labels, strict=True):
            writer.writerow([*row[:2], label, *row[2:]])
    return path


def people(rows: int = 120, *, seed: int = 0) -> dict[str, list[object]]:
    """Return columns of a table of numbers, booleans and categories with missing cells (None), and labels."""
    rng = np.random.default_rng(seed)
    rich = rng.random(rows) < 0.5
    jobs = ("baker", "clerk", "smith", None)
    return {
        "age": [None if gone else float(age) for gone, age in zip(rng.random(rows) < 0.1, 40 + 9 * rich, strict=True)],
        "job": [jobs[j] for j in (rich + rng.integers(0, 3, rows)).tolist()],
        "member": (rng.random(rows) < 0.3).tolist(),
        "height": np.round(rng.normal(170, 9, rows) + 4 * rich, 2).tolist(),
        "label": ["rich" if r else "poor" for r in rich],
    }


def write_columns(path: Path, columns: dict[str, list[object]], *, delimiter: str = ",") -> Path:
    """Write columns as a CSV file; None is an empty cell."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def write_parquet(path: Path, rows: int = 60, columns: object = None, **options: object) -> Path:
    """Write columns, or the table of :func:`write_csv`, as a Parquet file; skip the test where pyarrow is missing."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    if columns is None:
        names, x, labels = table(rows)
        columns = {name: x[:, i] for i, name in enumerate(names[:2])} | {"animal": labels}
        columns |= {name: x[:, i + 2] for i, name in enumerate(names[2:])}
    pq.write_table(pa.table(columns), path, **options)
    return path


def write_images(folder: Path, each: int = 6, size: tuple[int, int] = (8, 6), suffix: str = ".png") -> Path:
    """Write images (width, height) of two classes, one red and one blue."""
    rng = np.random.default_rng(6)
    for name, channel in (("red", 0), ("blue", 2)):
        (folder / name).mkdir(parents=True)
        for i in range(each):
            pixels = rng.integers(0, 60, (size[1], size[0], 3), np.uint8)
            pixels[..., channel] += 150
            Image.fromarray(pixels).save(folder / name / f"{i}{suffix}")
    return folder


def png(width: int, height: int, pixels: bytes, *, bits: int = 8, colour: int = 0) -> bytes:
    """Return a PNG file of compressed pixels; `colour` is 0 for gray, 2 RGB, 4 gray with alpha, 6 RGBA."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def packed_zeros(megabytes: int) -> bytes:
    packer = zlib.compressobj(1)
    return b"".join(packer.compress(bytes(2**20)) for _ in range(megabytes)) + packer.flush()


def write_archive(path: Path, folder: Path, name: str) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, name)
    return path
