"""Every kind of data that is read from a path, recognised by its content, in one table."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from xpnet.config.definitions import DataConfig
from xpnet.config.fields import shown
from xpnet.data.dataset import RawDataset
from xpnet.data.find import published_in
from xpnet.data.readers import cifar, idx, images, npy, tabular
from xpnet.data.readers.compressed import open_unzipped
from xpnet.data.readers.csv import is_text
from xpnet.errors import DataError
from xpnet.utils.file_system import open_regular

ACCEPTED = (
    "cifar10, cifar100, mnist, fashion-mnist, patterns, patterns:N/M, a folder or .tar.gz of CIFAR-10 or CIFAR-100, "
    "a folder of MNIST's IDX files, a folder of images with one subfolder a class, a .csv, .parquet, .npz or .npy file"
)
# Settings that say how data is read; a format that does not use one refuses it.
_SETTINGS = (
    *("target", "header", "weight", "test_fraction", "data_seed", "image_size", "image_mode", "labels", "drop_columns"),
)
_SPLIT = ("test_fraction", "data_seed")


class Format(NamedTuple):
    """A kind of data: its reader, and the settings that it uses."""

    read: Callable[[Path, DataConfig], RawDataset]
    uses: tuple[str, ...]


def _read_folder_of_tables(path: Path, config: DataConfig) -> RawDataset:
    train, test = tabular.tables_in(path) or (path, None)
    return tabular.read_tables(train, config, None if config.test_fraction is not None else test)


_CIFAR = Format(lambda path, config: cifar.read_folder(path, config.labels), ("labels",))
_CIFAR_ARCHIVE = Format(lambda path, config: cifar.read_archive(path, config.labels), ("labels",))
_IDX = Format(lambda path, _: idx.read_idx(path), ())
_NPZ = Format(npy.read_npz, _SPLIT)
_NPY = Format(npy.read_npy, (*_SPLIT, "target"))
_TABLE = Format(tabular.read_tables, (*_SPLIT, "target", "header", "weight", "drop_columns"))
_TABLES = Format(_read_folder_of_tables, (*_SPLIT, "target", "header", "weight", "drop_columns"))
_IMAGES = Format(images.read_images, (*_SPLIT, "image_size", "image_mode"))


def read_path(path: Path, config: DataConfig) -> RawDataset:
    """Read the data at `path`."""
    try:
        if not path.exists():
            raise DataError(f"data = {path}: there is no such file or folder; it can be {ACCEPTED}")
        form, path = _format_of(path)
        check_used(form.uses, config, str(path))
        return form.read(path, config)
    except OSError as error:
        raise DataError(f"data = {path}: cannot be read ({error.strerror or error})") from None


def uses(path: Path) -> tuple[str, ...]:
    """Return the settings that the data at `path` takes; empty if its kind is not known."""
    try:
        return _format_of(path)[0].uses
    except (DataError, OSError):
        return ()


def check_used(used: tuple[str, ...], config: DataConfig, data: str) -> None:
    """Refuse a given setting that has no effect."""
    for name in _SETTINGS:
        value = getattr(config, name)
        if value is not None and name not in used:
            known = ", ".join(used) or "none"
            raise DataError(f"{name} = {shown(value)}: has no effect on {data}; of these settings it takes {known}")


def _format_of(path: Path) -> tuple[Format, Path]:
    """Return the format of the data at a path, and the path that its reader takes."""
    return _format_of_folder(path) if path.is_dir() else _format_of_file(path)


def _format_of_folder(path: Path) -> tuple[Format, Path]:
    published = published_in(path)
    if published is not None and published.is_file():
        return _CIFAR_ARCHIVE, published
    if published is not None:
        return (_CIFAR if cifar.kind_in(published) is not None else _IDX), published
    if (features := npy.npy_in(path)) is not None:
        return _NPY, features
    if tabular.tables_in(path) is not None:
        return _TABLES, path
    if images.is_image_folder(path):
        return _IMAGES, path
    raise DataError(
        f"data = {path}: is a folder without CIFAR-10's data_batch_1, IDX files, a table, or subfolders with images; "
        f"it can be {ACCEPTED}"
    )


def _format_of_file(path: Path) -> tuple[Format, Path]:
    """Recognise a file by its content, or by its name if the content is ambiguous."""
    if not path.is_file():
        raise DataError(f"data = {path}: is neither a file nor a folder; it can be {ACCEPTED}")
    with open_regular(path, links=True) as file:
        start = file.read(512)
        zipped = zipfile.is_zipfile(file)
    if start[:2] == b"\x1f\x8b":
        inner = _unzipped_start(path)
        if idx.is_idx(inner):
            return _IDX, path.parent
        tar = path.name.endswith((".tar.gz", ".tgz")) or inner[257:262] == b"ustar" or not is_text(inner)
        return (_CIFAR_ARCHIVE if tar else _TABLE), path
    if start[257:262] == b"ustar" or path.name.endswith((".tar.gz", ".tgz", ".tar")):
        return _CIFAR_ARCHIVE, path
    if start[:6] == b"\x93NUMPY":
        return _NPY, path
    if start[:4] == b"PAR1":
        return _TABLE, path
    if idx.is_idx(start):
        return _IDX, path.parent
    if zipped or start[:2] == b"PK" or path.suffix == ".npz":
        return _NPZ, path
    if is_text(start) or path.name.lower().endswith((".csv", ".tsv")):
        return _TABLE, path
    raise DataError(f"data = {path}: is {_hint(start, path)}; it can be {ACCEPTED}")


def _hint(start: bytes, path: Path) -> str:
    if start[:19] == b"MATLAB 5.0 MAT-file" or start[:1] == b"\x80":
        return "a single file; pass the folder of all of CIFAR-10's"
    if path.suffix.lower() in images.SUFFIXES:
        return "a single image; pass the folder of all of them"
    return "of no known kind"


def _unzipped_start(path: Path) -> bytes:
    try:
        with open_unzipped(path) as file:
            return file.read(512)
    except (OSError, DataError):
        return b""
