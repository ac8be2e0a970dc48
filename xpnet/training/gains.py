"""What training and validation gain after an epoch from which on validation hardly does."""

from __future__ import annotations

import numpy as np

from xpnet.training.course import Course

# The least gain of the training accuracy that is told.
_NOTED = 0.01


def first_idle(course: Course) -> int:
    """Return the position of the first epoch from which on the best validation accuracy hardly gains; E if none is."""
    accuracy = course.validation_accuracy
    best, later = np.maximum.accumulate(accuracy), np.maximum.accumulate(accuracy[::-1])[::-1]
    idle = np.flatnonzero(later[1:] - best[:-1] < course.no_gain)
    return int(idle[0]) + 1 if idle.size else course.epochs


def gains(course: Course, begin: int, *, rises: bool) -> str:
    """Return what training gains after the epoch `begin`, and what validation does meanwhile, as a sentence."""
    train, accuracy, loss = course.train_accuracy, course.validation_accuracy, course.validation_loss
    end = begin - 1 + int(train[begin - 1 :].argmax())
    learnt, gain = float(train[end] - train[begin - 1]), float(accuracy[end] - accuracy[begin - 1])
    if learnt < _NOTED:
        return ""
    text = f" From epoch {begin} to {end + 1} training gained {100 * learnt:.1f} points, "
    if rises:
        return f"{text}while the validation loss rose from {loss[begin - 1]:.4g} to {loss[end]:.4g}."
    text += f"validation {'lost ' if gain < 0 else ''}{100 * abs(gain):.1f}"
    if 0 < gain < course.validation_error:
        text += f", less than its standard error ({100 * course.validation_error:.1f})"
    return f"{text}."
