"""The network: parameters, cost, gradients and probabilities.  One implementation for every device.

Rows are samples.  Every parameter has a leading replica axis R, so R networks of one architecture are one object: W
(R, d, m); b, gamma, beta (R, 1, m); activations (R, n, m).  Parameters with R = 1 broadcast against inputs with R > 1.
The class has more than 250 lines, since most are the documentation of its public methods, which do little themselves.
"""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.backend import Array, Backend, get_backend
from xpnet.config.arguments import floating, kind, numbers, seeds, takes
from xpnet.config.arguments import path as a_path
from xpnet.config.definitions import MOST_NETWORKS, NetworkConfig
from xpnet.config.fields import argument, flag, optional, whole
from xpnet.config.fields import views as number_of_views
from xpnet.config.supported import unknown
from xpnet.data import Dataset, Standardiser, Transform
from xpnet.errors import ConfigError
from xpnet.nn.backprop import cost_and_gradients, inference
from xpnet.nn.dropout import Dropout
from xpnet.nn.flat_parameters import FlatParameters, parameter_kind
from xpnet.nn.initialisers import check_room, initial_statistics, seeds_of, stacked_parameters
from xpnet.nn.input_checks import checked, settings_of_cost, some_of
from xpnet.nn.layers import layers_of
from xpnet.nn.model_description import Model, description
from xpnet.nn.model_file import model_path, read_model, save_network
from xpnet.nn.network_display import NetworkDisplay
from xpnet.nn.probabilities import folded, probabilities
from xpnet.ops import get_ops

_REPLICAS = optional(whole(1, MOST_NETWORKS))
_OF_DATA = ("transform", "class_names", "image_shape", "feature_names")


class Network(NetworkDisplay):
    """R fully connected classifiers of one architecture.

    Args:
        config: The architecture, and how the initial weights are drawn.
        backend: Device of the arrays, as :func:`xpnet.get_backend` returns it; the CPU if not given.
        dtype: ``"float32"`` or ``"float64"``.
        seed: Seed of the initial weights: a whole number s, with s + r for replica r, or a sequence of seeds.
        replicas: Number of networks R; if not given, the number of seeds, or 1.

    Attributes:
        config, backend, dtype: The architecture, the device of the arrays, and the NumPy dtype of all parameters.
        seeds: Seed of each replica; a single network with this seed has the same initial weights.
        parameters: ``"W1"`` (R, d, m), ``"b1"``, ``"gamma1"``, ``"beta1"`` (R, 1, m), ``"W2"``, ...
        running: Running statistics of batch normalisation, ``"mean1"``, ``"var1"`` (R, 1, m), ...
        transform: Function that brings raw features to the inputs, as for the training; None if it is not known.
        class_names: Names of the classes; empty if they are not known.
        image_shape: (channels, height, width) of the images that it was trained on; None for other data.
        feature_names: Names of the columns that it was trained on; empty if they have none.

    Raises:
        ConfigError: An argument is out of its range or unknown, `seed`, `replicas` and ``config.init`` differ in
            length, or the parameters do not fit into memory.
    """

    @takes(config=kind(NetworkConfig), backend=optional(kind(Backend)), dtype=floating, seed=seeds, replicas=_REPLICAS)
    def __init__(
        self,
        config: NetworkConfig,
        *,
        backend: Backend | None = None,
        dtype: str = "float32",
        seed: int | Sequence[int] = 0,
        replicas: int | None = None,
    ) -> None:
        self.seeds = seeds_of(seed, replicas)
        if name := unknown("reference", config):
            raise ConfigError(f"{name}: is a setting that no network has yet")
        self.config, self.backend, self.dtype = config, backend or get_backend("cpu"), np.dtype(dtype)
        check_room(config, len(self.seeds))
        parameters = stacked_parameters(config, self.seeds, self.dtype)
        self._build(parameters, initial_statistics(config, len(self.seeds), self.dtype))
        self.transform: Transform | None = None
        self.class_names: tuple[str, ...] = ()
        self.image_shape: tuple[int, int, int] | None = None
        self.feature_names: tuple[str, ...] = ()

    def _build(self, parameters: dict[str, Any], running: dict[str, Any]) -> None:
        """Set all attributes that follow from the settings and the tensors, which are on the host."""
        self.layers, self.ops = layers_of(self.config), get_ops(self.backend, self.config)
        xp, asarray = self.backend.xp, self.backend.asarray
        self.parameters = FlatParameters(xp, {n: asarray(p) for n, p in parameters.items()}, parameter_kind)
        self.running = FlatParameters(xp, {name: asarray(statistic) for name, statistic in running.items()})

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for a pickle or a deep copy: tensors on the host, and no functions."""
        state = {name: value for name, value in self.__dict__.items() if name not in ("ops", "layers")}
        for group in ("parameters", "running"):
            state[group] = {name: self.backend.to_numpy(tensor) for name, tensor in state[group].items()}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # Copies, because the arrays of a pickle may be read-only or shared.
        self._build(*({n: np.array(t) for n, t in state[group].items()} for group in ("parameters", "running")))

    def __copy__(self) -> Network:
        """Return a network that shares the tensors."""
        same = object.__new__(type(self))
        same.__dict__ |= self.__dict__
        return same

    @property
    def replicas(self) -> int:
        """Number of networks R."""
        return int(self.parameters["W1"].shape[0])

    @property
    def size(self) -> int:
        """Number of parameters of one replica."""
        return sum(p[0].size for p in self.parameters.values())

    @property
    def features(self) -> int:
        """Number of raw features of a sample; that of the inputs, unless they are pooled or projected."""
        return self.config.inputs if self.transform is None else self.transform.features

    @property
    def standardiser(self) -> Standardiser | None:
        """The step of `transform` that brings features to mean 0 and standard deviation 1; None if it is not known."""
        return None if self.transform is None else self.transform.standardiser

    @takes(data=kind(Dataset))
    def learn_about(self, data: Dataset) -> None:
        """Keep the transform and the names of `data`, so that the network accepts raw samples of the same form."""
        for name in _OF_DATA:
            setattr(self, name, getattr(data, name))

    @takes(lam=numbers, label_smoothing=numbers, dropout=optional(kind(Dropout)))
    def cost_and_gradients(
        self,
        x: Array,
        labels: Array,
        lam: Any = 0.0,
        label_smoothing: Any = 0.0,
        sample_weight: Any = None,
        *,
        dropout: Dropout | None = None,
    ) -> tuple[Array, dict[str, Array]]:
        """Return the cost and its gradients in training mode; running statistics do not change.

        cost = mean of weight * cross-entropy + lam * sum over layers of sum(W**2), for each replica.

        Args:
            x: Standardised features (n, d), or (R, n, d) with a batch for each replica.
            labels: Classes (n,) or (R, n), whole numbers.
            lam: Strength of the penalty, a number or one for each replica (R,).
            label_smoothing: Share of each label that is spread evenly over all classes, likewise.
            sample_weight: Weight of each sample's loss (n,) or (R, n), as it is; None for 1.
            dropout: What is dropped, as in a step of a training; None for nothing.

        Returns:
            The costs (R,) and the gradients under the names of the parameters, fresh arrays.

        Raises:
            ArrayError: See :meth:`checked`; or `sample_weight` has not one finite number of at least 0 for each sample.
            ConfigError: Another argument is out of its range, for another number of replicas, or without effect.
        """
        x, labels = self.checked(x, labels, needed=True)
        lam, alpha, weights = settings_of_cost(self, x, lam, label_smoothing, sample_weight)
        masks, eps = None if dropout is None else dropout.masks(self, self.replicas), self.config.bn_eps
        return cost_and_gradients(self.ops, self.layers, self.parameters, eps, x, labels, lam, alpha, masks, weights)

    def predict(self, x: Any, *, standardised: bool = False, views: int = 1) -> Array:
        """Return each network's most probable class for each sample.

        Args:
            x: Samples (n, d), or (R, n, d) with samples for each replica; see :meth:`predict_proba`.
            standardised: Whether `x` is standardised already.
            views: Number of views of each picture.

        Returns:
            The classes (R, n), whole numbers from 0, with names in `class_names`; -1 for a network that has diverged.

        Raises:
            ArrayError, DataError: See :meth:`predict_proba`.
        """
        xp, probabilities = self.backend.xp, self.predict_proba(x, standardised=standardised, views=views)
        return xp.where(xp.isnan(probabilities[..., 0]), -1, xp.argmax(probabilities, axis=-1))

    @takes(views=number_of_views)
    def predict_proba(self, x: Any, *, standardised: bool = False, views: int = 1) -> Array:
        """Return the probabilities of the classes, with the running statistics.

        Args:
            x: Samples (n, d), or (R, n, d) with samples for each replica: raw samples in the form of the training data,
                of any type, such as ``data.test.x``; images may have their own shape, as in
                :func:`xpnet.data_from_arrays`, and so may columns by name.  The network transforms them.
            standardised: Whether `x` is transformed already, in the network's dtype and on its device.  A network
                without a `transform` always takes such samples.
            views: Number of views of each picture that are averaged; see :class:`xpnet.TrainConfig`.

        Returns:
            The probabilities (R, n, classes).

        Raises:
            ArrayError: `x` has another number of features; if it is standardised, see :meth:`checked`.
            DataError: Raw samples are not real numbers, not finite, too far from the training data, or no pictures.
        """
        return probabilities(self, x, views, standardised=standardised)

    def folded(self) -> Network:
        """Return networks of raw, standardised features that predict the same: pooling and projection go into W1.

        Every feature is standardised by the mean and the deviation of its square of pixels; tables stay encoded.

        Raises:
            ConfigError: The transform is not known.
        """
        plain: Network = folded(self)
        return plain

    def logits(self, x: Array) -> Array:
        """Return the logits (R, n, classes) with the running statistics, for standardised samples, unchecked."""
        return inference(self.ops, self.layers, self.parameters, self.running, self.config.bn_eps, x)

    def scores(self, x: Array) -> Array:
        """Return the logits; the earlier name of :meth:`logits`."""
        warnings.warn("Network.scores is now called Network.logits", DeprecationWarning, stacklevel=2)
        return self.logits(x)

    def select(self, replicas: Sequence[int]) -> Network:
        """Return a network of the given replicas, with copies of their tensors.

        Raises:
            ConfigError: `replicas` are not numbers of this network's replicas, from 0.
        """
        replicas = argument("replicas", replicas, partial(some_of, self.replicas))
        places = self.backend.asarray(np.asarray(replicas, np.int64))
        return self.sharing(replicas, self.parameters.select(places), self.running.select(places))

    def sharing(self, replicas: Sequence[int], parameters: FlatParameters, running: FlatParameters) -> Network:
        """Return a network of the given replicas that shares the given tensors."""
        part = copy.copy(self)
        part.seeds = tuple(self.seeds[r] for r in replicas)
        if isinstance(self.config.init, tuple):
            part.config = dataclasses.replace(self.config, init=tuple(self.config.init[r] for r in replicas))
        part.parameters, part.running = parameters, running
        return part

    @takes(path=a_path, replace=flag)
    def save(self, path: str | Path, *, replace: bool = False) -> None:
        """Write the network to a safetensors file for :func:`xpnet.load`; with `replace`, the file may exist already.

        Raises:
            RunError: The file exists, is not a regular file, or cannot be written.
            ConfigError: `path` is not a path.
        """
        save_network(self, Path(path), replace=replace)

    def description(self) -> dict[str, Any]:
        """Return the description of the network, without its tensors, in types that JSON has."""
        names = self.class_names, self.image_shape, self.feature_names
        return description(self.config, self.seeds, *names, self.transform)

    @classmethod
    @takes(path=a_path, backend=optional(kind(Backend)))
    def load(cls, path: str | Path, *, backend: Backend | None = None) -> Network:
        """Return a network that :meth:`save` wrote, read from its file or its run folder.

        Raises:
            RunError: There is no such file, or it does not hold a complete network; see :mod:`xpnet.nn.model_file`.
            ConfigError: `path` is not a path.
        """
        path = Path(path)
        return cls.of(read_model(model_path(path), links=not path.is_dir()), backend=backend)

    @classmethod
    def of(cls, model: Model, *, backend: Backend | None = None) -> Network:
        """Return the network of a model file."""
        dtype = str(model.tensors["parameters.W1"].dtype)
        network = cls(model.config, backend=backend, dtype=dtype, seed=model.seeds)
        for name, tensor in model.tensors.items():
            group, key = name.split(".")
            getattr(network, group)[key] = network.backend.asarray(tensor)
        for name in _OF_DATA:
            setattr(network, name, getattr(model, name))
        return network

    def checked(self, x: Array, labels: Array | None = None, *, needed: bool = False) -> tuple[Array, Array]:
        """Return the arguments, checked for device, shape, dtype and range; labels may be left out unless `needed`.

        Raises:
            ArrayError: `x` is not (n, d) or (R, n, d) of this network's dtype on its device, or `labels` are not
                classes of its samples.
        """
        return checked(self, x, labels, needed=needed)
