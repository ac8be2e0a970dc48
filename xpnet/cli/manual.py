"""The manual: every command, option, variable and exit code, from the parser, as a page for man and as Markdown."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any

from cyclopts import App

from xpnet.cli.commands import COMMANDS, DATA_COMMANDS, EXIT_CODES
from xpnet.cli.options import unfolded
from xpnet.cli.parser import VARIABLES, make_parser
from xpnet.cli.variables import OF_A_RUN, OTHERS, variable
from xpnet.version import __version__

_SHELL = {
    "xpnet --help, -h": "Show the commands; after a command, its options.",
    "xpnet --version, -V": "Show the version.",
    "xpnet --install-completion [bash|zsh|fish] [--output FILE]": (
        "Let the TAB key complete commands, options and values. The script is written where the shell looks for it, or "
        "to FILE alone."
    ),
    "xpnet --man": "Print this manual for man: xpnet --man | man -l -",
}
_OF_A_RUN = (
    "A command that works on an existing run (train --resume, search --resume, evaluate, diagnose RUN) takes the "
    f"settings of the run, and of the variables only {', '.join(map(variable, OF_A_RUN))}. Python does not read them."
)


@dataclasses.dataclass(frozen=True)
class Option:
    """An option or an argument of a command.

    Attributes:
        names: Its names and value, such as ``--seed N``.
        text: Its help.
        default: Its default in words; empty if it has none.
        setting: The setting that it is, for one of a run; empty otherwise.
    """

    names: str
    text: str
    default: str
    setting: str


@dataclasses.dataclass(frozen=True)
class Command:
    """A command: its usage line, its help in paragraphs, and its options by group."""

    name: str
    usage: str
    paragraphs: tuple[str, ...]
    groups: dict[str, tuple[Option, ...]]


def commands() -> list[Command]:
    """Return all commands, in the order of ``xpnet --help``'s sources."""
    app = make_parser(full=True)
    pairs = [(name, app[name]) for name in COMMANDS]
    pairs += [(f"data {name}", app["data"][name]) for name in DATA_COMMANDS]
    return [_command(name, one) for name, one in pairs]


def _command(name: str, app: App) -> Command:
    groups: dict[str, list[Option]] = {}
    arguments = [(_group(one), one) for one in app.assemble_argument_collection() if one.show and one.parse]
    for group, one in sorted(arguments, key=lambda pair: _order(pair[0])):
        groups.setdefault(group.name, []).append(_option(one))
    usage = (app.usage or f"xpnet {name} [OPTIONS]").removeprefix("Usage: ")
    return Command(name, usage, tuple(app.help.split("\n\n")), {key: tuple(value) for key, value in groups.items()})


def _group(argument: Any) -> Any:
    return argument.parameter.group[0]


def _order(group: Any) -> float:
    """Return a number by which groups are sorted; arguments, which have none, come first."""
    return group.sort_key if isinstance(group.sort_key, (int, float)) else -1.0


def _option(argument: Any) -> Option:
    text, _, default = (argument.parameter.help or "").partition(" [default: ")
    shown = argument.field_info.default
    if not default and argument.parameter.show_default is not False and isinstance(shown, (str, int, float)):
        default = f"{shown}]"
    metavar = unfolded(argument.parameter.metavar or "")
    if not metavar and not argument.is_flag() and argument.names[0].startswith("-"):
        metavar = "PATH" if "Path" in str(argument.hint) else "VALUE"
    names = [*dict.fromkeys(argument.names)]
    setting = names[0].removeprefix("--").replace("-", "_") if argument.parameter.env_var else ""
    return Option(f"{', '.join(names)} {metavar}".strip(), text, default.removesuffix("]"), setting)


def settings(known: list[Command]) -> dict[str, Option]:
    """Return the options that are settings of a run, as ``xpnet train`` has them, by setting."""
    train = next(command for command in known if command.name == "train")
    return {option.setting: option for group in train.groups.values() for option in group if option.setting}


def everywhere(known: list[Command]) -> list[Option]:
    """Return the options that all commands have."""
    first, *others = [[option for group in command.groups.values() for option in group] for command in known]
    return [option for option in first if all(option in one for one in others)]


def own_and_shared(
    command: Command, shared: dict[str, Option], every: list[Option]
) -> tuple[list[Option], list[Option]]:
    """Return the options of a command that are neither in `shared` nor of every command, and those in `shared`."""
    options = [option for group in command.groups.values() for option in group if option not in every]
    return [o for o in options if not _same(o, shared)], [o for o in options if _same(o, shared)]


def _same(option: Option, shared: dict[str, Option]) -> bool:
    return option.setting in shared and option.text in (shared[option.setting].text, _alone(shared[option.setting]))


def _alone(option: Option) -> str:
    return option.text.replace("; a list trains a network for each.", ".")


def markdown() -> str:
    """Return the manual as Markdown, which is docs/cli.md."""
    known = commands()
    shared, every = settings(known), everywhere(known)
    lines = ["# The command line", "", "<!-- Made by python docs/cli.py from the parser. -->", ""]
    rows: list[tuple[str, ...]]
    rows = [(f"[`xpnet {c.name}`](#xpnet-{c.name.replace(' ', '-')})", _cell(c.paragraphs[0])) for c in known]
    lines += _table(("command", ""), [*rows, *((_code(names), _cell(text)) for names, text in _SHELL.items())])
    for command in known:
        own, of_runs = own_and_shared(command, shared, every)
        lines += [f"## xpnet {command.name}", "", f"    {command.usage}", ""]
        lines += [line for paragraph in command.paragraphs for line in (_plain(paragraph), "")]
        lines += _table(("", "", "default"), [_row(option) for option in own]) if own else []
        if of_runs:
            each = ", ".join(_code(option.names.split()[0].rstrip(",")) for option in of_runs)
            lines += [f"[Settings](#settings): {'all' if len(of_runs) == len(shared) else each}.", ""]
    lines += ["## Options of every command", ""]
    lines += _table(("", ""), [_row(option)[:2] for option in every])
    lines += ["## Settings", "", _plain(f"{VARIABLES} {_OF_A_RUN}"), ""]
    rows = [(_code(o.names), _code(variable(name)), *_row(o)[1:]) for name, o in shared.items()]
    lines += _table(("option", "variable", "", "default"), rows)
    lines += ["A flag's variable is `1`, `true`, `yes` or `on`, or the opposite. Other variables:", ""]
    lines += _table(("variable", ""), [(_code(name), _cell(text)) for name, text in OTHERS.items()])
    lines += [
        "## Exit codes",
        "",
        *_table(("code", ""), [(str(code), _cell(text)) for code, text in EXIT_CODES.items()]),
    ]
    return "\n".join(lines)


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (heads, (":--",) * len(heads), *rows)] + [""]


def _row(option: Option) -> tuple[str, ...]:
    return _code(option.names), _cell(option.text), _cell(option.default)


def _code(text: str) -> str:
    return f"`{text.replace('|', _BAR)}`"


# A bar within a table of Markdown.
_BAR = "\\|"


def _plain(text: str) -> str:
    """Return text as Markdown that shows it as it is; options are set as code."""
    return re.sub(r"(?<![\w`-])(--[a-z][a-z-]*|XPNET_[A-Z_]+|\w+\.(?:csv|html|png|svg|toml|npy|npz))\b", r"`\1`", text)


def _cell(text: str) -> str:
    return _plain(text).replace("|", _BAR).replace("<", "&lt;")


def manual_page() -> str:
    """Return the manual as a page for man, in roff."""
    known = commands()
    shared, every = settings(known), everywhere(known)
    lines = [f'.TH XPNET 1 "" "xpnet {__version__}" "User Commands"', ".SH NAME"]
    lines += [r"xpnet \- train, check and study fully connected networks, fast", ".SH SYNOPSIS"]
    for number, names in enumerate(("xpnet COMMAND [OPTIONS]", *_SHELL)):
        lines += [*([".br"] if number else []), _roff(names)]
    lines += [".SH COMMANDS"]
    for command in known:
        own, of_runs = own_and_shared(command, shared, every)
        first, *others = command.paragraphs
        lines += [f".SS {_roff(command.usage)}", _roff(first)]
        lines += [line for paragraph in others for line in (".PP", _roff(paragraph))]
        lines += [line for option in own for line in _item(option)]
        if of_runs:
            each = ", ".join(option.names.split()[0].rstrip(",") for option in of_runs)
            lines += [".PP", _roff(f"Settings, described below: {'all' if len(of_runs) == len(shared) else each}.")]
    lines += [".SH OPTIONS OF EVERY COMMAND", *(line for option in every for line in _item(option))]
    lines += [".SH SETTINGS", *(line for option in shared.values() for line in _item(option))]
    lines += [".SH ENVIRONMENT", _roff(VARIABLES), ".PP", _roff(_OF_A_RUN)]
    lines += [line for name, text in OTHERS.items() for line in (".TP", f".B {name}", _roff(text))]
    lines += [".SH EXIT STATUS"]
    lines += [line for code, text in EXIT_CODES.items() for line in (".TP", f".B {code}", _roff(text))]
    return "\n".join(lines) + "\n"


def _item(option: Option) -> Iterator[str]:
    default = f" [default: {option.default}]" if option.default else ""
    yield from (".TP", f".B {_roff(option.names).replace('|', '|' + chr(92) + ':')}", _roff(option.text + default))


def _roff(text: str) -> str:
    """Return text for roff: ASCII, hyphens as they are typed, and no line that begins like a request."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    escaped = "".join(c if c.isascii() else f"\\[u{ord(c):04X}]" for c in escaped)
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
