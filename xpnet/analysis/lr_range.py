"""The learning rate range test (Smith, 2017): a training whose rate rises from step to step."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from xpnet.analysis.lr_suggestion import LRRange
from xpnet.backend import Array, Backend, get_backend
from xpnet.config.arguments import floating, kind, takes
from xpnet.config.arguments import seeds as seeds_of_networks
from xpnet.config.definitions import NetworkConfig
from xpnet.config.fields import argument, choice, optional, real, whole
from xpnet.config.length import MOST_STEPS
from xpnet.config.training import TrainConfig
from xpnet.data import Dataset, on_host
from xpnet.errors import ConfigError, DivergedError
from xpnet.nn.network import Network
from xpnet.training.batches import Batches, order_seeds
from xpnet.training.callback import Callback, callbacks_of
from xpnet.training.device_data import DeviceData
from xpnet.training.evaluation import Evaluation
from xpnet.training.history import Values
from xpnet.training.steppers import Hyperparameters, State, StepMetrics, make_stepper
from xpnet.training.validate import on_device_of, weights_on

# The test ends when the smoothed loss is more than this many times its lowest, as in fastai's lr_find.
DIVERGED = 4.0
# Validation passes of a complete test, and fewest steps by default: 71 for each decade from 1e-6 to 10.
_PASSES, _STEPS = 50, 500
# With batch normalisation and at least this many layers, a test shorter than this share of the training suggests too
# high a rate.  For nine layers, a test of 1/18 of the training did and of 1/2 did not; for three layers, 1/18 did not.
_DEEP, _FEW = 6, 0.25


def rising_rates(from_: float, to: float, steps: int, spacing: str = "log") -> Values:
    """Return `steps` rates (steps,) from `from_` to `to`, both included.

    With the spacing ``"log"``, neighbouring rates have the same ratio; with ``"linear"``, the same difference.
    """
    return np.geomspace(from_, to, steps) if spacing == "log" else np.linspace(from_, to, steps)


class Smoothing:
    """An exponential average with bias correction (Kingma and Ba, 2015, section 3), continued from call to call.

    It looks back over about a fiftieth of the test, so that it lags by the same share of the range for any number
    of steps: by a seventh of a decade from 1e-6 to 10.
    """

    def __init__(self, steps: int) -> None:
        self.beta = 1 - 1 / max(5.0, steps / 50)
        self._average: Any = 0.0
        self._seen = 0

    def __call__(self, values: Values) -> Values:
        """Return the averages (k, R) at the next `values` (k, R)."""
        result = np.empty_like(values, dtype=float)
        for row, value in enumerate(values):
            self._average = self.beta * self._average + (1 - self.beta) * value
            self._seen += 1
            result[row] = self._average / (1 - self.beta**self._seen)
        return result


@takes(
    config=kind(NetworkConfig),
    train=optional(kind(TrainConfig)),
    seeds=seeds_of_networks,
    backend=optional(kind(Backend)),
    dtype=floating,
    callbacks=callbacks_of,
)
def lr_range(
    config: NetworkConfig,
    data: Dataset | DeviceData,
    train: TrainConfig | None = None,
    *,
    from_: float = 1e-6,
    to: float = 10.0,
    steps: int | None = None,
    spacing: str = "log",
    seeds: int | Sequence[int] = 0,
    backend: Backend | None = None,
    dtype: str = "float32",
    callbacks: Sequence[Callback] = (),
) -> LRRange:
    """Train new networks with a rising rate, and suggest `eta_min` and `eta_max` for the triangular schedule.

    It is the range test of Smith (2017), "Cyclical learning rates for training neural networks", section 3.3.  It
    ends when the smoothed loss, the mean over the networks, is more than four times its lowest or is not finite.
    :func:`xpnet.analysis.lr_suggestion.suggest` makes the suggestion.

    Args:
        config: The architecture.
        data: A data set, or one that :func:`xpnet.to_device` has prepared.
        train: Penalty, batches and optimiser.  Its schedule has no effect; its length decides only whether a note says
            that the test is short.
        from_: The first learning rate.
        to: The last learning rate.
        steps: Number of steps; if not given, those of an epoch or 500, whichever is larger.
        spacing: ``"log"`` or ``"linear"``; see :func:`rising_rates`.
        seeds: Seed of each network; several are trained as one population.
        backend: Where to compute; the CPU if not given.
        dtype: ``"float32"`` or ``"float64"``.
        callbacks: Instances of :class:`xpnet.Callback`; their `on_steps` and `should_stop` are called between
            validation passes.

    Returns:
        The curves, and ``suggestion`` with `eta_min` and `eta_max`, or else ``no_suggestion``, the reason in words.

    Raises:
        ConfigError: A setting is out of its range, or the data, the network and the settings do not fit together.
        DivergedError: The loss was not finite from the beginning.
    """
    train = train or TrainConfig()
    first, last, asked = check_range(from_, to, steps, spacing)
    seeds = seeds if isinstance(seeds, Sequence) else (seeds,)
    network = Network(config, backend=backend or get_backend("cpu"), dtype=dtype, seed=seeds)
    on_device = on_device_of(network, data, train)
    asked = asked or max(_STEPS, train.length(int(on_device.train.x.shape[0]), config).steps_per_epoch)
    return _Test(network, on_device, train, rising_rates(first, last, asked, spacing)).run(callbacks)


def check_range(from_: Any, to: Any, steps: Any, spacing: Any) -> tuple[float, float, int | None]:
    """Return the first rate, the last rate and the number of steps, checked.

    Raises:
        ConfigError: An argument is out of its range.
    """
    first, last = argument("from", from_, real(above=0)), argument("to", to, real(above=0))
    if first >= last:
        raise ConfigError(f"from = {first:g}, to = {last:g}: from must be below to")
    argument("spacing", spacing, choice("log", "linear"))
    return first, last, None if steps is None else argument("steps", steps, whole(20, MOST_STEPS))


class _Test:
    """One call of :func:`lr_range`."""

    def __init__(self, network: Network, data: DeviceData, config: TrainConfig, rates: Values) -> None:
        self.network, self.data, self.config, self.rates = network, data, config, rates
        self.length = config.length(int(data.train.x.shape[0]), network.config)
        backend, train = network.backend, data.train
        self.state = State.of(network, config.moments)
        weights = weights_on(network, data.data, config)
        hyper = Hyperparameters.of(config, network.replicas, backend.asarray, weights=weights)
        hyper = hyper.with_dropout(config, order_seeds(config, network.seeds))
        largest = config.batch_size + self.length.joined
        self.stepper = make_stepper(network, train.x, train.labels, hyper, config.stepper, largest, config)
        self.evaluation = Evaluation(network, data.validation.x, data.validation.labels)
        self.smooth_loss, self.smooth_accuracy = Smoothing(len(rates)), Smoothing(len(rates))

    def run(self, callbacks: Sequence[Callback]) -> LRRange:
        """Return the result of the test: take the steps, and suggest rates."""
        begin = time.perf_counter()
        pieces: list[tuple[Values, ...]] = []
        validation: list[Values] = []
        validation_steps: list[int] = []
        done, best, ended, interrupted = 0, np.inf, None, False
        with np.errstate(all="ignore"):  # an overflow ends the test
            for perms in self._stretches():
                losses, accuracies = self._take(perms, done)
                piece = losses, self.smooth_loss(losses), accuracies, self.smooth_accuracy(accuracies)
                mean = piece[1].mean(axis=1)
                lowest = np.minimum.accumulate(np.concatenate([[best], mean]))
                good, ended = self._end(mean, lowest[1:], done)
                pieces.append(tuple(column[:good] for column in piece))
                done, best = done + good, lowest[-1]
                for callback in callbacks:
                    callback.on_steps(len(losses))
                if ended is not None:
                    break
                validation.append(self.evaluation().accuracies)
                validation_steps.append(done)
                interrupted = done < len(self.rates) and any(callback.should_stop() for callback in callbacks)
                if interrupted:
                    break
        if done == 0:
            raise DivergedError(
                f"the loss was not finite at the lowest rate, {self.rates[0]:g}; a smaller init or a smaller from, or "
                "batch normalisation, keeps it finite"
            )
        losses, smoothed, accuracies, accuracies_smoothed = (np.concatenate(c) for c in zip(*pieces, strict=True))
        return self._with_suggestions(
            LRRange(
                rates=self.rates[:done],
                losses=losses,
                smoothed=smoothed,
                accuracies=accuracies,
                accuracies_smoothed=accuracies_smoothed,
                validation_steps=np.array(validation_steps, np.int64),
                validation=np.array(validation).reshape(-1, self.network.replicas),
                asked=len(self.rates),
                ended=ended,
                interrupted=interrupted,
                seeds=self.network.seeds,
                device=self.network.backend.device,
                seconds=time.perf_counter() - begin,
            )
        )

    def _stretches(self) -> Iterator[list[Array]]:
        """Yield the batches of the steps between two validation passes: parts (k, n) or (k, R, n), on the device."""
        backend, samples = self.network.backend, int(self.data.train.x.shape[0])
        host_rows = backend.xp is np or on_host(self.data.train.x)
        orders, shape = order_seeds(self.config, self.network.seeds), self.data.data.image_shape
        left = len(self.rates)
        stretch = wanted = -(-left // _PASSES)
        held: list[Array] = []
        for epoch in itertools.count():
            joined = self.length.joined
            for batches in Batches(orders, samples, self.config, image_shape=shape, joined=joined).of_epoch(epoch):
                while len(batches):
                    part, batches = batches[:wanted], batches[wanted:]
                    held.append(part if host_rows else backend.asarray(part))
                    left, wanted = left - len(part), wanted - len(part)
                    if not wanted:
                        yield held
                        if not left:
                            return
                        held, wanted = [], min(stretch, left)

    def _take(self, perms: list[Array], done: int) -> tuple[Values, Values]:
        """Take the steps between two validation passes; return the losses and accuracies (k, R) of their batches.

        The figures are copied from the device once, after all of these steps.
        """
        backend, replicas = self.network.backend, self.network.replicas
        count = sum(int(perm.shape[0]) for perm in perms)
        totals = StepMetrics.empty(backend.xp, count, replicas)
        eta = backend.asarray(np.repeat(self.rates[done : done + count, None], replicas, axis=1))
        start, sizes = 0, []
        for perm in perms:
            stop = start + int(perm.shape[0])
            self.stepper.run(self.state, perm, eta[start:stop], totals.part(start, stop))
            sizes += [int(perm.shape[-1])] * (stop - start)
            start = stop
        samples = np.array(sizes, float)[:, None]
        return backend.to_numpy(totals.loss) / samples, backend.to_numpy(totals.correct) / samples

    def _end(self, mean: Values, lowest: Values, done: int) -> tuple[int, str | None]:
        """Return how many of the last k steps count, and why the test ends; `mean` (k,) is their smoothed loss."""
        for row, (value, low) in enumerate(zip(mean, lowest, strict=True)):
            if not np.isfinite(value):
                return row, f"the loss became {value:.3g} at rate {self.rates[done + row]:.3g}"
            if value > DIVERGED * low:
                rate = self.rates[done + row]
                return row + 1, f"the smoothed loss was {DIVERGED:g} times its lowest at rate {rate:.3g}"
        return len(mean), None

    def _too_short(self) -> str | None:
        """Return a note if the test is short for a deep network; None if it is not."""
        network, steps = self.network, len(self.rates)
        planned = self.length.steps
        if not network.config.batch_norm or len(network.layers) < _DEEP or steps >= _FEW * planned:
            return None
        return (
            f"{steps} steps are few for {len(network.layers)} layers with batch normalisation that will train for "
            f"{planned:,}: the highest rate is probably too high for them; take --steps {-(-planned // 2)}"
        )

    def _with_suggestions(self, test: LRRange) -> LRRange:
        window = round(1 / (1 - self.smooth_loss.beta))
        replicas = range(self.network.replicas)
        suggestion, *each = (test.suggest(which, window) for which in (list(replicas), *([r] for r in replicas)))
        test = dataclasses.replace(test, each=tuple(None if isinstance(one, str) else one for one in each))
        if isinstance(suggestion, str):
            return dataclasses.replace(test, no_suggestion=suggestion)
        notes = [note for note in (suggestion.note, self._too_short()) if note is not None]
        return dataclasses.replace(test, suggestion=dataclasses.replace(suggestion, note="; ".join(notes) or None))
