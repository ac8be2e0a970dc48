"""What a search says, in one sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from xpnet.training.conclusions import Conclusion
from xpnet.tuning.space import Dimension, Space

# A best value this close to an end of its range, as a share of the range, says that better ones may lie beyond.
_EDGE = 0.05
# Fewer trials say little about where the best ones lie.
_FEW_TRIALS = 10


def search_conclusion(
    space: Space, best: Mapping[str, Any] | None, trials: int, final: Mapping[str, Any] | None
) -> Conclusion | None:
    """Return what a finished search says: that its best trial lies at an end of a range, or what its winner's run says.

    Args:
        space: What was searched.
        best: Values of the best trial; None if there is none, or if no trial is better than guessing.
        trials: Number of trials that have an accuracy.
        final: Figures of the winner's run, in the form of ``metrics.json``; None if it has none.
    """
    if best is not None and trials >= _FEW_TRIALS:
        for dimension in space.dimensions:
            if (end := _end(dimension, best.get(dimension.name))) is not None:
                value, low, high = (f"{number:.3g}" for number in (best[dimension.name], dimension.low, dimension.high))
                text = f"The best {dimension.name}, {value}, lies at the {end} end of its range ({low} to {high}): "
                evidence = {"setting": dimension.name, "value": best[dimension.name], "end": end}
                return Conclusion(f"{text}better ones may lie beyond it. Try a wider range.", "at-edge", evidence)
    found = (final or {}).get("conclusion")
    if found is None or found["text"] in (final or {}).get("warnings", ()):
        return None
    text = f"Of the winner: {found['text'][:1].lower()}{found['text'][1:]}"
    return Conclusion(text, found["rule"], found.get("evidence", {}))


def _end(dimension: Dimension, value: Any) -> str | None:
    """Return at which end of its range a value lies, ``"lower"`` or ``"upper"``; None if at neither."""
    if not isinstance(value, (int, float)) or dimension.values or not dimension.low < dimension.high:
        return None
    low, high, place = dimension.low, dimension.high, float(value)
    if dimension.whole and high - low < 1 / _EDGE:
        return None
    if dimension.log:
        low, high, place = math.log(low), math.log(high), math.log(place)
    share = (place - low) / (high - low)
    return "lower" if share <= _EDGE else "upper" if share >= 1 - _EDGE else None
