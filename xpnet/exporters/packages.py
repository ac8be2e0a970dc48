"""Packages that only some formats need."""

from __future__ import annotations

import importlib
from typing import Any

from xpnet.errors import ConfigError


def needed(package: str, extra: str, what: str) -> Any:
    """Return a package that an extra brings.

    Args:
        package: Its name.
        extra: The extra of xpnet that installs it.
        what: What needs it, for the message, such as ``to = onnx``.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        why = "is not installed" if getattr(error, "name", None) == package else f"cannot be imported ({error})"
        raise ConfigError(
            f"{what}: needs the package {package}, which {why}; pip install '.[{extra}]' in xpnet's source folder "
            f"brings it, or pip install {package}"
        ) from None
