"""``xpnet train``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from cyclopts import Parameter

from xpnet.cli.console import Output
from xpnet.cli.options import FLAG, OUTPUT, Debug, Json, Quiet, read_settings, settings_options
from xpnet.errors import ConfigError

if TYPE_CHECKING:
    TrainOptions: TypeAlias = Any
else:
    TrainOptions = settings_options(lists=True)


def train(
    options: Annotated[TrainOptions | None, Parameter(name="*")] = None,
    *,
    config: Annotated[
        Path | None,
        Parameter(group=OUTPUT, help="Settings from a TOML file or a run folder; options on the line go first."),
    ] = None,
    out: Annotated[Path | None, Parameter(group=OUTPUT, help="New folder of the run. [default: runs/TIME]")] = None,
    resume: Annotated[
        Path | None,
        Parameter(group=OUTPUT, metavar="RUN", help="Go on with the run in this folder, to the end it would have had."),
    ] = None,
    allow_changes: Annotated[
        bool,
        Parameter(group=OUTPUT, **FLAG, help="With --resume: go on although settings or data differ."),
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,  # noqa: ARG001 - looked for before parsing, since parsing can fail too
) -> None:
    """Train a network and keep everything about it in a run folder.

    Without --data, CIFAR-10 is used if it is on this machine, and the built-in set `patterns`
    otherwise; nothing is downloaded.
    """
    from xpnet.cli.resuming import resume_training
    from xpnet.cli.running import run_training

    output = Output(as_json=json, quiet=quiet)
    if resume is None:
        if allow_changes:
            raise ConfigError("allow_changes = true: is for a run that is resumed; name it with --resume RUN")
        exit_code = run_training(read_settings(options, config), out, output)
    else:
        for name, value in (("config", config), ("out", out)):
            if value is not None:
                raise ConfigError(f"{name} = {value}: a run that is resumed has its own; leave --{name} out")
        exit_code = resume_training(resume, options, output, allow_changes=allow_changes)
    if exit_code:
        sys.exit(exit_code)
