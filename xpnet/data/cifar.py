"""CIFAR-10 as published for Python: a folder of pickles, or the archive of that folder."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_dir

from xpnet.data.safe_pickle import read_pickle
from xpnet.data.source import Source
from xpnet.errors import DataError

FOLDER = "cifar-10-batches-py"
ARCHIVE = "cifar-10-python.tar.gz"
CIFAR10_HINT = (
    f"get {ARCHIVE} from https://www.cs.toronto.edu/~kriz/cifar.html and pass its path as --data, "
    "or put it in the working folder or in the folder that XPNET_DATA names"
)
CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_TRAINING = tuple(f"data_batch_{number}" for number in range(1, 6))
_TEST = "test_batch"
_META = "batches.meta"
_PIXELS = 3 * 32 * 32
_LARGEST = 256 * 2**20  # a published batch has 31 MB
_ARCHIVE_BYTES = 170_498_071


def find_cifar10() -> Path | None:
    """Return where CIFAR-10 lies on this machine, or None.

    Looks in the folder that ``XPNET_DATA`` names, in xpnet's cache folder, in the working folder and in
    its ``data`` folder, for the batches, their folder, or the published archive.
    """
    places = [Path(user_cache_dir("xpnet")), Path(), Path("data")]
    if os.environ.get("XPNET_DATA"):
        places.insert(0, Path(os.environ["XPNET_DATA"]))
    for place in places:
        for candidate in (place, place / FOLDER):
            if (candidate / _TRAINING[0]).is_file():
                return candidate.resolve()
        if (place / ARCHIVE).is_file():
            return (place / ARCHIVE).resolve()
    return None


def read_folder(folder: Path) -> Source:
    """Read the batches in `folder`.

    Raises:
        DataError: A batch is missing or broken.
    """

    def read(name: str) -> bytes | None:
        path = folder / name
        try:
            if path.stat().st_size > _LARGEST:
                raise DataError(f"{path}: has {path.stat().st_size:,} bytes; a batch of CIFAR-10 has 31 million")
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from None

    return _assemble({name: read(name) for name in (*_TRAINING, _TEST, _META)}, folder, folder)


def read_archive(path: Path) -> Source:
    """Read the batches in the published archive, without writing them to the disk.

    Raises:
        DataError: The archive is cut off, or a batch is missing or broken.
    """
    files: dict[str, bytes | None] = dict.fromkeys((*_TRAINING, _TEST, _META))
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in _members(archive):
                name = Path(member.name).name
                if name not in files or not member.isfile():
                    continue
                if member.size > _LARGEST:
                    raise DataError(f"{path}: its {name} has {member.size:,} bytes; a batch has 31 million")
                stream = archive.extractfile(member)
                files[name] = stream.read() if stream is not None else None
    except (tarfile.TarError, EOFError, OSError) as error:
        size = path.stat().st_size
        raise DataError(
            f"{path}: cannot be read to its end ({error}); it has {size:,} bytes, "
            f"the published archive has {_ARCHIVE_BYTES:,}; take another copy"
        ) from None
    return _assemble(files, path, path)


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for count, member in enumerate(archive):
        if count > 1000:
            raise DataError(f"{archive.name!s}: has more than 1,000 members; the published archive has 9")
        yield member


def _assemble(files: dict[str, bytes | None], where: Path, location: Path) -> Source:
    """Build the data set from the batches' bytes."""
    missing = [name for name in (*_TRAINING, _TEST) if files[name] is None]
    if missing:
        raise DataError(
            f"{where}: has no {', '.join(missing)}; CIFAR-10 has {_TRAINING[0]} to {_TRAINING[-1]} and {_TEST}"
        )
    meta = files.pop(_META)
    names = CLASS_NAMES if meta is None else _class_names(meta, f"{where / _META}")
    batches = [_batch(content or b"", f"{where / name}", len(names)) for name, content in files.items()]
    return Source(
        name="cifar10",
        location=str(location.resolve()),
        x=np.concatenate([x for x, _ in batches[:-1]]),
        labels=np.concatenate([labels for _, labels in batches[:-1]]),
        x_test=batches[-1][0],
        labels_test=batches[-1][1],
        class_names=names,
        image_shape=(3, 32, 32),
        default_split="45k",
    )


def _batch(content: bytes, where: str, classes: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    batch = _dictionary(content, where, ("data", "labels"))
    x, labels = batch["data"], batch["labels"]
    if not isinstance(x, np.ndarray) or x.ndim != 2 or x.shape[1] != _PIXELS or len(x) == 0:
        shape = tuple(x.shape) if isinstance(x, np.ndarray) else type(x).__name__
        raise DataError(f"{where}: data is {shape}; it must be an array (n, {_PIXELS}) of bytes")
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise DataError(f"{where}: labels must be a list of whole numbers")
    if len(labels) != len(x):
        raise DataError(f"{where}: has {len(x):,} images and {len(labels):,} labels; there must be one for each")
    if min(labels) < 0 or max(labels) >= classes:
        raise DataError(f"{where}: labels range from {min(labels)} to {max(labels)}; they must be 0 to {classes - 1}")
    return x, np.array(labels, np.int64)


def _class_names(content: bytes, where: str) -> tuple[str, ...]:
    names = _dictionary(content, where, ("label_names",))["label_names"]
    if not isinstance(names, list) or len(names) != 10 or not all(isinstance(n, (str, bytes)) for n in names):
        raise DataError(f"{where}: label_names must be a list of 10 names")
    return tuple(name.decode("utf-8", "replace") if isinstance(name, bytes) else name for name in names)


def _dictionary(content: bytes, where: str, keys: tuple[str, ...]) -> dict[str, Any]:
    values = read_pickle(content, where)
    if not isinstance(values, dict) or not all(key in values for key in keys):
        raise DataError(f"{where}: is not a dictionary with {' and '.join(keys)}, as CIFAR-10's files are")
    return values
