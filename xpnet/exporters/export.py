"""Exporting: what goes into which file, and what is refused."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from xpnet.config.arguments import path as a_path
from xpnet.config.arguments import takes
from xpnet.config.fields import choice, optional
from xpnet.errors import ConfigError, RunError
from xpnet.exporters.folded import FoldedModel, fold
from xpnet.exporters.numpy_source import numpy_source
from xpnet.exporters.onnx_file import onnx_bytes
from xpnet.exporters.torch_file import torch_bytes
from xpnet.exporters.torch_source import torch_source, torch_state
from xpnet.nn.network import Network
from xpnet.utils.atomic_files import write_new
from xpnet.utils.extras import need

# Ending of the file of each format, and of the one beside it.
ENDINGS = {"onnx": (".onnx",), "torch": (".pt", ".py"), "numpy": (".py", ".npz"), "npz": (".npz",)}
FORMATS = tuple(ENDINGS)


@dataclass(frozen=True)
class Exported:
    """What an export has written.

    Attributes:
        to: The format.
        files: The file that was asked for, and the one beside it if there is one.
        networks: Number of networks in it.
        features: Number of raw features of a sample.
        classes: Names of the classes, in the order of the probabilities.
        notes: Sentences on what its user should know.
    """

    to: str
    files: tuple[Path, ...]
    networks: int
    features: int
    classes: tuple[str, ...]
    notes: tuple[str, ...]


@takes(path=a_path, to=optional(choice(*FORMATS)))
def export(network: Any, path: str | Path, to: str | None = None) -> Exported:
    """Write a network, or several that predict together, in the format of another program.

    The model takes raw samples, as :meth:`xpnet.Network.predict_proba` does, and gives the probabilities of the
    classes: the mean over the networks that have not diverged.

    Args:
        network: A trained :class:`xpnet.Network`, or a fitted :class:`xpnet.sklearn.XpnetClassifier`, whose members
            keep their weights.
        path: The new file: ``.onnx``, ``.pt``, ``.py`` or ``.npz``.
        to: ``"onnx"``; ``"torch"``, tensors for ``torch.load`` and the source of a module beside them; ``"numpy"``, a
            Python file that needs NumPy alone and its arrays beside it; ``"npz"``, these arrays; or None for what the
            ending of `path` says.

    Returns:
        The files that were written, and what is worth knowing of them.

    Raises:
        ConfigError: An argument is wrong, a package is missing, or the format cannot hold the network.
        RunError: A file exists or cannot be written, or all networks have diverged.
    """
    path = Path(path)
    files = files_of(path, to)
    to = to or _by_ending(path)
    check_files(files)
    model = _folded(network)
    for file, content in zip(reversed(files), reversed(_contents(model, to, files)), strict=True):
        write_new(file, content)  # the file that was asked for comes last
    return Exported(to, files, model.networks, model.features, model.class_names, model.notes)


def _folded(network: Any) -> FoldedModel:
    if isinstance(network, Network):
        return fold(network)
    fitted = getattr(network, "network_", None)
    if isinstance(fitted, Network):
        return fold(fitted, network.member_weights_, tuple(map(str, network.classes_.tolist())))
    what = (
        "is not fitted; call its fit first" if hasattr(network, "fit") else "must be a Network or a fitted classifier"
    )
    raise ConfigError(f"network: a {type(network).__name__} {what}")


def files_of(path: Path, to: str | None) -> tuple[Path, ...]:
    """Return the files that an export to `path` writes.

    Raises:
        ConfigError: The path has another ending than the format.
    """
    to = to or _by_ending(path)
    first, *rest = ENDINGS[to]
    if path.suffix != first:
        raise ConfigError(f"out = {path}: must end with {first} for to = {to}, such as model{first}")
    if to in ("torch", "numpy") and not re.fullmatch(r"[A-Za-z_]\w*", path.stem, re.ASCII):
        raise ConfigError(
            f"out = {path}: names a Python module too, so it must be of letters, digits and _, such as model{first}"
        )
    return path, *(path.with_suffix(ending) for ending in rest)


def check_files(files: tuple[Path, ...]) -> None:
    """Refuse an export before slow work begins.

    Raises:
        RunError: A file exists, or there is no folder for it.
        MissingExtraError: A package is missing.
    """
    for file in files:
        if file.exists() or file.is_symlink():
            raise RunError(f"out = {files[0]}: {file} exists already; nothing is overwritten, name another file")
    if not files[0].parent.is_dir():
        raise RunError(f"out = {files[0]}: there is no folder {files[0].parent}")
    if files[0].suffix == ENDINGS["onnx"][0]:
        need("export", "an ONNX file")


def _by_ending(path: Path) -> str:
    for name, (ending, *_) in ENDINGS.items():
        if path.suffix == ending:
            return name
    endings = ", ".join(f"{of[0]} ({name})" for name, of in ENDINGS.items())
    raise ConfigError(f"out = {path}: its ending says no format; it must be one of {endings}")


def _contents(model: FoldedModel, to: str, files: tuple[Path, ...]) -> list[bytes]:
    """Return the content of each of the files."""
    module = files[0].stem
    make: Mapping[str, Callable[[], list[bytes]]] = {
        "onnx": lambda: [onnx_bytes(model)],
        "torch": lambda: [torch_bytes(torch_state(model)), torch_source(model, module).encode()],
        "numpy": lambda: [numpy_source(model, module).encode(), _npz_bytes(model)],
        "npz": lambda: [_npz_bytes(model)],
    }
    return make[to]()


def _npz_bytes(model: FoldedModel) -> bytes:
    content = io.BytesIO()
    np.savez(content, **cast(Any, model.arrays()))
    return content.getvalue()
