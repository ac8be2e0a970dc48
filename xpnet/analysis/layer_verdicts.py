"""What the statistics of each layer say, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from xpnet.analysis.verdict_words import RULES, LayerVerdict
from xpnet.nn.initialisers import weight_std
from xpnet.ops.activations import ACTIVATIONS

Values = NDArray[np.float64]

# Outputs that vary over the samples by less than this share of their mean are the same for all of them.
_SAME = 1e-5
# A layer that begins with less, where 1 is usual, or with sums below this share of the largest layer's, has inputs that
# the initial weights have made too small.
_WEAK_SPREAD, _WEAK_SCALE = 0.05, 0.01
# Initial weights are far from those of He beyond these multiples; Xavier's are 0.7 of them.  Seven layers of 50 units
# without BN learn nothing of CIFAR-10 from a quarter of He's weights, and less from half of them.
_TOO_SMALL, _TOO_LARGE = 0.6, 2.0
# Shares of units that no sample activates, and of outputs that are 0, that are worth a word.
_DEAD, _INACTIVE = 0.1, 0.95
# Gradients of a layer, as multiples of those of the last layer, between which they arrive.
_VANISHED, _EXPLODED = 1e-4, 1e4
# Smaller gradients, as multiples of those of the last layer, are alike to a reader.
_TINY = 1e-6
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
    "W_rms": ("Size of the weights", "changes little from epoch to epoch"),
    "W_gradient_rms": ("Size of the gradient of the weights", ""),
    "update_ratio": ("Weights changed by a step, penalty included", "a share of about 0.001 at the largest rate"),
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


def _weights_advice(own: Mapping[str, Values], settings: Mapping[str, Any]) -> tuple[str, str]:
    """Return what is wrong with the initial weights, empty if they are near He's, and what to try.

    Far from He's weights, these alone repair a network: BN or fewer layers may leave it as it is.
    """
    of_he = "init = he"
    given, hidden = own["W_rms"][0, 1:], settings.get("hidden")  # the inputs of the first layer are not in the settings
    activation = str(settings.get("activation", "relu"))
    sizes = [units for units in hidden if isinstance(units, int) and units > 0] if isinstance(hidden, list) else []
    if len(sizes) == len(given) > 0 and np.isfinite(given).all() and activation in ACTIVATIONS:
        he = np.array([weight_std("he", units, activation) for units in sizes])
        share = float(np.exp(np.mean(np.log(np.maximum(given / he, 1e-300)))))
        if not _TOO_SMALL <= share <= _TOO_LARGE:
            which = "small for this depth" if share < 1 else "large"
            figures = f"about {np.median(given):.1g}, where init he gives {np.median(he):.1g} after the first layer"
            return f"the initial weights are too {which} ({figures})", of_he
    elif settings.get("init") not in ("he", "xavier"):
        return "", of_he
    left = ["fewer layers"] if settings.get("batch_norm") is True else ["batch normalisation", "fewer layers"]
    return "", " or ".join(left)


def _verdict(
    own: Mapping[str, Values], epochs: Sequence[int], r: int, layer: int, layers: int, settings: Mapping[str, Any]
) -> LayerVerdict:
    """Return the verdict on a layer, counted from 0, of the measures (epochs, L) of a network."""
    of = {name: values[:, layer] for name, values in own.items()}

    def since(holds: NDArray[np.bool_]) -> int:
        """Return the first epoch from which on something holds until the end."""
        return epochs[int(np.flatnonzero(np.append(True, ~holds[:-1]))[-1])]

    def verdict(rule: str, text: str, epoch: int, advice: str = "") -> LayerVerdict:
        return LayerVerdict(r, layer + 1, rule, text, epoch, RULES[rule][0] if rule in RULES else "", advice)

    scales = own["s_std"][0]
    weak = bool(of["relative_spread"][0] < _WEAK_SPREAD or scales[layer] < _WEAK_SCALE * scales.max())
    far, repair = _weights_advice(own, settings)
    too_small = far or "the weights are too small for this depth"
    same = (of["s_spread"] <= _SAME * of["s_std"]) | (of["relative_spread"] <= _SAME) | (of["inactive"] >= 1)
    if same[-1]:
        epoch = since(same)
        text = f"outputs are the same for all samples {_from(epoch)}, since "
        if epoch == 0 or weak:
            return verdict("same-outputs", text + too_small, epoch, repair)
        advice = "smaller ones" + ("" if settings.get("batch_norm") is True else " or batch normalisation")
        return verdict("same-outputs", f"{text}steps or lambda are too large", epoch, advice)
    dead = of["dead"] >= _DEAD
    if dead[-1]:
        epoch = since(dead)
        why, advice = "steps are too large", "a smaller learning rate or activation = leaky-relu"
        if weak:
            why, advice = too_small, repair
        elif epoch == 0:
            known = not far and settings.get("init") == "he"
            why, advice = far or "the initial weights or biases make them so", "" if known else "init = he"
        return verdict(
            "dead-units",
            f"{100 * of['dead'][-1]:.0f} % of the units are dead {_from(epoch)}, since {why}",
            epoch,
            advice,
        )
    arrives = of["gradient_rms"] / np.where(own["gradient_rms"][:, -1] > 0, own["gradient_rms"][:, -1], np.nan)
    why = f", since {far}" if far else ""
    if arrives[-1] <= _VANISHED:
        epoch, none = since(arrives <= _VANISHED), since(arrives == 0)
        return verdict("vanishing", _vanishing(epoch, none, arrives, epochs) + why, epoch, repair)
    if arrives[-1] >= _EXPLODED:
        epoch = since(arrives >= _EXPLODED)
        text = f"the gradient grows on its way down {_from(epoch)} ({arrives[-1]:.0e} of the last layer's){why}"
        return verdict("exploding", text, epoch, repair)
    return _of_steps(of, epochs, verdict, since, last=layer + 1 == layers)


def _of_steps(
    of: Mapping[str, Values],
    epochs: Sequence[int],
    verdict: Callable[..., LayerVerdict],
    since: Callable[[NDArray[np.bool_]], int],
    *,
    last: bool,
) -> LayerVerdict:
    """Return the verdict on a layer whose signal and gradient arrive."""
    ratio = float(np.nanmax(np.append(of["update_ratio"], -1.0)))
    if 0 <= ratio <= _SMALL_STEP:
        text = f"steps hardly change the weights ({ratio:.0e} of their size at most)"
        return verdict("small-steps", text, epochs[0], "a larger learning rate")
    if ratio >= _LARGE_STEP:
        at = int(np.nanargmax(of["update_ratio"]))
        text = f"a step changes the weights by {100 * ratio:.0f} % of their size in epoch {epochs[at]}"
        return verdict("large-steps", text, epochs[at], "a smaller learning rate")
    line = of["effective_rank"] < _ON_A_LINE
    if line[-1] and not last:
        text = f"outputs lie on a line {_from(since(line))}, so the layer passes on one number a sample"
        return verdict("on-a-line", text, since(line), "more units")
    if of["inactive"][-1] >= _INACTIVE:
        text = f"{100 * of['inactive'][-1]:.0f} % of the outputs are zero, so few units answer each sample"
        return verdict("mostly-zero", text, since(of["inactive"] >= _INACTIVE))
    return verdict("healthy", "healthy: outputs tell samples apart, and gradients arrive", 0)


def _vanishing(epoch: int, none: int, arrives: Values, epochs: Sequence[int]) -> str:
    """Return how little gradient arrives from an epoch on, and whether none does from another one on.

    Args:
        epoch: Since when hardly any arrives.
        none: The same of none; meaningless if some arrives after the last epoch.
        arrives: Gradients (epochs,), as multiples of those of the last layer.
        epochs: The epochs.
    """
    if arrives[-1] == 0 and none == epoch:
        return f"no gradient arrives {_from(epoch)}"
    size = float(arrives[epochs.index(epoch)] if arrives[-1] == 0 else arrives[-1])
    share = "less than a millionth" if size < _TINY else f"{size:.0e}"
    when = "at the start" if arrives[-1] == 0 and epoch == 0 else _from(epoch)
    text = f"hardly any gradient arrives {when} ({share} of the last layer's)"
    return f"{text}, and none from epoch {none} on" if arrives[-1] == 0 else text


def _from(epoch: int) -> str:
    return f"from epoch {epoch} on" if epoch else "from the start"
