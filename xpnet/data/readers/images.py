"""Folders of images, one subfolder a class."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xpnet.config.definitions import DataConfig
from xpnet.data.arrays import DatasetMetadata, SplitPolicy, raw_from_table
from xpnet.data.dataset import RawDataset
from xpnet.data.feature_table import Table, table_in_memory
from xpnet.data.readers.image_decoding import Form, decode, open_image
from xpnet.data.readers.safe_pickle import printable
from xpnet.errors import DataError
from xpnet.utils.extras import need
from xpnet.utils.memory import check_room
from xpnet.utils.plural import counted

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".pbm", ".tif", ".tiff"))
_MOST_IMAGES = 10_000_000
# If no size is given, images keep the size that they share, up to this many pixels a side.
_LARGEST_SIDE = 128
_TRAINING, _TESTING = ("train", "training"), ("test", "testing", "val", "valid", "validation")
_GRAY = ("1", "L", "LA", "I;16", "I;16B", "I;16L", "I")


@dataclass
class _ImageList:
    """The images of one set: paths, their classes, and files that were left out, with the reason."""

    paths: list[Path] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def is_image_folder(folder: Path) -> bool:
    """Return whether a folder has subfolders with images in them."""
    return any(_has_images(entry) for entry in _folders(_train_and_test(folder)[0]))


def read_images(folder: Path, config: DataConfig) -> RawDataset:
    """Read a folder with one subfolder a class, or two such folders called ``train`` and ``test``.

    Images of any size and mode are converted to one; files that cannot be read are left out, and listed in the notes.
    """
    need("images", f"{folder}: a folder of images")
    training, testing = _train_and_test(folder)
    names = tuple(path.name for path in _folders(training) if _has_images(path))
    if len(names) < 2:
        raise DataError(
            f"{folder}: has images of {counted(len(names), 'class')}; it must have a subfolder for each of at least 2"
        )
    train = _list_images(training, names, folder)
    test = None if testing is None else _list_images(testing, names, folder)
    form = _form(train, config, folder)
    deep: list[Path] = []
    table, labels = _table(train, form, deep)
    tested = None if test is None else _table(test, form, deep)
    left_out = [*train.left_out, *(test.left_out if test else ())]
    location = str(folder.resolve())
    about = {"what": "folder of images", "left out": left_out}
    metadata = DatasetMetadata(folder.resolve().name, location, notes=_notes(left_out, deep, folder), about=about)
    policy = SplitPolicy.of(config, 0.1 if test is None else None)
    return raw_from_table(table, labels, tested, tuple(map(printable, names)), metadata, str(folder), policy)


def _notes(left_out: list[str], deep: list[Path], folder: Path) -> tuple[str, ...]:
    if not left_out:
        return deep_notes(deep)
    more = f" and {len(left_out) - 5:,} more (xpnet data info lists all)" if len(left_out) > 5 else ""
    warning = f"warning: {folder}: left out {counted(len(left_out), 'file')}: {'; '.join(left_out[:5])}{more}"
    return (warning, *deep_notes(deep))


def deep_notes(deep: Sequence[Path]) -> tuple[str, ...]:
    """Return a sentence that names the images reduced to 8 bits a channel, if there are any."""
    if not deep:
        return ()
    more = f", as {counted(len(deep) - 1, 'other image')}" if len(deep) > 1 else ""
    return (f"{deep[0]}: has more than 8 bits a channel{more}; of 16 bits the upper 8 are kept",)


def _train_and_test(folder: Path) -> tuple[Path, Path | None]:
    """Return the folder with the classes to train with, and the one to test with if there is one."""
    by_name = {path.name.lower(): path for path in _folders(folder)}
    train = next((by_name[name] for name in _TRAINING if name in by_name), None)
    test = next((by_name[name] for name in _TESTING if name in by_name), None)
    return (folder, None) if train is None else (train, test)


def _folders(folder: Path) -> list[Path]:
    """Return the subfolders that are not links, sorted."""
    with os.scandir(folder) as entries:
        return sorted(Path(entry) for entry in entries if entry.is_dir(follow_symlinks=False) and entry.name[0] != ".")


def _has_images(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(Path(entry).suffix.lower() in SUFFIXES for entry in entries)


def _list_images(folder: Path, names: Sequence[str], root: Path) -> _ImageList:
    images, known = _ImageList(), set(names)
    for extra in (path.name for path in _folders(folder) if path.name not in known):
        images.left_out.append(f"{printable(extra)}/ (no images, or no class of the training set)")
    for label, name in enumerate(names):
        if not (folder / name).is_dir():
            continue
        with os.scandir(folder / name) as entries:
            files = sorted(entries, key=lambda entry: entry.name)
        for entry in files:
            path = Path(entry)
            if path.suffix.lower() not in SUFFIXES:
                continue
            if not entry.is_file(follow_symlinks=False):
                images.left_out.append(f"{printable(str(path.relative_to(root)))} (a link, or no file)")
                continue
            images.paths.append(path)
            images.labels.append(label)
            if len(images.paths) > _MOST_IMAGES:
                raise DataError(f"{root}: has more than {_MOST_IMAGES:,} images; take a .npy file instead")
    return images


def _form(images: _ImageList, config: DataConfig, folder: Path) -> Form:
    """Return the form that the settings ask for, or else the form of the images."""
    sizes: Counter[tuple[int, int]] = Counter()
    gray = True
    if config.image_size is None or config.image_mode is None:
        for path in images.paths:
            with contextlib.suppress(ValueError), open_image(path) as image:  # it is listed when it is decoded
                sizes[image.size[1], image.size[0]] += 1
                gray &= image.mode in _GRAY
        if not sizes:
            raise DataError(f"{folder}: no image can be read, of {len(images.paths):,}")
    channels = 1 if config.image_mode == "gray" or (config.image_mode is None and gray) else 3
    if config.image_size is not None:
        height, width = map(int, config.image_size.split("x"))
        return Form(channels, height, width)
    height, width = sizes.most_common(1)[0][0]
    if len(sizes) > 1 or max(height, width) > _LARGEST_SIDE:
        has = f"are of {len(sizes):,} sizes" if len(sizes) > 1 else f"have {height}x{width} pixels"
        raise DataError(f"{folder}: its images {has}; pass the size to bring them to, such as --image-size 32")
    return Form(channels, height, width)


def _table(images: _ImageList, form: Form, deep: list[Path]) -> tuple[Table, NDArray[np.int64]]:
    """Return a table of the images that can be decoded; list the others in `images` as left out."""
    count, width = len(images.paths), form.channels * form.height * form.width
    check_room(count * width, f"{count:,} images")
    x = np.empty((count, width), np.uint8)
    labels: list[int] = []
    for path, label in zip(images.paths, images.labels, strict=True):
        try:
            x[len(labels)] = decode(path, form, deep)
        except ValueError as error:
            images.left_out.append(f"{printable(str(Path(*path.parts[-2:])))} ({error})")
            continue
        labels.append(label)
    if not labels:
        first = images.left_out[-count] if count else "the folder"
        raise DataError(f"{first}: none of the images can be read")
    x.resize((len(labels), width), refcheck=False)
    return table_in_memory(x, (form.channels, form.height, form.width)), np.array(labels, np.int64)
