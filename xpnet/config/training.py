"""The settings of a training: see :mod:`xpnet.config.definitions`."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import Any, TypeAlias

from xpnet.config.cycles import CYCLIC
from xpnet.config.definitions import NetworkConfig
from xpnet.config.fields import (
    Checked,
    chosen,
    class_weights,
    epochs,
    flag,
    half_cycle,
    per_replica,
    real,
    setting,
    setting_name,
    shown,
    views,
    whole,
)
from xpnet.config.length import Length, length_of
from xpnet.config.optimisers import defaults_of, refuse_others
from xpnet.errors import ConfigError

PerReplica: TypeAlias = "float | tuple[float, ...]"
"""One value for all replicas, or a tuple with one for each."""
# Larger shifts and sides of pictures do not fit into the number of a view; see :mod:`xpnet.data.views`.
MOST_SHIFT, MOST_SIDE = 31, 510
# Settings whose tuples do not have a value for each replica.
NOT_BY_REPLICA = ("hidden", "class_weight")


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Checked):
    """How a network is trained.

    Settings of the type PerReplica may be tuples with one value for each replica.

    Attributes:
        lam: Strength of the L2 penalty: cost = loss + lam * sum over layers of sum(W**2), with every optimiser; None
            takes 0.005 with ``"sgd"`` and 0 with the others, which have `weight_decay`.
        batch_size: Samples in a step.  With batch normalisation, a last batch of one sample is joined to the one before
            it, since one sample has no variance.
        drop_last: Drop an incomplete batch at the end of an epoch instead of using it.
        schedule: ``"triangular"``: eta rises from `eta_min` to `eta_max` in `n_s` steps and falls back in as many;
            ``"decay"``: `eta` is multiplied by `decay` after every epoch; ``"constant"``; ``"cosine"``: from `eta` down
            to `eta_min` along half a cosine; ``"one-cycle"``: from `eta_min` up to `eta_max` in a straight line, during
            the share `warmup` of all steps, and down again; ``"cosine-restarts"``: cosines from `eta` to `eta_min`, the
            first in 2 `n_s` steps; ``"coslog4"``: four waves from 0 up to `eta` and back, each twice as long as before.
        eta_min: Lowest learning rate, of schedules that have one.
        eta_max: Highest learning rate of the triangular and one-cycle schedules.
        n_s: Steps of half a cycle, or epochs with the suffix ``"ep"``.
        eta: First learning rate of the decay, constant, cosine and cosine-restarts schedules, highest of coslog4.
        decay: Factor of the decay schedule after every epoch.
        warmup: Share of the steps in which the rate of the one-cycle schedule rises.
        anneal: How the rate of the one-cycle schedule falls: along half a ``"cosine"``, or ``"linear"``.
        restart_factor: Length of each cycle of the cosine-restarts schedule, in lengths of the one before.
        cycles: Length of training in cycles; the default is 2 with the schedules that have cycles.
        epochs: Length of training in epochs, such as 20 or 2.6; the default is 20 with the other schedules.
        optimiser: How a gradient becomes a step: ``"sgd"``: gradient descent, with momentum or without; ``"adamw"``
            (Loshchilov and Hutter, 2019); ``"lion"`` (Chen et al., 2023).
        momentum, nesterov: v <- rho v - eta g, W <- W + v; or with Nesterov W <- W + rho v - eta g (Sutskever, 2013).
        beta1: Weight of the old average of the gradients; None takes 0.9.
        beta2: Weight of the old average of their squares (adamw; None: 0.999) or of remembered gradients (lion; 0.99).
        adam_eps: Added to the root of the average of squares.
        weight_decay: W <- (1 - eta weight_decay) W in every step of adamw and lion; W are the weights alone.
        lr_first, lr_bn: Factors of the learning rate for the first layer's weights, and for biases, gamma and beta.
        decay_bn: Part of the gradient of biases, gamma and beta in proportion to them, for the update alone: no cost.
        label_smoothing: Share a of every label that is spread evenly over all c classes: the loss is the cross-entropy
            with (1 - a) onehot(label) + a / c (Szegedy et al., 2016).
        dropout: Probability with which each output of a hidden layer is set to 0 in a step; the others are divided by
            1 - dropout (Srivastava et al., 2014).  Evaluations drop nothing.
        input_dropout: The same of the inputs of the network.
        class_weight: Weights of the classes in the loss: ``"balanced"``: the number of training samples divided by the
            number of classes and by the samples of the class; or a number for each class, in the order of the class
            names.  They multiply the weights of the samples, and all are divided by their mean over the training set.
        flip: ``"random"``: each sample of an epoch is mirrored with probability 1/2; ``"alternating"``: a random half
            is mirrored in the even epochs, and the other half in the odd ones.
        shift: Each sample of an epoch is moved by up to so many pixels, in both directions.
        border: Pixels that a shift brings in: ``"reflect"``: the picture mirrored at its border; ``"constant"``: 0.
        cutout: Side of a square at a random place of each sample that is set to the mean (DeVries and Taylor, 2017);
            0 for none.
        views: Number of views whose mean probabilities are evaluated on the test set too: 2 for the picture and its
            mirror image, 6 for these, as they are and moved by a pixel along both diagonal directions.
        shuffle_seed: Seed of the order of the samples, of their flips, shifts and cutouts, and of dropout; None takes
            the network's seed.
        shuffle: None: replicas of one seed share an order, and each seed has its own; ``"shared"``: one order for all
            replicas; ``"independent"``: replica r has the order of shuffle seed + r.
        train_metrics: Training figures: ``"running"``: of the epoch's batches; ``"full"``: of one more pass after it.
        patience: Epochs without a better validation accuracy (or an equal one with a lower loss) after which a network
            stops; None trains all networks to the end.  Each replica stops by itself.
        restore: Weights that each network has at the end: the ``"last"`` ones, or those of its ``"best"`` epoch.
        bf16: Round the factors of products to bfloat16 in training, where the CPU multiplies these faster.
        stepper: How steps are executed: ``"auto"`` takes the fastest; ``"plain"``: one operation after another; on a
            GPU ``"fused"``: fused kernels, ``"graph"``: the same in CUDA graphs, ``"small"``: graphs of three kernels a
            step for small networks; all steps in one kernel: ``"multi"`` (``"multi-bf16"``: on tensor cores) with a
            small network on each multiprocessor, ``"persistent"`` with one on all; on the CPU ``"split"`` and
            ``"units"``: the first layer or all layers dealt out to the cores, ``"compiled"``: all steps of small
            networks in a compiled loop, ``"population"``: networks dealt out to the cores.
    """

    lam: PerReplica = setting(
        None,
        per_replica(real(0)),
        "Strength of the L2 penalty on the weights.",
        name="lambda",
        metavar="X",
        unset="0.005 with sgd, else 0",
    )
    batch_size: int = setting(100, whole(1), "Samples in a step.", metavar="N")
    drop_last: bool = setting(False, flag, "Drop an incomplete last batch instead of using it.")
    schedule: str = chosen(
        "triangular",
        "triangular|decay|constant|cosine|one-cycle|cosine-restarts|coslog4",
        "How the learning rate changes.",
    )
    eta_min: PerReplica = setting(
        1e-5, per_replica(real(0)), "Lowest learning rate (triangular, one-cycle, cosine ...).", metavar="X"
    )
    eta_max: PerReplica = setting(
        1e-1, per_replica(real(above=0)), "Highest learning rate (triangular, one-cycle).", metavar="X"
    )
    n_s: int | str = setting(
        "5ep", half_cycle, "Half a cycle, in steps, or in epochs as 5ep (triangular, cosine-restarts).", metavar="N|Nep"
    )
    eta: PerReplica = setting(
        0.01, per_replica(real(above=0)), "Initial learning rate (decay, constant, cosine ...).", metavar="X"
    )
    decay: float = setting(0.95, real(above=0, high=1), "Factor after every epoch (decay).", metavar="X")
    warmup: float = setting(
        0.2, real(0, below=1), "Share of the steps in which the rate rises (one-cycle).", metavar="X"
    )
    anneal: str = chosen("cosine", "cosine|linear", "How the rate falls (one-cycle).")
    restart_factor: float = setting(
        1.0, real(1), "Length of a cycle, in lengths of the one before (cosine-restarts).", metavar="X"
    )
    cycles: int | None = setting(
        None, whole(1), "Length of training in cycles (triangular, cosine-restarts).", metavar="N", unset="2"
    )
    epochs: float | None = setting(
        None,
        epochs,
        "Length of training in epochs, such as 2.6, instead of cycles.",
        metavar="N",
        unset="set by cycles; 20 for other schedules",
    )
    optimiser: str = chosen("sgd", "sgd|adamw|lion", "How a gradient becomes a step.")
    momentum: PerReplica = setting(0.0, per_replica(real(0, below=1)), "Momentum rho.", metavar="RHO")
    nesterov: bool = setting(False, flag, "Nesterov's form of momentum.")
    beta1: PerReplica | None = setting(
        None,
        per_replica(real(0, below=1)),
        "Weight of the old average of gradients (adamw, lion).",
        metavar="BETA",
        unset="0.9",
    )
    beta2: PerReplica | None = setting(
        None,
        per_replica(real(0, below=1)),
        "Weight of the old average of squares (adamw), or of gradients (lion).",
        metavar="BETA",
        unset="0.999 with adamw, 0.99 with lion",
    )
    adam_eps: PerReplica = setting(
        1e-8, per_replica(real(1e-30)), "Added to the root of the average of squares (adamw).", metavar="X"
    )
    weight_decay: PerReplica = setting(
        0.0, per_replica(real(0)), "Decay of the weights, times the learning rate (adamw, lion).", metavar="X"
    )
    lr_first: PerReplica = setting(
        1.0, per_replica(real(0)), "Factor of the learning rate for the first layer's weights.", metavar="X"
    )
    lr_bn: PerReplica = setting(
        1.0, per_replica(real(0)), "Factor of the learning rate for biases, gamma and beta.", metavar="X"
    )
    decay_bn: PerReplica = setting(
        0.0, per_replica(real(0)), "Decay of biases, gamma and beta, times the learning rate.", metavar="X"
    )
    label_smoothing: PerReplica = setting(
        0.0, per_replica(real(0, below=1)), "Share of each label spread evenly over all classes.", metavar="X"
    )
    dropout: PerReplica = setting(
        0.0,
        per_replica(real(0, below=1)),
        "Probability that a hidden layer's output is set to 0 in a step.",
        metavar="P",
    )
    input_dropout: PerReplica = setting(
        0.0, per_replica(real(0, below=1)), "Probability that an input is set to 0 in a step.", metavar="P"
    )
    class_weight: str | tuple[float, ...] | None = setting(
        None,
        class_weights,
        "Weights of the classes in the loss, by their numbers of samples or as given.",
        metavar="balanced|X,X,...",
        unset="1 for each class",
    )
    flip: str = chosen("none", "none|random|alternating", "Which pictures are mirrored in an epoch.")
    shift: int = setting(0, whole(0, MOST_SHIFT), "Pixels by which pictures are moved at most.", metavar="N")
    border: str = chosen("reflect", "reflect|constant", "Pixels that a shift brings in: mirrored ones, or 0.")
    cutout: int = setting(
        0, whole(0, MOST_SIDE), "Side of a square of each picture that is set to the mean.", metavar="N"
    )
    views: int = setting(
        1, views, "Views of each test picture whose probabilities are averaged: 1, 2 or 6.", metavar="1|2|6"
    )
    shuffle_seed: int | None = setting(
        None, whole(0), "Seed of the order and the augmentation of the samples.", metavar="N", unset="the seed"
    )
    shuffle: str | None = chosen(
        None, "shared|independent", "One order of samples for all networks, or one for each.", unset="one for each seed"
    )
    train_metrics: str = chosen(
        "running", "running|full", "Training figures as met during the epoch, or from a full pass after it."
    )
    patience: int | None = setting(
        None,
        whole(1),
        "Epochs without a better validation accuracy after which a network stops.",
        metavar="N",
        unset="trains to the end",
    )
    restore: str = chosen("last", "last|best", "Weights at the end: the last ones, or those of the best epoch.")
    bf16: bool = setting(
        False, flag, "Multiply with 8 bits of mantissa in training, where the CPU has AVX-512 BF16; else as usual."
    )
    stepper: str = chosen(
        "auto",
        "auto|plain|fused|graph|small|multi|multi-bf16|persistent|split|units|compiled|population",
        "How steps are executed (fused, graph, small, multi, multi-bf16, persistent: on a GPU).",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cycles is not None and self.epochs is not None:
            raise ConfigError(f"cycles = {self.cycles} and epochs = {self.epochs}: set one of them, not both")
        if self.cycles is not None and self.schedule not in CYCLIC:
            raise ConfigError(f"cycles = {self.cycles}: the schedule {self.schedule} has no cycles; set epochs")
        if self.schedule in ("triangular", "one-cycle", "cosine", "cosine-restarts"):
            self._check_order("eta_min", "eta" if self.schedule.startswith("cosine") else "eta_max")
        refuse_others(self)
        for name, value in defaults_of(self.optimiser).items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        if self.nesterov and not all(rho > 0 for rho in _tuple(self.momentum)):
            raise ConfigError(f"nesterov = true: needs a momentum above 0, got momentum = {shown(self.momentum)}")

    def _check_order(self, low: str, high: str) -> None:
        lows, highs = _tuple(getattr(self, low)), _tuple(getattr(self, high))
        one = 1 in (len(lows), len(highs))
        if any(a > b for a, b in (itertools.product(lows, highs) if one else zip(lows, highs, strict=False))):
            both = f"{low} = {shown(getattr(self, low))}, {high} = {shown(getattr(self, high))}"
            raise ConfigError(f"{both}: {low} must be at most {high}")

    @property
    def moments(self) -> int:
        """How many tensors of its own the optimiser keeps for each parameter."""
        if self.optimiser == "sgd":
            return int(any(rho > 0 for rho in _tuple(self.momentum)))
        return 2 if self.optimiser == "adamw" else 1

    @property
    def augments(self) -> bool:
        """Whether the samples of an epoch are flipped, shifted or cut."""
        return self.flip != "none" or bool(self.shift or self.cutout)

    def replica_counts(self) -> dict[str, int]:
        """Return how many replicas each setting that is a tuple is made for, by name."""
        values = {setting_name(f): getattr(self, f.name) for f in dataclasses.fields(self)}
        return {n: len(value) for n, value in values.items() if isinstance(value, tuple) and n not in NOT_BY_REPLICA}

    def length(self, samples: int, network: NetworkConfig | None = None) -> Length:
        """Return how many steps and epochs training takes on `samples` samples.

        Args:
            samples: Number of training samples.
            network: The architecture; if it has batch normalisation, a last batch of one sample is joined to the batch
                before it.

        Raises:
            ConfigError: No batch would be complete although incomplete ones are dropped, or there are too many steps.
        """
        return length_of(self, samples, network)


def _tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)
