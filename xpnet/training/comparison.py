"""What a training of several settings says: which is best, whether chance explains that, and what to try next.

Two kinds of chance are told apart.  *Seeds*: a t test of the validation accuracies, seed by seed, if there are three
seeds or more.  *Samples*: the standard error of the difference of two shares of the validation samples, as if each
network had seen samples of its own, which is the larger error.  The level of 5 % is shared by all that the best is
compared with (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.training.advice import Situation
from xpnet.training.candidates import FEW_SEEDS, LEVEL, Candidate, Gap, t_quantile
from xpnet.training.chance_level import percent
from xpnet.training.conclusions import Conclusion
from xpnet.training.next_values import beyond, wider, within
from xpnet.utils.plural import counted

# Settings of which values between others are tried together: more would be very many networks.
_REFINED = 2
# Most combinations that are kept as tied with the best.
_KEPT = 20


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
    gaps = [Gap.between(best, one, samples, len(known) - 1) for one in known[1:]]
    level = [best, *(one for one, gap in zip(known[1:], gaps, strict=True) if not gap.real)]
    advice, tried, places = _next(candidates, level, at)
    if len(level) > 1 and not tried:
        advice = _either(level, gaps[0], LEVEL / len(gaps))
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
    evidence |= {"tied": [dict(one.values) for one in level[1 : _KEPT + 1]]} if len(level) > 1 else {}
    if not math.isnan(gaps[0].error):
        evidence |= {"error": gaps[0].error, "by_seeds": gaps[0].by_seeds}
    evidence |= {"ends": places} if places else {}
    text = f"{_verdict(best, second, gaps[0], candidates, samples)}{advice}"
    return Conclusion(text, rule, evidence | ({"try": tried} if tried else {}))


def _verdict(best: Candidate, second: Candidate, gap: Gap, candidates: Sequence[Candidate], samples: int) -> str:
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
    difference = f"{100 * gap.points:.2f} ± {100 * gap.error:.2f} points"
    return f"{text}beyond their seeds: {difference} (differences seed by seed, {seeds} seeds)."


def _of(candidates: Sequence[Candidate]) -> str:
    names = [*candidates[0].values]
    return (
        f"{len(candidates)} values of {names[0]}" if len(names) == 1 else f"{len(candidates)} combinations of settings"
    )


def _next(
    candidates: Sequence[Candidate], level: Sequence[Candidate], at: Situation
) -> tuple[str, dict[str, Any], dict[str, str]]:
    """Return a sentence on what to try next after a space, the same as settings, and at which ends the best lie.

    Settings that three seeds or more do not tell apart are a result: farther values would be tried in circles.

    Args:
        candidates: All combinations.
        level: The best of them, and those that do not differ from it.
        at: Settings and data of the best one.
    """
    few, ends = len(level[0].accuracies) < FEW_SEEDS, dict[str, str]()
    sentence, tried = "", dict[str, Any]()
    if len(level) < len(candidates):
        sentence, tried, ends = _beyond_the_ends(candidates, level, at)
    elif few:
        sentence, tried = _farther_apart(candidates, level[0], at)
    if not sentence and len(level) == 1:
        sentence, tried = _between(candidates, level[0], at)
    elif not sentence and few:
        sentence, tried = _more_seeds(level)
    if sentence and few and "runs" not in tried:
        sentence += f" With runs = {FEW_SEEDS} they say what seeds explain, too."
        tried["runs"] = FEW_SEEDS
    return sentence, tried, ends


def _either(level: Sequence[Candidate], gap: Gap, share: float) -> str:
    """Return that any of the best will do, and what more seeds could show, after a space.

    Args:
        level: Combinations that seeds do not tell apart.
        gap: How far the first two are apart.
        share: The level of the comparison.
    """
    seeds = len(level[0].accuracies)
    text = " Use either" if len(level) == 2 else f" Use any of the {len(level)} that seeds do not tell apart"
    first, second = level[:2]
    if first.losses is not None and second.losses is not None:
        loss = first.losses - second.losses
        if abs(loss.mean()) > t_quantile(share, seeds - 1) * loss.std(ddof=1) / math.sqrt(seeds):
            lower, higher = (first, second) if loss.mean() < 0 else (second, first)
            text = f" Use {lower.short}, whose validation loss is lower by {abs(loss.mean()):.2g} than that of "
            text += f"{higher.short}, beyond what seeds explain"
    apart = 100 * t_quantile(share, 2 * seeds - 1) * gap.error / math.sqrt(2)
    return f"{text}: with this spread, {2 * seeds} seeds would show only differences above {apart:.1f} points."


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
    return f"{begin} values farther apart, {' and '.join(words)}.", tried


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
    """Return that seeds may tell the best apart, where there are too few to say."""
    tried: dict[str, Any] = {}
    for name in level[0].values:
        values = list(dict.fromkeys(one.values[name] for one in level[:2]))
        tried[name] = values[0] if len(values) == 1 else values
    return f" Three seeds of each may tell them apart (runs = {FEW_SEEDS}).", tried | {"runs": FEW_SEEDS}


def spread(accuracies: NDArray[np.float64], words: str = "") -> Conclusion | None:
    """Return how far networks differ that differ in their seeds alone; None if fewer than three are known.

    The distance from which on two settings differ is that of a t test of two groups of so many seeds.

    Args:
        accuracies: Validation accuracies (n,).
        words: The settings in words; empty if there is nothing to tell them from.
    """
    good = accuracies[np.isfinite(accuracies)]
    if (n := len(good)) < FEW_SEEDS:
        return None
    std = float(good.std(ddof=1))
    apart = t_quantile(LEVEL, 2 * n - 2) * std * math.sqrt(2 / n)
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
