"""``xpnet train``."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from cyclopts import Parameter

from xpnet.cli.console import Output
from xpnet.cli.options import FLAG, OUTPUT, Debug, Json, Quiet, given, settings_options
from xpnet.config.settings import Settings, settings_without_effect
from xpnet.config.settings import read_settings as settings_in
from xpnet.errors import ConfigError

if TYPE_CHECKING:
    from xpnet.data import Data

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


def read_settings(options: Any, config: Path | None) -> Settings:
    """Return the settings of the options, of the configuration file, and the defaults, in this order."""
    on_file = {} if config is None else settings_in(config)[0]
    on_line = {} if options is None else given(options)
    # What the file says about another schedule or another length gives way to the command line.
    replaced = settings_without_effect(on_line["schedule"]) if "schedule" in on_line else []
    replaced += [other for name, other in (("cycles", "epochs"), ("epochs", "cycles")) if name in on_line]
    on_file = {name: value for name, value in on_file.items() if name not in replaced}
    return Settings.from_mapping(on_file | on_line)


def describe(settings: Settings, data: Data) -> str:
    """Return a run in a few words: data, split, sizes, normalisation, lambda, what varies, runs."""
    return f"{data.name} {data.split}, {settings.in_words(data.features, data.classes)}"


def about_data(data: Data, settings: Settings) -> str:
    """Say which data is used, and how to get CIFAR-10 where the embedded default took its place."""
    built_in = data.location.startswith("patterns")
    about = f"data: {data.name}, {'built in' if built_in else f'from {data.location}'}, split {data.split}"
    if settings.data.data is None and data.name == "patterns":
        from xpnet.data import CIFAR10_HINT

        about += f"\nCIFAR-10 is not on this machine: {CIFAR10_HINT}"
    return "\n".join((about, *data.notes))


def resolved(settings: Settings, data: Data) -> dict[str, Any]:
    """Return the settings with the data that was found, so that they mean the same tomorrow."""
    target = settings.data.target
    if target is not None and data.location.endswith(".npy"):
        target = str(Path(target).expanduser().resolve())  # the labels' file
    found = dataclasses.replace(settings.data, data=data.location, split=data.split, target=target)
    return dataclasses.replace(settings, data=found).to_mapping()
