"""The errors that a user can put right.

Every message is one sentence: the problem, its place (file, key or argument, with the value), and a
remedy.  The command line prints it without a traceback and exits with :attr:`XpnetError.exit_code`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

# The middle of a longer message, such as one that quotes a list of a million numbers, is left out.
_LONGEST = 2000


def one_line(text: str, longest: int = _LONGEST) -> str:
    """Return a text on one line that is safe to print on a terminal, whatever it quotes.

    Control characters, characters that change the direction of writing, and lone surrogates are escaped.  The middle of
    a text longer than `longest` is left out.
    """
    if len(text) > longest:
        text = f"{text[: longest * 3 // 4]} ... {text[-longest // 4 :]}"
    return printable(text)


def printable(text: str, kept: str = "") -> str:
    """Return a text with unprintable characters escaped, except those in `kept`."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in kept else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


class XpnetError(Exception):
    """Base of all errors that the user can put right.

    Subclasses are :class:`ConfigError`, :class:`DataError`, :class:`ArrayError`, :class:`DeviceError`,
    :class:`RunError`, :class:`MissingExtraError` and :class:`DivergedError` in :mod:`xpnet.errors`, and
    :class:`xpnet.report.render.DrawingError`, which functions that draw figures raise.

    Attributes:
        exit_code: The command line exits with: 2, for all of them.
    """

    exit_code = 2

    def __str__(self) -> str:
        return one_line(super().__str__())


class ConfigError(XpnetError, ValueError):
    """A setting is unknown, out of its range, or contradicts another."""


class DataError(XpnetError, ValueError):
    """A data set is missing, broken, or not of the required shape."""


class ArrayError(XpnetError, TypeError):
    """An array lies on another device than the network, or has the wrong shape or dtype."""


class DeviceError(XpnetError, RuntimeError):
    """A requested device cannot be used."""


class RunError(XpnetError):
    """A run folder or model file is missing, in the way, or broken."""


class MissingExtraError(XpnetError, ImportError):
    """Something needs an optional package that is not installed; the message has the command that installs it."""


class DivergedError(XpnetError, ArithmeticError):
    """The loss became infinite or not a number, for all networks.

    Attributes:
        diverged: Step, rate and loss of each network's divergence, by the network's number; see
            :class:`xpnet.training.result.Divergence`.
        history: The epochs before the last network diverged.
    """

    diverged: Mapping[int, Any] = MappingProxyType({})
    history: Any = None
