"""What a gradient check found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xpnet.analysis.gradcheck.problem import Floats, Indices

PASSED = "passed"
FAILED = "failed"
ZERO = "zero by construction"
VANISHING = "vanishing"
UNCHECKED = "unchecked"


@dataclass(frozen=True, eq=False)
class Entries:
    """The entries of a tensor that were compared, kinks left out.

    Attributes:
        flat: Flat indices (k,).
        analytic: What the backward pass says (k,).
        numerical: What the differences say (k,).
        floor: Round-off of each difference (k,).
        relative: |ga - gn| / max(eps, |ga| + |gn|) (k,).
    """

    flat: Indices
    analytic: Floats
    numerical: Floats
    floor: Floats
    relative: Floats

    @property
    def absolute(self) -> Floats:
        """|ga - gn| (k,)."""
        error: Floats = np.abs(self.analytic - self.numerical)
        return error


@dataclass(frozen=True)
class TensorReport:
    """The check of one parameter tensor.

    Attributes:
        name: ``"W1"``, ``"b1"``, ``"gamma1"``, ``"beta1"``, ...
        shape: Its shape without the replica axis.
        checked: Entries that were compared.
        of: Entries that it has.
        max_relative_error: Largest |ga - gn| / max(eps, |ga| + |gn|).
        mean_relative_error: Their mean.
        max_absolute_error: Largest |ga - gn|.
        norm_error: ||ga - gn|| / (||ga|| + ||gn||) over the entries compared.
        at: Index of the worst entry in ``parameters[name][0]``; None if nothing was compared.
        analytic: The backward pass's value there.
        numerical: The differences' value there.
        failing: Entries whose error is above both the tolerance and round-off.
        kinks: Entries left out, since a ReLU input changes its sign however small the step.
        one_sided: Entries compared with the derivative of one side, since a kink lies on the other.
        smaller_steps: Entries compared with a smaller step, because of a kink or of curvature.
        floor: Round-off of a difference with the usual step.
        verdict: ``passed``, ``failed``, ``zero by construction``, ``vanishing`` or ``unchecked``.
        note: What there is to say about it, in words; empty for most.
        entries: All values, for figures.
    """

    name: str
    shape: tuple[int, ...]
    checked: int
    of: int
    max_relative_error: float
    mean_relative_error: float
    max_absolute_error: float
    norm_error: float
    at: tuple[int, ...] | None
    analytic: float
    numerical: float
    failing: int
    kinks: int
    one_sided: int
    smaller_steps: int
    floor: float
    verdict: str
    note: str
    entries: Entries = field(repr=False, compare=False)

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against the gradient."""
        return self.verdict != FAILED

    def to_json(self) -> dict[str, Any]:
        """Return what can be written as JSON: finite numbers alone."""
        names = (
            *("name", "checked", "of", "max_relative_error", "mean_relative_error", "max_absolute_error"),
            *("norm_error", "analytic", "numerical", "failing", "kinks", "one_sided"),
            *("smaller_steps", "floor"),
            *("verdict", "passed", "note"),
        )
        values = {name: getattr(self, name) for name in names}
        values["shape"] = list(self.shape)
        values["at"] = None if self.at is None else list(self.at)
        return {name: finite(value) for name, value in values.items()}


@dataclass(frozen=True)
class GradcheckReport:
    """The check of a whole network.

    Attributes:
        passed: Whether every tensor, the direction and the cost passed, to the end.
        reason: Why, in words.
        checked: Entries compared.
        of: Parameters of the network.
        parameters: One report for each tensor, in the network's order.
        direction_error: Relative error of the derivative along a random direction of all parameters.
        direction: Both values of that derivative, and what the check says about it.
        cost: The network's own cost and the checker's, and their relative difference.
        interrupted: The check was stopped before its end.
        settings: h, eps, tolerance, coverage, method, seed, samples, lambda, precision, device.
        seconds: How long it took.
    """

    passed: bool
    reason: str
    checked: int
    of: int
    parameters: tuple[TensorReport, ...]
    direction_error: float
    direction: dict[str, Any]
    cost: dict[str, Any]
    interrupted: bool
    settings: dict[str, Any]
    seconds: float

    def __getitem__(self, name: str) -> TensorReport:
        """Return the report of the parameter `name`."""
        for tensor in self.parameters:
            if tensor.name == name:
                return tensor
        raise KeyError(name)

    @property
    def worst(self) -> TensorReport | None:
        """The tensor with the largest relative error: of those that fail, or else of those that pass."""
        return worst_of(self.parameters)

    @property
    def kinks(self) -> int:
        """Entries left out because of kinks."""
        return sum(tensor.kinks for tensor in self.parameters)

    def to_json(self) -> dict[str, Any]:
        """Return what ``xpnet gradcheck --json`` prints."""
        worst = self.worst
        keys = ("name", "at", "max_relative_error", "max_absolute_error", "analytic", "numerical", "verdict")
        about = {} if worst is None else worst.to_json()
        return {
            "passed": self.passed,
            "reason": self.reason,
            "checked": self.checked,
            "of": self.of,
            "kinks": self.kinks,
            "worst": {key: about[key] for key in keys} if about else {},
            "parameters": [tensor.to_json() for tensor in self.parameters],
            "direction_error": finite(self.direction_error),
            "direction": {key: finite(value) for key, value in self.direction.items()},
            "cost": {key: finite(value) for key, value in self.cost.items()},
            "interrupted": self.interrupted,
            "settings": {key: finite(value) for key, value in self.settings.items()},
            "seconds": self.seconds,
        }


def worst_of(tensors: Sequence[TensorReport]) -> TensorReport | None:
    """Return the tensor with the largest relative error among those that fail, else pass, else any."""
    for verdict in (FAILED, PASSED, None):
        found = [t for t in tensors if t.checked and verdict in (t.verdict, None)]
        if found:
            return max(found, key=lambda t: t.max_relative_error)
    return None


def finite(value: Any) -> Any:
    """Return `value`, but the largest number where it is infinite or none: JSON has neither."""
    if isinstance(value, float) and not math.isfinite(value):
        return math.copysign(1.7976931348623157e308, value) if math.isinf(value) else 1.7976931348623157e308
    return value
