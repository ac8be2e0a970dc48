"""Settings of a search: how points are drawn, in how many rounds, how trials are pruned, how the winner is tested."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from xpnet.config.definitions import MOST_NETWORKS
from xpnet.config.fields import Checked, choice, optional, real, setting, shown, text_of, whole
from xpnet.errors import ConfigError
from xpnet.tuning.samplers import ADAPTIVE, EVEN, RANDOM
from xpnet.utils.plural import counted

# An adaptive sampler draws at most a fifth of all trials at a time, so that later trials learn from earlier ones.
_SHARE = 5
_MOST, _MOST_ROUNDS = 100_000, 1_000
# Packages that samplers need and Optuna does not install.
_NEEDED = {"gp": "torch", "cmaes": "cmaes"}


@dataclass(frozen=True, kw_only=True)
class SearchConfig(Checked):
    """Settings of a search.

    Attributes:
        draw: How points are drawn: see :func:`xpnet.tuning.samplers.draw`; ``"tpe"``, ``"gp"`` and ``"cmaes"``
            are Optuna's samplers.
        trials: Points of each round.
        rounds: Number of rounds; each has the range that the round before suggests.
        refine: ``"two-best"``: best ± distance of the two best, in the exponent; ``"k-best"``: around the `best` best.
        best: Number of best points for `refine`.
        round_cycles: Cycles (epochs with other schedules) of each round; None trains all rounds equally long.
        budget: Floating point operations of each training, in 10^12, by :func:`xpnet.config.arithmetic.flop_of_sample`:
            the number of epochs follows from the size of the network. None trains all trials equally many epochs.
        prune: ``"none"``; ``"median"``: stop trials below the median at a cycle's end; ``"halving"``: stop all but the
            better half after 1, 2, 4, ... cycles. Trials with a budget are compared after every eighth of it.
        final: Split on which the winner is trained again, for its test figures; ``"same"``: its networks are tested as
            the search trained them; ``"none"``: they are not tested.
        final_runs: Seeds with which the winner is trained again; None takes those of the trials.
        lease: Seconds without a sign of life after which a worker loses its trials.
    """

    draw: str = setting(
        "random",
        choice(*RANDOM, *EVEN, *ADAPTIVE),
        "How points are drawn: random draws every setting on its own scale; tpe, gp and cmaes are Optuna's.",
        metavar="|".join((*RANDOM, *EVEN, *ADAPTIVE)),
    )
    trials: int | None = setting(
        None, optional(whole(1, _MOST)), "Points of each round.", metavar="N", unset="20, or all combinations of lists"
    )
    rounds: int = setting(1, whole(1, _MOST_ROUNDS), "Rounds, each around the best of the one before.", metavar="N")
    refine: str = setting(
        "two-best",
        choice("two-best", "k-best"),
        "Range of the next round: best ± the distance of the two best, or around the k best.",
        metavar="two-best|k-best",
    )
    best: int = setting(3, whole(1), "How many points k-best goes around.", metavar="K")
    round_cycles: tuple[int, ...] | None = setting(
        None,
        optional(lambda value: _counts(value)),
        "Cycles of each round, such as 1,4 (epochs, with schedules that have no cycles).",
        metavar="N,N,...",
        unset="all of the same length",
    )
    budget: float | None = setting(
        None,
        optional(real(above=0, high=1e9)),
        "Arithmetic of each training, in 10^12 operations; it decides the epochs, by the size of the network.",
        metavar="TFLOP",
        unset="all trials train equally many epochs",
    )
    prune: str = setting(
        "none",
        choice("none", "median", "halving"),
        "Which trials are pruned, that is trained no further, at a cycle's end: those below the median, or the worse "
        "half.",
        metavar="none|median|halving",
    )
    final: str = setting(
        "same",
        text_of("a split, same or none"),
        "Split that the winner is trained on again for its test accuracy, such as 49k; same: it is tested as the "
        "search trained it; or none.",
        metavar="SPLIT|same|none",
    )
    final_runs: int | None = setting(
        None,
        optional(whole(1, MOST_NETWORKS)),
        "Seeds with which the winner is trained again.",
        metavar="R",
        unset="those of the trials",
    )
    lease: float = setting(
        60.0,
        real(1.0, 1e7),
        "Seconds after which a worker that is not heard of has lost its trials.",
        metavar="SECONDS",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.round_cycles is not None and len(self.round_cycles) != self.rounds:
            raise ConfigError(
                f"round_cycles = {shown(self.round_cycles)}: has {counted(len(self.round_cycles), 'number')} for "
                f"{counted(self.rounds, 'round')}; give one for each"
            )
        if self.budget is not None and self.round_cycles is not None:
            raise ConfigError("round_cycles: the budget decides how long trials train; leave one of them out")
        package = _NEEDED.get(self.draw)
        if package is not None and find_spec(package) is None:
            raise ConfigError(f"draw = {self.draw}: needs the package {package}, which is not installed; take tpe")

        if package is not None and self.rounds > 1:
            raise ConfigError(f"rounds = {self.rounds}: {self.draw} learns in one space alone; take tpe, or one round")

    @property
    def trains_again(self) -> bool:
        """Whether the winner is trained again, on another split or with other seeds."""
        return self.final not in ("same", "none") or (self.final == "same" and self.final_runs is not None)

    @property
    def adaptive(self) -> bool:
        """Whether an Optuna sampler draws the points."""
        return self.draw in ADAPTIVE

    def count(self, size: int | None) -> int:
        """Return the number of points of a round in a space of `size` points, or of any number if None."""
        if self.trials is not None:
            return self.trials
        return size if size is not None and not self.adaptive else 20

    def asked_at_once(self, count: int, most: int) -> int:
        """Return how many of `count` points a sampler should draw at a time, if `most` networks train together."""
        if self.adaptive:
            most = min(most, -(-count // _SHARE))
        # Populations of nearly equal size: a small last one would take nearly as long as a full one.
        return max(1, -(-count // -(-count // max(1, most))))

    def to_mapping(self) -> dict[str, Any]:
        """Return every setting that has a value, by name, as TOML can hold it."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
            if value is not None
        }

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> SearchConfig:
        """Return the settings in a mapping from :meth:`to_mapping`.

        Raises:
            ConfigError: A name is unknown, or a value out of its range.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        for name, value in values.items():
            if name not in known:
                raise ConfigError(f"{name} = {shown(value)}: is no setting of a search; known are {', '.join(known)}")
        return cls(**values)


def _counts(value: Any) -> tuple[int, ...]:
    wanted = "whole numbers of at least 1, one for each round, such as 1,4"
    if isinstance(value, (Mapping, bytes)):
        raise ValueError(wanted)
    items = value.split(",") if isinstance(value, str) else [value] if isinstance(value, int) else value
    try:
        return tuple(whole(1)(item) for item in items)
    except (TypeError, ValueError):
        raise ValueError(wanted) from None
