"""The parser of the command line: every command with its module, and what the shell is asked to do."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from cyclopts import App, Group, Parameter

from xpnet.cli.commands import COMMANDS, DATA_COMMANDS
from xpnet.version import __version__

# The arguments of commands that have some, where the parser's own usage line says only ARGS.
_USAGE = {
    "search": "[OPTIONS] [SPACE...]",
    "predict": "[OPTIONS] RUN INPUTS...",
    "reproduce": "[OPTIONS] [EXPERIMENT...]",
    "report": "[OPTIONS] RUN...",
    "diagnose": "[OPTIONS] [RUN]",
    "data fetch": "[OPTIONS] [cifar10|cifar100]",
    "data info": "[OPTIONS] [DATA]",
}
_OF_SHELLS = {
    "--install-completion": ("install_completion", "Let the TAB key complete commands, options and values in a shell."),
    "--man": ("man", "Print the manual page: xpnet --man | man -l -"),
}
_OF_PROGRAM = Group("Program", sort_key=9)
VARIABLES = (
    "Each setting has an environment variable as well: XPNET_ and its name in capitals, such as XPNET_BATCH_SIZE "
    "(XPNET_DATASET for --data). Options go before variables, and variables before --config."
)


def make_parser(arguments: Sequence[str] = (), *, full: bool = False) -> App:
    """Return the parser of the command line.

    Args:
        arguments: The command line: the command that it names, which is imported, has its full help.
        full: Whether all commands are imported and have their full help.
    """
    app = App(
        name="xpnet",
        help="Train, check and study fully connected networks, fast.",
        usage="Usage: xpnet COMMAND [OPTIONS]",
        version=__version__,
        version_flags=["--version", "-V"],
        help_format="plaintext",
        help_epilogue="Begin with xpnet train. xpnet COMMAND --help shows the options of a command.",
        default_parameter=Parameter(show_choices=False),
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
        result_action="return_value",
    )
    data = App(
        name="data",
        help="Fetch published data sets, and describe data sets.",
        usage="Usage: xpnet data COMMAND [OPTIONS]",
        help_epilogue="",
    )
    for group, prefix, commands in ((app, [], COMMANDS), (data, ["data"], DATA_COMMANDS)):
        for name, text in commands.items():
            function = name.replace("-", "_")
            module = f"xpnet.cli.{'data' if prefix else function}"
            more: dict[str, Any] = {"help": text, "help_epilogue": ""}
            if full or list(arguments[: len(prefix) + 1]) == [*prefix, name]:  # its own help says more
                more = _of_command(module, function) or more
            words = " ".join([*prefix, name])
            if words in _USAGE:
                more["usage"] = f"Usage: xpnet {words} {_USAGE[words]}"
            group.command(f"{module}:{function}", name=name, **more)
    app.command(data)
    for name, (function, text) in _OF_SHELLS.items():
        app.command(f"xpnet.cli.shells:{function}", name=name, group=_OF_PROGRAM, help=text, help_epilogue="")
    app["--help"].group = app["--version"].group = _OF_PROGRAM
    return app


def _of_command(module: str, function: str) -> dict[str, Any]:
    """Return the help of a command: its docstring, a line for each paragraph, and a word on variables of settings.

    With ``python -OO`` there are no docstrings.
    """
    command = getattr(importlib.import_module(module), function)
    text = "\n\n".join(" ".join(paragraph.split()) for paragraph in (command.__doc__ or "").split("\n\n"))
    epilogue = VARIABLES if "options" in command.__annotations__ else ""
    return {"help": text, "help_epilogue": epilogue} if text else {}
