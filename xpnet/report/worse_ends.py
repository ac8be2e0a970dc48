"""Which ends of the searched ranges are clearly worse: what the trials of a search say as a whole."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from xpnet.report.format import is_number
from xpnet.report.trial_kinds import close_of, complete_of, mean_of

# Fewest trials in the third of a range at its end, and as many outside it.
_ENOUGH = 3


def worse_ends(found: Mapping[str, Any]) -> str:
    """Return the thirds at ends of ranges whose best trial chance does not explain, in a sentence; empty if none is.

    Each third is compared with the best complete trial by the margin of :mod:`xpnet.tuning.close_trials`.

    Args:
        found: The content of ``search.json``.
    """
    close, _ = close_of(found)
    if close is None:
        return ""
    trials, ends = complete_of(found), []
    best = max(mean_of(trial) or 0.0 for trial in trials)
    for name, draw in found["space"].items():
        low, high = draw.get("low"), draw.get("high")
        values = [trial["settings"].get(name) for trial in trials]
        if not (is_number(low) and is_number(high) and low < high and all(map(is_number, values))):
            continue
        log = "log" in str(draw.get("draw", "")) and low > 0
        thirds = [_between(low, high, share, log=log) for share in (1 / 3, 2 / 3)]
        for words, limit, inside in (
            ("below", thirds[0], [value < thirds[0] for value in values]),
            ("above", thirds[1], [value > thirds[1] for value in values]),
        ):
            of_end = [mean_of(trial) or 0.0 for trial, holds in zip(trials, inside, strict=True) if holds]
            if min(len(of_end), len(trials) - len(of_end)) >= _ENOUGH and best - max(of_end) > close.margin:
                ends.append(f"{name} {words} {limit:.2g} (by {100 * (best - max(of_end)):.1f} points and more)")
    return f"Clearly worse than the best trial: {'; '.join(ends)}." if ends else ""


def _between(low: float, high: float, share: float, *, log: bool) -> float:
    return math.exp((1 - share) * math.log(low) + share * math.log(high)) if log else low + share * (high - low)
