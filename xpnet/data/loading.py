"""From a name or a path to data."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xpnet.data import cifar
from xpnet.data.arrays import Arrays, source_from_arrays
from xpnet.data.npz import read_npz
from xpnet.data.patterns import patterns
from xpnet.data.source import Data, Source
from xpnet.data.splits import parse_split, split_source
from xpnet.errors import DataError

_ACCEPTED = "cifar10, patterns, patterns:N/M, a folder or .tar.gz of CIFAR-10's Python version, or a .npz file"


def load_data(source: str | Path | None = None, split: str | None = None) -> Data:
    """Read a data set and split it.

    Args:
        source: ``"cifar10"``, ``"patterns"``, ``"patterns:N"``, ``"patterns:N/M"`` or a path; None takes
            CIFAR-10 if it is on this machine and ``patterns`` otherwise.  Nothing is downloaded.
        split: ``"45k"``, ``"49k"``, ``"b1b2"``, ``"9k"`` or ``"N/M"``: the first N rows train, the next M
            validate; None takes the data's own default.

    Raises:
        DataError: The data is missing or broken, or too small for the split.
    """
    if split is not None:
        parse_split(split)  # before anything that takes long
    return split_source(read_source(source), split)


def data_from_arrays(
    x_train: Any,
    labels_train: Any,
    x_test: Any = None,
    labels_test: Any = None,
    *,
    split: str | None = None,
    class_names: Sequence[str] | None = None,
    seed: int = 0,
) -> Data:
    """Return data from arrays in memory, checked, shuffled and split.

    The rows of `x_train` are shuffled once, by `seed`, because such data is often sorted by class; a
    test set that is given keeps its order.

    Args:
        x_train: Features (n, d), or images (n, height, width), (n, height, width, channels) or
            (n, channels, height, width); uint8 is kept, other numbers become floating.
        labels_train: Classes (n,), whole numbers from 0.
        x_test: Features of the test set; without it, the last tenth of the shuffled rows becomes it.
        labels_test: Classes of the test set.
        split: ``"N/M"``; None validates with a tenth.
        class_names: Name of each class; None takes their numbers.
        seed: Seed of the shuffle.

    Raises:
        DataError: Something about the arrays is wrong; the message names the argument.
    """
    source = source_from_arrays(
        Arrays(x_train, labels_train, x_test, labels_test),
        Arrays("x_train", "labels_train", "x_test", "labels_test"),
        name="arrays",
        location="arrays in memory",
        class_names=class_names,
        seed=seed,
    )
    return split_source(source, split)


def read_source(source: str | Path | None = None) -> Source:
    """Read a data set without splitting it; see :func:`load_data`.

    Raises:
        DataError: The data is missing or broken.
    """
    if source is None or source == "cifar10":
        found = cifar.find_cifar10()
        if found is not None:
            return _read_path(found)
        if source is None:
            return patterns()
        places = ", ".join(str(place.absolute()) for place in cifar.places())
        raise DataError(f"data = cifar10: is not in {places}; {cifar.CIFAR10_HINT}")
    if isinstance(source, str) and (source == "patterns" or source.startswith("patterns:")):
        return _read_patterns(source)
    return _read_path(Path(source).expanduser())


def _read_patterns(source: str) -> Source:
    match = re.fullmatch(r"patterns(?::([0-9]{1,9})(?:/([0-9]{1,9}))?)?", source)
    if match is None:
        raise DataError(
            f"data = {source}: must be patterns, patterns:N with N images to train and validate with, "
            "or patterns:N/M with M more to test"
        )
    return patterns(int(match[1] or 10_000), int(match[2] or 2_000))


def _read_path(path: Path) -> Source:
    try:
        if not path.exists():
            raise DataError(f"data = {path}: there is no such file or folder; it can be {_ACCEPTED}")
        if path.is_dir():
            found = cifar.cifar10_in(path)
            if found is None:
                raise DataError(f"data = {path}: is a folder without CIFAR-10's data_batch_1; it can be {_ACCEPTED}")
            return cifar.read_folder(found) if found.is_dir() else cifar.read_archive(found)
        return _read_file(path)
    except OSError as error:
        raise DataError(f"data = {path}: cannot be read ({error.strerror or error})") from None


def _read_file(path: Path) -> Source:
    """Read a file as what it is rather than as what it is called, where that can be told."""
    with path.open("rb") as file:
        start = file.read(512)
    if start[:2] == b"\x1f\x8b" or start[257:262] == b"ustar" or path.name.endswith((".tar.gz", ".tgz")):
        return cifar.read_archive(path)
    if zipfile.is_zipfile(path) or start[:2] == b"PK" or path.suffix == ".npz":
        return read_npz(path)
    hint = "a single array: save x and y together with numpy.savez" if start[:6] == b"\x93NUMPY" else "of no known kind"
    raise DataError(f"data = {path}: is {hint}; it can be {_ACCEPTED}")
