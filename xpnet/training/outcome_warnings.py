"""Warnings about a finished training, by rules for its figures, and the conclusion that is drawn from it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnet.config.cycles import CYCLIC
from xpnet.config.definitions import NetworkConfig
from xpnet.config.length import Length
from xpnet.config.training import TrainConfig
from xpnet.data import Dataset
from xpnet.nn.network import Network
from xpnet.training.advice import Advice, Situation, advised, to_try
from xpnet.training.chance_level import Guessing, class_counts, percent
from xpnet.training.conclusions import Conclusion
from xpnet.training.result import TrainResult
from xpnet.training.run_conclusion import run_conclusion, settings_groups, without_seed, words_of
from xpnet.training.same_outputs import first_blind_layer
from xpnet.utils.plural import counted

# Three epochs of 10,000 samples in batches of 100: after these, running statistics no longer depend on the first
# batches, and a cycle of the learning rate is more than a few steps up and down.
FEW_STEPS = 300
# Accuracies vary by two or three points from epoch to epoch while the rate is high; five points are a real loss. In
# small sets, chance causes larger changes, so the loss must also be this many standard errors of a difference.
_FAR_BELOW, _FAR_ERRORS = 0.05, 3.0
# Sets, and the multiple of guessing's loss above which a loss is a warning. A training loss of twice the entropy of the
# classes comes from large logits that are wrong even on training samples. On other samples, overfitting alone causes
# some multiple of it, but not ten times.
_TALL_LOSS = {"train": ("training", 2.0), "validation": ("validation", 10.0), "test": ("test", 10.0)}
# A lambda or a rate above these, or a rate or initial weights below them, is the most likely cause.
_LARGE_LAMBDA, _LARGE_RATE, _SMALL_RATE, _SMALL_INIT = 0.1, 1.0, 1e-4, 0.02
# Most combinations of settings that a sentence lists.
_NAMED = 4
_NORMALISED = Advice("batch normalisation", {"batch_norm": True})
# The factor of a smaller rate or penalty, and of a larger rate, that is worth a new run.
_FACTOR = 10.0


def judged(
    result: TrainResult,
    network: NetworkConfig,
    config: TrainConfig,
    data: Dataset,
    rows: Sequence[Mapping[str, Any]],
    trained: Network | None = None,
) -> TrainResult:
    """Return a training result, completed by the figures of guessing, warnings and a conclusion.

    `rows` have the seed of each network and its values of the settings that vary; the `trained` networks, if given,
    are asked for the cause of outputs that do not depend on the sample.
    """
    known = [which for which in ("validation", "test") if np.isfinite(getattr(result, which).accuracies).any()]
    guessing = Guessing.of(data, known, len(rows))
    training = _Training(result, network, config, data, rows[: len(result.test.losses)], guessing, trained)
    found = training.warnings()
    conclusion, warnings = training.conclusion(found), [warning.text for warning in found]
    return dataclasses.replace(
        result, guessing=guessing, warnings=warnings, no_better=training.guess, conclusion=conclusion
    )


def few_steps(steps: int, config: TrainConfig, length: Length) -> list[str]:
    """Return a sentence if `steps` are too few to judge by, with a sufficient length, for the `length` of `config`."""
    if steps >= FEW_STEPS:
        return []
    ((name, enough),) = enough_steps(config, length).items()
    one = 2 * length.n_s if name == "cycles" else length.steps_per_epoch
    words = (
        f"{counted(steps, 'step')} {'is' if steps == 1 else 'are'} few, and what comes of fewer than {FEW_STEPS} says"
    )
    return [f"{words} little about the settings; try {name} = {enough}, which is {counted(enough * one, 'step')}."]


def enough_steps(config: TrainConfig, length: Length) -> dict[str, int]:
    """Return the number of epochs or cycles that has enough steps to judge by, by the name of its setting."""
    if config.epochs is None and config.schedule in CYCLIC and config.restart_factor == 1:
        return {"cycles": -(-FEW_STEPS // (2 * length.n_s))}
    return {"epochs": -(-FEW_STEPS // length.steps_per_epoch)}


@dataclass
class _Training:
    """A finished training, with a method for each rule."""

    result: TrainResult
    network: NetworkConfig
    config: TrainConfig
    data: Dataset
    rows: Sequence[Mapping[str, Any]]
    guessing: Guessing | None
    trained: Network | None = None

    def __post_init__(self) -> None:
        self.guess: list[int] = []  # networks no better than guessing
        self.counts = {which: class_counts(self.data, which) for which in _TALL_LOSS}
        if self.guessing is not None:
            metrics = getattr(self.result, self.guessing.set)
            self.accuracies, self.losses = metrics.accuracies, metrics.losses
            self.guess = np.flatnonzero(self.guessing.no_better(self.accuracies, self.losses)).tolist()

    def warnings(self) -> list[Conclusion]:
        """Return all warnings, the most serious first."""
        found: list[Conclusion] = []
        if self.guessing is not None:
            found += self._at_chance(self.guessing) + self._far_below(self.guessing)
        found += self._tall_loss()
        if not self.result.interrupted and not self.result.stopped:
            length = self.config.length(len(self.data.train), self.network)
            few = few_steps(self.result.steps, self.config, length)
            longer = self._try([Advice("", enough_steps(self.config, length))])
            found += [Conclusion(words, "few-steps", {"steps": self.result.steps} | longer) for words in few]
        return found

    def conclusion(self, warnings: Sequence[Conclusion]) -> Conclusion | None:
        """Return the first of the `warnings` about the best combination of settings, or what its curves say."""
        groups = settings_groups(self.rows)
        accuracies = np.nan_to_num(self.result.validation.accuracies, nan=-1.0)
        best = max(groups, key=lambda words: float(accuracies[groups[words]].mean()))
        for warning in warnings:
            if {*warning.evidence.get("networks", groups[best])} & {*groups[best]}:
                return warning
        if self.result.interrupted or self.guessing is None or self.guessing.set != "validation":
            return None
        return run_conclusion(self.result, self.network, self.config, self.data, self.rows, best)

    def _at_chance(self, guessing: Guessing) -> list[Conclusion]:
        """Return a warning about networks that are no better than guessing."""
        if not self.guess:
            return []
        known = int(np.isfinite(self.accuracies).sum())
        if len(self.rows) > 1 and known == len(self.guess) > 1:
            words = guessing.none_better(self.accuracies, f"{known} networks")
        else:
            subject = "this one" if len(self.guess) == 1 else "these"
            words = guessing.sentence(f"{self._networks(self.guess)} no better", self.accuracies[self.guess], subject)
        if len(self.guess) == 1:
            words += self._details(guessing, self.guess[0])
        elif all(self._only_class(r) is not None for r in self.guess):
            words += "; each takes every sample for one class"
        hints = _by_frequency([hint for r in self.guess for hint in self._hints_at_chance(guessing, r)])
        evidence = {"networks": self.guess, "guessing": guessing.accuracy} | self._try(hints)
        return [Conclusion(f"{words}.{advised(hints)}", "chance", evidence)]

    def _details(self, guessing: Guessing, r: int) -> str:
        """Return further facts about a network that guesses."""
        loss, words = float(self.losses[r]), self._blind_layer(r)
        if (only := self._only_class(r)) is not None:
            words += f"; it takes every sample for the class {only}"
        elif (best := self._better_epoch(guessing, r)) is not None:
            words += f"; it had {percent(best[1])} after epoch {best[0]}"
        if guessing.likelier(loss):
            return words + f"; its loss {_loss(loss)} is below {guessing.loss:.4g}, so its probabilities tell something"
        return words + f"; its loss is {_loss(loss)}, and {guessing.loss:.4g} for the shares of the classes"

    def _blind_layer(self, r: int) -> str:
        """Return which layer of a network that guesses gives all samples the same outputs, if one does."""
        if self.trained is None or not np.isfinite(self.losses[r]):
            return ""
        layer = first_blind_layer(self.trained, r, self.data.train.x)
        return "" if layer is None else f"; from layer {layer} on its outputs are the same for every sample"

    def _tall_loss(self) -> list[Conclusion]:
        """Return a warning about losses far above that of guessing, on the first set with such losses."""
        for which, (name, factor) in _TALL_LOSS.items():
            losses, usual = getattr(self.result, which).losses, Guessing.on(self.data, which).loss
            members = sorted(set(np.flatnonzero(losses > factor * usual).tolist()) - set(self.guess))
            if members and usual > 0:
                hints = [self._smaller_rate(members[0]), *([] if self.network.normalises else [_NORMALISED])]
                words = f"{self._networks(members)} far worse in loss than guessing: {_loss(losses[members].max())} on"
                words += f" the {name} set, where the shares of the classes give {usual:.4g}.{advised(hints)}"
                return [Conclusion(words, "tall-loss", {"networks": members, "guessing": usual} | self._try(hints))]
        return []

    def _far_below(self, guessing: Guessing) -> list[Conclusion]:
        """Return a warning about networks whose accuracy was far better in an earlier epoch."""
        others = sorted(set(np.flatnonzero(np.isfinite(self.accuracies)).tolist()) - set(self.guess))
        fallen = {r: best for r in others if (best := self._better_epoch(guessing, r)) is not None}
        if not fallen:
            return []
        worst = max(fallen, key=lambda r: fallen[r][1] - self.accuracies[r])
        epoch, best_accuracy = fallen[worst]
        hints = [self._smaller_rate(worst)]
        if self.config.schedule == "constant":
            hints = [Advice("a rate that falls (--schedule cosine)", {"schedule": "cosine"}), *hints]
        words = f"{self._networks([*fallen])} far below "
        words += "its own best: " if len(fallen) == 1 else "their own best, such as "
        words += f"{percent(float(self.accuracies[worst]))} of the validation samples at the end, and "
        words += f"{percent(best_accuracy)} after epoch {epoch}.{advised(hints)}"
        if self.config.restore == "last":
            words += " --restore best only keeps the weights of the best epoch."
        evidence = {"networks": [*fallen], "epoch": epoch} | self._try(hints)
        return [Conclusion(words, "far-below-best", evidence)]

    def _better_epoch(self, guessing: Guessing, r: int) -> tuple[int, float] | None:
        """Return a network's best epoch, from 1, and its validation accuracy, if the last accuracy is far below."""
        column = self.result.history.columns()["validation.accuracies"][:, r]
        if guessing.set != "validation" or not np.isfinite(column).any():
            return None
        epoch = int(np.nanargmax(column))
        best, last = float(column[epoch]), float(self.accuracies[r])
        error = math.sqrt((best * (1 - best) + last * (1 - last)) / guessing.samples)
        return (epoch + 1, best) if best - last > max(_FAR_BELOW, _FAR_ERRORS * error) else None

    def _only_class(self, r: int) -> str | None:
        """Return the only class that a network predicts, if its hits equal the count of this class in every set."""
        classes = np.ones(self.data.classes, bool)
        for which, counts in self.counts.items():
            accuracy = float(getattr(self.result, which).accuracies[r])
            if not np.isfinite(accuracy):
                return None  # in a single set, the count of a class may equal the hits by chance
            classes &= counts == round(accuracy * int(counts.sum()))
        return self.data.class_names[int(np.argmax(classes))] if classes.any() else None

    def _hints_at_chance(self, guessing: Guessing, r: int) -> list[Advice]:
        """Return advice for a network that guesses."""
        if guessing.likelier(self.losses[r]):
            return [Advice("figures by class, which xpnet evaluate prints: accuracy hides rare classes")]
        at = self._at(r)
        lam, rate, init = (at.value(name) for name in ("lambda", at.rate, "init"))
        plain = bool(self.network.hidden) and not self.network.batch_norm
        small = isinstance(init, float) and init <= _SMALL_INIT
        hints = [Advice("a smaller lambda", {"lambda": lam / _FACTOR**2})] if lam >= _LARGE_LAMBDA else []
        if rate >= _LARGE_RATE or (plain and not small and rate > _SMALL_RATE):
            hints.append(self._smaller_rate(r))
        if plain:  # small weights or dead units weaken the signal from layer to layer
            hints += [Advice("--init he", {"init": "he"}), _NORMALISED] if small else [_NORMALISED]
        if self.result.steps < FEW_STEPS:
            length = self.config.length(len(self.data.train), self.network)
            hints.append(Advice("more steps", enough_steps(self.config, length)))
        if rate <= _SMALL_RATE:
            hints.append(Advice("a larger learning rate (xpnet lr-range measures one)", {at.rate: rate * _FACTOR}))
        return hints or [Advice("other learning rates (xpnet lr-range suggests some)")]

    def _at(self, r: int) -> Situation:
        return Situation.of(self.config, self.network, self.data, r)

    def _smaller_rate(self, r: int) -> Advice:
        """Return a smaller learning rate for a network."""
        at = self._at(r)
        new = float(at.value(at.rate)) / _FACTOR
        words = "a smaller learning rate (xpnet lr-range measures one)"
        if not at.accepts(at.rate, new):
            return Advice(words)
        if len(self.rows) == 1:
            words = f"--{at.rate.replace('_', '-')} {new:g} (a tenth of the present rate; xpnet lr-range measures one)"
        return Advice(words, {at.rate: new})

    def _try(self, hints: Sequence[Advice]) -> dict[str, Any]:
        """Return the first advice as evidence, if it is for a network that is alone."""
        return to_try(hints) if len(self.rows) == 1 else {}

    def _networks(self, members: Sequence[int]) -> str:
        """Return the subject and the verb of a sentence about some networks."""
        if len(self.rows) == 1:
            return "The network is"
        verb = "is" if len(members) == 1 else "are"
        return f"{len(members)} of {len(self.rows)} networks ({_named(self.rows, members)}) {verb}"


def _named(rows: Sequence[Mapping[str, Any]], members: Sequence[int]) -> str:
    """Return the distinguishing settings of networks: their combinations, or their seeds."""
    chosen = set(members)
    groups: dict[str, list[bool]] = {}
    for r, row in enumerate(rows):
        groups.setdefault(words_of(without_seed(row)) or words_of(row), []).append(r in chosen)
    named = [
        words if all(among) else f"{words}: {sum(among)} of {len(among)}"
        for words, among in groups.items()
        if any(among)
    ]
    more = len(named) - _NAMED
    return "; ".join(named[:_NAMED]) + (f"; and {more} more" if more > 0 else "")


def _by_frequency(hints: Sequence[Advice]) -> list[Advice]:
    """Return each hint once, the most frequent first."""
    words = [hint.words for hint in hints]
    return sorted({hint.words: hint for hint in hints}.values(), key=lambda hint: -words.count(hint.words))


def _loss(value: float) -> str:
    return f"{value:.4g}" if value < 1e4 or value >= 1e9 else f"{value:,.0f}"
