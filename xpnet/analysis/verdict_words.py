"""The verdicts on layers, and what they say of a network together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

# Every rule but "healthy", the most serious first: the section that explains it, and what it means in one sentence.
RULES: dict[str, tuple[str, str]] = {
    "same-outputs": (
        "theory.md#initial-weights",
        "The layers above see no difference between two samples, so they can only guess.",
    ),
    "exploding": (
        "theory.md#initial-weights",
        "Each layer multiplies the gradient by its weights on the way down; what grows makes steps too large.",
    ),
    "vanishing": (
        "theory.md#initial-weights",
        "Each layer multiplies the gradient by its weights on the way down; where nothing arrives, nothing is learnt.",
    ),
    "dead-units": (
        "theory.md#activations",
        "A unit whose output is 0 for every sample gets no gradient, and stays as it is.",
    ),
    "large-steps": (
        "theory.md#one-step-of-training",
        "About a thousandth of the weights a step is usual; much more undoes what was learnt.",
    ),
    "small-steps": ("theory.md#one-step-of-training", "The weights stay about as they were drawn."),
    "on-a-line": ("theory.md#initial-weights", "The layers above can tell samples apart along this line only."),
    "mostly-zero": ("theory.md#activations", "Each sample uses little of the layer."),
}


@dataclass(frozen=True)
class LayerVerdict:
    """What the statistics say of a layer.

    Attributes:
        replica: The network, from 0.
        layer: The layer, from 1.
        rule: The rule that found it; ``"healthy"`` if none did.
        text: The verdict in words, without a full stop.
        epoch: The epoch from which on it holds; 0 is before the training.
        see: The section of the documentation that explains it.
        advice: What to try, such as ``"init = he"``; empty for nothing.
    """

    replica: int
    layer: int
    rule: str
    text: str
    epoch: int = 0
    see: str = ""
    advice: str = ""

    @property
    def words(self) -> str:
        """The verdict with its advice, without a full stop."""
        return f"{self.text}; try {self.advice}" if self.advice else self.text

    def to_json(self) -> dict[str, Any]:
        """Return the form of ``diagnosis.json``."""
        return dict(vars(self))


def in_groups(layers: Iterable[int]) -> str:
    """Return layers by their numbers, those in a row together: ``"layers 1 to 4 and 6"``."""
    numbers = sorted(set(layers))
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    # A row of two is shorter as two numbers.
    names = [word for run in runs for word in ([f"{run[0]} to {run[-1]}"] if len(run) > 2 else map(str, run))]
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f"layer{'s' if len(numbers) > 1 else ''} {listed}"


def grouped(verdicts: Sequence[LayerVerdict]) -> list[tuple[str, LayerVerdict]]:
    """Return layers in a row of which the same is said, as :func:`in_groups` names them, with the first's verdict."""
    groups = [list(group) for _, group in groupby(verdicts, key=lambda one: (one.replica, one.rule, one.words))]
    return [(in_groups(one.layer for one in group), group[0]) for group in groups]


def most_serious(verdicts: Sequence[LayerVerdict]) -> LayerVerdict | None:
    """Return the first of the most serious verdicts; None if all layers are healthy."""
    ranks = list(RULES)
    serious = [one for one in verdicts if one.rule in ranks]
    return min(serious, key=lambda one: (ranks.index(one.rule), one.replica, one.layer), default=None)


def in_a_sentence(verdicts: Sequence[LayerVerdict], networks: int = 1) -> str:
    """Return the two most serious verdicts on a network and what to try, or that there are none."""
    worst = most_serious(verdicts)
    if worst is None:
        return "All layers are healthy: outputs tell samples apart, and gradients arrive." if verdicts else ""
    own = [one for one in verdicts if one.replica == worst.replica]
    said = []
    for second in (False, True):
        first = most_serious([one for one in own if not second or one.rule != worst.rule])
        if first is not None:
            where = in_groups(one.layer for one in own if one.rule == first.rule).capitalize()
            of = f" of network {worst.replica}" if networks > 1 and not second else ""
            reason = worst.text.partition(", since ")[2] if second else ""  # said already
            said.append(f"{where}{of}: {first.text.removesuffix(f', since {reason}')}.")
    return " ".join([*said, *([f"Try {worst.advice}."] if worst.advice else [])])
