"""Environment variables: one for each setting, and those of xpnet itself."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence

from xpnet.errors import ConfigError

PREFIX = "XPNET_"
# Variables that are no settings.
OTHERS = {
    "XPNET_DATA": "Folder of the published data sets, in place of xpnet's cache folder (xpnet data fetch).",
    "XPNET_FAST": "0: without the operations that Numba compiles, although it is installed.",
}
# Those of xpnet's own tests begin like this.
OF_TESTS = "XPNET_TEST_"
# XPNET_DATA was there before settings had variables.
_NAMES = {"data": "XPNET_DATASET"}
# Of an existing run, which has its settings, these variables replace what it says.
OF_A_RUN = ("device", "views", "save_every", "keep")
_TRUTH = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
# A name as near to a known one as this is a misspelling of it; others may belong to somebody's scripts.
_MISSPELT = 0.75


def variable(setting: str) -> str:
    """Return the environment variable of a setting."""
    return _NAMES.get(setting, PREFIX + setting.upper())


def truth(value: str) -> bool | str:
    """Return whether a variable turns a setting on; a text that is neither on nor off as it is."""
    return _TRUTH.get(value.strip().lower(), value)


def check_variables(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return a warning for each variable that begins with XPNET_ and has no meaning.

    Raises:
        ConfigError: The name of a variable is nearly that of a setting.
    """
    found = [name for name in environment if name.startswith(PREFIX) and not name.startswith(OF_TESTS)]
    if not (found := [name for name in found if name not in OTHERS]):
        return []
    from xpnet.config.settings import Settings

    known = [*map(variable, Settings.fields()), *OTHERS]
    unknown = sorted(name for name in found if name not in known)
    for name in unknown:
        if close := difflib.get_close_matches(name.removeprefix(PREFIX), _bare(known), n=1, cutoff=_MISSPELT):
            raise ConfigError(
                f"{name} = {environment[name]}: there is no such variable; did you mean XPNET_{close[0]}?"
            )
    return [f"{name}: is no variable of xpnet, and has no effect" for name in unknown]


def _bare(names: Iterable[str]) -> list[str]:
    return [name.removeprefix(PREFIX) for name in names]


def source_of(message: str, arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> str:
    """Return words for the variables that set what an error is about; empty if none does.

    Args:
        message: The error: settings are written as ``seed = 3``.
        arguments: The command line, whose options go before variables.
        environment: The environment variables.
    """
    options = {argument.partition("=")[0] for argument in arguments}
    names = [
        variable(name)
        for name in dict.fromkeys(re.findall(r"\b([a-z][a-z0-9_]*) = ", message))
        if variable(name) in environment and not options & {f"--{o}{name.replace('_', '-')}" for o in ("", "no-")}
    ]
    return "" if not names else f" ({' and '.join(names)} {'sets it' if len(names) == 1 else 'set them'})"
