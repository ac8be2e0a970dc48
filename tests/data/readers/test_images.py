"""Folders of images: any size and mode, broken ones listed, test sets."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import data_files
import numpy as np
import pytest
from data_files import refused
from PIL import Image, ImageOps

from xpnet.data import load_data, read_raw
from xpnet.data.readers import image_decoding
from xpnet.data.readers.image_decoding import Form, decode


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return data_files.write_images(tmp_path / "pictures")


def test_images_are_read_as_they_are(folder: Path):
    raw = read_raw(folder)
    assert (raw.name, raw.image_shape, raw.x.dtype) == ("pictures", (3, 6, 8), np.uint8)
    assert (raw.class_names, raw.notes) == (("blue", "red"), ())
    wanted = {
        np.asarray(Image.open(path)).transpose(2, 0, 1).tobytes(): path.parent.name for path in folder.glob("*/*.png")
    }
    x = np.concatenate([raw.x, raw.x_test])
    labels = np.concatenate([raw.labels, raw.labels_test])
    assert {row.tobytes(): raw.class_names[c] for row, c in zip(x, labels, strict=True)} == wanted
    assert np.bincount(raw.labels_test).tolist() == [1, 1]
    assert np.bincount(read_raw(folder, test_fraction=0.5).labels_test).tolist() == [3, 3]


def test_train_and_test_are_folders_of_their_own(tmp_path: Path):
    data_files.write_images(tmp_path / "train", 6)
    data_files.write_images(tmp_path / "test", 2)
    raw = read_raw(tmp_path)
    assert (len(raw.labels), raw.labels_test.tolist()) == (12, [0, 0, 1, 1])
    refused(r"test_fraction = 0.5: .* has a test set of its own", tmp_path, test_fraction=0.5)


def test_size_and_colours_that_are_asked_for(folder: Path):
    raw = read_raw(folder, image_size="4x5", image_mode="gray")
    assert (raw.image_shape, raw.x.shape[1]) == ((1, 4, 5), 20)
    assert read_raw(folder, image_size="7").image_shape == (3, 7, 7)
    flat = np.full((10, 20, 3), (10, 200, 90), np.uint8)
    Image.fromarray(flat).save(folder / "red" / "flat.png")
    planes = decode(folder / "red" / "flat.png", Form(3, 4, 4)).reshape(3, -1)
    assert (planes == [[10], [200], [90]]).all()


def test_sizes_that_differ_need_one_that_is_asked_for(folder: Path):
    Image.new("RGB", (9, 9)).save(folder / "red" / "other.png")
    refused("its images are of 2 sizes; pass the size to bring them to, such as --image-size", folder)
    assert load_data(folder, image_size="8").features == 192
    for path in folder.glob("*/*.png"):
        Image.new("RGB", (300, 200)).save(path)
    refused("its images have 200x300 pixels; pass the size", folder)


@pytest.mark.parametrize(
    ("mode", "colour", "rgb"),
    [
        ("L", 100, (100, 100, 100)),
        ("1", 1, (255, 255, 255)),
        ("RGBA", (200, 0, 0, 255), (200, 0, 0)),
        ("RGBA", (200, 0, 0, 0), (255, 255, 255)),  # nothing lies on white
        ("LA", (100, 255), (100, 100, 100)),
        ("CMYK", (0, 0, 0, 0), (255, 255, 255)),
        ("I;16", 257 * 100, (100, 100, 100)),
        ("P", 0, (0, 0, 0)),
    ],
)
def test_modes(tmp_path: Path, mode: str, colour, rgb):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new(mode, (5, 4), colour).save(path)
    planes = decode(path, Form(3, 4, 5)).reshape(3, -1)
    assert (planes == np.array(rgb)[:, None]).all()
    gray = decode(path, Form(1, 4, 5))
    np.testing.assert_allclose(gray, rgb @ np.array([0.299, 0.587, 0.114]), atol=1)


def png16(channels: int) -> bytes:
    """Return a PNG of 4 x 3 pixels of 16 bits a channel, which Pillow does not write in colours."""
    row = b"\0" + (1000 * np.arange(4 * channels)).astype(">u2").tobytes()
    return data_files.png(4, 3, zlib.compress(3 * row), bits=16, colour={1: 0, 2: 4, 3: 2, 4: 6}[channels])


@pytest.mark.parametrize("kind", ["gray", "gray alpha", "rgb", "rgba", "ppm", "pgm", "tiff", "tiff of 32"])
def test_images_of_more_than_8_bits_are_told(folder: Path, kind: str):
    numbers = np.arange(12).reshape(3, 4)
    path = folder / "red" / "deep.png"
    if kind in ("ppm", "pgm"):
        path = path.with_suffix(f".{kind}")
        samples = 1000 * np.arange(36 if kind == "ppm" else 12)
        path.write_bytes((b"P6" if kind == "ppm" else b"P5") + b" 4 3 65535\n" + samples.astype(">u2").tobytes())
    elif kind.startswith("tiff"):
        path = path.with_suffix(".tif")
        Image.fromarray((5000 * numbers).astype(np.int32 if "32" in kind else np.uint16)).save(path)
    else:
        path.write_bytes(png16({"gray": 1, "gray alpha": 2, "rgb": 3, "rgba": 4}[kind]))
    raw = read_raw(folder, image_size="6x8", image_mode="rgb")
    assert raw.notes == (f"{path}: has more than 8 bits a channel; of 16 bits the upper 8 are kept",)
    assert len(raw.labels) + len(raw.labels_test) == 13


def test_several_such_images_are_told_of_once(folder: Path):
    for i in range(3):
        (folder / "blue" / f"deep{i}.png").write_bytes(png16(3))
    (note,) = read_raw(folder, image_size="6x8").notes
    assert "deep0.png: has more than 8 bits a channel, as 2 other images; of 16" in note


@pytest.mark.parametrize(("low", "high"), [(-5, 100), (0, 65_536), (0, 2_000_000)])
def test_pixels_beyond_16_bits_are_left_out_and_told(folder: Path, low: int, high: int):
    Image.fromarray(np.array([[low, high, 9], [1, 2, 3]], np.int32)).save(folder / "red" / "deep.tif")
    (note,) = read_raw(folder, image_size="6x8").notes
    assert f"red/deep.tif (pixels from {low:,} to {high:,}, beyond 16 bits)" in note


@pytest.mark.parametrize("strip", [50, 333])
@pytest.mark.parametrize("turn", range(1, 9))
def test_strips_of_a_picture_give_the_same_values(tmp_path: Path, monkeypatch, strip: int, turn: int):
    exif = Image.Exif()
    exif[0x0112] = turn
    rng = np.random.default_rng(turn)
    for mode, shape in (("L", (23, 31)), ("RGBA", (23, 31, 4)), ("LA", (23, 31, 2))):
        path = tmp_path / f"{mode}.png"
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(path, exif=exif)
        for form in (Form(3, 8, 8), Form(1, 23, 31), Form(3, 31, 23), Form(3, 40, 50), Form(3, 9, 40), Form(1, 24, 30)):
            monkeypatch.setattr(image_decoding, "_STRIP", 2**20)
            whole = decode(path, form)
            with Image.open(path) as image:
                upright = ImageOps.exif_transpose(image).convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
            upright = upright.convert("L" if form.channels == 1 else "RGB")
            by_pillow = np.asarray(upright.resize((form.width, form.height), Image.Resampling.BILINEAR))
            if mode != "L" or form.channels == 1:
                planes = by_pillow if form.channels == 1 else by_pillow.transpose(2, 0, 1)
                np.testing.assert_array_equal(whole, planes.reshape(-1))
            monkeypatch.setattr(image_decoding, "_STRIP", strip)
            np.testing.assert_array_equal(decode(path, form), whole)


def test_gray_images_stay_gray(tmp_path: Path):
    for name in "ab":
        (tmp_path / "g" / name).mkdir(parents=True)
        for i in range(4):
            Image.new("L", (5, 4), 10 * i).save(tmp_path / "g" / name / f"{i}.png")
    assert read_raw(tmp_path / "g").image_shape == (1, 4, 5)
    assert read_raw(tmp_path / "g", image_mode="rgb").image_shape == (3, 4, 5)


def test_photographs_are_turned_upright(tmp_path: Path):
    image = Image.new("RGB", (4, 2), (255, 0, 0))
    image.putpixel((0, 0), (0, 0, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees, clockwise
    image.save(tmp_path / "a.png", exif=exif)
    planes = decode(tmp_path / "a.png", Form(3, 4, 2)).reshape(3, 4, 2)
    assert planes[2, 0, 1] == 255
    assert planes[2].sum() == 255


def test_what_cannot_be_read_is_left_out_and_listed(folder: Path):
    whole = (folder / "red" / "0.png").read_bytes()
    (folder / "red" / "cut.png").write_bytes(whole[:60])
    (folder / "red" / "text.jpg").write_text("no image")
    (folder / "red" / "notes.txt").write_text("not even meant to be one")
    (folder / "blue" / "link.png").symlink_to(folder / "red" / "0.png")
    os.mkfifo(folder / "blue" / "pipe.png")
    (folder / "empty").mkdir()
    raw = read_raw(folder)
    (note,) = raw.notes
    assert note.startswith(f"warning: {folder}: left out 5 files: ")
    assert "red/text.jpg (no image)" in note
    assert "blue/link.png (a link, or no file)" in note
    assert sorted(name.split(" ")[0] for name in raw.about["left out"]) == [
        *("blue/link.png", "blue/pipe.png", "empty/", "red/cut.png", "red/text.jpg"),
    ]
    assert len(raw.labels) + len(raw.labels_test) == 12
    assert raw.class_names == ("blue", "red")


def test_a_folder_without_enough_is_refused(tmp_path: Path):
    data_files.write_images(tmp_path / "p")
    for path in (tmp_path / "p" / "red").iterdir():
        path.unlink()
    refused("has images of 1 class; it must have a subfolder for each of at least 2", tmp_path / "p")
    (tmp_path / "p" / "red" / "a.png").write_text("x")
    for path in (tmp_path / "p" / "blue").iterdir():
        path.write_text("x")
    refused("no image can be read, of 7", tmp_path / "p")
    refused("is a single image; pass the folder", tmp_path / "p" / "red" / "a.png")
