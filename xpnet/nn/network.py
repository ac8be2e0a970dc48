"""The network: parameters, cost, gradients and probabilities.  One implementation for every device.

Rows are samples.  Every parameter carries a leading replica axis R, so R networks of one
architecture are one object: W (R, d, m); b, gamma, beta (R, 1, m); activations (R, n, m).
Parameters with R = 1 broadcast against inputs with R > 1.
"""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.backend import Array, Backend, get_backend
from xpnet.config.arguments import floating, kind, numbers, seeds, takes
from xpnet.config.arguments import path as a_path
from xpnet.config.definitions import MOST_NETWORKS, NetworkConfig
from xpnet.config.fields import argument, flag, optional, whole
from xpnet.config.supported import unknown
from xpnet.data import Dataset, Standardiser
from xpnet.data.feature_table import plain_array, table_of
from xpnet.errors import ArrayError, ConfigError, DataError
from xpnet.nn.backprop import Tape, backward, forward, inference
from xpnet.nn.flat_parameters import FlatParameters, parameter_kind
from xpnet.nn.initialisers import check_room, initial_parameters, per_replica, seeds_of
from xpnet.nn.layers import layers_of
from xpnet.nn.model_file import Model, check_model, description, model_path, read_model, write_model
from xpnet.ops import get_ops
from xpnet.utils.lazy_arrays import Rows

# Raw samples are standardised so many at a time.
_ROWS = 1000


class Network:
    """R fully connected ReLU classifiers of one architecture.

    Args:
        config: The architecture, and how the initial weights are drawn.
        backend: Where the arrays live, as :func:`xpnet.get_backend` returns it; the CPU if not given.
        dtype: ``"float32"`` or ``"float64"``.
        seed: Seed of the initial weights: a whole number s, replica r has s + r; or a sequence with one for each.
        replicas: How many networks R; 1 if not given, or as many as there are seeds.

    Attributes:
        config: The architecture.
        backend: Where the arrays live.
        dtype: NumPy dtype of all parameters.
        seeds: Seed of each replica; its initial weights are those of a network of that seed alone.
        parameters: ``"W1"`` (R, d, m), ``"b1"``, ``"gamma1"``, ``"beta1"`` (R, 1, m), ``"W2"``, ...
        running: Running statistics of batch normalisation, ``"mean1"``, ``"var1"`` (R, 1, m), ...
        standardiser: What brings raw features to the form that the network was trained on; None
            if that is not known.  :meth:`predict` and :meth:`predict_proba` do so by themselves.
        class_names: Names of the classes; empty if they are not known.
        image_shape: (channels, height, width) of the images that it was trained on; None for other data.
        feature_names: Names of the columns that it was trained on; empty if they have none.

    Raises:
        ConfigError: An argument is out of its range or unknown, `seed`, `replicas` and ``config.init`` are not of one
            length, or memory does not hold the parameters.
    """

    @takes(
        config=kind(NetworkConfig),
        backend=optional(kind(Backend)),
        dtype=floating,
        seed=seeds,
        replicas=optional(whole(1, MOST_NETWORKS)),
    )
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
        inits = per_replica("init", config.init, len(self.seeds))
        if name := unknown("reference", config):
            raise ConfigError(f"{name}: is a setting that no network has yet")
        self.config = config
        self.backend = backend or get_backend("cpu")
        self.dtype = np.dtype(dtype)
        self.layers = layers_of(config)
        self.ops = get_ops(self.backend, config)
        replicas = len(self.seeds)
        check_room(config, replicas)
        with np.errstate(over="ignore"):  # what overflows is told
            drawn = [
                initial_parameters(dataclasses.replace(config, init=init), seed, self.dtype)
                for seed, init in zip(self.seeds, inits, strict=True)
            ]
        xp = self.backend.xp
        self.parameters = FlatParameters(
            xp,
            {name: self.backend.asarray(np.stack([d[name] for d in drawn]), dtype=self.dtype) for name in drawn[0]},
            parameter_kind,
        )
        running: dict[str, Array] = {}
        for layer, m in zip(self.layers, config.hidden, strict=False):
            if layer.mean is not None and layer.var is not None:
                # Overwritten by the first batch's statistics; until then, the identity.
                running[layer.mean] = self.backend.asarray(np.zeros((replicas, 1, m), self.dtype))
                running[layer.var] = self.backend.asarray(np.ones((replicas, 1, m), self.dtype))
        self.running = FlatParameters(xp, running)
        self.standardiser: Standardiser | None = None
        self.class_names: tuple[str, ...] = ()
        self.image_shape: tuple[int, int, int] | None = None
        self.feature_names: tuple[str, ...] = ()

    def __getstate__(self) -> dict[str, Any]:
        """Return what a pickle or a deep copy holds: tensors on the host, and no functions."""
        state = {name: value for name, value in self.__dict__.items() if name not in ("ops", "layers")}
        for group in ("parameters", "running"):
            state[group] = {name: self.backend.to_numpy(tensor) for name, tensor in state[group].items()}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.layers, self.ops = layers_of(self.config), get_ops(self.backend, self.config)
        # Copies: what a pickle holds may be memory that cannot be written, or that others see.
        parameters, running = (
            {name: self.backend.asarray(np.array(tensor)) for name, tensor in state[group].items()}
            for group in ("parameters", "running")
        )
        self.parameters = FlatParameters(self.backend.xp, parameters, parameter_kind)
        self.running = FlatParameters(self.backend.xp, running)

    def __copy__(self) -> Network:
        """Return a network on the same tensors."""
        same = object.__new__(type(self))
        same.__dict__.update(self.__dict__)
        return same

    @property
    def replicas(self) -> int:
        """Number of networks R."""
        return int(self.parameters["W1"].shape[0])

    @property
    def size(self) -> int:
        """Number of parameters of one replica."""
        return sum(int(np.prod(p.shape[1:])) for p in self.parameters.values())

    @takes(data=kind(Dataset))
    def learn_about(self, data: Dataset) -> None:
        """Keep what it takes to use the network on raw samples like those of `data`, which it is trained on."""
        self.standardiser, self.class_names = data.standardiser, data.class_names
        self.image_shape, self.feature_names = data.image_shape, data.feature_names

    @takes(lam=numbers)
    def cost_and_gradients(self, x: Array, labels: Array, lam: Any = 0.0) -> tuple[Array, dict[str, Array]]:
        """Return the cost and its gradients in training mode; running statistics are left as they are.

        cost = mean cross-entropy + lam * sum over layers of sum(W**2), for each replica.

        Args:
            x: Standardised features (n, d), or (R, n, d) with a batch for each replica.
            labels: Classes (n,) or (R, n), whole numbers.
            lam: Strength of the penalty, a number or one for each replica (R,).

        Returns:
            The costs (R,) and the gradients under the names of the parameters, fresh arrays.

        Raises:
            ArrayError: See :meth:`checked`.
            ConfigError: `lam` is not a number of at least 0, or one for each replica.
        """
        x, labels = self.checked(x, labels, needed=True)
        lam = self.backend.asarray(lam, dtype=self.dtype)
        if lam.shape not in ((), (self.replicas,)):
            raise ConfigError(f"lam: has shape {tuple(lam.shape)}; it must be a number, or one for each replica")
        tape = Tape()
        s = forward(self.ops, self.layers, self.parameters, self.config.bn_eps, x, tape)
        entropy = self.ops.softmax_cross_entropy(s, labels, 1.0 / s.shape[-2])
        lam_W = 2 * (lam[:, None, None] if lam.ndim else lam)
        gradients: dict[str, Array] = {}
        for part in backward(self.ops, self.layers, self.parameters, tape, entropy.g):
            layer = part.layer
            W = self.parameters[layer.W]
            gradients[layer.W] = self.ops.weight_gradient(part.x, part.g) + lam_W * W
            if layer.b is not None:
                gradients[layer.b] = self.ops.bias_gradient(part.g)
            if layer.gamma is not None and layer.beta is not None:
                gradients[layer.gamma], gradients[layer.beta] = part.gamma, part.beta
        penalty = self.ops.penalty([self.parameters[layer.W] for layer in self.layers])
        cost = entropy.losses.mean(axis=-1) + lam * penalty
        return cost, {name: gradients[name] for name in self.parameters}

    def predict(self, x: Any, *, standardised: bool = False) -> Array:
        """Return the likeliest class of each sample, by each network.

        Args:
            x: Samples (n, d), or (R, n, d) with samples for each replica; see :meth:`predict_proba`.
            standardised: Whether they are standardised already.

        Returns:
            The classes (R, n), whole numbers from 0, of which `class_names` has the names; -1 by a network that has
            diverged.

        Raises:
            ArrayError: See :meth:`predict_proba`.
            DataError: See :meth:`predict_proba`.
        """
        xp, probabilities = self.backend.xp, self.predict_proba(x, standardised=standardised)
        return xp.where(xp.isnan(probabilities[..., 0]), -1, xp.argmax(probabilities, axis=-1))

    def predict_proba(self, x: Any, *, standardised: bool = False) -> Array:
        """Return the probabilities of the classes, with the running statistics.

        Args:
            x: Samples (n, d), or (R, n, d) with samples for each replica: raw ones like those that the network was
                trained on, of any type, such as ``data.test.x``; images may have their own shape, as in
                :func:`xpnet.data_from_arrays`.  The network standardises them.
            standardised: Whether `x` is standardised already, in the network's dtype and on its device; so is it always
                for a network without a `standardiser`.

        Returns:
            The probabilities (R, n, classes).

        Raises:
            ArrayError: `x` has another number of features; if it is standardised, see :meth:`checked`.
            DataError: Raw samples are no real numbers, not finite, or too far from those of the training.
        """
        if standardised or self.standardiser is None:
            x, _ = self.checked(x)
            return self.ops.softmax(self.logits(x))
        x, parts = self._raw(x), []
        for start in range(0, x.shape[-2], _ROWS):
            rows = slice(start, start + _ROWS)
            part = self._standardised(x[rows] if x.ndim == 2 else x[:, rows], start)
            parts.append(self.ops.softmax(self.logits(part)))
        return parts[0] if len(parts) == 1 else self.backend.xp.concatenate(parts, axis=1)

    def _raw(self, x: Any) -> Any:
        """Return raw samples on the host, (n, d) or (R, n, d)."""
        if isinstance(x, Rows):
            return x
        on_device = isinstance(x, self.backend.xp.ndarray) and not isinstance(x, np.ndarray)
        try:
            x = plain_array(self.backend.to_numpy(x) if on_device else x, "x")
        except TypeError:
            self.backend.own("x", x)  # of another device
            raise
        d = self.config.inputs
        by_replica = x.ndim == 3 and x.shape[-1] == d and self._each(x)
        if x.ndim < 2 or not x.size or not (by_replica or np.prod(x.shape[1:]) == d):
            raise ArrayError(self._takes(x))
        table = table_of(x.reshape(-1, d) if by_replica else x, "x")
        flat = np.concatenate(list(table.chunks()))
        return flat.reshape(x.shape) if by_replica else flat

    def _each(self, x: Array) -> bool:
        """Return whether samples, if they are for each replica, go with the replicas; one goes with any number."""
        return x.ndim != 3 or 1 in (self.replicas, len(x)) or len(x) == self.replicas

    def _takes(self, x: Array) -> str:
        d = self.config.inputs
        return f"x: has shape {tuple(x.shape)}; this network takes (n, {d}) or (R, n, {d}) with R = {self.replicas}"

    def _standardised(self, x: Any, first: int) -> Array:
        """Return raw samples, which begin at row `first`, as the network takes them."""
        assert self.standardiser is not None
        with np.errstate(over="ignore"):
            z = self.standardiser(x.reshape(-1, x.shape[-1]), str(self.dtype)).reshape(x.shape)
        if not np.isfinite(z).all():
            *_, row, column = np.argwhere(~np.isfinite(z))[0]
            raise DataError(
                f"x: row {first + row}, feature {column} (from 0): lies too far from the values that the network was "
                f"trained on for {self.dtype}"
            )
        return self.backend.asarray(z)

    def logits(self, x: Array) -> Array:
        """Return the logits (R, n, classes), before the softmax, with the running statistics.

        `x` is what :meth:`predict_proba` takes as standardised; it is not checked.
        """
        return inference(self.ops, self.layers, self.parameters, self.running, self.config.bn_eps, x)

    def scores(self, x: Array) -> Array:
        """Return what :meth:`logits` does, under its earlier name."""
        warnings.warn("Network.scores is now called Network.logits", DeprecationWarning, stacklevel=2)
        return self.logits(x)

    def select(self, replicas: Sequence[int]) -> Network:
        """Return a network of some replicas, with tensors of its own.

        Raises:
            ConfigError: They are not numbers of its replicas, from 0.
        """
        replicas = argument("replicas", replicas, self._some)
        places = self.backend.asarray(np.asarray(replicas, np.int64))
        return self.sharing(replicas, self.parameters.select(places), self.running.select(places))

    def _some(self, value: Any) -> tuple[int, ...]:
        chosen = seeds(value)
        if not isinstance(chosen, tuple) or not chosen or max(chosen) >= self.replicas:
            raise ValueError(f"a sequence of numbers from 0 to {self.replicas - 1}")
        return chosen

    def sharing(self, replicas: Sequence[int], parameters: FlatParameters, running: FlatParameters) -> Network:
        """Return a network of some replicas on tensors that are theirs already."""
        part = copy.copy(self)
        part.seeds = tuple(self.seeds[r] for r in replicas)
        if isinstance(self.config.init, tuple):
            part.config = dataclasses.replace(self.config, init=tuple(self.config.init[r] for r in replicas))
        part.parameters, part.running = parameters, running
        return part

    @takes(path=a_path, replace=flag)
    def save(self, path: str | Path, *, replace: bool = False) -> None:
        """Write the network to a safetensors file, which :func:`xpnet.load` reads; `replace` takes one that exists.

        Raises:
            RunError: The file exists, is no regular file, or cannot be written.
            ConfigError: `path` is no path.
        """
        tensors = {f"parameters.{name}": self.backend.to_numpy(p) for name, p in self.parameters.items()}
        tensors |= {f"running.{name}": self.backend.to_numpy(p) for name, p in self.running.items()}
        if self.standardiser is not None:
            tensors |= {"standardise.mean": self.standardiser.mean, "standardise.std": self.standardiser.std}
        about = self.description()
        check_model(tensors, about, str(path))
        write_model(Path(path), tensors, about, replace=replace)

    def description(self) -> dict[str, Any]:
        """Return what a network is beside its tensors, as JSON can hold it."""
        return description(self.config, self.seeds, self.class_names, self.image_shape, self.feature_names)

    @classmethod
    @takes(path=a_path, backend=optional(kind(Backend)))
    def load(cls, path: str | Path, *, backend: Backend | None = None) -> Network:
        """Read a network that :meth:`save` wrote, from its file or its run folder.

        Raises:
            RunError: There is no such file, or it does not hold a whole network; see :mod:`xpnet.nn.model_file`.
            ConfigError: `path` is no path.
        """
        path = Path(path)
        return cls.of(read_model(model_path(path), links=not path.is_dir()), backend=backend)

    @classmethod
    def of(cls, model: Model, *, backend: Backend | None = None) -> Network:
        """Return the network that a file was read as."""
        dtype = str(model.tensors["parameters.W1"].dtype)
        network = cls(model.config, backend=backend, dtype=dtype, seed=model.seeds)
        for name, tensor in model.tensors.items():
            group, key = name.split(".")
            (network.parameters if group == "parameters" else network.running)[key] = network.backend.asarray(tensor)
        network.standardiser, network.class_names = model.standardiser, model.class_names
        network.image_shape, network.feature_names = model.image_shape, model.feature_names
        return network

    def checked(self, x: Array, labels: Array | None = None, *, needed: bool = False) -> tuple[Array, Array]:
        """Check what comes from outside: device, shape, dtype and range; labels may be left out unless `needed`.

        Raises:
            ArrayError: `x` is not (n, d) or (R, n, d) of this network's dtype on its device, or `labels` are not
                classes of its samples.
        """
        x = self.backend.own("x", x)
        d = self.config.inputs
        if x.ndim not in (2, 3) or x.shape[-1] != d or x.shape[-2] == 0 or not self._each(x):
            raise ArrayError(self._takes(x))
        if x.dtype != self.dtype:
            hint = "convert it with x.astype"
            if self.standardiser is not None:
                hint = f'standardise raw samples with network.standardiser(x, "{self.dtype}")'
            raise ArrayError(f"x: is {x.dtype}, but this network computes in {self.dtype}; {hint}")
        if labels is None and not needed:
            return x, None
        labels = self.backend.own("labels", labels)
        if labels.dtype.kind not in "iu":
            raise ArrayError(f"labels: are {labels.dtype}; they must be whole numbers from 0")
        if labels.shape not in (x.shape[-2:-1], x.shape[:-1]):
            raise ArrayError(
                f"labels: have shape {tuple(labels.shape)} for x of shape {tuple(x.shape)}; "
                f"they must be {tuple(x.shape[-2:-1])}"
            )
        lowest, highest = (int(self.backend.to_numpy(label)) for label in (labels.min(), labels.max()))
        if lowest < 0 or highest >= self.config.classes:
            raise ArrayError(
                f"labels: range from {lowest} to {highest}; this network has classes 0 to {self.config.classes - 1}"
            )
        return x, labels
