"""What the statistics of each layer say, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

# Outputs that vary over the samples by less than this share of their mean are the same for all of them.
_SAME = 1e-5
# A layer that begins with less, where 1 is usual, or with sums below this share of the largest layer's, has inputs that
# the initial weights have made too small.
_WEAK_SPREAD, _WEAK_SCALE = 0.05, 0.01
_WEAK = "weights too small for this depth"
# Shares of units that no sample activates, and of outputs that are 0, that are worth a word.
_DEAD, _INACTIVE = 0.1, 0.95
# Gradients of a layer, as multiples of those of the last layer, between which they arrive.
_VANISHED, _EXPLODED = 1e-4, 1e4
# Share by which a step changes the weights, at its largest: about 1e-3 is usual (Karpathy, CS231n, Babysitting).
_SMALL_STEP, _LARGE_STEP = 1e-5, 0.1
# An effective rank below this is that of outputs on a line, in layers wider than this.
_ON_A_LINE, _WIDTH = 1.5, 3

# Names of the measures for people, and what a usual value is; `xpnet.analysis.layer_statistics` has the definitions.
LEGEND: dict[str, tuple[str, str]] = {
    "s_std": ("Spread of the sums before BN and activation", "alike in all layers"),
    "s_spread": ("Part of that spread that tells samples apart", "about as large as the whole spread"),
    "y_mean": ("Mean output", ""),
    "y_std": ("Spread of the outputs", "alike in all layers"),
    "gradient_rms": ("Size of the gradient that arrives", "within a factor of 100 in all layers"),
    "W_rms": ("Size of the weights", ""),
    "W_gradient_rms": ("Size of the gradient of the weights", ""),
    "update_ratio": ("Share of the weights that a step changes", "about 0.001 at the largest rate"),
    "dead": ("Units that no sample activates", "0 %"),
    "inactive": ("Outputs that are zero", "about half, with ReLU"),
    "effective_rank": ("Directions that the outputs use", "several, at most the width"),
    "similarity": ("Likeness of two samples' outputs", "well below 1"),
    "relative_spread": ("Spread of the outputs by their mean", "about 1; 0 if all are the same"),
}


class Measures(Protocol):
    """The statistics of a training by name, such as a dictionary or a LayerHistory."""

    def __getitem__(self, name: str, /) -> Any:
        """Return ``"epoch"`` (epochs,), or a measure (epochs, R, L)."""


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
    """

    replica: int
    layer: int
    rule: str
    text: str
    epoch: int = 0
    see: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the form of ``diagnosis.json``."""
        return dict(vars(self))


def layer_verdicts(
    history: Measures, replicas: Sequence[int] | None = None, settings: Mapping[str, Any] | None = None
) -> list[LayerVerdict]:
    """Return a verdict for each layer of each network that has not diverged.

    Args:
        history: The measures, such as a :class:`~xpnet.analysis.layer_history.LayerHistory`.
        replicas: The networks; all if not given.
        settings: Settings of the networks by name, as in ``config.toml``, of which none is advised that holds already.
    """
    epochs = [int(epoch) for epoch in history["epoch"]]
    measures = {name: np.asarray(history[name], float) for name in LEGEND}
    _, networks, layers = measures["s_std"].shape
    found = []
    for r in range(networks) if replicas is None else replicas:
        if not np.isfinite(measures["s_std"][-1, r]).all():
            continue
        own = {name: values[:, r] for name, values in measures.items()}
        found += [_verdict(own, epochs, r, layer, layers, settings or {}) for layer in range(layers)]
    return found


def _advice(settings: Mapping[str, Any], *hints: str) -> str:
    """Return the hints that the settings leave open, as the end of a verdict; empty if none is left."""
    init, normalised = settings.get("init", 0.0), settings.get("batch_norm", False)
    held = {"init = he": init == "he", "batch normalisation": normalised is True}
    left = [hint for hint in hints if not held.get(hint)]
    if not left:
        return ""
    *others, last = left
    return f": try {', '.join(others)}{' or ' if others else ''}{last}"


def _verdict(
    own: Mapping[str, Values], epochs: Sequence[int], r: int, layer: int, layers: int, settings: Mapping[str, Any]
) -> LayerVerdict:
    """Return the verdict on a layer, counted from 0, of the measures (epochs, L) of a network."""
    of = {name: values[:, layer] for name, values in own.items()}

    def since(holds: NDArray[np.bool_]) -> int:
        """Return the first epoch from which on something holds until the end."""
        return epochs[int(np.flatnonzero(np.append(True, ~holds[:-1]))[-1])]

    def verdict(rule: str, text: str, epoch: int, see: str) -> LayerVerdict:
        return LayerVerdict(r, layer + 1, rule, text, epoch, see)

    scales = own["s_std"][0]
    weak = bool(of["relative_spread"][0] < _WEAK_SPREAD or scales[layer] < _WEAK_SCALE * scales.max())
    same = (of["s_spread"] <= _SAME * of["s_std"]) | (of["relative_spread"] <= _SAME) | (of["inactive"] >= 1)
    if same[-1]:
        epoch = since(same)
        why = f"steps or lambda too large{_advice(settings, 'smaller ones', 'batch normalisation')}"
        if epoch == 0 or weak:
            why = f"{_WEAK}{_advice(settings, 'init = he', 'batch normalisation', 'fewer layers')}"
        text = f"outputs are the same for all samples {_from(epoch)}: {why}"
        return verdict("same-outputs", text, epoch, "theory.md#initial-weights")
    dead = of["dead"] >= _DEAD
    if dead[-1]:
        epoch = since(dead)
        why = "steps too large: try a smaller learning rate or activation = leaky-relu"
        if epoch == 0:
            why = f"initial weights or biases{_advice(settings, 'init = he')}"
        if weak:
            why = f"{_WEAK}{_advice(settings, 'init = he', 'batch normalisation', 'fewer layers')}"
        text = f"{100 * of['dead'][-1]:.0f} % of the units are dead {_from(epoch)}: {why}"
        return verdict("dead-units", text, epoch, "theory.md#activations")
    arrives = of["gradient_rms"] / np.where(own["gradient_rms"][:, -1] > 0, own["gradient_rms"][:, -1], np.nan)
    for rule, holds, words in (
        ("vanishing", arrives <= _VANISHED, "hardly any gradient arrives"),
        ("exploding", arrives >= _EXPLODED, "the gradient grows on its way down"),
    ):
        if holds[-1]:
            epoch = since(holds)
            size = f"{arrives[-1]:.0e} of that of the last layer" if arrives[-1] else "exactly zero"
            text = f"{words} {_from(epoch)} ({size})"
            text += _advice(settings, "init = he", "batch normalisation", "fewer layers")
            return verdict(rule, text, epoch, "theory.md#initial-weights")
    ratio = float(np.nanmax(np.append(of["update_ratio"], -1.0)))
    if 0 <= ratio <= _SMALL_STEP:
        text = f"steps hardly change the weights ({ratio:.0e} of their size at most): try a larger learning rate"
        return verdict("small-steps", text, epochs[0], "theory.md#one-step-of-training")
    if ratio >= _LARGE_STEP:
        at = int(np.nanargmax(of["update_ratio"]))
        text = f"a step changes the weights by {100 * ratio:.0f} % of their size in epoch {epochs[at]}: try a smaller "
        return verdict("large-steps", f"{text}learning rate", epochs[at], "theory.md#one-step-of-training")
    line = of["effective_rank"] < _ON_A_LINE
    if line[-1] and layer + 1 < layers:
        text = f"outputs lie on a line {_from(since(line))}: the layer passes on one number a sample; try more units"
        return verdict("on-a-line", text, since(line), "theory.md#initial-weights")
    if of["inactive"][-1] >= _INACTIVE:
        text = f"{100 * of['inactive'][-1]:.0f} % of the outputs are zero: few units answer each sample"
        return verdict("mostly-zero", text, since(of["inactive"] >= _INACTIVE), "theory.md#activations")
    return verdict("healthy", "healthy: outputs tell samples apart, and gradients arrive", 0, "")


def _from(epoch: int) -> str:
    return f"from epoch {epoch} on" if epoch else "from the start"


def in_a_sentence(verdicts: Sequence[LayerVerdict], networks: int = 1) -> str:
    """Return the most serious verdict as a sentence on a diagnosis, or that there is none."""
    ranks = [
        "same-outputs",
        "exploding",
        "vanishing",
        "dead-units",
        "large-steps",
        "small-steps",
        "on-a-line",
        "mostly-zero",
    ]
    serious = [one for one in verdicts if one.rule in ranks]
    if not serious:
        return "All layers are healthy: outputs tell samples apart, and gradients arrive." if verdicts else ""
    worst = min(serious, key=lambda one: (ranks.index(one.rule), one.replica, one.layer))
    alike = sorted({one.layer for one in serious if (one.rule, one.replica) == (worst.rule, worst.replica)})
    where = f"Layer {alike[0]}" if len(alike) == 1 else f"Layers {', '.join(map(str, alike[:-1]))} and {alike[-1]}"
    of = f" of network {worst.replica}" if networks > 1 else ""
    return f"{where}{of}: {worst.text}."
