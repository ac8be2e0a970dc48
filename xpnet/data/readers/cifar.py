"""CIFAR-10 and CIFAR-100 as published for Python, C and MATLAB, made into one data set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xpnet.data.dataset import RawDataset
from xpnet.data.published import ARCHIVES, BATCH_MD5
from xpnet.data.readers.archive import read_archive_files
from xpnet.data.readers.cifar_files import (
    CIFAR10,
    COARSE,
    FINE,
    IMAGE_SHAPE,
    PIXELS,
    LabelKey,
    layout_of,
    read_batch,
    read_names,
)
from xpnet.data.splits import nine_tenths
from xpnet.errors import DataError
from xpnet.utils.file_system import open_regular

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_SUFFIXES = ("", ".bin", ".mat")
_PUBLISHED_ROWS = 10_000  # of a file of CIFAR-10
_LARGEST = 256 * 2**20  # a published file has 31 MB, of CIFAR-100 155


@dataclass(frozen=True)
class Kind:
    """One of the two data sets: which files it has.

    Attributes:
        name: What it is called.
        training: Its files to train with, without their suffix.
        test: Its file to test with.
        label: Its labels.
        meta: Its files with the names of the classes, by suffix of the others.
    """

    name: str
    training: tuple[str, ...]
    test: str
    label: LabelKey
    meta: dict[str, str]

    def files(self, suffix: str) -> tuple[str, ...]:
        """Return the names of the files with images."""
        return tuple(stem + suffix for stem in (*self.training, self.test))

    def all_files(self) -> set[str]:
        """Return the names of all files, of every layout."""
        return {name for suffix in _SUFFIXES for name in self.files(suffix)} | set(self.meta.values())

    def suffix_of(self, has: Callable[[str], bool]) -> str | None:
        """Return the suffix of the layout that some files exist of; any will do, reading names those that do not."""
        return next((suffix for suffix in _SUFFIXES if any(map(has, self.files(suffix)))), None)


CIFAR_10 = Kind(
    "cifar10",
    tuple(f"data_batch_{number}" for number in range(1, 6)),
    "test_batch",
    CIFAR10,
    {"": "batches.meta", ".bin": "batches.meta.txt", ".mat": "batches.meta.mat"},
)


def cifar_100(labels: str | None = None) -> Kind:
    """Return CIFAR-100 with its ``fine`` or ``coarse`` labels."""
    coarse = labels == "coarse"
    names = "coarse_label_names.txt" if coarse else "fine_label_names.txt"
    meta = {"": "meta", ".bin": names, ".mat": "meta.mat"}
    return Kind("cifar100", ("train",), "test", COARSE if coarse else FINE, meta)


def kind_in(folder: Path, labels: str | None = None) -> Kind | None:
    """Return which of the two lies in `folder`, or None."""
    for kind in (CIFAR_10, cifar_100(labels)):
        if kind.suffix_of(lambda name: (folder / name).is_file()) is not None:
            return kind
    return None


def read_folder(folder: Path, kind: Kind) -> RawDataset:
    """Read the files in `folder`.

    Raises:
        DataError: A file is missing or broken.
        OSError: A file cannot be read.
    """

    def files() -> Iterator[tuple[str, bytes]]:
        suffix = kind.suffix_of(lambda name: (folder / name).is_file()) or ""
        for name in (*kind.files(suffix), kind.meta[suffix]):
            path = folder / name
            if path.is_file():
                _check_size(path.stat().st_size, path)
                with open_regular(path, links=True) as file:
                    content = file.read()
                yield name, content
                del content  # before the next one is read

    return _Assembly(folder, [kind]).read(files())


def read_archive(path: Path, labels: str | None = None) -> RawDataset:
    """Read the files in a published archive, without writing them to the disk.

    Raises:
        DataError: The archive is cut off, or a file is missing or broken.
        OSError: The file cannot be read.
    """
    kinds = [CIFAR_10, cifar_100(labels)]
    known = set().union(*(kind.all_files() for kind in kinds))
    files = read_archive_files(path, known.__contains__, lambda name, size: _check_size(size, path / name))
    return _Assembly(path, kinds).read(files)


def _check_size(size: int, path: Path) -> None:
    if size > _LARGEST:
        raise DataError(f"{path}: has {size:,} bytes; a batch of CIFAR-10 has 31 million")


class _Assembly:
    """Builds the data set from files that come one by one, each of which is let go before the next."""

    def __init__(self, where: Path, kinds: list[Kind]) -> None:
        self._where, self._kinds = where, kinds
        self._kind = kinds[0]
        self._batches: dict[str, tuple[NDArray[np.uint8], NDArray[np.int64]]] = {}
        # Training files of one size are put where they belong as they come, which is all but always.
        self._whole: NDArray[np.uint8] | None = None
        self._in_place: set[str] = set()
        self._names: tuple[str, ...] | None = None
        self._layouts: set[str] = set()
        self._md5: dict[str, str] = {}

    def read(self, files: Iterator[tuple[str, bytes]]) -> RawDataset:
        """Read all files and return the data set."""
        for name, content in files:
            if name == "":
                self._md5[""] = content.decode()
            else:
                self._take(name, content)
            del content  # before the next one is read
        return self._source()

    def _take(self, name: str, content: bytes) -> None:
        self._kind = next(kind for kind in self._kinds if name in kind.all_files())
        label, where = self._kind.label, f"{self._where / name}"
        if name in self._kind.meta.values():
            self._names = read_names(content, where, label)
            return
        x, labels = read_batch(content, where, label)
        self._layouts.add(layout_of(content, name, label))
        self._batches[name] = self._placed(name, x), labels
        if name in BATCH_MD5 and len(x) == _PUBLISHED_ROWS:
            self._md5[name] = hashlib.md5(content, usedforsecurity=False).hexdigest()

    def _placed(self, name: str, x: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return images of a training file in their place among those of all, which are as large as the first one."""
        stem, _, suffix = name.partition(".")
        stems = self._kind.training
        if stem not in stems or len(stems) == 1:
            return x
        if self._whole is None:
            self._whole = np.empty((len(stems) * len(x), PIXELS), np.uint8)
        rows, place = len(self._whole) // len(stems), stems.index(stem)
        # An archive may hold two layouts; the first one that comes has the places.
        if len(x) != rows or any(other.partition(".")[2] != suffix for other in self._in_place):
            return x
        self._in_place.add(name)
        slot = self._whole[place * rows : (place + 1) * rows]
        slot[...] = x
        return slot

    def _source(self) -> RawDataset:
        kind, where, batches = self._kind, self._where, self._batches
        suffix = kind.suffix_of(batches.__contains__) or ""
        wanted = kind.files(suffix)
        missing = [name for name in wanted if name not in batches]
        if missing:
            has = f"{wanted[0]} to {wanted[-2]} and {wanted[-1]}" if len(wanted) > 2 else " and ".join(wanted)
            raise DataError(f"{where}: has no {', '.join(missing)}; {kind.label.name} has {has}")
        labels = np.concatenate([batches[name][1] for name in wanted[:-1]])
        labels_test = batches[wanted[-1]][1]
        x_test = _joined([batches.pop(wanted[-1])[0]])
        x = self._whole
        if x is None or self._in_place != set(wanted[:-1]):
            x = _joined([batches.pop(name)[0] for name in wanted[:-1]])
        names = self._names or (CLASS_NAMES if kind is CIFAR_10 else tuple(map(str, range(kind.label.classes))))
        layout = " and ".join(sorted(self._layouts))
        return RawDataset(
            name=kind.name,
            location=str(where.resolve()),
            x=x,
            labels=labels,
            x_test=x_test,
            labels_test=labels_test,
            class_names=names,
            image_shape=IMAGE_SHAPE,
            default_split="45k" if len(labels) >= 50_000 else nine_tenths(len(labels)),
            notes=self._notes(len(labels)),
            about={"what": f"{kind.label.name}, {layout} layout", "test_set": "its own"},
        )

    def _notes(self, rows: int) -> tuple[str, ...]:
        """Say in one sentence that files of the published size are not the published ones."""
        other = [name for name, md5 in sorted(self._md5.items()) if name and md5 != BATCH_MD5[name]]
        whole = self._md5.get("")
        if whole is not None:
            known = {archive.md5 for archive in ARCHIVES.values()}
            other = ["the archive"] if rows == 5 * _PUBLISHED_ROWS and whole not in known else []
        if not other:
            return ()
        which = other[0] if len(other) == 1 else f"{other[0]} and {len(other) - 1} more"
        sentence = (
            f"warning: {self._where}: is well formed but not the published {self._kind.label.name} "
            f"(the MD5 of {which} differs): a recompressed or changed copy"
        )
        return (sentence,)


def _joined(parts: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return arrays one after the other, letting go of each as it is copied."""
    if len(parts) == 1 and parts[0].flags.c_contiguous:
        return parts[0]
    whole = np.empty((sum(map(len, parts)), PIXELS), np.uint8)
    start = 0
    while parts:
        part = parts.pop(0)
        whole[start : start + len(part)] = part
        start += len(part)
    return whole
