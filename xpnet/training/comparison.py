"""What a training of several settings says: which is best, whether chance explains that, and what to try next.

Two kinds of chance are told apart.  *Seeds*: a t test of the validation accuracies, seed by seed, if there are three
seeds or more.  *Samples*: the standard error of the difference of two shares of the validation samples, as if each
network had seen samples of its own, which is the larger error.  The level of 5 % is shared by all that the best is
compared with (Bonferroni).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.training.advice import Situation
from xpnet.training.chance_level import percent
from xpnet.training.conclusions import Conclusion
from xpnet.training.next_values import beyond, wider, within
from xpnet.utils.plural import counted

LEVEL = 0.05
# Fewer seeds say too little about their spread; so many are a beginning.
_FEW_SEEDS = 3
# Settings of which values between others are tried together: more would be very many networks.
_REFINED = 2


@dataclass(frozen=True)
class Candidate:
    """A combination of settings.

    Attributes:
        values: Its settings that vary, without the seed.
        words: The same in words, such as ``lambda 0.01``.
        accuracies: Validation accuracy of each of its networks (n,), in the same order of seeds; NaN where diverged.
    """

    values: Mapping[str, Any]
    words: str
    accuracies: NDArray[np.float64]

    @functools.cached_property
    def mean(self) -> float:
        """Mean accuracy; -1 if a network diverged."""
        return float(np.nan_to_num(self.accuracies, nan=-1.0).mean())

    @property
    def short(self) -> str:
        """Its words; the value alone if one setting varies."""
        return self.words.partition(" ")[2] if len(self.values) == 1 else self.words

    @property
    def known(self) -> bool:
        """Whether no network diverged."""
        return bool(np.isfinite(self.accuracies).all())


@dataclass(frozen=True)
class _Gap:
    """How far the best combination is above another one, and how far chance reaches.

    Attributes:
        points: Difference of the mean accuracies.
        error: Standard error of it over seeds; NaN with fewer than three.
        by_seeds, by_samples: Differences up to these are explained by seeds (0 with fewer than three) or samples.
    """

    points: float
    error: float
    by_seeds: float
    by_samples: float

    @classmethod
    def between(cls, best: Candidate, other: Candidate, samples: int, others: int) -> _Gap:
        """Return the gap, one of `others` that are looked at together."""
        level, n = LEVEL / max(1, others), len(best.accuracies)
        p, q = best.mean, other.mean
        by_samples = NormalDist().inv_cdf(1 - level / 2) * math.sqrt((p * (1 - p) + q * (1 - q)) / max(1, samples))
        if n < _FEW_SEEDS:
            return cls(p - q, math.nan, 0.0, by_samples)
        error = float((best.accuracies - other.accuracies).std(ddof=1)) / math.sqrt(n)
        return cls(p - q, error, _t(level, n - 1) * error, by_samples)

    @property
    def real(self) -> bool:
        """Whether the difference is beyond what seeds explain, or what samples do where seeds are too few."""
        return self.points > (self.by_samples if math.isnan(self.error) else self.by_seeds)


def compare(candidates: Sequence[Candidate], samples: int, at: Situation) -> Conclusion | None:
    """Return which of several combinations of settings is best, and what to try next; None if too few are known.

    Args:
        candidates: The combinations, each with as many networks as the others.
        samples: Number of validation samples.
        at: Settings and data of the best combination.
    """
    known = sorted((one for one in candidates if one.known), key=lambda one: -one.mean)
    if len(known) < 2 or len({len(one.accuracies) for one in known}) > 1 or not samples:
        return None
    best, second = known[:2]
    gaps = [_Gap.between(best, one, samples, len(known) - 1) for one in known[1:]]
    level = [best, *(one for one, gap in zip(known[1:], gaps, strict=True) if not gap.real)]
    advice, tried, places = _next(candidates, level, at, everything=len(level) == len(candidates))
    rule = "alike" if len(level) > 1 else "best-at-edge" if places else "best"
    evidence: dict[str, Any] = {
        "best": dict(best.values),
        "second": dict(second.values),
        "difference": gaps[0].points,
        "seeds": len(best.accuracies),
        "samples": samples,
        "by_samples": gaps[0].by_samples,
        "alike": len(level),
    }
    if not math.isnan(gaps[0].error):
        evidence |= {"error": gaps[0].error, "by_seeds": gaps[0].by_seeds}
    evidence |= {"ends": places} if places else {}
    text = f"{_verdict(best, second, gaps[0], candidates, samples)}{advice}"
    return Conclusion(text, rule, evidence | ({"try": tried} if tried else {}))


def _verdict(best: Candidate, second: Candidate, gap: _Gap, candidates: Sequence[Candidate], samples: int) -> str:
    """Return which combination is best, and whether chance explains it."""
    seeds, apart = len(best.accuracies), f"{100 * gap.points:.1f} points"
    of, images = _of(candidates), f"{samples:,} validation samples"
    if gap.real:
        spread = f" ± {100 * best.accuracies.std(ddof=1):.2f}" if seeds > 1 else ""
        text = f"The best of {of} is {best.short}: {100 * best.mean:.2f}{spread} % of the validation samples, {apart} "
        text += f"more than {second.short}, which is more than "
        if math.isnan(gap.error):
            return f"{text}the chance of {images} explains ({100 * gap.by_samples:.1f} points)."
        text += f"{seeds} seeds explain ({100 * gap.by_seeds:.1f} points)"
        if gap.points > gap.by_samples:
            return f"{text}, and more than {images} do ({100 * gap.by_samples:.1f})."
        return f"{text}; other {images} may say otherwise (by up to {100 * gap.by_samples:.1f} points)."
    two = "The two" if len(candidates) == 2 else "The best two of"
    text = f"{two} {of.removeprefix('2 ')}, {best.short} and {second.short}, do not differ "
    if math.isnan(gap.error):
        return (
            f"{text}beyond chance: {apart} apart, and {images} alone explain up to {100 * gap.by_samples:.1f} points."
        )
    text += (
        f"beyond their seeds: {apart} apart, with a standard error of {100 * gap.error:.1f} points over {seeds} seeds."
    )
    return text


def _of(candidates: Sequence[Candidate]) -> str:
    names = [*candidates[0].values]
    return (
        f"{len(candidates)} values of {names[0]}" if len(names) == 1 else f"{len(candidates)} combinations of settings"
    )


def _next(
    candidates: Sequence[Candidate], level: Sequence[Candidate], at: Situation, *, everything: bool
) -> tuple[str, dict[str, Any], dict[str, str]]:
    """Return a sentence on what to try next after a space, the same as settings, and at which ends the best lie.

    Args:
        candidates: All combinations.
        level: The best of them, and those that do not differ from it.
        at: Settings and data of the best one.
        everything: Whether no combination differs from the best.
    """
    if everything:
        sentence, tried, ends = *_farther_apart(candidates, level[0], at), dict[str, str]()
    else:
        sentence, tried, ends = _beyond_the_ends(candidates, level, at)
    if not sentence:
        sentence, tried = _between(candidates, level[0], at) if len(level) == 1 else _more_seeds(level)
    if sentence and len(level[0].accuracies) < _FEW_SEEDS and "runs" not in tried:
        sentence += f" With runs = {_FEW_SEEDS} they say what seeds explain, too."
        tried["runs"] = _FEW_SEEDS
    return sentence, tried, ends


def _numbers(candidates: Sequence[Candidate], name: str) -> list[float]:
    """Return the values of a setting, from the smallest to the largest; nothing if they are no numbers."""
    values = {one.values[name] for one in candidates}
    return sorted(values) if len(values) > 1 and all(map(_is_number, values)) else []


def _farther_apart(candidates: Sequence[Candidate], best: Candidate, at: Situation) -> tuple[str, dict[str, Any]]:
    """Return values that differ more, where none differs from the best."""
    words: list[str] = []
    tried: dict[str, Any] = dict(best.values)
    for name, value in best.values.items():
        values = _numbers(candidates, name)
        if values and len(new := wider(values, value, name, at)) > 1:
            tried[name] = new
            words.append(_new(name, new, values))
    if not words:
        return "", {}
    begin = " None differs from the best: try" if len(candidates) > 2 else " Try"
    more = "" if (seeds := len(best.accuracies)) < _FEW_SEEDS else f", or more seeds (runs = {2 * seeds})"
    return f"{begin} values farther apart, {' and '.join(words)}{more}.", tried


def _beyond_the_ends(
    candidates: Sequence[Candidate], level: Sequence[Candidate], at: Situation
) -> tuple[str, dict[str, Any], dict[str, str]]:
    """Return values beyond the ends of the lists at which the best lie."""
    words: list[str] = []
    tried, ends = dict(level[0].values), {}
    for name in level[0].values:
        values, ours = _numbers(candidates, name), sorted({one.values[name] for one in level})
        if values and (found := beyond(values, ours, name, at)):
            ends[name], tried[name] = found
            new = _new("", found[1], values)
            words.append(f"the best {name} lies at the {ends[name]} end of its list, so try {new} too")
    if not words:
        return "", {}, {}
    return f" T{'; '.join(words)[1:]}.", tried, ends


def _between(candidates: Sequence[Candidate], best: Candidate, at: Situation) -> tuple[str, dict[str, Any]]:
    """Return values beside the best, if it lies inside its list."""
    words: list[str] = []
    tried = dict(best.values)
    for name, value in best.values.items():
        values = _numbers(candidates, name)
        if values and len(words) < _REFINED and (new := within(values, value, name, at)):
            tried[name] = new
            words.append(_new(name, new, values))
    return (f" Values nearer to it may be better still: try {' and '.join(words)}.", tried) if words else ("", {})


def _more_seeds(level: Sequence[Candidate]) -> tuple[str, dict[str, Any]]:
    """Return that any of the best will do, and that more seeds can tell them apart."""
    seeds = len(level[0].accuracies)
    runs = _FEW_SEEDS if seeds < _FEW_SEEDS else 2 * seeds
    tried: dict[str, Any] = {}
    for name in level[0].values:
        values = list(dict.fromkeys(one.values[name] for one in level[:2]))
        tried[name] = values[0] if len(values) == 1 else values
    return f" Either will do; more seeds tell (runs = {runs}).", tried | {"runs": runs}


def spread(accuracies: NDArray[np.float64], words: str = "") -> Conclusion | None:
    """Return how far networks differ that differ in their seeds alone; None if fewer than three are known.

    The distance from which on two settings differ is that of a t test of two groups of so many seeds.

    Args:
        accuracies: Validation accuracies (n,).
        words: The settings in words; empty if there is nothing to tell them from.
    """
    good = accuracies[np.isfinite(accuracies)]
    if (n := len(good)) < _FEW_SEEDS:
        return None
    std = float(good.std(ddof=1))
    apart = _t(LEVEL, 2 * n - 2) * std * math.sqrt(2 / n)
    text = f"{counted(n, 'network')} that differ in their seeds alone are right for {percent(float(good.min()))} to "
    text += f"{percent(float(good.max()))} of the validation samples ({100 * good.mean():.2f} ± {100 * std:.2f} %), so "
    text += f"other settings with {n} seeds are better or worse only if they are {100 * apart:.1f} points apart."
    evidence = {"mean": float(good.mean()), "std": std, "seeds": n, "apart": apart}
    return Conclusion(f"{words}{text}", "spread", evidence)


def _new(name: str, values: Sequence[Any], old: Sequence[Any]) -> str:
    """Return the values that are new, in words."""
    *others, last = (f"{value:g}" for value in values if value not in old)
    return f"{name}{' = ' if name else ''}{', '.join(others)}{' and ' if others else ''}{last}"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _t(level: float, freedom: int) -> float:
    """Return what the absolute value of Student's t exceeds with probability `level`."""
    from scipy.special import stdtrit  # loaded only where several seeds are compared: it takes a tenth of a second

    return float(stdtrit(freedom, 1 - level / 2))
