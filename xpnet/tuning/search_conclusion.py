"""What a search says, in one sentence."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from xpnet.training.conclusions import Conclusion
from xpnet.training.outcome_warnings import FEW_STEPS
from xpnet.tuning.close_trials import Close
from xpnet.tuning.space import Dimension, Space
from xpnet.tuning.whole_cycles import Cycle

# A best value this close to an end of its range, as a share of the range, says that better ones may lie beyond, if all
# trials that chance does not tell from the best lie in the sixth of the range at this end.
_EDGE, _NEAR = 0.05, 1 / 6
# Fewer trials say little about where the best ones lie.
_FEW_TRIALS = 10
# What an alternative of a training's advice changes, by its words; the first that is found.  A search has tried other
# values of what it varies, so it is not advised to change that.
_CHANGES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"lambda|weight_decay", ("lambda", "weight_decay")),
    ("schedule", ("schedule",)),
    (r"hidden|units", ("width", "depth")),
    ("dropout", ("dropout", "input_dropout")),
    (r"augmentation|pictures|flip|shift", ("flip", "shift")),
    (r"cycles|epochs|longer", ("epochs", "cycles")),
    (r"\brate|lr-range|\beta", ("eta", "eta_max")),
)
# Where a list of alternatives is divided: outside parentheses.
_BETWEEN = re.compile(r"(?:; less sure: |,? or |, )(?![^()]*\))")
_LONG = 5000
# How much more arithmetic than just enough is advised, since the number of steps is rounded.
_MORE = 1.05
# With a budget the arithmetic of a training is fixed, and so its length.
_BUDGET = "a larger budget (--budget) or a smaller network (more epochs for the same arithmetic)"


def search_conclusion(
    space: Space,
    best: Mapping[str, Any] | None,
    tried: Sequence[Mapping[str, Any]],
    near: Sequence[Mapping[str, Any]],
    close: Close | None,
    final: Mapping[str, Any] | None,
    *,
    budget: bool = False,
    cycle: Cycle | None = None,
) -> Conclusion | None:
    """Return what a finished search says; None if it says nothing clearly.

    The first of these applies: that its trainings end inside a cycle of the learning rate; that its best trial lies at
    an end of a range; that chance does not tell its best trials apart; what its winner's run says.

    Args:
        space: What was searched.
        best: Values of the best trial; None if there is none, or if no trial is better than guessing.
        tried: Values of all trials that have an accuracy.
        near: Values of the trials that chance does not tell from the best.
        close: What is known of these trials; None if nothing.
        final: Figures of the winner's run, in the form of ``metrics.json``; None if it has none.
        budget: Whether the arithmetic of each training was fixed.
        cycle: How the trainings lie in the cycles of their learning rate; None if they have none.
    """
    if best is not None and cycle is not None and (inside := cycle.conclusion()) is not None:
        return inside
    if best is not None and len(tried) >= _FEW_TRIALS:
        for dimension in space.dimensions:
            if (found := _at_edge(dimension, best, tried, near)) is not None:
                return found
    if best is not None and close is not None and (alike := close.conclusion()) is not None:
        return alike
    said = (final or {}).get("conclusion")
    if said is None or said["text"] in (final or {}).get("warnings", ()):
        return None
    text = of_winner(said, space.names, budget=budget)
    evidence = {name: value for name, value in said.get("evidence", {}).items() if name != "try"}
    return Conclusion(f"Of the winner: {text[:1].lower()}{text[1:]}", said["rule"], evidence)


def of_winner(said: Mapping[str, Any], searched: Collection[str], *, budget: bool) -> str:
    """Return the conclusion of the winner's run with the advice that fits a search.

    Args:
        said: The conclusion in the form for files.
        searched: Names of what the search varied, which it is not advised to change.
        budget: Whether the arithmetic of each training was fixed.
    """
    text = str(said["text"])
    if len(text) > _LONG:  # of a damaged file
        return text
    return re.sub(r" Try (.+?)\.(?= |$)", lambda found: _fitting(found[1], searched, budget=budget), text)


def _fitting(advice: str, searched: Collection[str], *, budget: bool) -> str:
    """Return the sentence of those alternatives that fit a search, after a space; empty if none does."""
    tries: list[str] = []
    for words in _BETWEEN.split(advice):
        changes = next((names for pattern, names in _CHANGES if re.search(pattern, words)), ())
        if set(changes) & set(searched):
            continue
        tries.append(_BUDGET if budget and "epochs" in changes else words)
    return f" Try {' or '.join(tries)}." if tries else ""


def with_budget(warnings: Iterable[str], budget: float | None) -> list[str]:
    """Return warnings about trainings with advice on their `budget`, in 10^12 operations, in place of their length."""
    if budget is None:
        return list(warnings)
    fitting = []
    for warning in warnings:
        words, few = warning, re.match(r"(\d+) steps? .*; try (?=(?:epochs|cycles) = )", warning)
        if few is not None:
            enough = float(f"{_MORE * budget * FEW_STEPS / max(1, int(few[1])):.2g}")
            words = f"{few[0]}budget = {enough:g}, or smaller networks (more epochs for the same arithmetic)."
        fitting.append(words.replace("fewer epochs", "a smaller budget").replace("more steps", "a larger budget"))
    return fitting


def _at_edge(
    dimension: Dimension, best: Mapping[str, Any], tried: Sequence[Mapping[str, Any]], near: Sequence[Mapping[str, Any]]
) -> Conclusion | None:
    """Return that the best value of a dimension lies at an end of what was tried, if so."""
    name = dimension.name
    if dimension.values or not isinstance(best.get(name), (int, float)):
        return None
    # Finer rounds may have left the given range.
    values = [float(point[name]) for point in tried]
    low, high = min(dimension.low, *values), max(dimension.high, *values)
    if not low < high or (dimension.whole and high - low < 1 / _EDGE):
        return None
    places = [_place(float(point[name]), low, high, log=dimension.log) for point in (best, *near)]
    if places[0] <= _EDGE and max(places) <= _NEAR:
        end = "lower"
    elif places[0] >= 1 - _EDGE and min(places) >= 1 - _NEAR:
        end = "upper"
    else:
        return None
    value = best[name]
    text = f"The best {name}, {value:.3g}, lies at the {end} end of its range ({low:.3g} to {high:.3g}): better ones "
    evidence = {"setting": name, "value": value, "end": end}
    return Conclusion(f"{text}may lie beyond it. Try a wider range.", "at-edge", evidence)


def _place(value: float, low: float, high: float, *, log: bool) -> float:
    """Return where a value lies between the ends of a range, from 0 to 1 on its scale."""
    if log:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return (value - low) / (high - low)
