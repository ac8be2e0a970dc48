"""All settings of a run together: from the command line or a file, checked, with lists for settings that vary."""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xpnet.config.cycles import CYCLIC
from xpnet.config.definitions import MOST_NETWORKS, DataConfig, NetworkConfig, RunConfig
from xpnet.config.fields import setting_name, shown
from xpnet.config.optimisers import no_effect, without_effect_on
from xpnet.config.shared import is_shared, shared_settings
from xpnet.config.training import TrainConfig
from xpnet.errors import ConfigError
from xpnet.utils.parsing import MOST_TOML, read_text, read_toml

CONFIG = "config.toml"

# Settings that may be lists: networks that differ in them train as one population.
VARYING = (
    *("seed", "init", "lambda", "eta_min", "eta_max", "eta", "momentum", "beta1", "beta2", "adam_eps"),
    *("weight_decay", "lr_first", "lr_bn", "decay_bn", "label_smoothing", "dropout", "input_dropout"),
)


@dataclass(frozen=True)
class Settings:
    """All settings of a run, as ``config.toml`` holds them.

    Attributes:
        data, network, train, run: The settings by group; a setting that varies has its first value.
        varying: The settings that were given as lists, with their values.
    """

    data: DataConfig
    network: Mapping[str, Any]
    train: TrainConfig
    run: RunConfig
    varying: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)

    @staticmethod
    def fields() -> dict[str, tuple[str, dataclasses.Field[Any]]]:
        """Return every setting's name with its group (data, network, train or run) and field."""
        groups = {"data": DataConfig, "network": NetworkConfig, "train": TrainConfig, "run": RunConfig}
        return {
            setting_name(field): (group, field)
            for group, cls in groups.items()
            for field in dataclasses.fields(cls)
            if field.name not in ("inputs", "classes")  # those of the data
        }

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Settings:
        """Return settings from values by name, checked; the others take their defaults.

        Raises:
            ConfigError: A name is unknown, a value is out of its range, or a setting has no effect on the
                schedule.
        """
        if not isinstance(values, Mapping):
            raise ConfigError(f"settings: must be a mapping of names and values, and are a {type(values).__name__}")
        known = cls.fields()
        groups: dict[str, dict[str, Any]] = {"data": {}, "network": {}, "train": {}, "run": {}}
        varying: dict[str, tuple[Any, ...]] = {}
        for name, value in values.items():
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
                raise ConfigError(f"{name} = {shown(value)}: there is no such setting; {hint}")
            group, field = known[name]
            if name in VARYING and (items := _items(value)) is not None:
                varying[name] = _checked_list(name, field, value, items)
                value = varying[name][0]
                if len(items) == 1:
                    del varying[name]
            groups[group][field.name] = value
        train, run = TrainConfig(**groups["train"]), RunConfig(**groups["run"])
        for name in _UNUSED[train.schedule]:
            if name in groups["train"]:
                raise ConfigError(
                    f"{name} = {shown(values[name])}: has no effect on the schedule {train.schedule}, "
                    f"which is set by {', '.join(_USED[train.schedule])}"
                )
        for name in without_effect_on(train.optimiser):
            if name in groups["train"]:
                raise no_effect(name, values[name], train.optimiser)
        for name, needed in _NEEDS.items():
            group = known[name][0]
            of = {"train": train, "run": run, "data": DataConfig(**groups["data"])}[group]
            if name in groups[group] and not getattr(of, needed):
                raise ConfigError(
                    f"{name} = {shown(values[name])}: has no effect without {needed}; set it, or leave {name} out"
                )
        network = NetworkConfig(inputs=1, **groups["network"])
        if network.bias_before_bn and not network.batch_norm:
            raise ConfigError("bias_before_bn = true: has no meaning without batch_norm, where biases always exist")
        if network.activation != "relu" and not network.hidden:
            raise ConfigError(f"activation = {network.activation}: has no effect without hidden layers; leave it out")
        checked = {name: getattr(network, name) for name in groups["network"]}
        if "seed" in varying and run.runs > 1:
            raise ConfigError(
                f"seed = {shown(varying['seed'])}, runs = {run.runs}: give a list of seeds, or runs, not both"
            )
        _check_count(varying, run.runs)
        settings = cls(DataConfig(**groups["data"]), checked, train, run, varying)
        _check_combinations(settings, groups["train"])
        return settings

    def to_mapping(self) -> dict[str, Any]:
        """Return every setting that has a value and an effect, by name, as TOML can hold it."""
        mapping = self._with_effect()
        # Lists keep the order in which they were given, which is the order of the replicas.
        mapping = {name: value for name, value in mapping.items() if name not in self.varying} | dict(self.varying)
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in mapping.items()
            if value is not None
        }

    def unset(self) -> list[str]:
        """Return the settings that have an effect but no value, so that something else stands in for it.

        Settings that only some kinds of data have, such as the column of a table's labels, are left out.
        """
        epochs = self.train.epochs is not None or self.train.schedule not in CYCLIC
        other = {"cycles" if epochs else "epochs", *(self.fields().keys() - self._always())}
        return [name for name, value in self._with_effect().items() if value is None and name not in other]

    @classmethod
    def _always(cls) -> set[str]:
        """Return the settings that every kind of data has."""
        return {name for name, (group, _) in cls.fields().items() if group != "data" or name in ("split", "pca")}

    def _with_effect(self) -> dict[str, Any]:
        """Return every setting that has an effect, by name; the first value of one that varies."""
        network = NetworkConfig(inputs=1, **self.network)
        fields = self.fields()
        owners = {"data": self.data, "network": network, "train": self.train, "run": self.run}
        unused = [
            *_UNUSED[self.train.schedule],
            *without_effect_on(self.train.optimiser),
            *(n for n, of in _NEEDS.items() if not getattr(owners[fields[n][0]], of)),
        ]
        return {
            name: getattr(owners[group], field.name)
            for name, (group, field) in fields.items()
            if name not in unused and not (name == "bias_before_bn" and not network.batch_norm)
        }

    def single(self, command: str) -> Settings:
        """Return these settings for a command that takes one network.

        Raises:
            ConfigError: A setting is a list.
        """
        for name, values in self.varying.items():
            raise ConfigError(f"{name} = {shown(values)}: must be one value for {command}; xpnet train takes lists")
        return self

    def replicas(self) -> list[dict[str, Any]]:
        """Return for each network of the population its seed and its value of every varying setting.

        Runs come first, so that networks of one seed, which see the same batches, are neighbours; within
        a run the list that was named last varies fastest (on the command line, the last of ``--help``).
        """
        others = {name: values for name, values in self.varying.items() if name != "seed"}
        seeds = self.varying.get("seed") or range(self.run.seed, self.run.seed + self.run.runs)
        return [
            {"seed": seed, **dict(zip(others, values, strict=True))}
            for seed in seeds
            for values in itertools.product(*others.values())
        ]

    def in_words(self, inputs: int, classes: int) -> str:
        """Return sizes, normalisation, lambda, the settings that vary, and the number of runs, in a few words."""
        network = self.network_config(inputs, classes).in_words()
        runs = f", {self.run.runs} runs" if self.run.runs > 1 else ""
        lists = [f"{len(values)} values of {name}" for name, values in self.varying.items()]
        lam = [] if "lambda" in self.varying else [f"lambda = {self.train.lam:.4g}"]
        return f"{network}, {', '.join(lam + lists)}{runs}"

    def network_config(self, inputs: int, classes: int) -> NetworkConfig:
        """Return the network's settings for data with `inputs` features and `classes` classes."""
        return NetworkConfig(inputs=inputs, classes=classes, **self.network)


def read_settings(path: Path) -> tuple[dict[str, Any], Settings]:
    """Return the settings in a TOML file, or in the ``config.toml`` of a run folder, as written and as checked.

    Raises:
        ConfigError: The file cannot be read, or a setting is wrong; the message names the line.
    """
    given = read_config(path)
    try:
        return given, Settings.from_mapping(given)
    except ConfigError as error:
        if is_shared(path):
            raise ConfigError(f"config = {path}: {error}") from None
        path = path / CONFIG if path.is_dir() else path
        text = read_text(path, MOST_TOML, ConfigError, links=True)
        name = re.escape(str(error).partition(" = ")[0])
        match = re.search(rf"^[ \t]*[\"']?{name}[\"']?[ \t]*=", text, re.MULTILINE)
        line = "" if match is None else f", line {text.count(chr(10), 0, match.start()) + 1}"
        raise ConfigError(f"config = {path}{line}: {error}") from None


_USED = {
    "triangular": ("eta_min", "eta_max", "n_s"),
    "decay": ("eta", "decay"),
    "constant": ("eta",),
    "cosine": ("eta", "eta_min"),
    "one-cycle": ("eta_min", "eta_max", "warmup", "anneal"),
    "cosine-restarts": ("eta", "eta_min", "n_s", "restart_factor"),
    "coslog4": ("eta",),
}
_OF_SCHEDULES = tuple(dict.fromkeys(itertools.chain(*_USED.values())))
# Settings without an effect unless another one is on.
_NEEDS = {"border": "shift", "pca_eps": "pca", "stratify": "cv"}
_UNUSED = {schedule: [name for name in _OF_SCHEDULES if name not in used] for schedule, used in _USED.items()}


def settings_without_effect(schedule: str) -> list[str]:
    """Return the settings of other schedules, which have no effect on `schedule`."""
    return [*_UNUSED.get(schedule, ()), *(["cycles"] if schedule not in CYCLIC else [])]


def _items(value: Any) -> list[Any] | None:
    """Return the values of a list, in Python's, TOML's or the command line's form; None for a single one."""
    if isinstance(value, str) and "," in value:
        return [item.strip() for item in value.split(",")]
    return list(value) if isinstance(value, (list, tuple)) else None


def _checked_list(name: str, field: dataclasses.Field[Any], value: Any, items: list[Any]) -> tuple[Any, ...]:
    if len(items) > MOST_NETWORKS:
        raise ConfigError(f"{name}: has {len(items):,} values, and may have {MOST_NETWORKS:,}")
    try:
        checked = tuple(field.metadata["check"](item) for item in items)
    except ValueError as error:
        raise ConfigError(f"{name} = {shown(value)}: each value must be {error}") from None
    if not checked:
        raise ConfigError(f"{name} = []: is empty; give one value, or several")
    twice = {str(item) for item, count in Counter(checked).items() if count > 1}
    if twice:
        raise ConfigError(
            f"{name} = {shown(value)}: has {', '.join(sorted(twice))} twice; --runs repeats with other seeds"
        )
    return checked


def _check_count(varying: Mapping[str, tuple[Any, ...]], runs: int) -> None:
    """Raise :class:`ConfigError` if there are too many networks."""
    count = runs * math.prod(len(values) for values in varying.values())
    if count > MOST_NETWORKS:
        each = [f"{len(values):,} values of {name}" for name, values in varying.items()]
        words = ", ".join([*each, *([f"runs = {runs}"] if runs > 1 else [])])
        raise ConfigError(f"{words}: are {count:,} networks, and may be {MOST_NETWORKS:,}")


def _check_combinations(settings: Settings, given: Mapping[str, Any]) -> None:
    """Raise :class:`ConfigError` if valid values contradict each other."""
    lists = {
        field.name: settings.varying[name]
        for name, (group, field) in Settings.fields().items()
        if group == "train" and name in settings.varying
    }
    for values in itertools.product(*lists.values()):
        TrainConfig(**{**given, **dict(zip(lists, values, strict=True))})


def read_config(path: Path) -> dict[str, Any]:
    """Return the settings in a TOML file, in the ``config.toml`` of a run folder, or in a shared study (``.zip``).

    Raises:
        ConfigError: There is no such file, or it is not TOML, or goes beyond a limit of :mod:`xpnet.utils.parsing`.
    """
    if is_shared(path):
        return shared_settings(path, CONFIG)
    named = not path.is_dir()
    path = path if named else path / CONFIG
    return read_toml(path, ConfigError, f"config = {path}", links=named)
