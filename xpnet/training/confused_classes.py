"""Which classes networks take for each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xpnet.training.chance_level import percent
from xpnet.training.conclusions import Conclusion

# Two classes: the share of their samples that is taken for the other, the multiple of the mean of all pairs, the least
# count.
_CONFUSED, _OUTSTANDING, _MISTAKES = 0.15, 3.0, 20


def confused(confusion: Any, names: Sequence[str]) -> Conclusion | None:
    """Return which two classes are taken for each other most, if they stand out.

    Args:
        confusion: Samples by true class (rows) and predicted class: (classes, classes).
        names: Names of the classes.
    """
    counts = np.asarray(confusion, float)
    if len(counts) < 3:
        return None
    mutual, totals = counts + counts.T, counts.sum(axis=1)
    pairs = mutual[upper := np.triu_indices(len(counts), 1)]
    best = int(pairs.argmax())
    a, b = int(upper[0][best]), int(upper[1][best])
    share = pairs[best] / max(1.0, totals[a] + totals[b])
    if min(counts[a, b], counts[b, a]) < _MISTAKES / 4 or pairs[best] < max(_MISTAKES, _OUTSTANDING * pairs.mean()):
        return None
    if share < _CONFUSED:
        return None
    text = f"{names[a]} and {names[b]} are taken for each other most: {percent(share)} of the samples of the two, "
    text += f"{int(counts[a, b]):,} {names[a]} as {names[b]} and {int(counts[b, a]):,} {names[b]} as {names[a]}."
    return Conclusion(text, "confused", {"classes": [names[a], names[b]], "share": float(share)})
