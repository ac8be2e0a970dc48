"""Options of the command line, made from the settings in :mod:`xpnet.config.definitions`."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, TypeVar

from cyclopts import Group, Parameter

from xpnet.cli.completion import run_folders, text_kind, values_of
from xpnet.cli.variables import truth, variable
from xpnet.config.definitions import DataConfig
from xpnet.config.fields import setting_name
from xpnet.config.optimisers import OPTIMISERS, without_effect_on
from xpnet.config.recipes import recipe
from xpnet.config.settings import VARYING, Settings, settings_without_effect
from xpnet.config.settings import read_settings as settings_in
from xpnet.errors import ConfigError, RunError
from xpnet.utils.extras import need

Command = TypeVar("Command", bound=Callable[..., None])

# The settings of the data: every command that reads data takes all of them.
DATA = tuple(setting_name(field) for field in dataclasses.fields(DataConfig))

_GROUPS = {
    "data": Group("Data", sort_key=1),
    "network": Group("Network", sort_key=2),
    "train": Group("Training", sort_key=3),
    "run": Group("Run", sort_key=4),
}
OUTPUT = Group("Output", sort_key=5)
# Characters in which the help of a terminal of 80 columns shows the values of an option.
_NARROW = 25

# A flag is off unless it is given: it has no --no-form, and its help names no default.
FLAG: Any = {"negative": "", "show_default": False}
Json = Annotated[bool, Parameter("--json", group=OUTPUT, **FLAG, help="Print one JSON object and nothing else.")]
Quiet = Annotated[bool, Parameter(("--quiet", "-q"), group=OUTPUT, **FLAG, help="Print nothing but errors.")]
Verbose = Annotated[
    bool, Parameter(("--verbose", "-v"), group=OUTPUT, **FLAG, help="Say more: why this device, and how it computes.")
]
Debug = Annotated[bool, Parameter("--debug", group=OUTPUT, **FLAG, help="Show a traceback when something fails.")]


Config = Annotated[
    Path | None,
    Parameter(
        "--config",
        group=OUTPUT,
        completer=run_folders,
        help="Settings from a TOML file, a run folder or a shared ZIP; options on the line go first.",
    ),
]
Run = Annotated[Path, Parameter(completer=run_folders, help="Run folder, model file, or checkpoint (its .json).")]


def number(group: Group, metavar: str, help: str, name: str | None = None) -> Parameter:
    """Return the parser's description of an option with a number as its value, which may begin with a minus sign."""
    shown = False if "[default:" in help else None
    return Parameter(name, group=group, metavar=metavar, help=help, show_default=shown, allow_leading_hyphen=True)


def with_settings(*names: str, **meaning: Any) -> Callable[[Command], Command]:
    """Give the parameter `options` of a command an option for each of the settings `names`.

    Args:
        names: The settings; all of them if none is named.
        meaning: Keyword arguments of :func:`settings_options`.
    """

    def give(command: Command) -> Command:
        command.__annotations__["options"] = Annotated[settings_options(*names, **meaning) | None, Parameter("*")]
        return command

    return give


def settings_options(
    *names: str, lists: bool = False, unset: str | None = None, help: Mapping[str, str] = MappingProxyType({})
) -> Any:
    """Return a dataclass with an option for each of the settings `names`, all of them if none is named.

    An option that is not given is None: the configuration file or the setting's default decides. Values stay text,
    because the setting's own check has the best error message.

    Args:
        names: The settings.
        lists: Whether the command takes lists of values for settings that may vary.
        unset: Words for the help: the source of values that are not given, in place of the defaults.
        help: The help of settings that mean something else to this command.
    """
    options = {}
    for name, (group, field) in Settings.fields().items():
        if names and name not in names:
            continue
        text = field.metadata["help"]
        if lists and name in VARYING:
            text = text.removesuffix(".") + "; a list trains a network for each."
        options[name] = _GROUPS[group], field, help.get(name) or _with_default(text, field, unset)
    return _options_class(options)


def config_options(cls: Any, group: Group) -> Any:
    """Return a dataclass with an option for each field of another settings class, such as SearchConfig."""
    fields = dataclasses.fields(cls)
    return _options_class({setting_name(f): (group, f, _with_default(f.metadata["help"], f)) for f in fields})


def _with_default(text: str, field: dataclasses.Field[Any], unset: str | None = None) -> str:
    default = unset or (field.metadata["unset"] if field.default is None else _shown(field.default))
    return f"{text} [default: {default}]"


def _options_class(options: Mapping[str, tuple[Group, dataclasses.Field[Any], str]]) -> Any:
    fields, settings = [], Settings.fields()
    for name, (group, field, text) in options.items():
        flag = str(field.type).startswith("bool")
        parameter = Parameter(
            name=f"--{name.replace('_', '-')}",
            group=group,
            help=text,
            show_default=False,
            metavar=_folded(field.metadata["metavar"]) or None,
            negative=f"--no-{name.replace('_', '-')}" if flag else "",
            allow_leading_hyphen=not flag,
            env_var=variable(name) if name in settings else None,
            show_env_var=False,
            converter=_as_given,
            completer=values_of(name),
        )
        kind = bool if flag else text_kind(field) | None
        fields.append((field.name, Annotated[kind, parameter], dataclasses.field(default=None)))
    # Without this module name, the parser would mistake the class for one of the standard library, a plain value.
    return dataclasses.make_dataclass("SettingsOptions", fields, kw_only=True, namespace={"__module__": __name__})


def _folded(metavar: str) -> str:
    """Return choices in lines that fit the help of a narrow terminal, which breaks lines at spaces.

    >>> _folded("standard|robust|quantile|ple")
    'standard|robust|quantile| ple'
    """
    lines = [""]
    for part in re.findall(r"[^|]+\|?", metavar):
        if len(lines[-1] + part) > _NARROW:
            lines.append("")
        lines[-1] += part
    return " ".join(lines)


def unfolded(metavar: str) -> str:
    """Return choices in one line."""
    return metavar.replace("| ", "|")


@dataclasses.dataclass(frozen=True)
class _OfVariable:
    """A value that an environment variable gives."""

    value: Any


def _as_given(kind: Any, tokens: Sequence[Any]) -> Any:
    """Return the value of an option: the text as it is, since the setting's own check has the best error message."""
    token = tokens[-1]
    if token.source == "env":
        value = truth(token.value) if kind is bool else token.value
        return _OfVariable(value) if token.value.strip() else None
    if kind is not bool:
        return token.value
    return token.implicit_value if token.implicit_value in (True, False) else truth(token.value)


def given(options: Any, variables: Collection[str] | None = None) -> dict[str, Any]:
    """Return the settings that were given on the command line, or else by environment variables, by name.

    Args:
        options: The options, as :func:`settings_options` describes them.
        variables: The settings whose environment variables apply; all of them if not given.
    """
    if options is None:
        return {}
    known = {field.name: setting_name(field) for _, field in Settings.fields().values()}
    values = {known.get(name, name): value for name, value in vars(options).items() if value is not None}
    of_variables = {
        name: value.value
        for name, value in values.items()
        if isinstance(value, _OfVariable) and (variables is None or name in variables)
    }
    return replaced(of_variables, {name: value for name, value in values.items() if not isinstance(value, _OfVariable)})


def replaced(settings: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with others in their place, which also remove those that have no effect any more.

    A schedule, an optimiser or a length on the command line removes the file's settings of other ones.
    """
    removed = settings_without_effect(others["schedule"]) if "schedule" in others else []
    removed += without_effect_on(others["optimiser"]) if others.get("optimiser") in OPTIMISERS else []
    removed += [other for name, other in (("cycles", "epochs"), ("epochs", "cycles")) if name in others]
    return {name: value for name, value in settings.items() if name not in removed} | dict(others)


def refuse_taken(stem: Path | None) -> None:
    """Refuse a figure that cannot be drawn, or would overwrite a file, before slow work begins.

    Raises:
        MissingExtraError: What draws figures is not installed.
        RunError: STEM.png or STEM.svg exists, or there is no folder for them.
    """
    if stem is not None:
        need("figures", f"figure = {stem}: drawing")
    for path in [] if stem is None else [stem.with_suffix(".png"), stem.with_suffix(".svg")]:
        if path.exists():
            raise RunError(f"figure = {stem}: {path} exists already, and nothing is overwritten; name another")
        if not path.parent.is_dir():
            raise RunError(f"figure = {stem}: there is no folder {path.parent}")


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def read_settings(
    options: Any,
    config: Path | None,
    recipe_name: str | None = None,
    check: Callable[[Mapping[str, Any]], Settings] = Settings.from_mapping,
    variables: Collection[str] | None = None,
) -> Settings:
    """Return the settings of the options, of the environment variables, of the file or the recipe, and the defaults.

    They go before each other in this order.  `variables` are the settings whose variables apply, all if not given.

    Raises:
        ConfigError: A setting is wrong, there is no such recipe, or both a file and a recipe are named.
    """
    if recipe_name is not None and config is not None:
        raise ConfigError(f"recipe = {recipe_name}, config = {config}: name one of them, not both")
    on_file = {} if config is None else settings_in(config)[0]
    if recipe_name is not None:
        on_file = dict(recipe(recipe_name).settings)
    return check(replaced(on_file, given(options, variables)))
