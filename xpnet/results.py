"""What training returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from xpnet.config import TrainConfig
from xpnet.errors import DivergedError
from xpnet.history import History, Metrics


@dataclass(frozen=True)
class Divergence:
    """Where a replica's loss became infinite or not a number.

    Attributes:
        step: Counted from 0.
        eta: The learning rate there.
        loss: What it became.
    """

    step: int
    eta: float
    loss: float

    def sentence(self, config: TrainConfig, replica: int | None) -> str:
        """Say what happened and what helps."""
        which = "" if replica is None else f" of replica {replica}"
        setting = "eta_max" if config.schedule == "triangular" else "eta"
        return (
            f"the loss{which} became {self.loss} at step {self.step}, with learning rate {self.eta:.3g}; "
            f"a smaller {setting}, a smaller init, or batch normalisation keeps it finite"
        )


def all_diverged(
    diverged: dict[int, Divergence], config: TrainConfig, replicas: int, history: History | None = None
) -> DivergedError:
    """Return the error of a training of which no replica is left; it tells of the first that went."""
    replica, divergence = min(diverged.items(), key=lambda item: (item[1].step, item[0]))
    error = DivergedError(divergence.sentence(config, replica if replicas > 1 else None))
    error.diverged, error.history = diverged, history
    return error


@dataclass(frozen=True)
class TrainResult:
    """What training returns.

    Attributes:
        history: One record for each epoch.
        train, validation, test: Figures of full passes at the end, with the running statistics.
        epochs: Epochs trained; the last may have been cut short.
        steps: Steps taken.
        seconds_training: Wall time of the steps, by epoch.
        seconds_evaluation: Wall time of all full passes.
        device: Where it was computed.
        interrupted: Whether training was stopped before its end.
        diverged: Replicas whose loss became infinite or not a number, with where that happened.
        dropped: Replicas that `on_mark` dropped, with the steps they had taken.
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

    def to_json(self) -> dict[str, Any]:
        """Return the figures as ``metrics.json`` holds them."""
        return {
            "test": dict(self.test),
            "validation": dict(self.validation),
            "train": dict(self.train),
            "epochs": self.epochs,
            "steps": self.steps,
            "seconds": {
                "training": sum(self.seconds_training),
                "evaluation": self.seconds_evaluation,
                "per_epoch": self.seconds_training,
            },
            "device": self.device,
            "interrupted": self.interrupted,
        } | ({"diverged": len(self.diverged)} if self.diverged else {})
