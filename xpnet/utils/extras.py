"""The extras of xpnet: optional packages, what each brings, and the one sentence that asks for one that is missing."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec

from xpnet.errors import MissingExtraError


@dataclass(frozen=True)
class Extra:
    """An extra, as in ``pip install 'xpnet[figures]'``.

    Attributes:
        brings: What it is for, in a few words.
        packages: The modules that it adds, each with the package that has it.
        named: Whether the package itself must be the one that is named: other packages have the same modules.
    """

    brings: str
    packages: Mapping[str, str] = field(default_factory=dict)
    named: bool = False

    def missing(self) -> list[str]:
        """Return the packages that are not installed; their modules are looked for, not imported."""
        return [package for module, package in self.packages.items() if not self._found(module, package)]

    def versions(self) -> dict[str, str | None]:
        """Return the version of each package; None for those that are not installed."""
        missing = self.missing()
        return {name: None if name in missing else version_of(name) for name in self.packages.values()}

    def _found(self, module: str, package: str) -> bool:
        return _is_module(module) and not (self.named and version_of(package) is None)


# As in pyproject.toml, which a test compares.
EXTRAS: Mapping[str, Extra] = {
    "figures": Extra(
        "charts as PNG and SVG, and pages (xpnet report)",
        {"altair": "altair", "vl_convert": "vl-convert-python", "jinja2": "jinja2"},
    ),
    "search": Extra("xpnet search", {"optuna": "optuna"}),
    "images": Extra("image files as data and for predictions", {"PIL": "pillow"}),
    "fast": Extra("operations compiled for the CPU", {"numba": "numba"}),
    "sklearn": Extra("a classifier for scikit-learn", {"sklearn": "scikit-learn", "narwhals": "narwhals"}),
    "parquet": Extra("Parquet files as data", {"pyarrow": "pyarrow"}),
    "postgresql": Extra("searches in a PostgreSQL database", {"psycopg": "psycopg"}),
    "export": Extra("networks as ONNX files", {"onnx": "onnx"}),
    "cluster": Extra("searches on a Slurm cluster (--launcher slurm)", {"submitit": "submitit"}),
    "cuda12": Extra("NVIDIA GPUs, with a driver for CUDA 12", {"cupy": "cupy-cuda12x"}, named=True),
    "cuda13": Extra("NVIDIA GPUs, with a driver for CUDA 13", {"cupy": "cupy-cuda13x"}, named=True),
}


def install_command(extra: str) -> str:
    """Return the command that installs an extra: pip takes the xpnet that is there, and adds what it lacks."""
    return f"pip install 'xpnet[{extra}]'"


def installed(extra: str) -> bool:
    """Return whether all packages of an extra are installed."""
    return not EXTRAS[extra].missing()


def need(extra: str, what: str) -> None:
    """Ask for an extra before slow work begins.

    Args:
        extra: Its name.
        what: What needs it, in a few words: the subject of the sentence.

    Raises:
        MissingExtraError: A package of the extra is not installed.
    """
    if missing := EXTRAS[extra].missing():
        several = "which are" if len(missing) > 1 else "which is"
        raise MissingExtraError(
            f"{what} needs {' and '.join(missing)}, {several} not installed: {install_command(extra)}"
        )


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ValueError:  # of a module that was put into sys.modules by hand, and has no specification
        return True


def version_of(package: str) -> str | None:
    """Return the version of an installed package, from the name of the folder that describes it; None if there is none.

    ``importlib.metadata`` reads more, and loads a parser of e-mails for it: a twentieth of a short command.
    """
    form = re.compile(rf"{re.sub(r'[-_.]+', '[-_.]+', package)}-([^-]+)(-.*)?\.(dist|egg)-info", re.IGNORECASE)
    for folder in sys.path:
        try:
            with os.scandir(folder or ".") as entries:
                names = [entry.name for entry in entries]
        except OSError:  # a file, or a folder that is not there
            continue
        for match in filter(None, map(form.fullmatch, names)):
            return match[1]
    return None
