from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_files import refused

from xpnet.data import feature_table, load_data, read_raw
from xpnet.data.readers import compressed

X = np.arange(60.0).reshape(20, 3)
Y = np.arange(20) % 2


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("keys", [("x", "y"), ("x_train", "y_train")])
@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_one_pair_is_shuffled_and_split(tmp_path: Path, keys: tuple[str, str], write: Any):
    write(tmp_path / "mine.npz", **dict(zip(keys, (X, Y), strict=True)), other=np.array(["left alone"]))
    data = load_data(tmp_path / "mine.npz")
    assert (data.name, data.location, data.split) == ("mine", str(tmp_path / "mine.npz"), "16/2")
    rows = np.concatenate([data.train.x, data.validation.x, data.test.x])
    assert sorted(rows[:, 0]) == X[:, 0].tolist() != rows[:, 0].tolist()


@pytest.mark.parametrize("keys", [("x", "y"), ("x_train", "y_train")])
def test_a_test_set_keeps_its_order(tmp_path: Path, keys: tuple[str, str]):
    arrays = dict(zip(keys, (X, Y), strict=True))
    data = load_data(save(tmp_path / "m.npz", **arrays, x_test=X[:5] + 1, y_test=Y[:5]), "10/8")
    np.testing.assert_array_equal(data.test.x, X[:5] + 1)
    np.testing.assert_array_equal(data.test.labels, Y[:5])
    assert (len(data.train), len(data.validation)) == (10, 8)


def test_images_keep_their_type_and_order_in_memory_does_not_matter(tmp_path: Path):
    images = np.random.default_rng(0).integers(0, 256, (20, 4, 5, 3), dtype=np.uint8)
    arrays = {"x": images, "y": Y, "x_test": np.asfortranarray(images), "y_test": Y}
    data = load_data(save(tmp_path / "m.npz", **arrays))
    assert (data.image_shape, data.train.x.dtype) == ((3, 4, 5), np.uint8)
    np.testing.assert_array_equal(data.test.x, images.transpose(0, 3, 1, 2).reshape(20, -1))


def test_it_is_known_by_its_content(tmp_path: Path):
    assert read_raw(save(tmp_path / "m.npz", x=X, y=Y).rename(tmp_path / "no-suffix")).name == "no-suffix"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "has the arrays none; it must have x and y, or x_train and y_train"),
        ({"a": X, "b": Y}, "has the arrays a, b; it must have x and y, or x_train and y_train"),
        ({"x": X}, "has the arrays x; it must have x and y"),
        (
            {"x": X, "y": Y, "x_train": X, "y_train": Y},
            "has the arrays x, x_train, y, y_train; it must have x and y, or",
        ),
        ({"x_train": X, "y": Y}, "has the arrays x_train, y; it must have"),
        ({"x": X, "y": Y[:7]}, "y has 7 labels for 20 rows of .*x; there must be one for each"),
        ({"x": X, "y": Y, "x_test": X}, "x_test is given without .*y_test; a test set needs both"),
        ({"x": X, "y": Y, "x_test": X[:, :2], "y_test": Y}, "x_test has 2 features and .*x has 3"),
        ({"x": X, "y": np.array(20 * ["cat"])}, "y is an array of <U3; it must be one of real numbers"),
        ({"x": X.astype("M8[s]"), "y": Y}, "x is an array of datetime64"),
        ({"x": X, "y": np.zeros(20, "i4,i4")}, "y is an array of"),
        ({"x": X, "y": np.eye(2)[Y]}, "y has the shape .*argmax"),
        (
            {"x": np.where(X == 7, np.inf, X), "y": Y},
            "x has 1 values that are not finite, the first in row 2, column 1",
        ),
    ],
)
def test_what_cannot_be_used_is_said_with_file_and_array(tmp_path: Path, arrays: dict[str, Any], message: str):
    path = save(tmp_path / "m.npz", **arrays)
    refused(f"^{path}: {message}", path)


def test_a_truncated_file_says_its_size(tmp_path: Path):
    path = save(tmp_path / "m.npz", x=X, y=Y)
    whole = path.read_bytes()
    for size in (0, 3, 400, len(whole) - 1):
        path.write_bytes(whole[:size])
        refused(rf"^{path}: is cut off or not a .npz file \(.*\); it has {size:,} bytes$", path)


def packed_with(path: Path, method: int, **arrays: np.ndarray) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, values in arrays.items():
            content = io.BytesIO()
            np.save(content, values)
            archive.writestr(f"{name}.npy", content.getvalue())
    return path


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_DEFLATED])
class TestPacked:
    def test_every_way_of_packing_is_read(self, tmp_path: Path, monkeypatch, method: int):
        monkeypatch.setattr(feature_table, "CHUNK_BYTES", 10_000)
        x, y = np.random.default_rng(0).normal(size=(300, 50)).astype(np.float32), np.arange(300) % 2
        packed_data = load_data(packed_with(tmp_path / "m.npz", method, x=x, y=y))
        np.testing.assert_array_equal(packed_data.train.x, load_data(save(tmp_path / "n.npz", x=x, y=y)).train.x)

    @pytest.mark.parametrize("place", [0, 7, 35, 63, 98])
    def test_damage_is_one_sentence(self, tmp_path: Path, method: int, place: int):
        path = packed_with(
            tmp_path / "m.npz", method, x=np.random.default_rng(0).normal(size=(200, 30)), y=np.arange(200) % 2
        )
        content = bytearray(path.read_bytes())
        for at in range(35 + 460 * place, 35 + 460 * place + 40):  # behind the member's own header
            content[at % 40_000] ^= 0x5A
        path.write_bytes(content)
        refused(r"m\.npz", path)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda content, at: content[:at] + b"\x09\x14\x05\x00\xff" + content[at + 5 :], "LZMA without its properties"),
        (lambda content, at: content[:at] + b"\x09\x14\x06\x00" + content[at + 4 :], "LZMA without its properties"),
        (lambda content, at: content[:at] + b"\x09\x14\x05\x00\x5d\xff\xff\xff\xff" + content[at + 9 :], None),
    ],
)
def test_headers_of_lzma(tmp_path: Path, harm: Any, message: str | None):
    """A window of 4 GB is what the file says, and no more is taken for it than the member has."""
    path = packed_with(tmp_path / "m.npz", zipfile.ZIP_LZMA, x=X, y=Y)
    content = path.read_bytes()
    path.write_bytes(harm(content, 30 + len("x.npy")))
    if message is None:
        np.testing.assert_array_equal(load_data(path).train.x, load_data(save(tmp_path / "n.npz", x=X, y=Y)).train.x)
        return
    refused(message, path)


def test_a_way_of_packing_that_is_not_read(tmp_path: Path):
    path = save(tmp_path / "m.npz", x=X, y=Y)
    content = path.read_bytes()
    for sign, at in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        start = content.index(sign) + at
        content = content[:start] + struct.pack("<H", 93) + content[start + 2 :]
    path.write_bytes(content)
    refused(r"m.npz: .*x.npy is packed in the way 93, which is not read", path)


def entry(header: str, content: bytes) -> bytes:
    """Return an .npy file that claims `header`."""
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


@pytest.mark.parametrize(
    "content", [b"", b"text", b"\x93NUMPY\x09\x00", entry("__import__('os').system('touch hacked')", b"")]
)
def test_members_that_are_no_arrays(tmp_path: Path, content: bytes):
    path = tmp_path / "m.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", content)
    refused(r"m.npz: x is not an array", path)
    assert not Path("hacked").exists()


def claim(path: Path, size: int) -> Path:
    """Write a .npz whose directory says that x unpacks to `size` bytes."""
    stream = io.BytesIO()
    np.savez_compressed(stream, x=X, y=Y)
    content = bytearray(stream.getvalue())
    at = content.index(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", size)
    path.write_bytes(content)
    return path


def test_impossible_sizes_are_refused_before_anything_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = claim(tmp_path / "m.npz", 2**31)
    refused(r"m.npz: x claims 2,147,483,648 bytes packed into \d+, which is not possible", path)
    monkeypatch.setattr(compressed, "_MOST_BYTES", 2**30)
    refused(r"m.npz: its arrays claim 2,147,48\d,\d+ bytes; at most 1,073,741,824 are read", path)
