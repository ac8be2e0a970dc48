"""The errors that a user can put right.

Every message is one sentence: the problem, its place (file, key or argument, with the value), and a
remedy.  The command line prints it without a traceback and exits with :attr:`XpnetError.exit_code`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

# Of a longer message, such as one that quotes a list of a million numbers, the middle is left out.
_LONGEST = 2000


def one_line(text: str, longest: int = _LONGEST) -> str:
    """Return a text on one line that is harmless to a terminal, whatever it quotes.

    Control characters, those that turn the direction of writing, and halves of characters become their escapes; of a
    text longer than `longest` the middle is left out.
    """
    if len(text) > longest:
        text = f"{text[: longest * 3 // 4]} ... {text[-longest // 4 :]}"
    return printable(text)


def printable(text: str, kept: str = "") -> str:
    """Return a text with characters that do not print as escapes, but for those of `kept`."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in kept else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


class XpnetError(Exception):
    """Base of all errors that the user can put right.

    Raised are :class:`ConfigError`, :class:`DataError`, :class:`ArrayError`, :class:`DeviceError`,
    :class:`RunError` and :class:`DivergedError`, of :mod:`xpnet.errors`, and
    :class:`xpnet.report.render.DrawingError` by functions that draw figures.

    Attributes:
        exit_code: The command line exits with: 2, for all of them.
    """

    exit_code = 2

    def __str__(self) -> str:
        return one_line(super().__str__())


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
        diverged: The place of each network's divergence, by number; see :class:`xpnet.training.result.Divergence`.
        history: The epochs before the last network diverged.
    """

    diverged: Mapping[int, Any] = MappingProxyType({})
    history: Any = None
