"""The result of a training, and the divergence of networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.config.training import TrainConfig
from xpnet.errors import DivergedError
from xpnet.training.chance_level import Guessing, none_better
from xpnet.training.conclusions import Conclusion
from xpnet.training.history import History, Metrics, Values
from xpnet.utils.display import Displayed, mean_and_spread
from xpnet.utils.plural import counted


@dataclass(frozen=True)
class Divergence:
    """The step at which a replica's loss became infinite or NaN, or its numbers overflowed their type.

    Attributes:
        step: The step, counted from 0.
        eta: The learning rate of this step.
        loss: The loss of this step; finite if the squared weights or the running statistics overflowed.
    """

    step: int
    eta: float
    loss: float

    def sentence(self, config: TrainConfig, replica: int | None, *, normalised: bool = False) -> str:
        """Return a description of the divergence, with advice; `normalised` networks have batch normalisation."""
        which = "" if replica is None else f" of replica {replica}"
        event = f"the loss{which} became {self.loss}"
        if np.isfinite(self.loss):
            event = f"the numbers{which} outgrew their floating type"
        event += f" at step {self.step}, with learning rate {self.eta:.3g}"
        setting = "eta_max" if config.schedule in ("triangular", "one-cycle") else "eta"
        lam = config.lam[replica or 0] if isinstance(config.lam, tuple) else config.lam
        if self.eta * lam > 1:
            return f"{event} and lambda {lam:.3g}, whose product must be below 1; take a smaller {setting} or lambda"
        if normalised:
            return f"{event}; a smaller {setting} keeps it finite"
        return f"{event}; a smaller {setting}, a smaller init, or batch normalisation keeps it finite"


def first_lost(losses: Values, penalties: Values, dtype: Any) -> NDArray[np.int64]:
    """Return the first of k steps at which each replica was lost, or k if it was not: (R,).

    A replica is lost if its loss is not finite, or if the sum of its squared weights overflows their type: activations
    are of similar size, so their variances overflow next, and the loss may stay finite.

    Args:
        losses: Loss of each step (k, R).
        penalties: Sum over layers of sum(W**2) at each step (k, R).
        dtype: Type of the weights.
    """
    lost = ~(np.isfinite(losses) & (penalties <= np.finfo(dtype).max))
    return np.where(lost.any(axis=0), lost.argmax(axis=0), len(lost))


def all_diverged(
    diverged: dict[int, Divergence],
    config: TrainConfig,
    replicas: int,
    history: History | None = None,
    *,
    normalised: bool = False,
) -> DivergedError:
    """Return the error for a training without any replica left; it describes the first replica that diverged."""
    replica, divergence = min(diverged.items(), key=lambda item: (item[1].step, item[0]))
    error = DivergedError(divergence.sentence(config, replica if replicas > 1 else None, normalised=normalised))
    error.diverged, error.history = diverged, history
    return error


@dataclass(frozen=True, repr=False)
class TrainResult(Displayed):
    """The result of a training.

    Attributes:
        history: One record for each epoch.
        train, validation, test: Figures of full passes at the end, with the running statistics.
        epochs: Epochs trained; the last may have been cut short.
        steps: Steps taken.
        seconds_training: Wall time of the steps, by epoch.
        seconds_evaluation: Wall time of all full passes.
        seconds_transforms: Wall time of fitting the transform of the inputs, and of transforming the training set.
        test_views: Figures of the test set with probabilities averaged over `views` views of each picture; their costs
            are NaN.  None if one view was evaluated.
        views: Number of these views.
        device: The device of the training.
        interrupted: Whether training was stopped before its end.
        diverged: Replicas whose loss became infinite or not a number, with the step.
        dropped: Replicas that callbacks pruned, with the number of steps taken.
        stopped: Replicas that `patience` stopped, with the number of epochs trained.
        weights: Number of the epoch whose weights each replica has, None if it diverged or was pruned; empty without
            `patience` and ``restore = "best"``.
        guessing: Figures of guessing on the validation set, or on the test set if there are no validation figures.
        no_better: Replicas that are no better than guessing.
        warnings: Sentences about poor results, with advice; empty if there are none.
        conclusion: What the training says, in one sentence: the first warning, or what a rule finds in the curves; None
            if the figures say nothing clearly.
    """

    history: History
    train: Metrics
    validation: Metrics
    test: Metrics
    epochs: int
    steps: int
    seconds_training: list[float]
    seconds_evaluation: float
    device: str
    interrupted: bool
    diverged: dict[int, Divergence] = field(default_factory=dict)
    dropped: dict[int, int] = field(default_factory=dict)
    stopped: dict[int, int] = field(default_factory=dict)
    weights: list[int | None] = field(default_factory=list)
    guessing: Guessing | None = None
    no_better: list[int] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    conclusion: Conclusion | None = None
    seconds_transforms: float = 0.0
    test_views: Metrics | None = None
    views: int = 1

    @property
    def none_better(self) -> bool:
        """Whether no network is better than guessing (diverged ones aside), so that none can be called the best."""
        known = np.flatnonzero(np.isfinite(self.validation.accuracies)).tolist()
        return none_better({"no_better": self.no_better}, known)

    def _facts(self) -> Mapping[str, str]:
        sets = {"test": self.test, "validation": self.validation, "train": self.train}
        figures = {f"{name}_accuracy": mean_and_spread(metrics.accuracies.tolist()) for name, metrics in sets.items()}
        lengths = {"epochs": str(self.epochs), "steps": str(self.steps), "device": self.device}
        return figures | lengths | ({"diverged": str(len(self.diverged))} if self.diverged else {})

    def _curves(self) -> Mapping[str, Sequence[float]]:
        return self.history._curves()

    def to_json(self) -> dict[str, Any]:
        """Return the figures as ``metrics.json`` holds them."""
        seen = self.test_views
        of_views = {} if seen is None else {"views": self.views, "accuracy": seen.accuracy, "loss": seen.loss}
        return {
            "test": dict(self.test),
            **({"test_views": of_views} if of_views else {}),
            "validation": dict(self.validation),
            "train": dict(self.train),
            "epochs": self.epochs,
            "steps": self.steps,
            "seconds": {
                "training": sum(self.seconds_training),
                "transforms": self.seconds_transforms,
                "evaluation": self.seconds_evaluation,
                "per_epoch": self.seconds_training,
            },
            "device": self.device,
            "interrupted": self.interrupted,
            "guessing": None if self.guessing is None else self.guessing.to_json(self.no_better),
            "warnings": list(self.warnings),
            "conclusion": None if self.conclusion is None else self.conclusion.to_json(),
            **({"diverged": len(self.diverged)} if self.diverged else {}),
            **({"stopped": self.stops()} if self.weights else {}),
        }

    def stops(self) -> dict[str, list[int | None]]:
        """Return for each network the epoch after which it was stopped, and that whose weights it has."""
        return {"epochs": [self.stopped.get(r) for r in range(len(self.weights))], "weights": list(self.weights)}


def stops_in_words(stopped: Mapping[str, Any]) -> str:
    """Return the entry ``"stopped"`` of ``metrics.json`` as a sentence without its full stop."""
    after, weights = ([epoch for epoch in stopped[name] if epoch is not None] for name in ("epochs", "weights"))
    networks = len(stopped["epochs"])
    of = f"the weights are those of {_span(weights)}" if weights else "no epoch was finished"
    if not after:
        return of
    who = "training stopped" if networks == 1 else f"{len(after)} of {counted(networks, 'network')} stopped"
    return f"{who} after {_span(after)}; {of}"


def _span(epochs: list[int]) -> str:
    low, high = min(epochs), max(epochs)
    return f"epoch {low}" if low == high else f"epochs {low} to {high}"
