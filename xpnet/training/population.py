"""Populations: many networks of one architecture, trained together."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xpnet.config.arguments import kind, takes, whole_numbers
from xpnet.config.definitions import NetworkConfig
from xpnet.config.fields import whole
from xpnet.config.settings import VARYING, Settings
from xpnet.config.training import NOT_BY_REPLICA, TrainConfig
from xpnet.errors import ConfigError
from xpnet.training.result import TrainResult
from xpnet.utils import parsing


def _several(value: Any) -> Sequence[Mapping[str, Any]]:
    if isinstance(value, (list, tuple)) and all(isinstance(item, Mapping) for item in value):
        return value
    raise ValueError("a sequence of mappings")


@dataclass(frozen=True)
class Population:
    """R networks of one architecture with settings of their own.

    Attributes:
        network: The architecture; `init` may be a tuple with one value for each replica.
        train: How to train; settings may be tuples with one value for each replica.
        seeds: Seed of each replica's initial weights.
        rows: The seed of each replica and its values of the settings that vary, by name.
    """

    network: NetworkConfig
    train: TrainConfig
    seeds: tuple[int, ...]
    rows: tuple[dict[str, Any], ...]

    @classmethod
    @takes(settings=kind(Settings))
    def of(cls, settings: Settings, inputs: int, classes: int) -> Population:
        """Return the population that `settings` describe: the product of their lists and of the runs."""
        return cls._of_rows(settings, settings.replicas(), settings.varying, inputs, classes)

    @classmethod
    @takes(settings=kind(Settings), cells=_several, seeds=whole_numbers)
    def of_cells(
        cls, settings: Settings, cells: Sequence[Mapping[str, Any]], seeds: Sequence[int], inputs: int, classes: int
    ) -> Population:
        """Return a population with a network for each seed and cell; networks of one seed are neighbours.

        Args:
            settings: Settings that all networks share.
            cells: Values of settings in :data:`~xpnet.config.settings.VARYING`; the same settings in each cell.
            seeds: Seeds of every cell.
            inputs: Number of features of the data.
            classes: Number of classes of the data.
        """
        rows = [{"seed": seed, **cell} for seed in seeds for cell in cells]
        return cls._of_rows(settings, rows, {name for cell in cells for name in cell} & set(VARYING), inputs, classes)

    @classmethod
    def _of_rows(
        cls, settings: Settings, rows: list[dict[str, Any]], varying: Iterable[str], inputs: int, classes: int
    ) -> Population:
        fields = Settings.fields()
        own: dict[str, dict[str, Any]] = {"network": {}, "train": {}}
        for name in sorted({*varying} - {"seed"}):
            group, field = fields[name]
            own[group][field.name] = tuple(field.metadata["check"](row[name]) for row in rows)
        network = dataclasses.replace(settings.network_config(inputs, classes), **own["network"])
        train_config = dataclasses.replace(settings.train, **own["train"])
        return cls(network, train_config, tuple(row["seed"] for row in rows), tuple(rows))

    def __len__(self) -> int:
        return len(self.seeds)

    @takes(start=whole(0), stop=whole(0))
    def part(self, start: int, stop: int) -> Population:
        """Return the replicas from `start` up to `stop`.

        Raises:
            ConfigError: `start` or `stop` is not a whole number of at least 0.
        """

        def cut(config: Any) -> Any:
            values = vars(config).items()
            lists = {name: v for name, v in values if isinstance(v, tuple) and name not in NOT_BY_REPLICA}
            return dataclasses.replace(config, **{name: value[start:stop] for name, value in lists.items()})

        return Population(cut(self.network), cut(self.train), self.seeds[start:stop], self.rows[start:stop])

    @classmethod
    def joined(cls, parts: Sequence[Population]) -> Population:
        """Return the replicas of several populations, which differ only in what replicas may differ in."""
        varying = {field.name for name, (_, field) in Settings.fields().items() if name in VARYING}

        def join(configs: Sequence[Any]) -> Any:
            changes = {}
            for name in sorted(varying & vars(configs[0]).keys()):
                values = [getattr(config, name) for config in configs]
                if any(isinstance(value, tuple) or value != values[0] for value in values):
                    pairs = zip(values, parts, strict=True)
                    each = [own if isinstance(own, tuple) else (own,) * len(part) for own, part in pairs]
                    changes[name] = tuple(one for own in each for one in own)
            return dataclasses.replace(configs[0], **changes)

        seeds, rows = (tuple(one for part in parts for one in getattr(part, name)) for name in ("seeds", "rows"))
        return cls(join([part.network for part in parts]), join([part.train for part in parts]), seeds, rows)

    def of_each_init(self) -> list[Population]:
        """Return the first network for each value of `init`."""
        inits = self.network.init if isinstance(self.network.init, tuple) else (self.network.init,)
        return [self.part(r, r + 1) for r in sorted(inits.index(init) for init in set(inits))]

    def combinations(self) -> list[tuple[dict[str, Any], list[int]]]:
        """Return each combination of settings with the replicas, one for each seed, that have it."""
        found: dict[tuple[Any, ...], list[int]] = {}
        names = [name for name in self.rows[0] if name != "seed"]
        for number, row in enumerate(self.rows):
            found.setdefault(tuple(row[name] for name in names), []).append(number)
        return [(dict(zip(names, values, strict=True)), members) for values, members in found.items()]


def check_metrics(population: Population, epochs: int, folds: int = 0) -> None:
    """Refuse a training whose ``metrics.json`` would be larger than its limits for reading.

    Args:
        population: The networks.
        epochs: Epochs of their training.
        folds: Folds of their cross-validation.

    Raises:
        ConfigError: There are too many networks or epochs.
    """
    replicas, settings = len(population), len(population.rows[0])
    # Figures of all networks, figures and settings of each network, and the seconds of each epoch, a line for each.
    patient = 4 if population.train.patience is not None or population.train.restore == "best" else 0
    values = replicas * (9 + 16 + settings + 4 * folds + patient) + epochs + 200
    size = replicas * (9 * 36 + 600 + 70 * settings + 4 * 36 * folds + 36 * patient) + 36 * epochs + 20_000
    if values > parsing.MOST_VALUES or size > parsing.MOST_JSON:
        raise ConfigError(
            f"epochs: {epochs:,} epochs of {replicas:,} networks make a metrics.json of up to {size:,} bytes and "
            f"{values:,} values, and {parsing.MOST_JSON:,} and {parsing.MOST_VALUES:,} are the most that is read; "
            "take fewer"
        )


def replicas_json(population: Population, result: TrainResult) -> Iterator[dict[str, Any]]:
    """Yield the entry of each replica in ``metrics.json``: its settings, its figures, and where it diverged."""
    for r, row in enumerate(population.rows[: len(result.test.losses)]):
        sets = {"test": result.test, "validation": result.validation, "train": result.train}
        entry = row | {name: dict(metrics.part([r])) for name, metrics in sets.items()}
        if r in result.diverged:
            entry["diverged_at"] = result.diverged[r].step
        if result.weights:
            entry |= {"stopped_after": result.stopped.get(r), "weights_of": result.weights[r]}
        yield entry
