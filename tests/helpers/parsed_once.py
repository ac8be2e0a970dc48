"""The arguments of a command, which its parser works out anew for each command line: here, once for each process."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from cyclopts import App


def keep_arguments(put: Callable[[Any, str, Any], None]) -> None:
    """Let the parser work out the arguments of each command once; every command line gets a copy of its own.

    Args:
        put: Sets an attribute of an object: ``setattr``, or that of pytest's ``MonkeyPatch``.
    """
    made: dict[Callable[..., Any] | None, Any] = {}
    assemble = App.assemble_argument_collection

    def assembled(app: App, **options: Any) -> Any:
        if any(options.values()):  # with the words of its help
            return assemble(app, **options)
        if app.default_command not in made:
            made[app.default_command] = assemble(app)
        return _copy(made[app.default_command])

    put(App, "assemble_argument_collection", assembled)


def _copy(arguments: Any) -> Any:
    twins = {id(argument): copy.copy(argument) for argument in arguments}
    for twin in twins.values():
        twin.tokens = []
        twin.children = type(arguments)(twins[id(child)] for child in twin.children)
    return type(arguments)(twins.values())
