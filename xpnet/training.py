"""The training loop: epochs, batches, evaluation, history."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.backend import Array, Backend
from xpnet.config import Length, TrainConfig
from xpnet.data import Data, LabelledSet
from xpnet.errors import ConfigError, DivergedError
from xpnet.evaluation import evaluate
from xpnet.history import EpochRecord, History, Metrics, Values
from xpnet.network import Network
from xpnet.ops import keeps_bytes
from xpnet.randomness import Purpose, generator
from xpnet.schedules import learning_rates
from xpnet.steppers import Hyperparameters, State, Stepper, Totals, make_stepper

# The loop looks up from the stepper this often: for Ctrl-C and for progress.
_SECONDS_A_CALL = 0.05
_STEPS_A_CALL = 50


@dataclass(frozen=True)
class DeviceSet:
    """Samples on a device: `x` (n, d) standardised in the network's dtype, or bytes that read so; `labels` (n,)."""

    x: Array
    labels: Array


@dataclass(frozen=True)
class DeviceData:
    """A data set that has been standardised and moved to a device, ready for any number of runs."""

    data: Data
    backend: Backend
    dtype: Any
    train: DeviceSet
    validation: DeviceSet
    test: DeviceSet


def to_device(data: Data, backend: Backend, dtype: Any) -> DeviceData:
    """Standardise `data` with the training set's mean and standard deviation and move it to a device."""

    def move(part: LabelledSet) -> DeviceSet:
        if part.x.dtype == np.uint8 and keeps_bytes(backend):
            return DeviceSet(data.standardiser.of_bytes(part.x, str(np.dtype(dtype))), part.labels)
        return DeviceSet(backend.asarray(data.standardiser(part.x, str(np.dtype(dtype)))), backend.asarray(part.labels))

    return DeviceData(data, backend, np.dtype(dtype), move(data.train), move(data.validation), move(data.test))


@dataclass(frozen=True)
class TrainResult:
    """What training returns.

    Attributes:
        history: One record for each epoch.
        train, validation, test: Figures of full passes at the end, with the running statistics.
        epochs: Epochs trained; the last may have been cut short.
        steps: Steps taken.
        seconds_training: Wall time of the steps, by epoch.
        seconds_evaluation: Wall time of all full passes.
        device: Where it was computed.
        interrupted: Whether training was stopped before its end.
    """

    history: History
    train: Metrics
    validation: Metrics
    test: Metrics
    epochs: int
    steps: int
    seconds_training: list[float]
    seconds_evaluation: float
    device: str
    interrupted: bool

    def to_json(self) -> dict[str, Any]:
        """Return the figures as ``metrics.json`` holds them."""
        return {
            "test": dict(self.test),
            "validation": dict(self.validation),
            "train": dict(self.train),
            "epochs": self.epochs,
            "steps": self.steps,
            "seconds": {
                "training": sum(self.seconds_training),
                "evaluation": self.seconds_evaluation,
                "per_epoch": self.seconds_training,
            },
            "device": self.device,
            "interrupted": self.interrupted,
        }


def train(
    network: Network,
    data: Data | DeviceData,
    config: TrainConfig | None = None,
    *,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    on_steps: Callable[[int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> TrainResult:
    """Train `network` in place and evaluate it; the test set is evaluated once, at the end.

    Args:
        network: R networks of one architecture.
        data: A data set, or one that :func:`to_device` has prepared for several runs.
        config: How to train.
        on_epoch: Called with each epoch's record.
        on_steps: Called with the number of steps just taken, every few hundredths of a second.
        should_stop: Asked after every few steps; training ends when it returns True.

    Raises:
        ConfigError: The data, the network and the settings do not fit together.
        DivergedError: A loss became infinite or not a number.
    """
    config = config or TrainConfig()
    if not isinstance(data, (Data, DeviceData)):
        raise ConfigError(
            f"data: is a {type(data).__name__}; pass what xpnet.load_data or xpnet.data_from_arrays returns"
        )
    check_fit(network, data if isinstance(data, Data) else data.data, config)
    if isinstance(data, Data):
        data = to_device(data, network.backend, network.dtype)
    elif data.backend.device != network.backend.device or data.dtype != network.dtype:
        raise ConfigError(
            f"data: was prepared as {data.dtype} for {data.backend.device}, but the network is "
            f"{network.dtype} on {network.backend.device}; prepare it with to_device for this network"
        )
    length = config.length(int(data.train.x.shape[0]))
    network.standardiser, network.class_names = data.data.standardiser, data.data.class_names

    run = _Run(network, data, config, length, on_steps, should_stop)
    interrupted = False
    for epoch in range(length.epochs):
        record = run.epoch(epoch)
        if record is not None:
            run.history.append(record)
            if on_epoch is not None:
                on_epoch(record)
        if run.stopped:
            interrupted = run.state.step < length.steps
            break
    return run.result(interrupted)


class _Run:
    """One call of :func:`train`."""

    def __init__(
        self,
        network: Network,
        data: DeviceData,
        config: TrainConfig,
        length: Length,
        on_steps: Callable[[int], None] | None,
        should_stop: Callable[[], bool] | None,
    ) -> None:
        self.network, self.data, self.config, self.length = network, data, config, length
        self.on_steps, self.should_stop = on_steps, should_stop
        backend, replicas = network.backend, network.replicas
        self.lam = np.broadcast_to(np.asarray(config.lam, float), (replicas,))
        rho = np.broadcast_to(np.asarray(config.momentum, float), (replicas,))
        with_momentum = bool(rho.any())
        self.state = State(
            network.parameters,
            {name: backend.xp.zeros_like(p) for name, p in network.parameters.items()} if with_momentum else {},
            network.running,
        )
        hyper = Hyperparameters(
            backend.asarray(self.lam), backend.asarray(rho) if with_momentum else None, config.nesterov
        )
        self.stepper: Stepper = make_stepper(network, data.train.x, data.train.labels, hyper)
        self.eta = learning_rates(config, length, replicas)
        self.eta_on_device = backend.asarray(self.eta)
        self.history = History(self.eta[0])
        self.seconds_training: list[float] = []
        self.seconds_evaluation = 0.0
        self.stopped = False
        self._steps_a_call = 1

    def epoch(self, epoch: int) -> EpochRecord | None:
        """Train one epoch and evaluate; None if training was stopped before its first step."""
        backend, length = self.network.backend, self.length
        first = epoch * length.steps_per_epoch
        count = min(length.steps_per_epoch, length.steps - first)
        begin = time.perf_counter()
        totals = Totals.empty(backend.xp, count, self.network.replicas)
        done = 0
        with np.errstate(all="ignore"):  # what overflows is found in the totals, with its step
            for perm in self._batches(epoch):
                done += self._steps(perm[: count - done], first, done, totals)
                if self.stopped or done == count:
                    break
        loss, correct, penalty = (
            backend.to_numpy(part)[:done] for part in (totals.loss, totals.correct, totals.penalty)
        )
        seconds = time.perf_counter() - begin
        if done == 0:
            return None
        self.seconds_training.append(seconds)
        self._check_finite(loss, first)
        begin = time.perf_counter()
        validation = self._evaluate(self.data.validation)
        if self.config.train_metrics == "full":
            training = self._evaluate(self.data.train)
        else:
            training = self._running(loss, correct, penalty)
        evaluation = time.perf_counter() - begin
        self.seconds_evaluation += evaluation
        if not np.isfinite(validation.losses).all():
            raise _diverged(self.state.step - 1, self.eta[self.state.step - 1], validation.losses, self.config)
        return EpochRecord(
            epoch + 1,
            self.state.step,
            self.eta[self.state.step - 1],
            training,
            validation,
            seconds,
            evaluation,
        )

    def result(self, interrupted: bool) -> TrainResult:
        """Evaluate all sets and return what was learned."""
        begin = time.perf_counter()
        data = self.data
        train, validation, test = (self._evaluate(part) for part in (data.train, data.validation, data.test))
        self.seconds_evaluation += time.perf_counter() - begin
        return TrainResult(
            history=self.history,
            train=train,
            validation=validation,
            test=test,
            epochs=len(self.history),
            steps=self.state.step,
            seconds_training=self.seconds_training,
            seconds_evaluation=self.seconds_evaluation,
            device=self.network.backend.device,
            interrupted=interrupted,
        )

    def _steps(self, perm: Array, first: int, done: int, totals: Totals) -> int:
        """Run the steps of `perm` in short calls; return how many were taken before a stop."""
        taken, wanted = 0, int(perm.shape[0])
        while taken < wanted and not self.stopped:
            size = min(self._steps_a_call, wanted - taken)
            begin = time.perf_counter()
            at = done + taken
            self.stepper.run(
                self.state,
                perm[taken : taken + size],
                self.eta_on_device[first + at : first + at + size],
                totals.part(at, at + size),
            )
            if time.perf_counter() - begin < _SECONDS_A_CALL / 2:
                self._steps_a_call = min(2 * self._steps_a_call, _STEPS_A_CALL)
            taken += size
            if self.on_steps is not None:
                self.on_steps(size)
            self.stopped = self.should_stop is not None and self.should_stop()
        return taken

    def _batches(self, epoch: int) -> list[Array]:
        """Return an epoch's order of samples: full batches (k, n) or (k, R, n), then an incomplete one."""
        samples, n = int(self.data.train.x.shape[0]), self.config.batch_size
        base = self.network.seeds[0] if self.config.shuffle_seed is None else self.config.shuffle_seed
        each = self.network.replicas > 1 and self.config.shuffle == "independent"
        orders = np.stack(
            [
                generator(base + r, Purpose.SHUFFLE, epoch).permutation(samples)
                for r in range(self.network.replicas if each else 1)
            ]
        )
        full = samples // n * n
        batches = [orders[:, :full].reshape(len(orders), -1, n)]
        if full < samples and not self.config.drop_last:
            batches.append(orders[:, full:][:, None, :])
        # (R, k, n) -> (k, R, n), or (k, n) where all replicas share the order.
        return [
            self.network.backend.asarray(np.ascontiguousarray(b.swapaxes(0, 1)) if each else b[0])
            for b in batches
            if b.shape[1]
        ]

    def _evaluate(self, part: DeviceSet) -> Metrics:
        with np.errstate(all="ignore"):
            return evaluate(self.network, part.x, part.labels, self.lam)

    def _running(self, loss: Values, correct: NDArray[np.int64], penalty: Values) -> Metrics:
        """Return the epoch's figures from the totals (k, R) of its steps."""
        sizes = np.full(len(loss), float(self.config.batch_size))
        samples = int(self.data.train.x.shape[0])
        if len(loss) == self.length.steps_per_epoch and not self.config.drop_last and samples % self.config.batch_size:
            sizes[-1] = samples % self.config.batch_size
        seen = sizes.sum()
        mean_loss = loss.sum(axis=0) / seen
        return Metrics(correct.sum(axis=0) / seen, mean_loss, mean_loss + self.lam * (sizes @ penalty) / seen)

    def _check_finite(self, loss: Values, first: int) -> None:
        bad = ~np.isfinite(loss)
        if bad.any():
            step = int(np.argmax(bad.any(axis=1)))
            raise _diverged(first + step, self.eta[first + step], loss[step], self.config)


def _diverged(step: int, eta: Values, losses: Values, config: TrainConfig) -> DivergedError:
    replica = int(np.argmax(~np.isfinite(losses)))
    which = f" of replica {replica}" if len(losses) > 1 else ""
    setting = "eta_max" if config.schedule == "triangular" else "eta"
    return DivergedError(
        f"the loss{which} became {losses[replica]} at step {step}, with learning rate {eta[replica]:.3g}; "
        f"a smaller {setting}, a smaller init, or batch normalisation keeps it finite"
    )


def check_fit(network: Network, data: Data, config: TrainConfig) -> None:
    """Raise :class:`ConfigError` unless the network, the data and the settings fit together."""
    samples = len(data.train)
    if network.config.inputs != data.features:
        raise ConfigError(
            f"inputs = {network.config.inputs}: the data {data.name} has {data.features} features; "
            "build the network with that many inputs"
        )
    if network.config.classes < data.classes:
        raise ConfigError(
            f"classes = {network.config.classes}: the data {data.name} has {data.classes} classes; "
            "build the network with that many classes"
        )
    for name, count in config.replica_counts().items():
        if count != network.replicas:
            raise ConfigError(f"{name}: has {count} values for {network.replicas} replicas; give one, or one for each")
    config.length(samples)
    rest = samples % config.batch_size
    smallest = rest if rest and not config.drop_last else min(config.batch_size, samples)
    if network.config.batch_norm and network.config.hidden and smallest == 1:
        raise ConfigError(
            f"batch_size = {config.batch_size}: leaves a batch of one of the {samples} training samples, which "
            "has no variance to normalise by; take another batch_size, drop_last, or no batch_norm"
        )
