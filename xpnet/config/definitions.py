"""Every setting of xpnet: its name, default, range and one line of help, in one place.

The command line's options, the keys of ``config.toml`` and the arguments of the Python classes are
all made from the fields of these classes, so they cannot drift apart.  A setting has the same name
everywhere, except that ``lam`` is ``lambda`` outside Python.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import TypeAlias

from xpnet.config.fields import (
    Checked,
    argument,
    chosen,
    flag,
    half_cycle,
    hidden_sizes,
    image_size,
    initial_weights,
    per_replica,
    real,
    setting,
    setting_name,
    shown,
    text_of,
    whole,
)
from xpnet.errors import ConfigError

PerReplica: TypeAlias = "float | tuple[float, ...]"
"""One value for all replicas, or a tuple with one for each."""
# Weeks of training; the learning rates of all steps are in memory.
MOST_STEPS = 100_000_000
# Networks of one population, which keeps settings and figures of each.
MOST_NETWORKS = 20_000


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(Checked):
    """The architecture of a network and how its parameters start.

    Attributes:
        inputs: Number of features d.
        hidden: Units of each hidden layer; ``()`` gives a linear softmax classifier.
        classes: Number of classes.
        batch_norm: Normalise each hidden layer over the batch, before its ReLU.
        bias_before_bn: Keep biases in front of batch normalisation.  They have no effect and
            a gradient of exactly zero; some reports have them.
        init: ``"he"``: W ~ N(0, 2 / fan_in); ``"xavier"``: N(0, 1 / fan_in); a number sigma:
            N(0, sigma**2).  A tuple has one for each replica.
        init_bias: Standard deviation of the initial biases; 0 sets them to zero.
        bn_eps: Added to the variance under the root.
        bn_alpha: Weight of the old value in the running statistics.
    """

    inputs: int = setting(..., whole(1), "Number of features.")
    hidden: tuple[int, ...] = setting((50, 50), hidden_sizes, "Units of each hidden layer.", metavar="N,N,...")
    classes: int = setting(10, whole(2), "Number of classes.")
    batch_norm: bool = setting(True, flag, "Normalise each hidden layer over the batch, before its ReLU.")
    bn_alpha: float = setting(
        0.9, real(0, below=1), "Weight of the old value in BN's running mean and variance.", metavar="ALPHA"
    )
    bn_eps: float = setting(1e-5, real(above=0), "Added to BN's variance under the root.", metavar="EPS")
    bias_before_bn: bool = setting(False, flag, "Keep the biases that BN makes ineffective.")
    init: str | float | tuple[str | float, ...] = setting(
        "he",
        per_replica(initial_weights),
        "Initial weights: he, xavier, or the standard deviation.",
        metavar="he|xavier|SIGMA",
    )
    init_bias: float = setting(0.0, real(0), "Standard deviation of initial biases.", metavar="SIGMA")

    def in_words(self) -> str:
        """Return sizes and normalisation, such as ``3072-50-50-10 with BN``."""
        sizes = "-".join(map(str, (self.inputs, *self.hidden, self.classes)))
        return f"{sizes} {'with' if self.batch_norm and self.hidden else 'without'} BN"


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Checked):
    """How a network is trained.

    ``lam``, ``eta_min``, ``eta_max``, ``eta`` and ``momentum`` may be tuples with one value
    for each replica.

    Attributes:
        lam: Strength of the L2 penalty: cost = loss + lam * sum over layers of sum(W**2).
        batch_size: Samples in a step.
        drop_last: Drop an incomplete batch at the end of an epoch instead of using it.
        schedule: ``"triangular"``: eta rises from `eta_min` to `eta_max` in `n_s` steps and falls
            back in as many; ``"decay"``: `eta` is multiplied by `decay` after every epoch;
            ``"constant"``; ``"cosine"``: from `eta` down to `eta_min` along half a cosine.
        eta_min: Lowest learning rate, of the triangular and the cosine schedule.
        eta_max: Highest learning rate of the triangular schedule.
        n_s: Steps of half a cycle, or epochs with the suffix ``"ep"``.
        eta: First learning rate of the decay, constant and cosine schedules.
        decay: Factor of the decay schedule after every epoch.
        cycles: Length of training in cycles; the default is 2 with the triangular schedule.
        epochs: Length of training in epochs; the default is 20 with the other schedules.
        momentum: rho in v <- rho v - eta g, W <- W + v.
        nesterov: W <- W + rho v - eta g instead (Sutskever et al., 2013).
        shuffle_seed: Seed of the order of the samples; None takes the network's seed.
        shuffle: None: replicas of one seed share an order, and each seed has its own;
            ``"shared"``: one order for all replicas; ``"independent"``: replica r has the order of
            shuffle seed + r.
        train_metrics: ``"running"``: training loss and accuracy of the batches during the epoch;
            ``"full"``: one more pass over the training set after each epoch.
        stepper: How steps are executed: ``"auto"`` takes the fastest; ``"plain"``: one operation after another; on a
            GPU ``"fused"``: fused kernels, ``"graph"``: the same in CUDA graphs, ``"small"``: graphs of three kernels a
            step for small networks; on the CPU ``"split"`` and ``"population"``: networks dealt out to the cores.
    """

    lam: PerReplica = setting(
        0.005, per_replica(real(0)), "Strength of the L2 penalty on the weights.", name="lambda", metavar="X"
    )
    batch_size: int = setting(100, whole(1), "Samples in a step.", metavar="N")
    drop_last: bool = setting(False, flag, "Drop an incomplete last batch instead of using it.")
    schedule: str = chosen("triangular", "triangular|decay|constant|cosine", "How the learning rate changes.")
    eta_min: PerReplica = setting(1e-5, per_replica(real(0)), "Lowest learning rate (triangular, cosine).", metavar="X")
    eta_max: PerReplica = setting(1e-1, per_replica(real(above=0)), "Highest learning rate (triangular).", metavar="X")
    n_s: int | str = setting(
        "5ep", half_cycle, "Half a cycle, in steps, or in epochs as 5ep (triangular).", metavar="N|Nep"
    )
    eta: PerReplica = setting(
        0.01, per_replica(real(above=0)), "Initial learning rate (decay, constant, cosine).", metavar="X"
    )
    decay: float = setting(0.95, real(above=0, high=1), "Factor after every epoch (decay).", metavar="X")
    cycles: int | None = setting(None, whole(1), "Length of training in cycles (triangular).", metavar="N", unset="2")
    epochs: int | None = setting(
        None,
        whole(1),
        "Length of training in epochs, instead of cycles.",
        metavar="N",
        unset="20, with schedules other than triangular",
    )
    momentum: PerReplica = setting(0.0, per_replica(real(0, below=1)), "Momentum rho.", metavar="RHO")
    nesterov: bool = setting(False, flag, "Nesterov's form of momentum.")
    shuffle_seed: int | None = setting(
        None, whole(0), "Seed of the order of the samples.", metavar="N", unset="the seed"
    )
    shuffle: str | None = chosen(
        None, "shared|independent", "One order of samples for all networks, or one for each.", unset="one for each seed"
    )
    train_metrics: str = chosen(
        "running", "running|full", "Training figures as met during the epoch, or from a full pass after it."
    )
    stepper: str = chosen(
        "auto",
        "auto|plain|fused|graph|small|split|population",
        "How steps are executed (fused, graph, small: on a GPU).",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cycles is not None and self.epochs is not None:
            raise ConfigError(f"cycles = {self.cycles} and epochs = {self.epochs}: set one of them, not both")
        if self.cycles is not None and self.schedule != "triangular":
            raise ConfigError(f"cycles = {self.cycles}: the schedule {self.schedule} has no cycles; set epochs")
        if (high := {"triangular": "eta_max", "cosine": "eta"}.get(self.schedule)) is not None:
            self._check_order("eta_min", high)
        if self.nesterov and not all(rho > 0 for rho in _tuple(self.momentum)):
            raise ConfigError(f"nesterov = true: needs a momentum above 0, got momentum = {shown(self.momentum)}")

    def _check_order(self, low: str, high: str) -> None:
        lows, highs = _tuple(getattr(self, low)), _tuple(getattr(self, high))
        one = 1 in (len(lows), len(highs))
        if any(a > b for a, b in (itertools.product(lows, highs) if one else zip(lows, highs, strict=False))):
            both = f"{low} = {shown(getattr(self, low))}, {high} = {shown(getattr(self, high))}"
            raise ConfigError(f"{both}: {low} must be at most {high}")

    def replica_counts(self) -> dict[str, int]:
        """Return how many replicas each setting that is a tuple is made for, by name."""
        values = {setting_name(f): getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: len(value) for name, value in values.items() if isinstance(value, tuple)}

    def length(self, samples: int) -> Length:
        """Return how many steps and epochs training takes on `samples` samples.

        Raises:
            ConfigError: No batch would be complete although incomplete ones are dropped, or there are too many steps.
        """
        samples = argument("samples", samples, whole(0))
        full, rest = divmod(samples, self.batch_size)
        per_epoch = full if self.drop_last else full + (rest > 0)
        if per_epoch == 0:
            larger = f"batch_size = {self.batch_size}: larger than the {samples} training samples"
            raise ConfigError(f"{larger}, and drop_last leaves no batch; take a smaller batch_size")
        n_s = int(self.n_s[:-2]) * per_epoch if isinstance(self.n_s, str) else self.n_s
        by_epochs = self.epochs is not None or self.schedule != "triangular"
        steps = (self.epochs or 20) * per_epoch if by_epochs else (self.cycles or 2) * 2 * n_s
        if steps > MOST_STEPS:
            raise ConfigError(f"epochs, cycles, n_s: make {steps:,} steps, and may make {MOST_STEPS:,}")
        return Length(steps=steps, steps_per_epoch=per_epoch, n_s=n_s)


@dataclass(frozen=True)
class Length:
    """How long training takes: steps in all, steps of an epoch, and steps of half a cycle."""

    steps: int
    steps_per_epoch: int
    n_s: int

    @property
    def epochs(self) -> int:
        """Epochs begun; the last may be cut short."""
        return -(-self.steps // self.steps_per_epoch)


@dataclass(frozen=True, kw_only=True)
class DataConfig(Checked):
    """Which data is read, how, and how it is split.

    A setting that has no meaning for a kind of data is refused when such data is read.

    Attributes:
        data: ``cifar10``, ``cifar100``, ``mnist``, ``fashion-mnist``, ``patterns``, ``patterns:N/M``, or a path; None
            takes CIFAR-10 if it is on this machine and ``patterns`` otherwise.
        split: ``45k``, ``49k``, ``b1b2``, ``9k`` or ``N/M``; None takes the data's own default.
        target: Of a table, the column of the labels, by name or by its number from 0 (-1 is the last); of a ``.npy``
            file of features, the file of the labels.
        header: Whether the first line of a CSV file names its columns; None decides by its content.
        test_fraction: Share of the samples that becomes the test set, class by class.
        data_seed: Seed of the order of the samples and of the choice of the test set; None takes 0.
        image_size: ``N`` or ``HEIGHTxWIDTH``, to which a folder's images are resized; None keeps their own size.
        image_mode: ``rgb`` or ``gray``; None takes gray if all images of a folder are gray.
        labels: ``fine`` or ``coarse`` classes of CIFAR-100; None takes the fine ones.
        in_memory: ``auto``; ``raw`` features are standardised batch by batch, ``float`` ones once, in a copy.
    """

    data: str | None = setting(
        None,
        text_of("a name or a path"),
        "cifar10, cifar100, mnist, fashion-mnist, patterns, patterns:N/M, or a path.",
        metavar="NAME|PATH",
        unset="cifar10 if it is found, else patterns",
    )
    split: str | None = setting(
        None,
        text_of("45k, 49k, b1b2, 9k or N/M"),
        "Training and validation samples.",
        metavar="45k|49k|b1b2|9k|N/M",
        unset="45k for CIFAR, else 90 % and 10 %",
    )
    target: str | None = setting(
        None,
        text_of("the name or the number of a column"),
        "Column of a table's labels; a .npy file's labels.",
        metavar="NAME|INDEX",
        unset="a column called label, labels, target or class",
    )
    header: bool | None = setting(None, flag, "Whether a CSV file's first line names its columns.", unset="looks")
    test_fraction: float | None = setting(
        None,
        real(above=0, below=1),
        "Share of the samples that becomes the test set, class by class.",
        metavar="X",
        unset="a tenth, where there is no test set",
    )
    data_seed: int | None = setting(
        None, whole(0), "Seed of the samples' order and of the test set.", metavar="N", unset="0"
    )
    image_size: str | None = setting(
        None,
        image_size,
        "Size that a folder's images are brought to.",
        metavar="N|HxW",
        unset="their own, if all have one",
    )
    image_mode: str | None = chosen(
        None, "rgb|gray", "Colours that images are brought to.", unset="gray if all are, else rgb"
    )
    labels: str | None = chosen(None, "fine|coarse", "Classes of CIFAR-100.", unset="fine")
    in_memory: str = chosen("auto", "auto|raw|float", "Features: raw, standardised batch by batch, or a float copy.")


@dataclass(frozen=True, kw_only=True)
class RunConfig(Checked):
    """Where and in which precision a run computes, and how often it is saved."""

    seed: int = setting(0, whole(0), "Seed of the initial weights; run r has seed + r.", metavar="N")
    runs: int = setting(1, whole(1), "Networks of each setting, each with its own seed.", metavar="R")
    max_replicas: int | None = setting(
        None, whole(1), "Most networks trained at once.", metavar="N", unset="what fits in memory"
    )
    dtype: str = chosen("float32", "float32|float64", "Precision.")
    save_every: int = setting(1, whole(0), "Epochs between checkpoints; 0: none.", metavar="N")
    keep: int = setting(2, whole(1), "Last checkpoints that are kept, beside the best.", metavar="N")
    device: str = setting("auto", text_of("auto, cpu, gpu or gpu:N"), "Where to compute.", metavar="auto|cpu|gpu|gpu:N")
    tf32: bool = setting(False, flag, "Multiply float32 with 10 bits of mantissa, which is faster (GPU).")


def _tuple(value: PerReplica) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,)
