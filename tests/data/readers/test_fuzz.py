"""Every format, mutated: what comes out is data or one sentence, in bounded memory and time."""

from __future__ import annotations

import gzip
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cifar_files
import data_files
import numpy as np
import pytest
from harms import bounded, mutated

from xpnet.data import read_raw
from xpnet.data.dataset import RawDataset
from xpnet.errors import DataError


def _tiny(folder: Path) -> dict[str, Any]:
    return {name: cifar_files.batch(seed, 2) for seed, name in enumerate(cifar_files.FILES)}


def _gz(folder: Path) -> Path:
    small = cifar_files.write_folder(folder / "c", **_tiny(folder))
    path = data_files.write_archive(folder / "a.tar.gz", small, "c")
    shutil.rmtree(small)
    return path


def _npz(folder: Path) -> Path:
    np.savez_compressed(folder / "m.npz", x=np.arange(60.0).reshape(20, 3), y=np.arange(20) % 2)
    return folder / "m.npz"


def _packed(folder: Path, method: int) -> Path:
    whole = zipfile.ZipFile(_npz(folder))
    with zipfile.ZipFile(folder / "packed.npz", "w", method) as archive:
        for name in whole.namelist():
            archive.writestr(name, whole.read(name))
    return folder / "packed.npz"


def _csv_gz(folder: Path) -> Path:
    content = data_files.write_csv(folder / "p.csv", 30).read_bytes()
    (folder / "p.csv.gz").write_bytes(gzip.compress(content))
    return folder / "p.csv.gz"


def _parquet_as(folder: Path, codec: str) -> Path:
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pq.read_table(_parquet(folder)), folder / "q.parquet", compression=codec)
    return folder / "q.parquet"


def _npy(folder: Path) -> Path:
    np.save(folder / "x.npy", np.arange(60.0).reshape(20, 3))
    np.save(folder / "y.npy", np.arange(20) % 2)
    return folder / "x.npy"


def _parquet(folder: Path) -> Path:
    pytest.importorskip("pyarrow")
    return data_files.write_parquet(folder / "p.parquet", 30)


def _compressed(folder: Path) -> Path:
    return data_files.write_matlab(folder / "c", 2, compressed=True)


# What is written, the file of it that is mutated, and the settings that it is read with.
FORMATS: dict[str, tuple[Callable[[Path], Path], str, dict[str, Any]]] = {
    "python": (lambda f: cifar_files.write_folder(f / "c", **_tiny(f)), "c/data_batch_1", {}),
    "batches.meta": (lambda f: cifar_files.write_folder(f / "c", **_tiny(f)), "c/batches.meta", {}),
    "binary": (lambda f: data_files.write_binary(f / "c", 2), "c/data_batch_1.bin", {}),
    "matlab": (lambda f: data_files.write_matlab(f / "c", 2), "c/data_batch_1.mat", {}),
    "matlab, compressed": (_compressed, "c/data_batch_1.mat", {}),
    "matlab names": (lambda f: data_files.write_matlab(f / "c", 2), "c/batches.meta.mat", {}),
    "cifar100": (lambda f: data_files.write_cifar100(f / "c", "python"), "c/train", {}),
    "archive": (_gz, "a.tar.gz", {}),
    "idx": (lambda f: data_files.write_idx(f / "d"), "d/train-images-idx3-ubyte", {}),
    "idx, gzipped": (lambda f: data_files.write_idx(f / "d", zipped=True), "d/train-labels-idx1-ubyte.gz", {}),
    "npz": (_npz, "m.npz", {}),
    "npz, bzip2": (lambda f: _packed(f, zipfile.ZIP_BZIP2), "packed.npz", {}),
    "npz, LZMA": (lambda f: _packed(f, zipfile.ZIP_LZMA), "packed.npz", {}),
    "npy": (_npy, "x.npy", {}),
    "csv": (lambda f: data_files.write_csv(f / "p.csv", 30), "p.csv", {"target": "animal"}),
    "csv, mixed": (lambda f: data_files.write_columns(f / "p.csv", data_files.people(30)), "p.csv", {}),
    "parquet, mixed": (
        lambda f: data_files.write_parquet(f / "p.parquet", columns=data_files.people(30)),
        "p.parquet",
        {},
    ),
    "parquet": (_parquet, "p.parquet", {"target": "animal"}),
    "csv, gzipped": (_csv_gz, "p.csv.gz", {"target": "animal"}),
    "parquet, gzip": (lambda f: _parquet_as(f, "gzip"), "q.parquet", {"target": "animal"}),
    "parquet, zstd": (lambda f: _parquet_as(f, "zstd"), "q.parquet", {"target": "animal"}),
    "parquet, brotli": (lambda f: _parquet_as(f, "brotli"), "q.parquet", {"target": "animal"}),
    "parquet, lz4": (lambda f: _parquet_as(f, "lz4"), "q.parquet", {"target": "animal"}),
    "png": (lambda f: data_files.write_images(f / "p", 1), "p/red/0.png", {"image_size": "4"}),
    "jpeg": (lambda f: data_files.write_images(f / "p", 1, suffix=".jpg"), "p/red/0.jpg", {"image_size": "4"}),
    "gif": (lambda f: data_files.write_images(f / "p", 1, suffix=".gif"), "p/red/0.gif", {"image_size": "4"}),
    "tiff": (lambda f: data_files.write_images(f / "p", 1, suffix=".tif"), "p/red/0.tif", {"image_size": "4"}),
    "webp": (lambda f: data_files.write_images(f / "p", 1, suffix=".webp"), "p/red/0.webp", {"image_size": "4"}),
}


@pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space are Linux's")
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.guarantee("data-fuzz")
def test_mutated_files_are_read_or_refused(tmp_path: Path, name: str, harm: Any):
    write, target, settings = FORMATS[name]
    place = write(tmp_path)
    assert isinstance(read_raw(place, **settings), RawDataset)
    victim = tmp_path / target
    whole = victim.read_bytes()
    count = harm.times(50, 2_000)
    refused = 0
    for number in range(count):
        harm.did("mutated files of data")
        rng = np.random.default_rng([number, len(name)])
        victim.write_bytes(mutated(whole, rng))
        with bounded():
            try:
                raw = read_raw(place, **settings)
            except DataError as error:
                refused += 1
                lines = str(error).splitlines()
            else:
                lines = []
            if lines:
                assert len(lines) == 1, number
                continue
            # What is read is whole: an array for every label, and nothing that is no number, except missing cells.
            gaps = np.array([bool(column.gap) for column in raw.columns] or [False] * raw.x.shape[1])
            for x, labels in ((raw.x, raw.labels), (raw.x_test, raw.labels_test)):
                assert len(x) == len(labels), number
                assert (np.isfinite(x[:]) | (np.isnan(x[:]) & gaps)).all(), number
                assert labels.min(initial=0) >= 0, number
                assert labels.max(initial=0) < len(raw.class_names), number
            refused += bool(raw.notes)
    assert refused > count / 20, "the mutations hardly reach the reader"
