"""CIFAR-10 and CIFAR-100 as published for Python, C and MATLAB, made into one data set."""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from xpnet.data.dataset import RawDataset
from xpnet.data.growing_table import GrowingTable, reorder
from xpnet.data.published import ARCHIVES, BATCH_MD5
from xpnet.data.readers.archive import md5_of, members_of, open_archive
from xpnet.data.readers.cifar_layouts import CIFAR_10, IMAGE_SHAPE, Kind, cifar_100, layout_of, read_batch, read_names
from xpnet.data.splits import nine_tenths
from xpnet.errors import DataError
from xpnet.utils.file_system import open_regular

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_PUBLISHED_ROWS = 10_000  # in a file of CIFAR-10
_LARGEST = 256 * 2**20  # a published file has 31 MB, or 155 MB for CIFAR-100


def kind_in(folder: Path, labels: str | None = None) -> Kind | None:
    """Return which of the two data sets lies in `folder`, or None."""
    for kind in (CIFAR_10, cifar_100(labels)):
        if kind.suffix_of(lambda name: (folder / name).is_file()) is not None:
            return kind
    return None


def read_folder(folder: Path, labels: str | None = None) -> RawDataset:
    """Read the files in `folder`, with the ``fine`` or ``coarse`` labels of CIFAR-100."""
    kind = kind_in(folder, labels) or CIFAR_10

    def files() -> Iterator[tuple[str, bytes]]:
        suffix = kind.suffix_of(lambda name: (folder / name).is_file()) or ""
        for path in (folder / name for name in (*kind.files(suffix), kind.meta[suffix])):
            if path.is_file():
                _check_size(path.stat().st_size, path)
                with open_regular(path, links=True) as file:
                    content = file.read()
                yield path.name, content
                del content  # before the next one is read

    return _Assembly(folder, [kind]).read(files(), labels)


def read_archive(path: Path, labels: str | None = None) -> RawDataset:
    """Read the files in a published archive, without writing them to the disk; see :func:`read_folder`."""
    kinds = [CIFAR_10, cifar_100(labels)]
    known = kinds[0].all_files() | kinds[1].all_files()

    def files() -> Iterator[tuple[str, bytes]]:
        with open_archive(path) as archive:
            for member in members_of(archive, path):
                name = PurePosixPath(member.name).name
                if member.isfile() and name in known:
                    _check_size(member.size, path / name)
                    content = io.BytesIO()  # grows in place; a stream's own read() joins pieces
                    shutil.copyfileobj(cast(Any, archive.extractfile(member)), content, 2**18)
                    yield name, content.getvalue()

    return _Assembly(path, kinds).read(files(), labels)


def _check_size(size: int, path: Path) -> None:
    if size > _LARGEST:
        raise DataError(f"{path}: has {size:,} bytes; a batch of CIFAR-10 has 31 million")


class _Assembly:
    """Builds the data set from files that come one by one, in any order; each is released before the next."""

    def __init__(self, path: Path, kinds: list[Kind]) -> None:
        self._path, self._kinds, self._kind = path, kinds, kinds[0]
        # Images of the only training file stay views of its bytes; those of several go into one table.
        self._views: dict[str, NDArray[np.uint8]] = {}
        self._table = GrowingTable()
        self._rows: dict[str, NDArray[np.int64]] = {}  # rows in the table, by file
        self._labels: dict[str, NDArray[np.int64]] = {}
        self._names: tuple[str, ...] | None = None
        self._layouts: set[str] = set()
        self._changed: list[str] = []  # files of the published size that are not the published ones

    def read(self, files: Iterator[tuple[str, bytes]], labels: str | None) -> RawDataset:
        """Read all files and return the data set."""
        for name, content in files:
            self._add(name, content)
            del content  # before the next one is read
        if self._kind is CIFAR_10 and labels is not None:
            raise DataError(f"labels = {labels}: CIFAR-10 has one kind of labels; leave labels out")
        return self._dataset()

    def _add(self, name: str, content: bytes) -> None:
        self._kind = kind = next(kind for kind in self._kinds if name in kind.all_files())
        path = f"{self._path / name}"
        if name in kind.meta.values():
            self._names = read_names(content, path, kind)
            return
        x, self._labels[name] = read_batch(content, path, kind)
        self._layouts.add(layout_of(content, name, kind))
        if len(kind.training) == 1:
            self._views[name] = x
        else:
            self._rows[name] = self._table.rows + np.arange(len(x))
            self._table.add(x)
        published = BATCH_MD5.get(name) if len(x) == _PUBLISHED_ROWS else None
        if published is not None and hashlib.md5(content, usedforsecurity=False).hexdigest() != published:
            self._changed.append(name)

    def _dataset(self) -> RawDataset:
        kind, path = self._kind, self._path
        files = kind.files(kind.suffix_of(self._labels.__contains__) or "")
        missing = [name for name in files if name not in self._labels]
        if missing:
            has = f"{files[0]} to {files[-2]} and {files[-1]}" if len(files) > 2 else " and ".join(files)
            raise DataError(f"{path}: has no {', '.join(missing)}; {kind.title} has {has}")
        labels = np.concatenate([self._labels[name] for name in files])
        rows = len(labels) - len(self._labels[files[-1]])
        if len(kind.training) == 1:
            x, x_test = (np.ascontiguousarray(self._views.pop(name)) for name in files)
        else:
            order, images = np.concatenate([self._rows[name] for name in files]), self._table.finish()
            if len(order) < len(images):  # an archive may hold several layouts
                images = images[order]
            else:
                reorder(images, order)
            x, x_test = images[:rows], images[rows:]
        numbers = tuple(map(str, range(kind.classes)))
        return RawDataset(
            name=kind.name,
            location=str(path.resolve()),
            x=x,
            labels=labels[:rows],
            x_test=x_test,
            labels_test=labels[rows:],
            class_names=self._names or (CLASS_NAMES if kind is CIFAR_10 else numbers),
            image_shape=IMAGE_SHAPE,
            default_split="45k" if rows >= 50_000 else nine_tenths(rows),
            notes=self._notes(rows),
            about={"what": f"{kind.title}, {' and '.join(sorted(self._layouts))} layout", "test_set": "its own"},
        )

    def _notes(self, rows: int) -> tuple[str, ...]:
        """Return a warning where files of the published size are not the published ones."""
        changed = sorted(self._changed)
        if self._path.is_file():
            published = {archive.md5 for archive in ARCHIVES.values()}
            changed = ["the archive"] if rows == 5 * _PUBLISHED_ROWS and md5_of(self._path) not in published else []
        if not changed:
            return ()
        which = changed[0] if len(changed) == 1 else f"{changed[0]} and {len(changed) - 1} more"
        note = f"is well formed but not the published {self._kind.title} (the MD5 of {which} differs)"
        return (f"warning: {self._path}: {note}: a recompressed or changed copy",)
