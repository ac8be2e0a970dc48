"""Whether the best trials of a search differ by more than chance explains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xpnet.training.conclusions import Conclusion

# Accuracies that differ by less than this many standard errors of a difference are not told apart.
_ERRORS = 2.0
# The spread over seeds is known well enough from so many degrees of freedom, over all trials together.
_FREEDOM = 8
# Seeds that tell more, where there are fewer: with the best few trials alone they cost little.
_SEEDS = 5


@dataclass(frozen=True)
class Close:
    """How many of the best trials chance does not tell apart.

    Attributes:
        count: Number of these trials, with the best; 1 if the best stands out.
        of: Number of trials that are compared.
        difference: Accuracy of the best minus that of the last of them.
        margin: The largest difference that chance explains.
        seeds: Seeds of each trial.
        samples: Samples that each accuracy is measured on; None if the margin comes from the spread over seeds.
    """

    count: int
    of: int
    difference: float
    margin: float
    seeds: int
    samples: int | None

    def conclusion(self) -> Conclusion | None:
        """Return what follows, with advice; None if the best trial stands out."""
        if self.count < 2:
            return None
        which = f"The best {self.count} of {self.of} complete trials"
        if self.count == self.of:
            which = "The two complete trials" if self.of == 2 else f"All {self.of} complete trials"
        text = f"{which} cannot be told apart: they are within {_points(self.difference)}, and "
        if self.samples is None:
            text += f"the spread over {self.seeds} seeds explains {_points(self.margin)}. "
        else:
            text += f"two equally good networks differ by up to {_points(self.margin)} on {self.samples:,} validation "
            text += "samples, in 19 of 20 cases. "
        text += "Which of them is first says little. Try the best few with more seeds "
        text += f"(--runs {self.more_seeds}) before you choose."
        evidence = {"trials": self.count, "difference": self.difference, "margin": self.margin, "seeds": self.seeds}
        return Conclusion(text, "alike", evidence | ({} if self.samples is None else {"samples": self.samples}))

    @property
    def more_seeds(self) -> int:
        """A number of seeds that tells more."""
        return max(_SEEDS, 2 * self.seeds)


def close_trials(
    scores: Sequence[float], stds: Sequence[float | None], seeds: int, samples: int | None
) -> Close | None:
    """Return how many of the best trials chance does not tell apart; None if this is unknown.

    The standard error of a difference of two trials is s sqrt(2 / R) for R seeds, with the standard deviation s over
    the seeds of all trials together.  If too few seeds are known, s is that of the accuracy p of one network on n
    samples, sqrt(p (1 - p) / n).  Trials within two standard errors of the best are not told apart.

    Args:
        scores: Accuracies of complete trials, the best first.
        stds: Their standard deviations over the seeds (ddof = 1); None for a single seed.
        seeds: Seeds of each trial, R.
        samples: Samples that the accuracies are measured on, n; None if unknown.
    """
    if not scores:
        return None
    known = [std for std in stds if std is not None]
    by_seeds = len(known) * (seeds - 1) >= _FREEDOM
    if by_seeds:
        deviation = math.sqrt(float(np.mean(np.square(known))))
    elif samples:
        deviation = math.sqrt(scores[0] * (1 - scores[0]) / samples)
    else:
        return None
    margin = _ERRORS * deviation * math.sqrt(2 / max(1, seeds))
    near = [score for score in scores if scores[0] - score <= margin]
    return Close(len(near), len(scores), scores[0] - near[-1], margin, seeds, None if by_seeds else samples)


def _points(share: float) -> str:
    return f"{100 * share:.1f} points"
