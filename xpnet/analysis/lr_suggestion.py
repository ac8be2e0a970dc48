"""The curves of a learning rate range test, and the rates that they suggest."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.training.history import Values, csv_lines, summary

# A fall of less than this share of the first loss does not count: noise and the running averages cause as much.
_NO_FALL = 0.05
# Nor does a fall of fewer standard errors of a mean over the smoothing's steps: the lowest of many such means lies two
# or three standard errors below their average by chance.
_NOISE = 4.0
# Shares of the loss's fall at which learning has begun, and at which the loss counts as rising again; share of the
# accuracy's gain at whose loss the accuracy counts as falling.
_BEGUN, _RISEN, _FALLEN = 0.1, 0.1, 0.02
COLUMNS = ("step", "replica", "eta", "loss", "smoothed", "accuracy", "accuracy_smoothed", "validation_accuracy")


@dataclass(frozen=True)
class Suggestion:
    """Rates for the triangular schedule, to two digits: the test is no more precise.

    Attributes:
        eta_min: Where the loss begins to fall.
        eta_max: Where the validation accuracy begins to fall or the loss to rise, whichever comes first.
        accuracy_falls: The last rate before the validation accuracy falls; None if it never does.
        loss_rises: The last rate before the loss rises; None if it never does.
        lowest: The rate of the lowest smoothed loss.
        note: A remark in a sentence; None if there is none.
    """

    eta_min: float
    eta_max: float
    accuracy_falls: float | None
    loss_rises: float | None
    lowest: float
    note: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


@dataclass(frozen=True)
class LRRange:
    """The result of a learning rate range test of R networks over k steps.

    Attributes:
        rates: Learning rate of each step (k,).
        losses: Mean cross-entropy of each step's batch, before its update (k, R).
        smoothed: The losses, smoothed by an exponential average with bias correction (k, R).
        accuracies: Share of each step's batch that was classified correctly (k, R).
        accuracies_smoothed: The accuracies, smoothed in the same way (k, R).
        validation_steps: Steps taken before each validation pass (p,).
        validation: Accuracies of these passes, with the running statistics (p, R).
        asked: Number of steps that were planned.
        ended: Why the test ended early; None if it did not.
        interrupted: Whether `should_stop` ended the test.
        seeds: Seed of each network.
        device: The device of the computation.
        seconds: Wall time of steps and validation passes.
        suggestion: Rates for the triangular schedule, from the mean over the networks; None if there are none.
        no_suggestion: Why there is no suggestion, and what to change; None if there is one.
        each: The suggestion of each single network (R); None for a network without one.
    """

    rates: Values
    losses: Values
    smoothed: Values
    accuracies: Values
    accuracies_smoothed: Values
    validation_steps: NDArray[np.int64]
    validation: Values
    asked: int
    ended: str | None
    interrupted: bool
    seeds: tuple[int, ...]
    device: str
    seconds: float
    suggestion: Suggestion | None = None
    no_suggestion: str | None = None
    each: tuple[Suggestion | None, ...] = ()

    @property
    def validation_rates(self) -> Values:
        """Learning rate of the last step before each validation pass (p,)."""
        rates: Values = self.rates[self.validation_steps - 1]
        return rates

    def suggest(self, replicas: list[int], window: int) -> Suggestion | str:
        """Return :func:`suggest` of the mean over some replicas."""
        columns = (self.losses, self.smoothed, self.validation)
        losses, smoothed, validation = (column[:, replicas].mean(axis=1) for column in columns)
        return suggest(
            self.rates,
            losses,
            smoothed,
            validation,
            self.validation_steps,
            window=window,
            diverged=self.ended is not None,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the test as ``xpnet lr-range --json`` prints it; a list has one item for each step or pass."""

        def listed(values: Values) -> list[Any]:
            return (values[:, 0] if values.shape[1] == 1 else values).tolist()  # type: ignore[no-any-return]

        spread = {
            name: summary(np.array([np.nan if one is None else getattr(one, name) for one in self.each]))
            for name in ("eta_min", "eta_max")
        }
        return {
            "suggestion": None if self.suggestion is None else self.suggestion.to_json(),
            "no_suggestion": self.no_suggestion,
            **({"each": spread} if len(self.each) > 1 else {}),
            "steps": len(self.rates),
            "asked": self.asked,
            "ended": self.ended,
            "interrupted": self.interrupted,
            "seeds": list(self.seeds),
            "device": self.device,
            "seconds": self.seconds,
            "rates": self.rates.tolist(),
            "losses": listed(self.losses),
            "smoothed": listed(self.smoothed),
            "accuracies": listed(self.accuracies),
            "validation": {"step": self.validation_steps.tolist(), "accuracy": listed(self.validation)},
        }

    def to_csv(self) -> str:
        """Return the test as CSV with a header: one row for each step and replica."""
        at = {int(step): row for step, row in zip(self.validation_steps, self.validation, strict=True)}
        columns = (self.losses, self.smoothed, self.accuracies, self.accuracies_smoothed)
        rows = [
            [t + 1, r, eta, *(float(column[t, r]) for column in columns), float(at[t + 1][r]) if t + 1 in at else ""]
            for t, eta in enumerate(self.rates.tolist())
            for r in range(len(self.seeds))
        ]
        return csv_lines([list(COLUMNS), *rows])


def suggest(
    rates: Values,
    losses: Values,
    smoothed: Values,
    validation: Values,
    validation_steps: NDArray[np.int64],
    *,
    window: int,
    diverged: bool,
) -> Suggestion | str:
    """Return the rates that the curves of a range test suggest, or why there are none and what to change.

    Smith (2017), "Cyclical learning rates for training neural networks", section 3.3, takes as bounds the rate at
    which the accuracy starts to increase, and the one at which it slows, becomes ragged or starts to fall.  This rule
    makes that precise.  The fall of the loss is the mean of its first `window` values minus its lowest smoothed
    value; the gain of the accuracy is the highest mean of three neighbouring validation passes minus the first pass.

    The loss must fall by at least 5 % and by four standard errors of a mean over the window.

    * `eta_min`: the first rate from which the loss, up to its lowest value, has done at least 10 % of its fall.
    * `eta_max`: the lower of two rates: the last one after the peak of the accuracy (means of three passes) before
      more than 2 % of its gain is lost again, and the last one after the lowest loss before more than 10 % of the
      fall is lost again.

    The rates have no safety factor, such as users of the test apply to constant rates: the triangular schedule only
    touches its highest rate, and a tenth of it costs accuracy (docs/learning-rate.md has the figures).

    The curves are those of :class:`LRRange`, for one network or a mean: (k,) by step, and (p,) by validation pass.
    `window` is the number of steps that the smoothing looks back over; `diverged` is whether the loss ended the test.
    """
    # The first smoothed values average so few losses that one of them may be the lowest by chance.
    few = min(window, len(smoothed)) - 1
    start, bottom = float(losses[:window].mean()), few + int(np.argmin(smoothed[few:]))
    fall = start - float(smoothed[bottom])
    between = f"between the rates {rates[0]:.2g} and {rates[-1]:.2g}"
    # Differences of neighbouring steps leave out both the fall and a divergence; their median / 0.954 is a deviation.
    noise = float(np.median(np.abs(np.diff(losses, append=losses[-1])))) / 0.954 / window**0.5
    least = max(_NO_FALL * start, _NOISE * noise)
    if fall < least:
        advice = "; raise --to, take more --steps, or look at the data, lambda and init"
        advice = ", but rose; lower --from, or take more --steps" if diverged else advice
        return f"the loss began at {start:.3g} and never fell by more than noise, {least:.2g}, {between}{advice}"

    early = np.flatnonzero(smoothed[: bottom + 1] > start - _BEGUN * fall)
    begun = int(early[-1]) + 1 if early.size else 0
    late = np.flatnonzero(smoothed[bottom:] > smoothed[bottom] + _RISEN * fall)
    loss_rises = float(rates[bottom + late[0] - 1]) if late.size else None
    accuracy_falls = _falls(rates, validation, validation_steps)
    bounds = [rate for rate in (loss_rises, accuracy_falls) if rate is not None]
    if not bounds:
        return f"neither did the loss rise nor the validation accuracy fall {between}; raise --to to see where they do"
    eta_min, eta_max = (float(f"{rate:.2g}") for rate in (rates[begun], min(bounds)))
    if eta_min >= eta_max:
        return (
            f"the loss begins to fall at the rate {eta_min:g} and learning breaks down at {eta_max:g}, too close "
            "to tell apart; take more --steps, more --runs or a larger batch_size"
        )
    at_once = begun <= window and smoothed[min(window, len(smoothed) - 1)] < start - _BEGUN * fall
    note = "the loss falls from the lowest rate on; a lower --from shows where that begins" if at_once else None
    return Suggestion(eta_min, eta_max, accuracy_falls, loss_rises, float(rates[bottom]), note)


def _falls(rates: Values, validation: Values, steps: NDArray[np.int64]) -> float | None:
    """Return the last rate before the validation accuracy falls from its peak; None if it does not."""
    if len(validation) < 3:
        return None
    padded = np.concatenate([validation[:1], validation, validation[-1:]])
    mean = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    peak = int(np.argmax(mean))
    lost = np.flatnonzero(mean[peak:] < mean[peak] - _FALLEN * (mean[peak] - mean[0]))
    return float(rates[steps[peak + lost[0] - 1] - 1]) if lost.size else None
