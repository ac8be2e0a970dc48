"""Samples to predict: images, tables and arrays, read in the form that a network takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.config.definitions import DataConfig
from xpnet.data.column import NUMBER, adapted, check_numbers, is_number
from xpnet.data.encoder import Encoder
from xpnet.data.feature_table import ChunkedArray, table_of
from xpnet.data.readers.csv import read_csv
from xpnet.data.readers.image_decoding import Form, decode, image_size_of, resized
from xpnet.data.readers.images import SUFFIXES, deep_notes
from xpnet.data.readers.npy import npy_array, npz_arrays
from xpnet.data.readers.parquet import is_parquet, read_parquet
from xpnet.errors import DataError, RunError
from xpnet.nn.network import Network
from xpnet.utils.file_system import open_regular
from xpnet.utils.plural import counted


@dataclass(frozen=True)
class Inputs:
    """Samples without labels.

    Attributes:
        names: The name of each sample: an image's file, or a row's number.
        x: Raw features (n, d).
        notes: A sentence for each change that was made to the samples.
    """

    names: list[str]
    x: NDArray[Any]
    notes: list[str]


def read_inputs(paths: Sequence[Path], network: Network, config: DataConfig | None = None) -> Inputs:
    """Read images, folders of images, or one table or array, in the form that `network` takes.

    Args:
        paths: Images and folders, or a single ``.csv``, ``.parquet``, ``.npz`` or ``.npy`` file.
        network: The network, which knows the size of images and the names of columns.
        config: Its `target` names a column to leave out; its `header` is used too.

    Raises:
        DataError: A file is missing, broken, or does not fit the network.
    """
    config = config or DataConfig()
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: there is no such file; pass images, a .csv, .parquet, .npz or .npy file")
    tables = [path for path in paths if path.is_file() and _kind(path) != "image"]
    if tables and len(paths) > 1:
        raise DataError(f"{tables[0]}: a table is predicted by itself; pass it alone, or images alone")
    try:
        if not any(path.is_file() or path.is_dir() for path in paths):
            open_regular(paths[0], links=True).close()  # raises an error that names its kind
        inputs = _read_table(tables[0], network, config) if tables else _read_images(paths, network)
    except OSError as error:
        raise DataError(f"{error.filename or paths[0]}: cannot be read ({error.strerror or error})") from None
    if not len(inputs.x):
        raise DataError(f"{paths[0]}: holds no samples")
    return inputs


def _kind(path: Path) -> str:
    with open_regular(path, links=True) as file:
        start = file.read(8)
    if start[:6] == b"\x93NUMPY":
        return "npy"
    if start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return "npz"
    if start[:4] == b"PAR1":
        return "parquet"
    return "csv" if path.name.lower().endswith((".csv", ".tsv", ".txt", ".csv.gz")) else "image"


def image_form(network: Network) -> Form:
    """Return the form of the images that a network takes.

    Raises:
        RunError: The network does not take images.
    """
    if network.image_shape is not None:
        return Form(*network.image_shape)
    if network.feature_names:
        raise RunError(
            f"the network was trained on the columns {', '.join(network.feature_names[:5])}..., not on images"
        )
    for channels in (3, 1):
        side = math.isqrt(network.features // channels)
        if channels * side * side == network.features and side > 3:
            return Form(channels, side, side)
    raise RunError(f"the network takes {network.features} features, which are no image; pass a table")


def _read_images(paths: Sequence[Path], network: Network) -> Inputs:
    form = image_form(network)
    files: list[Path] = []
    for path in paths:
        files += sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
    names, rows, notes, sizes = [], [], [], []
    deep: list[Path] = []
    for path in files:
        try:
            height, width = image_size_of(path)
            rows.append(decode(path, form, deep))
        except ValueError as error:
            notes.append(f"warning: {path}: left out ({error})")
            continue
        names.append(str(path))
        if (height, width) != (form.height, form.width):
            sizes.append(f"{height}x{width}")
    if not rows:
        raise DataError(notes[0].removeprefix("warning: ") if notes else f"{paths[0]}: has no images in it")
    notes += deep_notes(deep)
    if sizes:
        before = sizes[0] if len(set(sizes)) == 1 else f"{len(set(sizes))} sizes"
        brought = f"brought {len(sizes):,} of {counted(len(rows), 'image')} from {before}"
        notes.append(f"{brought} to the network's {form.height}x{form.width}")
    return Inputs(names, np.stack(rows), notes)


def _read_table(path: Path, network: Network, config: DataConfig) -> Inputs:
    kind = _kind(path)
    if kind in ("npy", "npz"):
        if config.target is not None or config.header is not None:
            raise DataError(f"{path}: is an array, whose columns have no names; leave --target and --header out")
        x, notes = _array(path, kind, network)
        kinds, titles = (NUMBER,) * x.shape[1], [f"{path}: column {j}" for j in range(x.shape[1])]
    else:
        wanted = network.feature_names
        rows = (read_parquet if is_parquet(path) else read_csv)(path, config, wanted=wanted)
        columns, x, kinds, titles = rows.columns, rows.x, rows.kinds, rows.titles(path)
        notes = list(columns.notes)
        others = len(columns.names) - len(columns.kept)
        if wanted and columns.named and others:
            notes.append(
                f"{path}: left out {others} of {counted(len(columns.names), 'column')}, which the network does not know"
            )
        if columns.named and config.header is None and not is_parquet(path) and all(map(is_number, columns.names)):
            notes.append(
                f"{path}: its first line, of numbers, names the columns as the network knows them; if it is a sample, "
                "pass --no-header"
            )
    inputs = network.features
    if x.shape[1] != inputs:
        hint = "; --target names a column of labels, which is left out" if x.shape[1] == inputs + 1 else ""
        raise DataError(f"{path}: has {x.shape[1]:,} features, and the network takes {inputs:,}{hint}")
    encoder = _encoder(network)
    if encoder is None:
        check_numbers(kinds, titles)
    else:
        x = adapted(x, kinds, encoder.columns, titles)
    return Inputs([str(row) for row in range(len(x))], x, notes)


def _encoder(network: Network) -> Encoder | None:
    return None if network.transform is None else network.transform.encoder


def _array(path: Path, kind: str, network: Network) -> tuple[NDArray[Any], list[str]]:
    pieces = npy_array(path)[0] if kind == "npy" else _of_npz(path)
    table = table_of(pieces, str(path), missing=_encoder(network) is not None)
    x = np.concatenate(list(table.chunks()))
    shape = table.image_shape
    if shape is None or x.shape[1] == network.features:
        return x, []
    form = image_form(network)
    if x.dtype != np.uint8:
        raise DataError(f"{path}: has images of {shape[1]}x{shape[2]} in {x.dtype}; only uint8 images are resized")
    note = (
        f"brought {counted(len(x), 'image')} from {shape[1]}x{shape[2]} in {counted(shape[0], 'channel')} to the "
        f"network's {form.height}x{form.width} in {form.channels}"
    )
    return np.stack([resized(row.reshape(shape), form) for row in x]), [note]


def _of_npz(path: Path) -> ChunkedArray:
    arrays, names = npz_arrays(path)
    for name in ("x", "x_test", "x_train"):
        if name in arrays:
            return arrays[name]
    if len(arrays) != 1:
        raise DataError(f"{path}: has the arrays {', '.join(names[:10]) or 'none'}; the features must be called x")
    return next(iter(arrays.values()))
