"""Folders of images, one subfolder a class."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xpnet.config.definitions import DataConfig
from xpnet.data.arrays import About, SplitPolicy, build_source
from xpnet.data.dataset import RawDataset
from xpnet.data.feature_table import Table, table_in_memory
from xpnet.data.readers.pictures import Form, decode, opened
from xpnet.data.readers.safe_pickle import printable
from xpnet.errors import DataError
from xpnet.utils.memory import check_room
from xpnet.utils.plural import counted

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".pbm", ".tif", ".tiff"))
_MOST_IMAGES = 10_000_000
# Without a size that is asked for, images keep the one that they share, up to this many pixels a side.
_LARGEST_SIDE = 128
_TRAINING, _TESTING = ("train", "training"), ("test", "testing", "val", "valid", "validation")
_GRAY = ("1", "L", "LA", "I;16", "I;16B", "I;16L", "I")


@dataclass
class _Found:
    """The images of one set: paths, their classes, and what was left out."""

    paths: list[Path]
    labels: list[int]
    left_out: list[str]


def is_image_folder(folder: Path) -> bool:
    """Return whether a folder has subfolders with images in them."""
    part = _parts(folder)[0]
    return any(_images_in(entry) for entry in _folders(part))


def read_images(folder: Path, config: DataConfig) -> RawDataset:
    """Read a folder with one subfolder a class, or two such folders called ``train`` and ``test``.

    Images of any size and mode are brought to one; what cannot be read is left out and told of.

    Raises:
        DataError: There are fewer than two classes, no images, or sizes differ and none is asked for.
        OSError: A folder cannot be read.
    """
    training, testing = _parts(folder)
    names = tuple(path.name for path in _folders(training) if _images_in(path))
    if len(names) < 2:
        raise DataError(
            f"{folder}: has images of {counted(len(names), 'class')}; it must have a subfolder for each of at least 2"
        )
    train = _find(training, names, folder)
    test = None if testing is None else _find(testing, names, folder)
    form = _form(train, config, folder)
    broken: list[str] = []
    deep: list[Path] = []
    # What cannot be decoded is only known when it has been tried, and arrays are made before that.
    table, labels = _table(train, form, broken, deep)
    tested = None if test is None else _table(test, form, broken, deep)
    left_out = [*train.left_out, *(test.left_out if test else []), *broken]
    about = {"what": "folder of images", "left out": left_out}
    shown = tuple(printable(name) for name in names)
    fraction = config.test_fraction if testing is not None or config.test_fraction else 0.1
    return build_source(
        table,
        labels,
        tested,
        shown,
        About(folder.resolve().name, str(folder.resolve()), notes=_notes(left_out, deep, folder), about=about),
        str(folder),
        SplitPolicy(config.data_seed or 0, fraction),
    )


def _notes(left_out: list[str], deep: list[Path], folder: Path) -> tuple[str, ...]:
    if not left_out:
        return deep_notes(deep)
    more = f" and {len(left_out) - 5:,} more (xpnet data info lists all)" if len(left_out) > 5 else ""
    told = f"warning: {folder}: left out {counted(len(left_out), 'file')}: {'; '.join(left_out[:5])}{more}"
    return (told, *deep_notes(deep))


def deep_notes(deep: Sequence[Path]) -> tuple[str, ...]:
    """Return a sentence that says of which images bits were left out, if of any."""
    if not deep:
        return ()
    more = f", as {counted(len(deep) - 1, 'other image')}" if len(deep) > 1 else ""
    return (f"{deep[0]}: has more than 8 bits a channel{more}; of 16 bits the upper 8 are kept",)


def _parts(folder: Path) -> tuple[Path, Path | None]:
    """Return the folder with the classes to train with, and the one to test with if there is one."""
    by_name = {path.name.lower(): path for path in _folders(folder)}
    train = next((by_name[name] for name in _TRAINING if name in by_name), None)
    test = next((by_name[name] for name in _TESTING if name in by_name), None)
    return (folder, None) if train is None else (train, test)


def _folders(folder: Path) -> list[Path]:
    """Return the subfolders that are no links, sorted."""
    with os.scandir(folder) as entries:
        return sorted(Path(entry) for entry in entries if entry.is_dir(follow_symlinks=False) and entry.name[0] != ".")


def _images_in(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(Path(entry).suffix.lower() in SUFFIXES for entry in entries)


def _find(folder: Path, names: Sequence[str], root: Path) -> _Found:
    found = _Found([], [], [])
    known = set(names)
    for extra in [path.name for path in _folders(folder) if path.name not in known]:
        found.left_out.append(f"{printable(extra)}/ (no images, or no class of the training set)")
    for label, name in enumerate(names):
        if not (folder / name).is_dir():
            continue
        with os.scandir(folder / name) as entries:
            paths = sorted((entry for entry in entries), key=lambda entry: entry.name)
        for entry in paths:
            path = Path(entry)
            if path.suffix.lower() not in SUFFIXES:
                continue
            shown = printable(str(path.relative_to(root)))
            if not entry.is_file(follow_symlinks=False):
                found.left_out.append(f"{shown} (a link, or no file)")
                continue
            found.paths.append(path)
            found.labels.append(label)
            if len(found.paths) > _MOST_IMAGES:
                raise DataError(f"{root}: has more than {_MOST_IMAGES:,} images; take a .npy file instead")
    return found


def _form(found: _Found, config: DataConfig, folder: Path) -> Form:
    """Return the form that is asked for, or the one that the images have."""
    sizes: Counter[tuple[int, int]] = Counter()
    gray = True
    if config.image_size is None or config.image_mode is None:
        for path in found.paths:
            try:
                with opened(path) as image:
                    sizes[image.size[1], image.size[0]] += 1
                    gray &= image.mode in _GRAY
            except ValueError:
                pass  # it is told of when it is decoded
        if not sizes:
            raise DataError(f"{folder}: no image can be read, of {len(found.paths):,}")
    channels = 1 if config.image_mode == "gray" or (config.image_mode is None and gray) else 3
    if config.image_size is not None:
        height, width = map(int, config.image_size.split("x"))
        return Form(channels, height, width)
    height, width = sizes.most_common(1)[0][0]
    if len(sizes) > 1 or max(height, width) > _LARGEST_SIDE:
        has = f"are of {len(sizes):,} sizes" if len(sizes) > 1 else f"have {height}x{width} pixels"
        raise DataError(f"{folder}: its images {has}; pass the size to bring them to, such as --image-size 32")
    return Form(channels, height, width)


def _table(found: _Found, form: Form, broken: list[str], deep: list[Path]) -> tuple[Table, NDArray[np.int64]]:
    """Return the images as a table; those that cannot be decoded are not in it, and are added to `broken`."""
    width = form.channels * form.height * form.width
    check_room(len(found.paths) * width, f"{len(found.paths):,} images")
    x = np.empty((len(found.paths), width), np.uint8)
    labels: list[int] = []
    for path, label in zip(found.paths, found.labels, strict=True):
        try:
            x[len(labels)] = decode(path, form, deep)
        except ValueError as error:
            broken.append(f"{printable(str(Path(*path.parts[-2:])))} ({error})")
            continue
        labels.append(label)
    if not labels:
        raise DataError(f"{broken[0] if broken else 'the folder'}: none of the images can be read")
    x.resize((len(labels), width), refcheck=False)
    return table_in_memory(x, (form.channels, form.height, form.width)), np.array(labels, np.int64)
