"""The locations of the published data sets, by name."""

from __future__ import annotations

import os
from pathlib import Path

from xpnet.data.published import ARCHIVES
from xpnet.data.readers.cifar import kind_in
from xpnet.data.readers.cifar_layouts import CIFAR_10, cifar_100
from xpnet.data.readers.idx import idx_files

CIFAR10_HINT = (
    "xpnet data fetch cifar10 gets it; or pass the path of "
    "cifar-10-python.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html as --data, "
    "or put it in the working folder or in the folder that XPNET_DATA names"
)
_FOLDERS = {
    "cifar10": ("cifar-10-batches-py", "cifar-10-batches-bin", "cifar-10-batches-mat"),
    "cifar100": ("cifar-100-python", "cifar-100-binary", "cifar-100-matlab"),
    "mnist": ("mnist", "MNIST/raw", "MNIST"),
    "fashion-mnist": ("fashion-mnist", "FashionMNIST/raw", "FashionMNIST", "fashion"),
}
NAMES = tuple(_FOLDERS)


def find_cifar10() -> Path | None:
    """Return where CIFAR-10 lies on this machine, or None.

    Looks in the folder that ``XPNET_DATA`` names, in xpnet's cache folder, in the working folder and in
    its ``data`` folder, for the files of any published layout, their folder, or a published archive.  ``XPNET_DATA``
    may also name the archive itself.
    """
    return find("cifar10")


def find(name: str) -> Path | None:
    """Return where one of the published sets lies on this machine, or None; see :func:`find_cifar10`."""
    return next((path.resolve() for place in places() if (path := named_in(place, name)) is not None), None)


def places() -> list[Path]:
    """Return the folders in which published sets are searched, in this order."""
    named = os.environ.get("XPNET_DATA")
    return [*([Path(named).expanduser()] if named else []), cache_folder(), Path(), Path("data")]


def cache_folder() -> Path:
    """Return xpnet's folder among the caches of this user."""
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("xpnet"))


def named_in(place: Path, name: str) -> Path | None:
    """Return the folder or archive of a published set in `place`, or `place` itself if it is one, or None."""
    if place.is_file():
        # XPNET_DATA may name an archive, which is recognised when it is read.
        return place if name == "cifar10" or (name == "cifar100" and "100" in place.name) else None
    if not place.is_dir():
        return None
    for folder in (place, *(place / sub for sub in _FOLDERS[name])):
        if folder.is_dir() and _holds(folder, name):
            return folder
    for archive in ARCHIVES.values():
        if archive.data == name and (place / archive.file).is_file():
            return place / archive.file
    return None


def _holds(folder: Path, name: str) -> bool:
    if name in ("cifar10", "cifar100"):
        kind = CIFAR_10 if name == "cifar10" else cifar_100()
        return kind.suffix_of(lambda file: (folder / file).is_file()) is not None
    # MNIST and Fashion-MNIST have the same files; the folder's name tells them apart before they are read.
    return ("fashion" in str(folder.resolve()).lower()) == (name == "fashion-mnist") and bool(idx_files(folder))


def published_in(folder: Path) -> Path | None:
    """Return the folder or archive of any published set in `folder` or in a subfolder of it, or None."""
    for name in NAMES:
        if (path := named_in(folder, name)) is not None:
            return path
    with os.scandir(folder) as entries:
        subfolders = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    for path in (folder / name for name in subfolders[:100]):
        if kind_in(path) is not None or idx_files(path):
            return path
    return None
