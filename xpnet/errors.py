"""The errors that xpnet raises for what a user can put right.

Every message is one sentence that says what is wrong, where (file, key or argument, with
the value), and what would be right.  The command line prints the sentence and exits with
:attr:`XpnetError.exit_code`; a traceback of one of these never reaches a user.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any


class XpnetError(Exception):
    """Base of all errors that the user can put right."""

    exit_code = 2


class ConfigError(XpnetError, ValueError):
    """A setting is unknown, out of its range, or at odds with another."""


class DataError(XpnetError, ValueError):
    """A data set is missing, broken, or not of the shape that was asked for."""


class ArrayError(XpnetError, TypeError):
    """An array lies on another device than the network, or has the wrong shape or dtype."""


class DeviceError(XpnetError, RuntimeError):
    """A device that was asked for cannot be used."""


class RunError(XpnetError):
    """A run folder or model file is missing, in the way, or broken."""


class DivergedError(XpnetError, ArithmeticError):
    """The loss became infinite or not a number, for all networks.

    Attributes:
        diverged: Where each network's did, by its number; see :class:`xpnet.results.Divergence`.
        history: The epochs before the last network diverged.
    """

    diverged: Mapping[int, Any] = MappingProxyType({})
    history: Any = None
