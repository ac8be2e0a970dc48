"""Every kind of data that is read from a path, recognised by its content, in one table."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from xpnet.config.definitions import DataConfig
from xpnet.config.fields import shown
from xpnet.data.dataset import RawDataset
from xpnet.data.find import published_in
from xpnet.data.readers import cifar, idx, images, npy, tabular
from xpnet.data.readers.csv import is_text
from xpnet.data.readers.packed import opened
from xpnet.errors import DataError
from xpnet.utils.file_system import open_regular

ACCEPTED = (
    "cifar10, cifar100, mnist, fashion-mnist, patterns, patterns:N/M, a folder or .tar.gz of CIFAR-10 or CIFAR-100, "
    "a folder of MNIST's IDX files, a folder of images with one subfolder a class, a .csv, .parquet, .npz or .npy file"
)
# Settings that say how data is read; a format that does not use one refuses it.
_HOW = ("target", "header", "test_fraction", "data_seed", "image_size", "image_mode", "labels")
_DIVIDED = ("test_fraction", "data_seed")


@dataclass(frozen=True)
class Format:
    """A kind of data: what it is called, which settings it uses, and what reads it."""

    name: str
    uses: tuple[str, ...]
    read: Callable[[Path, DataConfig], RawDataset]


def _folder_of_cifar(path: Path, config: DataConfig) -> RawDataset:
    kind = cifar.kind_in(path, config.labels)
    if kind is None:
        raise DataError(f"{path}: has no files of CIFAR-10 or CIFAR-100")
    return _only_cifar100(cifar.read_folder(path, kind), config)


def _archive_of_cifar(path: Path, config: DataConfig) -> RawDataset:
    return _only_cifar100(cifar.read_archive(path, config.labels), config)


def _only_cifar100(source: RawDataset, config: DataConfig) -> RawDataset:
    if source.name == "cifar10" and config.labels is not None:
        raise DataError(f"labels = {config.labels}: CIFAR-10 has one kind of labels; leave labels out")
    return source


def _tables_of(path: Path, config: DataConfig) -> RawDataset:
    found = tabular.tables_in(path)
    if found is None:
        raise DataError(f"{path}: has no table to train with")
    return tabular.read_tables(found[0], config, None if config.test_fraction is not None else found[1])


def _npy_of(path: Path, config: DataConfig) -> RawDataset:
    return npy.read_npy(npy.npy_in(path) or path, config)


_FORMATS = {
    form.name: form
    for form in (
        Format("CIFAR", ("labels",), _folder_of_cifar),
        Format("CIFAR archive", ("labels",), _archive_of_cifar),
        Format("IDX", (), lambda path, _: idx.read_idx(path)),
        Format("npz", _DIVIDED, npy.read_npz),
        Format("npy", (*_DIVIDED, "target"), npy.read_npy),
        Format("npy pair", (*_DIVIDED, "target"), _npy_of),
        Format("CSV", (*_DIVIDED, "target", "header"), tabular.read_tables),
        Format("Parquet", (*_DIVIDED, "target", "header"), tabular.read_tables),
        Format("folder of tables", (*_DIVIDED, "target", "header"), _tables_of),
        Format("images", (*_DIVIDED, "image_size", "image_mode"), images.read_images),
    )
}


def read_path(path: Path, config: DataConfig) -> RawDataset:
    """Read what lies at `path`.

    Raises:
        DataError: There is nothing, it is of no known kind, broken, or asked for with a setting that means nothing.
    """
    try:
        if not path.exists():
            raise DataError(f"data = {path}: there is no such file or folder; it can be {ACCEPTED}")
        name, path = _folder(path) if path.is_dir() else _file(path)
        check_used(_FORMATS[name].uses, config, str(path))
        return _FORMATS[name].read(path, config)
    except OSError as error:
        raise DataError(f"data = {path}: cannot be read ({error.strerror or error})") from None


def uses(path: Path) -> tuple[str, ...]:
    """Return the settings that the data at `path` takes; none where it cannot be told what it is."""
    try:
        return _FORMATS[(_folder(path) if path.is_dir() else _file(path))[0]].uses
    except (DataError, OSError):
        return ()


def check_used(used: tuple[str, ...], config: DataConfig, where: str) -> None:
    """Refuse a setting that was given and has no effect."""
    for name in _HOW:
        value = getattr(config, name)
        if value is not None and name not in used:
            known = ", ".join(used) or "none"
            raise DataError(f"{name} = {shown(value)}: has no effect on {where}; of these settings it takes {known}")


def _folder(path: Path) -> tuple[str, Path]:
    found = published_in(path)
    if found is not None and found.is_file():
        return "CIFAR archive", found
    if found is not None:
        return ("CIFAR" if cifar.kind_in(found) is not None else "IDX"), found
    if npy.npy_in(path) is not None:
        return "npy pair", path
    if tabular.tables_in(path) is not None:
        return "folder of tables", path
    if images.is_image_folder(path):
        return "images", path
    raise DataError(
        f"data = {path}: is a folder without CIFAR-10's data_batch_1, IDX files, a table, or subfolders with images; "
        f"it can be {ACCEPTED}"
    )


def _file(path: Path) -> tuple[str, Path]:
    """Tell what a file is rather than what it is called, where that can be told."""
    if not path.is_file():
        raise DataError(f"data = {path}: is neither a file nor a folder; it can be {ACCEPTED}")
    with open_regular(path, links=True) as file:
        start = file.read(512)
        zipped = zipfile.is_zipfile(file)
    if start[:2] == b"\x1f\x8b":
        inner = _unzipped(path)
        if idx.is_idx(inner):
            return "IDX", path.parent
        tar = path.name.endswith((".tar.gz", ".tgz")) or inner[257:262] == b"ustar" or not is_text(inner)
        return ("CIFAR archive" if tar else "CSV"), path
    if start[257:262] == b"ustar" or path.name.endswith((".tar.gz", ".tgz", ".tar")):
        return "CIFAR archive", path
    if start[:6] == b"\x93NUMPY":
        return "npy", path
    if start[:4] == b"PAR1":
        return "Parquet", path
    if idx.is_idx(start):
        return "IDX", path.parent
    if zipped or start[:2] == b"PK" or path.suffix == ".npz":
        return "npz", path
    if is_text(start) or path.name.lower().endswith((".csv", ".tsv")):
        return "CSV", path
    raise DataError(f"data = {path}: is {_hint(start, path)}; it can be {ACCEPTED}")


def _hint(start: bytes, path: Path) -> str:
    if start[:19] == b"MATLAB 5.0 MAT-file" or start[:1] == b"\x80":
        return "a single file; pass the folder of all of CIFAR-10's"
    if path.suffix.lower() in images.SUFFIXES:
        return "a single image; pass the folder of all of them"
    return "of no known kind"


def _unzipped(path: Path) -> bytes:
    try:
        with opened(path) as file:
            return file.read(512)
    except (OSError, DataError):
        return b""
