"""What to change after a training: settings that exist, are accepted with the others, and are right for the data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xpnet.config.cycles import CYCLIC
from xpnet.config.definitions import NetworkConfig
from xpnet.config.training import TrainConfig
from xpnet.data import Dataset
from xpnet.errors import ConfigError

# Data sets of natural pictures, whose mirror images keep their class, and data sets whose mirror images do not.
_MIRRORED, _NOT_MIRRORED = ("cifar10", "cifar100"), ("mnist", "patterns")
# By how much a rate, a penalty and a length are changed: enough to see a difference.
RATE, _PENALTY, _LENGTH = 3.0, 3.0, 2
# The penalty of each optimiser: its setting, the least value that is advised, and that from which on a larger one is no
# advice.  (200 units on 9,000 samples of CIFAR-10 overfit by 25 points: a lambda of 0.001 changes nothing, 0.005 gains
# 1 point of test accuracy, 0.01 gains 2, flips and shifts gain 3.)
_PENALTIES = {"sgd": ("lambda", 1e-2, 1e-2), "other": ("weight_decay", 0.05, 0.5)}
# Probability of dropout to begin with; shifts are one pixel in so many of the picture's side, up to the most.
_DROPOUT, _PIXELS, _MOST_SHIFT = 0.2, 14, 4
# From here on lambda is a likely cause of underfitting, and its product with the rate one of steps that are too large.
# No network learns much with a product beyond the last one.
LARGE_LAMBDA, LARGE_PRODUCT, _LARGE_DROPOUT, _MOST_PRODUCT = 0.01, 5e-3, 0.3, 0.05
# Cycles and epochs of a training that does not say how many; units of a first hidden layer.
_CYCLES, _EPOCHS, _UNITS = 2, 20, (50,)
_FIELDS = {"lambda": "lam"}


@dataclass(frozen=True)
class Advice:
    """Something to try: in words, such as "lambda = 0.001", and as settings by name."""

    words: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Situation:
    """What advice depends on: the settings of a network, and its data.

    Attributes:
        train, network: The settings; a tuple has a value for each network.
        replica: The network whose values count.
        image_shape: (channels, height, width) of pictures; None for other data.
        mirrored: Whether a mirror image keeps its class; None if that is unknown.
        varied: Settings that differ between networks of the run: the comparison of these says more than advice.
        unused: Samples of the training files that neither train nor validate.
    """

    train: TrainConfig = field(default_factory=TrainConfig)
    network: NetworkConfig = field(default_factory=lambda: NetworkConfig(inputs=1))
    replica: int = 0
    image_shape: tuple[int, int, int] | None = None
    mirrored: bool | None = None
    varied: Collection[str] = ()
    unused: int = 0

    @classmethod
    def of(
        cls, train: TrainConfig, network: NetworkConfig, data: Dataset, replica: int = 0, varied: Collection[str] = ()
    ) -> Situation:
        """Return the situation of a network trained on `data`."""
        mirrored = True if data.name in _MIRRORED and data.image_shape == (3, 32, 32) else None
        mirrored = False if data.name in _NOT_MIRRORED else mirrored
        return cls(train, network, replica, data.image_shape, mirrored, varied, data.unused)

    def value(self, name: str) -> Any:
        """Return the network's value of a setting."""
        field_name = _FIELDS.get(name, name)
        value = getattr(self.train if hasattr(self.train, field_name) else self.network, field_name)
        return value[self.replica] if isinstance(value, tuple) and field_name != "hidden" else value

    def accepts(self, name: str, value: Any) -> bool:
        """Return whether a setting may have a value, next to the others of this network."""
        rates = {"lambda": self.value("lambda") or 0.0, self.rate: self.value(self.rate)}
        if name in rates and math.prod(map(float, (rates | {name: value}).values())) > _MOST_PRODUCT:
            return False
        field_name = _FIELDS.get(name, name)
        try:
            if not hasattr(self.train, field_name):
                dataclasses.replace(self.network, **{field_name: value})
                return True
            names = [one.name for one in dataclasses.fields(self.train)]
            own = {one: self.value(one) for one in names if isinstance(getattr(self.train, one), tuple)}
            dataclasses.replace(self.train, **own | {field_name: value})
        except ConfigError:
            return False
        return True

    @property
    def rate(self) -> str:
        """The setting that is the highest learning rate."""
        return "eta_max" if self.train.schedule in ("triangular", "one-cycle") else "eta"

    @property
    def product(self) -> float:
        """Lambda times the highest learning rate."""
        return float(self.value("lambda") or 0.0) * float(self.value(self.rate))


def against_overfitting(at: Situation, *, best_is_last: bool = False) -> list[Advice]:
    """Return what makes a network learn fewer samples by heart, what helps most first.

    Weights of the best epoch are no advice if this is about the last one.
    """
    penalty, pictures = _penalty(at), _augmentation(at)
    found = [*pictures, *penalty] if at.mirrored else [*penalty, *pictures]
    if (at.image_shape is None or len(found) < 2) and at.network.hidden and at.value("dropout") == 0:
        found += [Advice(f"dropout = {_DROPOUT}", {"dropout": _DROPOUT})]
    if at.train.restore == "last" and not best_is_last:
        found += [Advice("restore = best (the weights of the best epoch)", {"restore": "best"})]
    return _not_varied(at, found) or [Advice("more training samples")]


def _penalty(at: Situation) -> list[Advice]:
    name, first, large = _PENALTIES["sgd" if at.train.optimiser == "sgd" else "other"]
    own = float(at.value(name) or 0.0)
    if own >= large:
        return []
    why = "which keeps the weights small"
    if own == 0:
        return [Advice(f"{name} = {first:g} (a penalty, {why}; it has none)", {name: first})]
    new = _rounded(max(first, own * _PENALTY))
    return [Advice(f"{name} = {new:g} ({_times(new / own)} the present penalty, {why})", {name: new})]


def _augmentation(at: Situation) -> list[Advice]:
    """Return changed pictures that are not used yet; a mirror image is one only if it keeps its class."""
    if at.image_shape is None:
        return []
    pixels = max(1, min(_MOST_SHIFT, min(at.image_shape[1:]) // _PIXELS))
    shift: dict[str, Any] = {} if at.train.shift else {"shift": pixels}
    flips = at.train.flip == "none" and at.mirrored is not False
    if flips and at.mirrored:
        shift = {"flip": "random"} | shift
    words = ", ".join(f"{name} = {value}" for name, value in shift.items())
    if flips and not at.mirrored:
        condition = "flip = random if a mirror image keeps its class"
        words = f"{words}, and {condition}" if words else condition
    return [Advice(f"changed pictures in every epoch ({words})", shift)] if words else []


def larger_rate(at: Situation) -> list[Advice]:
    """Return a larger learning rate."""
    new = _rounded(RATE * float(at.value(at.rate)))
    if new * float(at.value("lambda") or 0.0) >= LARGE_PRODUCT:
        return []
    return _not_varied(at, [Advice(f"{at.rate} = {new:g} ({_times(RATE)} the present rate)", {at.rate: new})])


def smaller_steps(at: Situation) -> list[Advice]:
    """Return a smaller learning rate, and a smaller lambda if its product with the rate is large."""
    found, new = [], _rounded(float(at.value(at.rate)) / RATE)
    if at.accepts(at.rate, new):
        found = [
            Advice(f"{at.rate} = {new:g} (a third of the present rate; xpnet lr-range measures one)", {at.rate: new})
        ]
    if at.product >= LARGE_PRODUCT:
        lam = _rounded(float(at.value("lambda")) / 10)
        why = "a tenth of the present one: its product with the rate sets how fast weights shrink"
        found += [Advice(f"lambda = {lam:g} ({why})", {"lambda": lam})]
    return _not_varied(at, found)


def falling_rate(at: Situation) -> list[Advice]:
    """Return a schedule whose rate falls."""
    return (
        [Advice("a rate that falls (schedule = cosine)", {"schedule": "cosine"})]
        if at.accepts("schedule", "cosine")
        else []
    )


def longer(at: Situation) -> list[Advice]:
    """Return twice the length of the training."""
    if at.train.epochs is None and at.train.schedule in CYCLIC:
        cycles = _LENGTH * (at.train.cycles or _CYCLES)
        return [Advice(f"cycles = {cycles} (twice as many)", {"cycles": cycles})]
    epochs = _LENGTH * (at.train.epochs or _EPOCHS)
    return [Advice(f"epochs = {epochs:g} (twice as many)", {"epochs": epochs})]


def more_capacity(at: Situation) -> list[Advice]:
    """Return what lets a network learn more: less of what holds it back, and more units."""
    found, lam = [], float(at.value("lambda") or 0.0)
    if lam >= LARGE_LAMBDA:
        found += [
            Advice(f"lambda = {_rounded(lam / 10):g} (a tenth of the present penalty)", {"lambda": _rounded(lam / 10)})
        ]
    if at.value("dropout") >= _LARGE_DROPOUT:
        found += [
            Advice(
                f"dropout = {_rounded(at.value('dropout') / 2):g} (half of the present one)",
                {"dropout": _rounded(at.value("dropout") / 2)},
            )
        ]
    if at.product >= LARGE_PRODUCT:
        new = _rounded(float(at.value(at.rate)) / RATE)
        found += (
            [Advice(f"{at.rate} = {new:g} (a third of the present rate)", {at.rate: new})]
            if at.accepts(at.rate, new)
            else []
        )
    return _not_varied(at, [*found, more_units(at)])


def more_units(at: Situation) -> Advice:
    """Return twice the units."""
    hidden = tuple(2 * units for units in at.network.hidden) or _UNITS
    words = ",".join(map(str, hidden))
    return Advice(
        f"hidden = {words} ({'twice as many units' if at.network.hidden else 'a hidden layer'})",
        {"hidden": list(hidden)},
    )


def advised(advice: Sequence[Advice], *, ranked: bool = False) -> str:
    """Return a sentence that names all advice, after a space; empty if there is none.

    With `ranked`, it says that the first is surer than the others.
    """
    if not advice:
        return ""
    first, *rest = (one.words for one in advice)
    if ranked and rest:
        return f" Try {first}; less sure: {_either(rest)}."
    return f" Try {_either([first, *rest])}."


def _either(words: Sequence[str]) -> str:
    *others, last = words
    return f"{', '.join(others)}{' or ' if others else ''}{last}"


def to_try(advice: Sequence[Advice]) -> dict[str, Any]:
    """Return the first advice that is in settings, as evidence of a conclusion."""
    first = next((dict(one.settings) for one in advice if one.settings), None)
    return {} if first is None else {"try": first}


def _not_varied(at: Situation, advice: Sequence[Advice]) -> list[Advice]:
    return [one for one in advice if not {*one.settings} & {*at.varied}]


def _times(factor: float) -> str:
    return {3.0: "three times", 5.0: "five times", 10.0: "ten times"}.get(_rounded(factor), f"{factor:.2g} times")


def _rounded(value: float) -> float:
    """Return a value with two significant digits, as people write settings."""
    return float(f"{value:.2g}")
