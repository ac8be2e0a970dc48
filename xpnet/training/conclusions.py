"""What the figures of a training say, in one sentence, by rules.

The rules of :func:`conclude` read the curves of networks that are better than guessing; warnings about all others come
first, see :mod:`xpnet.training.outcome_warnings`.  No rule answers where the figures can mean several things.  The
constants are tuned on trainings of CIFAR-10, which are in tests/fixtures/verdicts.json; docs/conclusions.md has the
rules.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xpnet.training.advice import (
    Advice,
    advised,
    against_overfitting,
    falling_rate,
    larger_rate,
    longer,
    more_capacity,
    more_units,
    smaller_steps,
    to_try,
)
from xpnet.training.chance_level import percent, wilson
from xpnet.training.course import Course
from xpnet.training.gains import first_idle, gains

# Fewer epochs show no trend, and fewer validation samples are too noisy.  That a cycle was not finished is a fact: a
# loss that falls in so many epochs is enough beside it.
_FEW_EPOCHS, _FEW_SAMPLES, _BEGUN = 8, 100, 3
# Folds of the cross-validation that is advised instead.
_FOLDS = 5
_FIRMER = f" For a firmer figure use cross-validation (--cv {_FOLDS})."
# Overfitting: the gap between training and validation accuracy, also in standard errors; what training gains at least
# after the epoch that it begins with, which is not among the last; the rise of the validation loss that dates it.
_GAP, _ERRORS, _LEARNT, _LATE, _RISE = 0.10, 3.0, 0.05, 0.75, 1.05
# So wide a gap needs no such epoch.
_CLEAR = 0.3
# With a smaller gap than this, a validation loss that falls so much since then speaks against it.
_WIDE, _FALLS = 0.15, 0.015
# Still learning: how much the validation loss of the last third is at least below that of the third before it, on
# average, or its last value below that of an earlier cycle; and the least gain in accuracy.
_FALL, _GAIN = 0.025, 0.005
# Inside a cycle: the share of the highest rate above which the last one is far from the lowest.
_HIGH = 0.1
# Small steps: this share of epochs lowers the losses. If the rate has fallen at the end, also: a small gap, so many
# epochs, and at most this share of the fall of the validation loss in the first quarter of them.
_SMOOTH, _SMALL_GAP, _LONG, _SLOW = 0.9, 0.05, 20, 0.65
# Large steps: the training loss rises by this share of the first epoch's while the rate rises for the first time, or
# accuracies jump.
_CLIMB, _JUMP, _JUMP_ERRORS = 0.05, 0.02, 1.0
# A penalty that takes so large a share off the weights in a step leaves little of what was learnt.
_SHRINKS = 0.02
# Underfitting: at most this distance to the training accuracy, which is below this share.
_TOGETHER, _LEARNABLE = 0.03, 0.9


@dataclass(frozen=True)
class Conclusion:
    """A sentence about an outcome, the rule that found it, and the figures that it rests on."""

    text: str
    rule: str
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the form for files."""
        return {"text": self.text, "rule": self.rule, "evidence": dict(self.evidence)}


def conclude(course: Course) -> Conclusion | None:
    """Return what the course of a training says; None if it says nothing clearly.

    Args:
        course: The course of networks that are better than guessing.
    """
    columns = (course.train_accuracy, course.validation_accuracy, course.train_loss, course.validation_loss)
    known = all(np.isfinite(column).all() for column in columns)
    if not known or not all(map(math.isfinite, course.final.values())):
        return None
    long = course.epochs >= _FEW_EPOCHS
    if course.samples["validation"] < _FEW_SAMPLES:
        return _few_samples(course) if long else None
    if not long:
        return _inside_a_cycle(course)
    rules: list[Callable[[Course], Conclusion | None]] = [_large_steps, _overfits, _inside_a_cycle]
    rules += [_stopped_early] if course.stopped else [_still_learning]
    return next((found for rule in [*rules, _underfits, _settled, _shrinks] if (found := rule(course))), None)


def _few_samples(course: Course) -> Conclusion:
    """Return what a validation set says that is too small for the other rules."""
    n, accuracy = course.samples["validation"], course.final["validation"]
    low, high = (100 * edge for edge in wilson(accuracy, n))
    what = "samples" if course.at.image_shape else "rows"
    text = f"{course.who} is right for {percent(accuracy)} of {n} validation {what}, so few that the accuracy on all "
    text += f"others may be {low:.0f} to {high:.0f} %. "
    near = course.gap <= max(_SMALL_GAP, 2 * course.gap_error)
    text += f"It is right for {percent(course.final['train'])} of the training {what}, "
    text += "no sign of overfitting." if near else "a sign of overfitting."
    text += _FIRMER
    return Conclusion(text, "few-samples", {"samples": n, "interval": [low / 100, high / 100], "try": {"cv": _FOLDS}})


def after_folds(conclusion: Conclusion | None) -> Conclusion | None:
    """Return the conclusion of a run that was cross-validated, which is not advised to be so."""
    if conclusion is None or _FIRMER not in conclusion.text:
        return conclusion
    evidence = {name: value for name, value in conclusion.evidence.items() if name != "try"}
    return Conclusion(conclusion.text.replace(_FIRMER, ""), conclusion.rule, evidence)


def _overfits(course: Course) -> Conclusion | None:
    """Find training samples learnt by heart: a wide gap, and an epoch after which only training accuracy gains.

    A very wide gap is enough, if no epoch stands out.
    """
    if course.gap < max(_GAP, _ERRORS * course.gap_error):
        return None
    loss, train = course.validation_loss, course.train_accuracy
    rises = loss[-1] > _RISE * loss.min()
    begin = int(loss.argmin()) + 1 if rises else first_idle(course)
    gained = max(float(train[begin - 1 :].max()), course.final["train"]) - float(train[begin - 1])
    falls = course.gap < _WIDE and loss[-1] < (1 - _FALLS) * loss[begin - 1]
    dated = begin <= _LATE * course.epochs and gained >= _LEARNT and not falls
    if not dated and course.gap < _CLEAR:
        return None
    advice = against_overfitting(course.at, best_is_last=course.best_is_last)
    evidence = {"gap": course.gap, "lowest_validation_loss": float(loss.min()), "last_validation_loss": float(loss[-1])}
    evidence |= to_try(advice)
    text = f"{course.who} overfits: at the end it is right for {percent(course.final['train'])} of the training and "
    text += f"{percent(course.final['validation'])} of the validation samples ({_points(course.gap)} apart)."
    if dated:
        text += gains(course, begin, rises=rises)
        evidence |= {"epoch": begin + 1, "training_gain": gained}
    text += advised(advice, ranked=True)
    if unused := course.at.unused:
        used, held = course.samples["train"], course.samples["validation"]
        text += f" {used:,} of {used + held + unused:,} training samples are used: more would help too."
    least = 200 * course.validation_error
    text += f" A gain below about {least:.{0 if least >= 2 else 1}f} points may be chance."
    return Conclusion(text, "overfits", evidence)


def _still_learning(course: Course) -> Conclusion | None:
    """Find networks that would go on learning, and those whose steps are too small."""
    loss, before = course.validation_loss, course.earlier()
    (was, now), (had, has) = map(course.compared, (loss, course.validation_accuracy))
    fall, gain = (1 - now / was if was > 0 else 0.0), has - had
    falls = float((np.diff(np.stack([loss, course.train_loss]), axis=1) < 0).mean())
    smooth = falls >= _SMOOTH
    if fall < _FALL or gain < _GAIN:
        return None
    slow = loss[0] - loss[course.epochs // 4] < _SLOW * (loss[0] - loss[-1])
    if course.annealed and not (smooth and slow and course.gap < _SMALL_GAP and course.epochs >= _LONG):
        return None
    evidence = {"since_epoch": before + 1, "loss_fall": fall, "accuracy_gain": gain, "falling": falls}
    words = f"since epoch {before + 1} its validation loss fell by {100 * fall:.1f} % and its accuracy rose by "
    words += _points(gain)
    if not course.cyclic:
        words = f"in the last third of its epochs the validation loss was {100 * fall:.1f} % lower than in the third "
        words += f"before, and the accuracy {_points(gain)} higher"
    if smooth:
        text = f"The learning rate looks too small: {_lower(course.who)} was still learning when it ended ({words}), "
        advice = [*larger_rate(course.at), *longer(course.at)]
        text += f"and nearly every epoch lowered both losses.{advised(advice)}"
        return Conclusion(text, "rate-too-small", evidence | to_try(advice))
    advice = [*longer(course.at), *larger_rate(course.at)]
    text = f"{course.who} was still learning when it ended: {words}.{advised(advice)}"
    return Conclusion(text, "still-learning", evidence | to_try(advice))


def _inside_a_cycle(course: Course) -> Conclusion | None:
    """Find trainings that end inside a cycle of the learning rate, while the validation loss falls.

    In a cycle after the first, only those whose last epoch gains, and whose rate falls and is far from its lowest.
    """
    accuracy, loss, eta, end = course.validation_accuracy, course.validation_loss, course.eta, course.cycle_end()
    if course.stopped or end is None or course.epochs < _BEGUN or loss.argmin() < course.epochs - 1:
        return None
    first = course.epochs < course.first_cycle
    if not first and not (eta[-2] > eta[-1] > _HIGH * eta.max() and accuracy[-1] - accuracy[-2] >= _GAIN):
        return None
    fell = "fell in every epoch" if (np.diff(loss) < 0).all() else "had fallen to its lowest"
    was = "was still rising" if eta[-1] > eta[-2] else "had not fallen to its end"
    text = f"The training ended inside a cycle of the learning rate: the validation loss {fell} ({loss[0]:.4f} to "
    text += f"{loss[-1]:.4f}), and the rate {was} ({eta[-1]:.2g} of {float(course.at.value(course.at.rate)):.2g})."
    advice = [Advice(f"epochs = {end:g} ({'one whole cycle' if first else 'the end of the cycle'})", {"epochs": end})]
    evidence = {"end": end, "epochs": course.epochs, "loss": [float(loss[0]), float(loss[-1])]}
    return Conclusion(f"{text}{advised(advice)}", "inside-a-cycle", evidence | to_try(advice))


def _large_steps(course: Course) -> Conclusion | None:
    """Find steps that undo what others have learnt."""
    loss, peak = course.train_loss, course.first_peak()
    advice = smaller_steps(course.at)
    if peak > 1:
        turn = int(loss[: peak + 1].argmin())
        low, high = float(loss[turn]), float(loss[turn : peak + 1].max())
        if high - low >= _CLIMB * max(low, float(loss[0])):
            text = f"The learning rate is too large at its peak: the training loss rose from {low:.3g} in epoch "
            text += f"{turn + 1} to {high:.3g} while the rate rose from {course.eta[turn]:.2g} to "
            evidence = {"loss": [low, high], "epoch": turn + 1, "peak_eta": float(course.eta[peak])} | to_try(advice)
            return Conclusion(f"{text}{course.eta[peak]:.2g}.{advised(advice)}", "rate-too-large", evidence)
    if course.schedule == "constant":
        half = course.validation_accuracy[course.epochs // 2 :]
        jump, p = float(np.sqrt(np.mean(np.diff(half) ** 2))), float(half.mean())
        if jump >= max(_JUMP, _JUMP_ERRORS * math.sqrt(2 * p * (1 - p) / max(1, course.samples["validation"]))):
            text = f"The learning rate is too large to settle: the validation accuracy jumps by {_points(jump)} from "
            advice = [*falling_rate(course.at), *advice]
            text += f"epoch to epoch.{advised(advice)}"
            return Conclusion(text, "rate-too-large", {"jump": jump} | to_try(advice))
    return None


def _stopped_early(course: Course) -> Conclusion | None:
    """Find a patience that ends a training while the learning rate rises, when accuracies fall for a while."""
    ends, patience = course.cycle_ends(), course.at.train.patience
    if not course.cyclic or not ends or patience is None or not course.eta[-1] > course.eta[-2]:
        return None
    if patience >= (cycle := ends[0] + 1):
        return None
    text = (
        f"{course.who} was stopped by patience = {patience} while the learning rate was rising, when accuracies fall "
    )
    text += f"before they rise again: a cycle has {cycle} epochs."
    advice = [Advice(f"patience = {cycle} (a cycle)", {"patience": cycle})]
    evidence = {"patience": patience, "cycle": cycle} | to_try(advice)
    return Conclusion(f"{text}{advised(advice)}", "stopped-early", evidence)


def _shrinks(course: Course) -> Conclusion | None:
    """Find a penalty that takes away what steps add: each step multiplies the weights by 1 - 2 lambda eta."""
    share = 2 * course.at.product
    if share < _SHRINKS or course.gap > _SMALL_GAP or course.final["train"] > _LEARNABLE:
        return None
    advice = more_capacity(course.at)[:1]
    lam, accuracy = course.at.value("lambda"), percent(course.final["train"])
    text = f"The penalty is too large: lambda = {lam:g} takes {100 * share:.0f} % off all weights in each step at the "
    text += f"highest rate, and {_lower(course.who)} is right for only {accuracy} of the training samples."
    text += advised(advice)
    return Conclusion(text, "penalty-too-large", {"share": share, "gap": course.gap} | to_try(advice))


def _underfits(course: Course) -> Conclusion | None:
    """Find networks that do not even learn the training samples, and have stopped improving."""
    if course.gap > _TOGETHER or course.final["train"] > _LEARNABLE or not _flat(course):
        return None
    advice = more_capacity(course.at)
    text = f"{course.who} underfits: it is right for only {percent(course.final['train'])} of the training samples, "
    text += f"hardly more than of the validation samples ({percent(course.final['validation'])}), and has stopped "
    return Conclusion(f"{text}improving.{advised(advice)}", "underfits", {"gap": course.gap} | to_try(advice))


def _settled(course: Course) -> Conclusion | None:
    """Find trainings that have come to their end without overfitting."""
    if course.gap >= _GAP or not _flat(course):
        return None
    since, advice = course.earlier() + 1, [more_units(course.at)] if course.final["train"] < _LEARNABLE else []
    text = (
        f"{course.who} has settled: it is right for {percent(course.final['validation'])} of the validation samples, "
    )
    text += f"no more than about epoch {since}, and for {percent(course.final['train'])} of the training samples."
    evidence = {"gap": course.gap, "since_epoch": since} | to_try(advice)
    return Conclusion(f"{text}{advised(advice)}", "settled", evidence)


def _flat(course: Course) -> bool:
    """Return whether the validation accuracy has stopped rising while the learning rate still allowed it."""
    accuracy, before = course.validation_accuracy, course.earlier()
    if course.annealed:
        return False
    if course.cyclic:
        return bool(accuracy[-1] - accuracy[before] < course.no_gain)
    return bool(accuracy[before + 1 :].max() - accuracy[: before + 1].max() < course.no_gain)


def followed(first: Conclusion | None, second: Conclusion | None) -> Conclusion | None:
    """Return a conclusion with the text and, as ``"also"``, the evidence of another one; either may be None."""
    if first is None or second is None:
        return first or second
    also = {"rule": second.rule, **second.evidence}
    return Conclusion(f"{first.text} {second.text}", first.rule, {**first.evidence, "also": also})


def _points(share: float) -> str:
    return f"{100 * share:.1f} points"


def _lower(subject: str) -> str:
    return subject[:1].lower() + subject[1:]
