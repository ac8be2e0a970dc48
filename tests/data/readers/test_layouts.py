"""CIFAR-10 and CIFAR-100 in three layouts, MNIST and Fashion-MNIST: found by looking, recognised by content."""

from __future__ import annotations

import gzip
import struct
import tarfile
from collections import Counter
from pathlib import Path

import cifar_files
import data_files
import numpy as np
import pytest
from data_files import refused
from examples import thorough

from xpnet.data import find_cifar10, load_data, read_raw
from xpnet.data import published as known

WRITERS = {
    "python": lambda folder: cifar_files.write_folder(folder),
    "binary": data_files.write_binary,
    "matlab": data_files.write_matlab,
}

ZEROS = data_files.idx(np.zeros((40, 6, 5), np.uint8))


def same(a, b) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("x", "labels", "x_test", "labels_test"))


def test_the_three_layouts_are_identical(tmp_path: Path):
    read = {name: read_raw(write(tmp_path / name)) for name, write in WRITERS.items()}
    for raw in read.values():
        assert same(raw, read["python"])
        assert raw.class_names == read["python"].class_names == tuple(f"the {n}" for n in cifar_files.NAMES)
        assert (raw.name, raw.image_shape, raw.x.dtype) == ("cifar10", (3, 32, 32), np.uint8)
        assert raw.x.flags.c_contiguous
    assert read["matlab"].about["what"] == "CIFAR-10, matlab layout"


@pytest.mark.parametrize("layout", WRITERS)
def test_archives_of_all_layouts(tmp_path: Path, layout: str):
    folder = WRITERS[layout](tmp_path / "a")
    archive = data_files.write_archive(tmp_path / "anything", folder, "cifar-10-batches")
    assert same(read_raw(archive), read_raw(folder))


def test_a_layout_is_recognised_by_content_not_by_name(tmp_path: Path):
    folder = data_files.write_matlab(tmp_path / "m", compressed=True)
    for path in folder.glob("*.mat"):
        path.rename(path.with_suffix(""))
    (folder / "batches.meta").rename(folder / "other")
    raw = read_raw(folder)
    assert same(raw, read_raw(cifar_files.write_folder(tmp_path / "p")))
    assert raw.class_names == cifar_files.NAMES


def test_an_archive_with_two_layouts_in_any_order(tmp_path: Path):
    folder = cifar_files.write_folder(tmp_path / "c")
    for path in data_files.write_binary(tmp_path / "b").iterdir():
        path.rename(folder / path.name)
    (folder / "data_batch_3").write_bytes(cifar_files.python2(cifar_files.batch(9, 7)))  # another size than the others
    for order in (1, -1):
        with tarfile.open(tmp_path / f"{order}.tar", "w") as tar:
            for path in sorted(folder.iterdir())[::order]:
                tar.add(path, path.name)
        raw = read_raw(tmp_path / f"{order}.tar")
        seeds = [(0, 20), (1, 20), (9, 7), (3, 20), (4, 20)]
        expected = np.concatenate([cifar_files.batch(*seed)["data"] for seed in seeds])
        np.testing.assert_array_equal(raw.x, expected)


def test_they_are_found_by_looking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XPNET_DATA", str(tmp_path))
    folder = data_files.write_binary(tmp_path / "cifar-10-batches-bin")
    assert find_cifar10() == folder
    data_files.write_cifar100(tmp_path / "cifar-100-binary", "binary")
    data_files.write_idx(tmp_path / "MNIST" / "raw", zipped=True)
    data_files.write_idx(tmp_path / "FashionMNIST" / "raw", (9, 0, 0, 3, 0, 2, 7, 2))
    for name in ("cifar10", "cifar100", "mnist", "fashion-mnist"):
        assert load_data(name).name == name
    data_files.write_matlab(tmp_path / "downloads" / "unusual name")
    assert load_data(tmp_path / "downloads").name == "cifar10"


@pytest.mark.parametrize("layout", ["python", "binary", "matlab"])
@pytest.mark.parametrize(("labels", "classes"), [("fine", 100), ("coarse", 20), (None, 100)])
def test_cifar100_has_fine_and_coarse_labels(tmp_path: Path, layout: str, labels: str | None, classes: int):
    folder = data_files.write_cifar100(tmp_path / "c", layout)
    raw = read_raw(folder, labels=labels)
    for part, (x, y) in enumerate(((raw.x, raw.labels), (raw.x_test, raw.labels_test))):
        wanted = data_files.cifar100(part)
        np.testing.assert_array_equal(x, wanted["data"])
        np.testing.assert_array_equal(y, wanted[labels or "fine"])
    assert raw.class_names == tuple(data_files.CIFAR100_NAMES[labels or "fine"])
    assert (raw.name, len(raw.class_names)) == ("cifar100", classes)
    archive = data_files.write_archive(tmp_path / "a.tar.gz", folder, "cifar-100")
    assert same(read_raw(archive, labels=labels), raw)


def test_cifar10_has_no_coarse_labels(tmp_path: Path):
    folder = data_files.write_binary(tmp_path / "c")
    refused("labels = coarse: CIFAR-10 has one kind of labels", folder, labels="coarse")
    refused(r"target = x: has no effect on .*; of these settings it takes labels", folder, target="x")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:-1]), r"61,459 bytes, which are no whole number of images of 3,073"),
        (lambda p: p.write_bytes(b""), "has 0 bytes"),
        (lambda p: p.write_bytes(b"\x0a" + p.read_bytes()[1:]), "label of row 0 is 10; labels must be from 0 to 9"),
        (lambda p: p.unlink(), "has no data_batch_2.bin; CIFAR-10 has data_batch_1.bin to data_batch_5.bin and test_"),
    ],
)
def test_broken_binary_files_are_one_sentence(tmp_path: Path, harm, message: str):
    folder = data_files.write_binary(tmp_path / "c")
    harm(folder / "data_batch_2.bin")
    refused(message, folder)


def test_files_of_the_published_size_are_held_against_the_published_checksums(tmp_path: Path, monkeypatch):
    folder = cifar_files.write_folder(tmp_path / "c")
    assert read_raw(folder).notes == ()
    monkeypatch.setattr("xpnet.data.readers.cifar._PUBLISHED_ROWS", 20)
    (note,) = read_raw(folder).notes
    assert "well formed but not the published CIFAR-10 (the MD5 of data_batch_1 and 5 more differs)" in note
    assert "\n" not in note
    assert load_data(folder).notes == (note,)
    archive = cifar_files.write_archive(tmp_path / "a.tar", folder, "w")
    (note,) = read_raw(archive).notes
    assert "the MD5 of the archive differs" in note
    import hashlib

    md5 = {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in cifar_files.FILES}
    for name, value in md5.items():
        monkeypatch.setitem(known.BATCH_MD5, name, value)
    assert read_raw(folder).notes == ()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("first", "name", "classes"),
    [
        ((5, 0, 4, 1, 9, 2, 1, 3), "mnist", "0"),
        ((9, 0, 0, 3, 0, 2, 7, 2), "fashion-mnist", "T-shirt/top"),
        ((1, 2, 3, 4, 5, 6, 7, 8), "digits", "0"),
    ],
)
def test_idx_files(tmp_path: Path, zipped: bool, first: tuple[int, ...], name: str, classes: str):
    folder = data_files.write_idx(tmp_path / "digits", first, zipped=zipped)
    suffix = ".gz" if zipped else ""
    for path in (tmp_path, folder, folder / f"train-images-idx3-ubyte{suffix}"):
        raw = read_raw(path)
        assert (raw.name, raw.image_shape, raw.class_names[0]) == (name, (1, 6, 5), classes)
        assert (raw.x.shape, raw.x_test.shape, raw.x.dtype) == ((40, 30), (10, 30), np.uint8)
        assert tuple(raw.labels[:8]) == first  # in the published order
        content = (folder / f"train-images-idx3-ubyte{suffix}").read_bytes()
        content = gzip.decompress(content) if zipped else content
        np.testing.assert_array_equal(raw.x, np.frombuffer(content[16:], np.uint8).reshape(40, 30))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\0\0\x08\x03" + struct.pack(">III", 2**31, 2**31, 2**31), "claims the shape .* but holds 0"),
        (b"\0\0\x08\x03\0\0", "is cut off within its header"),
        (ZEROS[:-1], "but holds 1,199"),
        (data_files.idx(np.zeros((39, 6, 5), np.uint8)), "40 labels for 39 rows"),
        (gzip.compress(ZEROS, mtime=0)[:-9], "is a broken gzip file|is cut off"),
        (
            gzip.compress(b"\0\0\x08\x03" + struct.pack(">III", 2**31, 2**31, 2**31), mtime=0),
            "packed into .*, which is not possible",
        ),
        (gzip.compress(ZEROS + b"x", mtime=0), "holds more than the 1,200 bytes"),
    ],
)
def test_broken_idx_files_are_one_sentence(tmp_path: Path, content: bytes, message: str):
    folder = data_files.write_idx(tmp_path / "digits")
    (folder / "train-images-idx3-ubyte").write_bytes(content)
    refused(message, folder)
    (folder / "train-images-idx3-ubyte").unlink()
    refused("has no IDX file of training images; MNIST has", folder)


@pytest.mark.cifar
@thorough
def test_the_layouts_and_the_images_that_lie_beside_them(cifar: Path):
    folders = {name: cifar / f"cifar-10-{name}" for name in ("batches-py", "batches-bin", "batches-mat", "images")}
    missing = [str(path) for path in folders.values() if not path.is_dir()]
    if missing:
        pytest.skip(f"needs all layouts in one folder; there is no {', '.join(missing)}")
    raw = read_raw(folders["batches-py"])
    for layout in ("batches-bin", "batches-mat"):
        assert same(read_raw(folders[layout]), raw)
    images = read_raw(folders["images"])
    assert (images.class_names, images.notes) == (raw.class_names, ())
    for x, y, other_x, other_y in (
        (raw.x, raw.labels, images.x, images.labels),
        (raw.x_test, raw.labels_test, images.x_test, images.labels_test),
    ):
        wanted = Counter(zip(map(bytes, x), y.tolist(), strict=True))
        assert Counter(zip(map(bytes, other_x), other_y.tolist(), strict=True)) == wanted
