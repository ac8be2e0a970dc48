"""How much memory data takes while it is read: every format, what is packed, and files that are traps."""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
import struct
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cifar_files
import data_files
import harms
import numpy as np
import pytest
from data_files import packed_zeros, png
from examples import thorough
from PIL import Image

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells the peak since a moment"),
    pytest.mark.guarantee("data-memory"),
]
slow = pytest.mark.slow
MB = 2**20

MEASURE = """
import json, sys, numpy as np, xpnet
from xpnet.config.training import TrainConfig
from pathlib import Path
def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
def train(data):
    net = xpnet.Network(xpnet.NetworkConfig(inputs=data.features, hidden=(4,), classes=data.classes))
    xpnet.train(net, data, TrainConfig(epochs=1, batch_size=500))
settings = json.loads(sys.argv[1])
trains = settings.pop("trains", False)
for dtype in (np.uint8, np.float32) if trains else ():  # everything is imported, compiled and has its threads
    train(xpnet.data_from_arrays(np.ones((600, 3072), dtype), np.arange(600) % 10, in_memory="raw"))
xpnet.data_from_arrays(np.ones((20, 2)), np.arange(20) % 2)
for name in settings.pop("imports", "").split():
    __import__(name)
for path in sys.argv[2:]:
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what there is now
    before, data = peak(), None
    try:
        data = xpnet.load_data(path, **settings)
        if trains:
            train(data)
    except xpnet.XpnetError as error:
        print(0, 0, 0, peak() - before, error, sep="|")
    else:
        kept = sum(part.x.size * part.x.dtype.itemsize for part in (data.train, data.validation, data.test))
        print(kept, sum(data.counts.values()), data.features, peak() - before, " ".join(data.notes), sep="|")
"""

# pyarrow imports pandas, where it is installed, when it first reads a column.
PARQUET = "pyarrow.parquet" + (" pandas" if importlib.util.find_spec("pandas") else "")
IMAGES = "PIL.ImageOps PIL.PngImagePlugin PIL.WebPImagePlugin PIL.TiffImagePlugin PIL.JpegImagePlugin"


def measured(*paths: Path, fast: str = "1", **settings: Any) -> list[tuple[int, int, str]]:
    """Return bytes kept, bytes taken beyond what the promise grants, and what was said, of each data set."""
    out = harms.run_python(MEASURE, json.dumps(settings), *paths, XPNET_FAST=fast)
    found = []
    for line in out.splitlines():
        kept, rows, features, above, said = line.split("|", 4)
        granted = 1.2 * int(kept) + 50 * MB + 60 * int(rows) + 40 * int(features)
        found.append((int(kept), int(above) - int(granted), said))
    return found


def check(path: Path, *, megabytes: int, extra: float = 0, **settings: Any) -> None:
    """Hold a data set that is large enough to tell one copy of it from two against the promise."""
    ((kept, beyond, said),) = measured(path, **settings)
    assert kept > megabytes * 1e6, said
    assert beyond < extra


@slow
class TestTraining:
    @pytest.mark.parametrize("layout", ["python", "binary", "matlab", "archive"])
    def test_cifar10(self, tmp_path: Path, layout: str):
        rows = 10_000 if layout == "matlab" else 4_000
        if layout in ("python", "archive"):
            batches = {name: cifar_files.batch(seed, rows) for seed, name in enumerate(cifar_files.FILES)}
            path = cifar_files.write_folder(tmp_path / "c", **batches)
            path = path if layout == "python" else cifar_files.write_archive(tmp_path / "a.tar", path, "w")
        else:
            writer = data_files.write_binary if layout == "binary" else data_files.write_matlab
            path = writer(tmp_path / "c", rows)
        check(path, megabytes=70, imports="scipy.io" if layout == "matlab" else "", trains=True)

    @pytest.mark.parametrize("kind", ["npz", "npy"])
    def test_floats(self, tmp_path: Path, kind: str):
        x, y = np.ones((32_000, 1000), np.float32), np.arange(32_000) % 10
        x[:, 0] = y
        if kind == "npz":
            np.savez(tmp_path / "m.npz", x=x, y=y)
        else:
            np.save(tmp_path / "x.npy", x)
            np.save(tmp_path / "y.npy", y)
        check(tmp_path / ("m.npz" if kind == "npz" else "x.npy"), megabytes=120, fast="0", trains=True)


def write_npz(path: Path, x: np.ndarray, method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, values in (("x", x), ("y", np.arange(len(x)) % 2)):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, values)
    return path


def write_cifar100(folder: Path, layout: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    of = data_files.cifar100
    monkeypatch.setattr(data_files, "cifar100", lambda seed: of(seed, (25_000, 5_000)[seed]))
    if layout != "python 3":
        return data_files.write_cifar100(folder, layout)
    data_files.write_cifar100(folder, "python")
    for seed, name in enumerate(("train", "test")):
        values = data_files.cifar100(seed)
        labels = {f"{kind}_labels": values[kind].tolist() for kind in ("fine", "coarse")}
        (folder / name).write_bytes(cifar_files.python3({"data": values["data"]} | labels))
    return folder


class TestReading:
    @pytest.mark.parametrize(
        "shape",
        [
            pytest.param((25_000, 4_000), marks=thorough),
            *(pytest.param(shape, marks=slow) for shape in ((12, 2_000_000), (2_000_000, 3))),
        ],
    )
    def test_npz_tall_and_wide(self, tmp_path: Path, shape: tuple[int, int]):
        path = write_npz(tmp_path / "m.npz", np.zeros(shape, np.uint8), zipfile.ZIP_DEFLATED)
        check(path, megabytes=5)

    @slow
    @pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    def test_npz_packed_in_other_ways(self, tmp_path: Path, method: int):
        path = write_npz(tmp_path / "m.npz", np.zeros((25_000, 4_000), np.uint8), method)
        assert path.stat().st_size < 50_000
        check(path, megabytes=90)

    @pytest.mark.parametrize(
        "shape",
        [
            pytest.param((25_000, 1_000), marks=thorough),
            *(pytest.param(shape, marks=slow) for shape in ((9_000_000, 3), (8_000, 32, 32, 3))),
        ],
    )
    def test_arrays_in_fortrans_order(self, tmp_path: Path, shape: tuple[int, ...]):
        np.save(tmp_path / "x.npy", np.asfortranarray(np.ones(shape, np.float32)))
        np.save(tmp_path / "y.npy", np.arange(shape[0]) % 2)
        check(tmp_path / "x.npy", megabytes=90)

    @slow
    def test_idx(self, tmp_path: Path):
        folder = data_files.write_idx(tmp_path / "d", zipped=True)
        (folder / "train-images-idx3-ubyte.gz").write_bytes(
            gzip.compress(struct.pack(">4I", 0x803, 40, 1200, 2000) + bytes(40 * 1200 * 2000), 1)
        )
        (folder / "t10k-images-idx3-ubyte.gz").write_bytes(
            gzip.compress(struct.pack(">4I", 0x803, 10, 1200, 2000) + bytes(10 * 1200 * 2000), 1)
        )
        check(folder, megabytes=110)

    @slow
    @pytest.mark.parametrize("last", ["1.5", "1e20"])
    def test_csv_whose_last_row_needs_a_larger_type(self, tmp_path: Path, last: str):
        row, rows = ",".join(["1"] * 1000), 6_000 if last == "1e20" else 12_000
        path = tmp_path / "p.csv"
        path.write_text(
            "label," + row + "\n" + f"a,{row}\nb,{row}\n" * (rows // 2) + "a," + row.replace("1", last) + "\n"
        )
        check(path, megabytes=45, header=True)

    @slow
    @pytest.mark.parametrize(("rows", "columns"), [(1_500_000, 16), (25_000, 1000)])
    def test_parquet(self, tmp_path: Path, rows: int, columns: int):
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        values = np.random.default_rng(0).random((columns, rows), np.float32)
        table = {"label": pa.array(np.arange(rows) % 3)} | {f"c{i}": values[i] for i in range(columns)}
        pq.write_table(pa.table(table), tmp_path / "p.parquet")
        del values, table
        check(tmp_path / "p.parquet", megabytes=90, imports=PARQUET)

    @slow
    @pytest.mark.parametrize(
        ("layout", "extra"), [("python", 0), ("binary", 1), ("matlab", 1), ("python 3", 1.5), ("archive", 0)]
    )
    def test_cifar100(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, extra: float):
        """Hold it against the promise, and against what docs/data.md says of layouts that are read in one piece."""
        path = write_cifar100(tmp_path / "c", "python" if layout == "archive" else layout, monkeypatch)
        if layout == "archive":
            path = data_files.write_archive(tmp_path / "a.tar.gz", path, "cifar-100-python")
        check(path, megabytes=90, extra=extra * 25_000 * 3072, imports="scipy.io")

    @slow
    def test_a_folder_of_images(self, tmp_path: Path):
        folder = data_files.write_images(tmp_path / "p", 1, (100, 100))
        for picture in folder.glob("*/0.png"):
            for number in range(1, 1000):
                picture.with_name(f"{number}.png").hardlink_to(picture)
        check(folder, megabytes=55, imports=IMAGES)


def write_pictures(folder: Path, name: str, content: bytes | Image.Image, **options: Any) -> Path:
    data_files.write_images(folder, 3)
    if isinstance(content, bytes):
        (folder / "red" / name).write_bytes(content)
    else:
        content.save(folder / "red" / name, **options)
    return folder


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


SIDE = 3500
PICTURES: dict[str, tuple[Callable[[], Image.Image], dict[str, Any], int]] = {
    "a.png": (lambda: Image.new("RGBA", (SIDE, SIDE)), {"compress_level": 1, "exif": turned()}, 8),
    "b.png": (lambda: Image.fromarray(np.zeros((SIDE, SIDE), np.uint16)), {"compress_level": 1}, 8),
    "c.tif": (lambda: Image.fromarray(np.zeros((SIDE, SIDE), np.int32)), {"compression": "tiff_lzw"}, 8),
    "d.gif": (lambda: Image.new("P", (SIDE, SIDE)), {"transparency": 0}, 8),
    "e.jpg": (lambda: Image.new("RGB", (SIDE, SIDE)), {"progressive": True, "subsampling": 0}, 8),
    "f.webp": (lambda: Image.new("RGBA", (SIDE, SIDE)), {}, 17),
}


@slow
def test_large_pictures(tmp_path: Path, harm: Any):
    paths = [write_pictures(tmp_path / name, name, make(), **options) for name, (make, options, _) in PICTURES.items()]
    for (kept, beyond, said), (_, _, each) in zip(
        measured(*paths, imports=IMAGES, image_size="8"), PICTURES.values(), strict=True
    ):
        assert kept == 7 * 3 * 64, said
        assert beyond + 50 * MB < each * SIDE * SIDE + 25 * MB
        harm.did("bombs")


def tiff_with_a_tile(side: int) -> bytes:
    """Return a picture of 10 x 10 pixels in a tile of many more."""
    content = packed_zeros(side * side // MB)
    tags = {256: 10, 257: 10, 258: 8, 259: 8, 262: 1, 277: 1, 322: side, 323: side, 324: 8, 325: len(content)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<I", 8 + len(content)) + content + struct.pack("<H", len(tags)) + entries + bytes(4)


def test_pictures_that_are_traps(tmp_path: Path, harm: Any):
    traps = {
        "tall.png": (png(1, 40_000_000, packed_zeros(78)), "1 x 40,000,000 pixels"),
        "wide.png": (png(40_000_000, 1, packed_zeros(40)), "40,000,000 x 1 pixels"),
        "thin.png": (png(1, 900_000, packed_zeros(3)), "1 x 900,000 pixels"),
        "tile.tif": (tiff_with_a_tile(16_384), "tiles of 16,384 x 16,384 pixels"),
    }
    paths = [write_pictures(tmp_path / name, name, content) for name, (content, _) in traps.items()]
    found = measured(*paths, imports=IMAGES, image_size="32")
    for (_, beyond, said), (name, (_, reason)) in zip(found, traps.items(), strict=True):
        assert f"red/{name} ({reason})" in said
        assert beyond < 0
        harm.did("bombs")


def test_tables_that_are_traps(tmp_path: Path, harm: Any):
    many = b"".join(b"1,id%d\n" % i for i in range(200_000))
    traps = {
        "ids": (b"a,label\n" + many * 5, r"different labels in"),
        "long": (b"a,label\n" + b"".join(b"1,%d%s\n" % (i, b"a" * 5000) for i in range(2000)), "letters together"),
        "record": (b'a,label\n1,"' + b'ab\n","' * 1_000_000, "has 100,001 columns"),
        "row": (b"a,label\n" + b"ab," * 1_300_000, "columns; at most 100,000 are read"),
        "quote": (b'a,label\n1,"' + b"ab\n" * 2_000_000, "is no CSV"),
        "sign": (b"a,label\n1," + b"a" * 4_000_000 + "\U0001f600\n".encode(), "is no CSV"),
    }
    paths = []
    for name, (content, _) in traps.items():
        paths.append(tmp_path / f"{name}.csv.gz")
        paths[-1].write_bytes(gzip.compress(content, 1))
    for (_, beyond, said), (_, reason) in zip(measured(*paths), traps.values(), strict=True):
        assert reason in said
        assert beyond < 0
        harm.did("bombs")


@pytest.mark.slow
def test_parquet_files_that_are_traps(tmp_path: Path, harm: Any):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = 20_000
    codes, x = pa.array((np.arange(rows) % 2).astype("i4")), pa.array(np.zeros(rows))

    def write(name: str, labels: Any, **options: Any) -> Path:
        pq.write_table(
            pa.table({"label": labels, "a": x[: len(labels)]}),
            tmp_path / f"{name}.parquet",
            compression="zstd",
            **options,
        )
        return tmp_path / f"{name}.parquet"

    texts = pa.array(["a" * 200_000, "b" * 200_000])
    long = pa.array([("a" if i % 2 else "b") * 50_000 for i in range(2000)])
    wide = pa.array([b"a" * 50_000] * 2000, pa.binary(50_000))
    paths = [
        write("dictionary", pa.DictionaryArray.from_arrays(codes, texts)),
        write("plain", long, use_dictionary=False),
        write("prefixes", long, use_dictionary=False, column_encoding={"label": "DELTA_BYTE_ARRAY"}),
        write("wide", wide),
        write("lists", pa.array([[1] * 99] * 2000)),
    ]
    assert paths[0].stat().st_size < 2000
    found = measured(*paths, imports=PARQUET)
    reasons = ("", "takes 100,0", "takes 100,0", "has labels of 50,000 bytes; shorten", "labels are numbers or texts")
    assert found[0][0] == rows
    for (_, beyond, said), reason in zip(found, reasons, strict=True):
        assert reason in said
        assert beyond < 0, said
        harm.did("bombs")


@slow
def test_archives_that_are_traps(tmp_path: Path, harm: Any):
    paths = []
    for name, method in (("bz2", zipfile.ZIP_BZIP2), ("lzma", zipfile.ZIP_LZMA), ("deflate", zipfile.ZIP_DEFLATED)):
        paths.append(tmp_path / f"{name}.npz")
        with zipfile.ZipFile(paths[-1], "w", method) as archive, archive.open("x.npy", "w") as file:
            for _ in range(120):
                file.write(bytes(MB))
    paths.append(tmp_path / "a.tar.gz")
    with tarfile.open(paths[-1], "w:gz", compresslevel=1) as tar:
        info = tarfile.TarInfo("c/other")
        info.size = 120 * MB
        tar.addfile(info, io.BytesIO(bytes(info.size)))
    for _, beyond, said in measured(*paths):
        assert "x is not an array" in said or "has no data_batch_1" in said
        assert beyond < -20 * MB
        harm.did("bombs")


@pytest.mark.thorough
def test_a_file_of_cifar_takes_its_size(tmp_path: Path, harm: Any):
    folder = cifar_files.write_folder(tmp_path / "c")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz", compresslevel=1) as tar:
        tar.add(folder / "batches.meta", "c/batches.meta")
        info = tarfile.TarInfo("c/data_batch_1")
        info.size = 150 * MB
        tar.addfile(info, io.BytesIO(b"\x80\x02X" + struct.pack("<I", info.size) + bytes(info.size)))
    ((_, beyond, said),) = measured(tmp_path / "a.tar.gz")
    assert "is cut short" in said
    assert beyond < 150 * MB
    harm.did("bombs")
