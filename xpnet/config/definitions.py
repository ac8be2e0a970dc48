"""Every setting of xpnet: its name, default, range and one line of help, in one place.

The command line's options, the keys of ``config.toml`` and the arguments of the Python classes are
all made from the fields of these classes, so they cannot drift apart.  A setting has the same name
everywhere, except that ``lam`` is ``lambda`` outside Python.
"""

from __future__ import annotations

from dataclasses import dataclass

from xpnet.config.fields import (
    Checked,
    chosen,
    column_names,
    flag,
    hidden_sizes,
    image_size,
    initial_weights,
    per_replica,
    real,
    setting,
    text_of,
    whole,
)
from xpnet.errors import ConfigError

# Networks of one population, which keeps settings and figures of each.
MOST_NETWORKS = 20_000


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(Checked):
    """The architecture of a network and how its parameters start.

    Attributes:
        inputs: Number of features d.
        hidden: Units of each hidden layer; ``()`` gives a linear softmax classifier.
        classes: Number of classes.
        batch_norm: Normalise each hidden layer over the batch, before its activation.
        activation: Function of the hidden units: ``relu``; ``leaky-relu``, with the slope 0.01 below 0; ``gelu``, in
            its form with tanh; ``silu``; ``tanh``; ``sigmoid``; or ``identity``.
        bias_before_bn: Keep biases in front of batch normalisation.  They have no effect and
            a gradient of exactly zero; some reports have them.
        init: ``"he"``: W ~ N(0, 2 / fan_in), with another gain than 2 for other activations than ReLU;
            ``"xavier"``: N(0, 1 / fan_in); a number sigma: N(0, sigma**2).  A tuple has one for each replica.
        init_bias: Standard deviation of the initial biases; 0 sets them to zero.
        bn_eps: Added to the variance under the root.
        bn_alpha: Weight of the old value in the running statistics.
    """

    inputs: int = setting(..., whole(1), "Number of features.")
    hidden: tuple[int, ...] = setting((50, 50), hidden_sizes, "Units of each hidden layer.", metavar="N,N,...")
    classes: int = setting(10, whole(2), "Number of classes.")
    batch_norm: bool = setting(True, flag, "Normalise each hidden layer over the batch, before its activation.")
    activation: str = chosen(
        "relu", "relu|leaky-relu|gelu|silu|tanh|sigmoid|identity", "Activation of the hidden units."
    )
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

    @property
    def normalises(self) -> bool:
        """Whether there is a layer with batch normalisation."""
        return self.batch_norm and bool(self.hidden)

    def in_words(self) -> str:
        """Return sizes, normalisation and activation, such as ``3072-50-50-10 with BN`` (and ReLU)."""
        sizes = "-".join(map(str, (self.inputs, *self.hidden, self.classes)))
        activation = f" and {self.activation}" if self.hidden and self.activation != "relu" else ""
        return f"{sizes} {'with' if self.normalises else 'without'} BN{activation}"


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
        weight: Of a table, the column of the samples' weights in the loss, by name or by number; it is not a feature.
        header: Whether the first line of a CSV file names its columns; None decides by its content.
        test_fraction: Share of the samples that becomes the test set, class by class.
        data_seed: Seed of the order of the samples and of the choice of the test set; None takes 0.
        image_size: ``N`` or ``HEIGHTxWIDTH``, to which a folder's images are resized; None keeps their own size.
        image_mode: ``rgb`` or ``gray``; None takes gray if all images of a folder are gray.
        labels: ``fine`` or ``coarse`` classes of CIFAR-100; None takes the fine ones.
        in_memory: ``auto``; ``raw`` features are standardised batch by batch, ``float`` ones once, in a copy.
        pool: Side of the squares of pixels whose mean is an input of the network; 1 for all pixels.
        pca: Number of principal components of the training set that are the inputs of the network; None takes the
            features themselves.
        pca_eps: Added to the variance of a principal component, which is divided by the root of this sum; the variances
            are those of features with variance 1.
        numeric: How columns of numbers become inputs: ``standard`` (mean 0, deviation 1), ``robust`` (median 0,
            quartiles 1 apart, smoothly clipped), ``quantile`` (to a normal distribution) or ``ple`` (piecewise linear).
        max_categories: Most inputs of a column of categories; the rarest categories share one of them.
        drop_columns: Columns of a table to leave out, by name or by number from 0; None leaves out none.
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
    weight: str | None = setting(
        None,
        text_of("the name or the number of a column"),
        "Column of a table's weights of the samples in the loss.",
        metavar="NAME|INDEX",
        unset="all are equal",
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
    pool: int = setting(1, whole(1, 64), "Side of the squares of pixels that are averaged to one input.", metavar="N")
    pca: int | None = setting(
        None, whole(1), "Principal components that are the network's inputs.", metavar="K", unset="the features"
    )
    pca_eps: float = setting(
        1.0, real(0), "Added to the variance of a component before it is scaled to 1.", metavar="X"
    )
    numeric: str = chosen("standard", "standard|robust|quantile|ple", "How a table's columns of numbers become inputs.")
    max_categories: int = setting(
        32, whole(2, 10_000), "Most inputs of a column of categories; rare ones share an input.", metavar="N"
    )
    drop_columns: tuple[str, ...] | None = setting(
        None, column_names, "Columns of a table to leave out.", metavar="NAME,...", unset="none"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.in_memory == "raw" and (self.pool > 1 or self.pca is not None):
            raise ConfigError(
                "in_memory = raw: has no effect with pool or pca, whose inputs are a float copy; leave it out"
            )


@dataclass(frozen=True, kw_only=True)
class RunConfig(Checked):
    """Where and in which precision a run computes, and how often it is saved.

    Attributes:
        cv: Number of folds of the training set.  Each fold is held out once, while networks train on the others.
        stratify: Whether every fold has the same share of each class; see :func:`xpnet.data.folds.make_folds`.
    """

    seed: int = setting(0, whole(0), "Seed of the initial weights; run r has seed + r.", metavar="N")
    runs: int = setting(1, whole(1), "Networks of each setting, each with its own seed.", metavar="R")
    cv: int | None = setting(
        None, whole(2), "Folds of the training set for cross-validation.", metavar="K", unset="no cross-validation"
    )
    stratify: bool = setting(True, flag, "Deal the rows of each class to the folds evenly (cv).")
    max_replicas: int | None = setting(
        None, whole(1), "Most networks trained at once.", metavar="N", unset="what fits in memory"
    )
    dtype: str = chosen("float32", "float32|float64", "Precision.")
    save_every: int = setting(1, whole(0), "Epochs between checkpoints; 0: none.", metavar="N")
    keep: int = setting(2, whole(1), "Last checkpoints that are kept, beside the best.", metavar="N")
    log: str | None = chosen(None, "tensorboard", "Also write event files for TensorBoard.", unset="no log")
    figures: str = chosen("auto", "auto|none|png|svg|all", "Figures to draw; auto: all that can be drawn here.")
    device: str = setting("auto", text_of("auto, cpu, gpu or gpu:N"), "Where to compute.", metavar="auto|cpu|gpu|gpu:N")
    tf32: bool = setting(False, flag, "Multiply float32 with 10 bits of mantissa, which is faster (GPU).")
