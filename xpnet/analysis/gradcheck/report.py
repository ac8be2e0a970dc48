"""Reports of a gradient check: on each tensor, and on the network."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from xpnet.analysis.gradcheck.problem import Floats, Indices
from xpnet.utils.display import Displayed

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
        analytic: Gradients by the backward pass (k,).
        numerical: Gradients by differences (k,).
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
        analytic: The backward pass's value of the worst entry.
        numerical: The numerical value of the worst entry.
        failing: Entries whose error is above both the tolerance and round-off.
        kinks: Entries left out, since a ReLU input changes its sign however small the step.
        one_sided: Entries compared with the derivative of one side, since a kink lies on the other.
        smaller_steps: Entries compared with a smaller step, because of a kink or of curvature.
        floor: Round-off of a difference with the usual step.
        verdict: ``passed``, ``failed``, ``zero by construction``, ``vanishing`` or ``unchecked``.
        note: A remark on the verdict, in words; empty for most.
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
        """Whether the gradient did not fail the check."""
        return self.verdict != FAILED

    def to_json(self) -> dict[str, Any]:
        """Return the report for JSON: without the entries, and with finite numbers only."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "entries"}
        return dict(_finite(values | {"passed": self.passed}))


@dataclass(frozen=True, repr=False)
class GradcheckReport(Displayed):
    """The check of a network.

    Attributes:
        passed: Whether the check ran to its end, and every tensor, the direction and the cost passed.
        reason: The reason for this verdict, in words.
        checked: Entries compared.
        of: Parameters of the network.
        parameters: One report for each tensor, in the network's order.
        direction_error: Relative error of the derivative along a random direction of all parameters.
        direction: Both values of that derivative, and its verdict.
        cost: The network's own cost and the checker's, and their relative difference.
        interrupted: Whether the check was stopped before its end.
        settings: h, eps, tolerance, coverage, method, seed, samples, lambda, label_smoothing, precision, device.
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
        """The tensor with the largest relative error, among failing tensors if there are any."""
        return worst_of(self.parameters)

    @property
    def kinks(self) -> int:
        """Entries left out because of kinks."""
        return sum(tensor.kinks for tensor in self.parameters)

    def _facts(self) -> Mapping[str, str]:
        worst = "none" if self.worst is None else f"{self.worst.max_relative_error:.1e} in {self.worst.name}"
        words = {"": PASSED if self.passed else FAILED, "checked": f"{self.checked:,} of {self.of:,}"}
        return words | {"worst_relative_error": worst}

    def to_json(self) -> dict[str, Any]:
        """Return the report in the form that ``xpnet gradcheck --json`` prints."""
        keys = ("name", "at", "max_relative_error", "max_absolute_error", "analytic", "numerical", "verdict")
        worst = {} if self.worst is None else {key: getattr(self.worst, key) for key in keys}
        tensors = [tensor.to_json() for tensor in self.parameters]
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return dict(_finite(values | {"kinks": self.kinks, "worst": worst, "parameters": tensors}))


def worst_of(tensors: Sequence[TensorReport]) -> TensorReport | None:
    """Return the tensor with the largest relative error among the failing ones, else the passing ones, else all."""
    for verdict in (FAILED, PASSED, None):
        candidates = [t for t in tensors if t.checked and verdict in (t.verdict, None)]
        if candidates:
            return max(candidates, key=lambda t: t.max_relative_error)
    return None


def _finite(value: Any) -> Any:
    """Return `value` with the largest number in place of infinities and NaN, which JSON lacks, and lists for tuples."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return -sys.float_info.max if value == -math.inf else sys.float_info.max
    return value
