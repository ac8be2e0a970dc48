"""Checks that a network, a data set, settings and a state fit together."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from xpnet.backend import Array
from xpnet.config.definitions import NetworkConfig
from xpnet.config.length import Length
from xpnet.config.training import TrainConfig
from xpnet.data import Dataset, LabelledSet
from xpnet.data.weights import loss_weights
from xpnet.errors import ConfigError
from xpnet.nn.dropout import check_dropout
from xpnet.nn.layers import parameter_shapes
from xpnet.nn.model_description import description
from xpnet.nn.model_file import check_description
from xpnet.nn.network import Network
from xpnet.training.device_data import DeviceData, check_views, seen_in_views, set_to_device, to_device
from xpnet.training.state import TrainState, check_compatible
from xpnet.training.steppers import Hyperparameters, check_known, make_stepper
from xpnet.utils.lazy_arrays import slice_rows


def on_device_of(network: Network, data: Any, config: TrainConfig) -> DeviceData:
    """Return `data` on the network's device, standardised in its dtype.

    Raises:
        ConfigError: `data` is not a data set, was prepared for another device or dtype, or does not fit the network and
            the settings.
    """
    if not isinstance(data, (Dataset, DeviceData)):
        raise ConfigError(
            f"data: is a {type(data).__name__}; pass what xpnet.load_data or xpnet.data_from_arrays returns"
        )
    check_fit(network, data if isinstance(data, Dataset) else data.data, config)
    if isinstance(data, Dataset):
        return seen_in_views(to_device(data, network.backend, network.dtype, config), config)
    if data.backend.device != network.backend.device or data.dtype != network.dtype:
        raise ConfigError(
            f"data: was prepared as {data.dtype} for {data.backend.device}, but the network is "
            f"{network.dtype} on {network.backend.device}; prepare it with to_device for this network"
        )
    return seen_in_views(data, config)


def check_fit(network: Network, data: Dataset, config: TrainConfig) -> None:
    """Raise :class:`ConfigError` unless the network, the data and the settings fit together."""
    check_sizes(network.config, network.replicas, data, config)
    check_names(network.config, network.seeds, data)


def check_names(architecture: NetworkConfig, seeds: Sequence[int], data: Dataset) -> None:
    """Raise :class:`ConfigError` unless a model file with the names of `data` can be read again."""
    about = description(architecture, seeds, data.class_names, data.image_shape, data.feature_names, data.transform)
    check_description(about, architecture, len(seeds), data.transform)


def check_sizes(
    architecture: NetworkConfig, replicas: int, data: Dataset, config: TrainConfig, inputs: int | None = None
) -> None:
    """Raise :class:`ConfigError` unless networks of an architecture, the data and the settings fit together.

    `inputs` is the number of inputs after transforming the data; None takes that of the transform of `data`.
    """
    samples, inputs = len(data.train), data.inputs if inputs is None else inputs
    for name, count in zip(("train on", "validate with", "test with"), data.counts.values(), strict=True):
        if count == 0:
            raise ConfigError(f"data: {data.name} has no samples to {name}; every set needs at least one")
    if architecture.inputs != inputs:
        raise ConfigError(
            f"inputs = {architecture.inputs}: the data {data.name} has {inputs} features; "
            "build the network with that many inputs"
        )
    if config.augments or config.views > 1:
        check_views(data, config)
    if architecture.classes < data.classes:
        raise ConfigError(
            f"classes = {architecture.classes}: the data {data.name} has {data.classes} classes; "
            "build the network with that many classes"
        )
    for name, count in config.replica_counts().items():
        if count != replicas:
            raise ConfigError(f"{name}: has {count} values for {replicas} replicas; give one, or one for each")
    check_dropout(architecture, config.dropout)
    loss_weights(data, config.class_weight)
    config.length(samples, architecture)
    if architecture.normalises and min(config.batch_size, samples) == 1:
        raise ConfigError(
            f"batch_size = {config.batch_size}: leaves a batch of one of the {samples} training samples, which "
            "has no variance to normalise by; take a larger batch_size, more samples, or no batch_norm"
        )


def weights_on(network: Network, data: Dataset, config: TrainConfig) -> Array | None:
    """Return the weight of each training sample in the loss (N,) on the network's device; None if all are equal."""
    weights = loss_weights(data, config.class_weight)
    return None if weights is None else network.backend.asarray(weights.astype(network.dtype))


def check_folds(
    architecture: NetworkConfig,
    replicas: int,
    data: Dataset,
    config: TrainConfig,
    folds: int,
    inputs: int | None = None,
) -> None:
    """Raise :class:`ConfigError` unless networks can train on the training set without one of `folds` folds.

    `inputs` is the number of inputs if the data will get another transform.
    """
    samples = len(data.train)
    for size in sorted({samples - samples // folds, samples + -samples // folds}):
        train = LabelledSet(slice_rows(data.train.x, slice(size)), data.train.labels[:size])
        try:
            check_sizes(architecture, replicas, dataclasses.replace(data, train=train), config, inputs)
        except ConfigError as error:
            raise ConfigError(f"cv = {folds}: {error}") from None


def check_stepper(network: Network, data: Dataset, config: TrainConfig) -> None:
    """Raise :class:`ConfigError` unless the requested stepper can train `network` on its device."""
    weights = weights_on(network, data, config)
    hyper = Hyperparameters.of(config, network.replicas, network.backend.asarray, weights=weights)
    if config.stepper == "auto":
        check_known(network, hyper, "auto", config)
        return
    few = LabelledSet(data.train.x[:2], data.train.labels[:2])
    small = dataclasses.replace(data, train=few, validation=few, test=few)
    train = set_to_device(small, "train", network.backend, network.dtype)
    make_stepper(network, train.x, train.labels, hyper, config.stepper, config.batch_size, config)


def check_start(start: TrainState, network: Network, length: Length, optimiser: str) -> None:
    """Raise :class:`ConfigError` unless `start` is a state of this network within such a training."""
    reason = check_compatible(start, parameter_shapes(network.config, network.replicas), str(network.dtype))
    step = min(start.epochs * length.steps_per_epoch + len(start.step_metrics[0]), length.steps)
    if not reason and start.epochs > length.epochs:
        reason = f"it has trained {start.epochs} epochs already, and {length.epochs} are asked for"
    if not reason and start.step != step:
        each = length.steps_per_epoch
        reason = f"it stands at step {start.step}, which would be step {step} with epochs of {each} steps"
    needed = {"adamw": ("velocities", "second_moments"), "lion": ("velocities",)}.get(optimiser, ())
    if not reason and start.step and (missing := [name for name in needed if not getattr(start, name)]):
        reason = f"it has no {missing[-1]}, which the optimiser {optimiser} needs"
    if reason:
        raise ConfigError(f"start: the network cannot go on from it, {reason}")
