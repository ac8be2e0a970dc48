"""What is wrong with a command line, in a sentence that says what to type."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from cyclopts import App, CycloptsError
from cyclopts.exceptions import (
    CoercionError,
    MissingArgumentError,
    RepeatArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from xpnet.cli.commands import COMMANDS, DATA_COMMANDS
from xpnet.cli.options import unfolded
from xpnet.config.settings import VARYING

# Words less similar than this are not what was meant.
_CLOSE = 0.75
# More words that begin alike are a list, for which there is --help.
_MOST = 3
_ALL = [*COMMANDS, "data"]


def sentence(error: CycloptsError, app: App, arguments: Sequence[str]) -> str:
    """Return a sentence for an error of the parser.

    Args:
        error: The error.
        app: The parser.
        arguments: The command line.
    """
    command = " ".join(["xpnet", *(error.command_chain or ())])
    if isinstance(error, UnknownCommandError):
        return _unknown_command(error, command)
    if isinstance(error, UnknownOptionError):
        return _unknown_option(error, app, command)
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        return _stands_alone(error.unused_tokens[0], list(arguments), command)
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        return _missing(error, command)
    if isinstance(error, RepeatArgumentError):
        return _given_twice(str(error.token.keyword))
    if isinstance(error, CoercionError) and error.argument is not None and error.token is not None:
        return _wrong_kind(error, command)
    return f"{' '.join(str(error).split()).rstrip('.')}; {command} --help shows what it takes"


def close_to(word: str, known: Iterable[str]) -> list[str]:
    """Return the known words that may have been meant: a few that begin so, or one that is nearly the same."""
    known = list(known)
    plain = {name.lstrip("-"): name for name in known if len(name.lstrip("-")) > 1}
    begin = [name for name in known if len(word.lstrip("-")) > 1 and name.startswith(word)]
    if 0 < len(begin) <= _MOST:
        return begin
    near = difflib.get_close_matches(word.lstrip("-").replace("_", "-"), plain, n=1, cutoff=_CLOSE)
    return [plain[near[0]]] if near else []


def _unknown_command(error: CycloptsError, command: str) -> str:
    word = (error.unused_tokens or [""])[0]
    known = list(DATA_COMMANDS) if command == "xpnet data" else _ALL
    if word.startswith("-"):
        return f"{word}: {command} has no such option; {command} --help lists those that there are"
    if meant := close_to(word, known):
        hint = f"type {command} {' or '.join(meant)}"
    elif known is _ALL and word in DATA_COMMANDS:
        hint = f"type xpnet data {word}"
    else:
        hint = f"there are {', '.join(known[:-1])} and {known[-1]}"
    return f"{word}: {command} has no such command; {hint}"


def _unknown_option(error: UnknownOptionError, app: App, command: str) -> str:
    option = (error.token.keyword or error.token.value).partition("=")[0]
    names = [name for one in error.argument_collection if one.parse for name in one.names]
    head = f"{option}: {command} has no such option"
    if meant := close_to(option, names):
        return f"{head}; did you mean {' or '.join(meant)}?"
    others = [] if len(option) < 4 else [name for name in _ALL if option in _options(app, name)]
    if others:
        return f"{head}, but xpnet {' and xpnet '.join(others[:2])} {'has' if len(others) == 1 else 'have'} it"
    return f"{head}; {command} --help lists those that there are"


def _options(app: App, command: str) -> list[str]:
    if command == "data":
        return []
    return [name for one in app[command].assemble_argument_collection() for name in one.names]


def _stands_alone(word: str, arguments: list[str], command: str) -> str:
    """Return a sentence for a value that belongs to no option, such as the second one of --hidden 50 50."""
    at = next((i for i, one in enumerate(arguments) if one == word and i and not arguments[i - 1].startswith("-")), 0)
    values: list[str] = []
    while at > 0 and not arguments[at].startswith("--"):
        values.insert(0, arguments[at])
        at -= 1
    if at > 0:
        together = f"{arguments[at]} {','.join(values)}"
        return f"{word}: stands alone; write several values with commas, without spaces: {together}"
    return f"{word}: {command} takes no such argument; options begin with --, as {command} --help shows"


def _missing(error: MissingArgumentError, command: str) -> str:
    argument = error.argument
    assert argument is not None
    name = error.keyword or argument.name
    if name.startswith("-"):
        metavar = unfolded(argument.parameter.metavar or "VALUE")
        return f"{name}: needs a value: {name} {metavar}"
    return f"{name}: is missing; {_usage(error.app, command)}"


def _usage(app: App | None, command: str) -> str:
    usage = "" if app is None else (app.usage or "")
    return f"type {usage.removeprefix('Usage: ').replace(' [OPTIONS]', '')}" if usage else f"see {command} --help"


def _given_twice(option: str) -> str:
    takes_lists = option.removeprefix("--").replace("-", "_") in VARYING
    hint = f"; write several values with commas: {option} A,B" if takes_lists else "; give it once"
    return f"{option}: is there twice{hint}"


def _wrong_kind(error: CoercionError, command: str) -> str:
    argument: Any = error.argument
    value = error.token.value if error.token is not None else ""
    if choices := argument.get_choices(force=True):
        return f"{argument.name} {value}: must be {' or '.join(filter(None, [', '.join(choices[:-1]), choices[-1]]))}"
    kinds = {"bool": "true or false", "int": "a whole number", "float": "a number", "Path": "a path"}
    kind = getattr(error.target_type, "__name__", "")
    wanted = kinds.get(kind)
    if wanted is None:
        return f"{argument.name} {value}: is no such value; {command} --help shows what it takes"
    return f"{argument.name} {value}: must be {wanted}"
