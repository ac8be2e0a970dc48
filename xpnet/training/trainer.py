"""The training loop: steps, epochs, evaluation, pruning and checkpoints.

It is one class of more than 250 lines, because all its methods work on the state of one training.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from xpnet.backend import Array
from xpnet.config.training import TrainConfig
from xpnet.data import on_host
from xpnet.errors import DivergedError
from xpnet.nn.network import Network
from xpnet.training.active_replicas import ActiveReplicas
from xpnet.training.batches import Batches, same_order
from xpnet.training.callback import Callback, PruningPoint, SavePoint
from xpnet.training.device_data import DeviceData
from xpnet.training.evaluator import SETS, Evaluator
from xpnet.training.history import EpochRecord, History, Metrics, Values, running_metrics
from xpnet.training.patience import Patience
from xpnet.training.result import Divergence, TrainResult, all_diverged, first_lost
from xpnet.training.schedules import learning_rates
from xpnet.training.state import Chunk, TrainState
from xpnet.training.steppers import Hyperparameters, StepMetrics, Stepper, make_stepper
from xpnet.training.validate import check_start, weights_on

# Approximate seconds of a call of the stepper, and its most steps; callbacks are called in between.
_SECONDS_A_CALL = 0.2
_STEPS_A_CALL = 50
# On the CPU, diverged replicas are left out at multiples of this many steps, not at the end of any call: in float32,
# the last bits of the other replicas depend on the replicas trained with them.
_STEPS_A_LOOK = 50


class Trainer:
    """One training of R networks: its steps, its evaluations and its records.

    Attributes:
        network: The networks, trained in place.
        active: The networks that have neither diverged nor been pruned, and their tensors.
        history: The epochs so far.
        stopped: Whether a callback has stopped the training, or no network is left to train.
    """

    def __init__(
        self,
        network: Network,
        data: DeviceData,
        config: TrainConfig,
        *,
        orders: tuple[int, ...],
        callbacks: Sequence[Callback] = (),
        start: TrainState | None = None,
        chunk: Chunk | None = None,
        population: int | None = None,
    ) -> None:
        """Prepare the training; the first six arguments are those of :func:`xpnet.train`, checked.

        For a population in chunks, `chunk` has the numbers of these networks, as (first, last + 1), and `population` is
        the number of all networks; the epochs of one of several chunks are not passed to callbacks.
        """
        backend, replicas = network.backend, network.replicas
        self.network, self.data, self.config, self.callbacks = network, data, config, callbacks
        self.length = config.length(data.samples, network.config)
        self.orders, self.chunk, self.population = orders, chunk or (0, replicas), population or replicas
        self.lam = np.broadcast_to(np.asarray(config.lam, float), (replicas,))
        self._weights = data.by_training_row(lambda of: weights_on(network, of, config))
        self.active = ActiveReplicas(network, moments=config.moments)
        self.eta = learning_rates(config, self.length, replicas)
        self.history = History(self.eta[0])
        self.seconds_evaluation, self.stopped = 0.0, False
        # Pruning after the last step would save nothing.
        self._prune_at = sorted({s for callback in callbacks for s in callback.prune_at if 0 < s < self.length.steps})
        self._steps_a_call = 1 if backend.xp is np else _STEPS_A_CALL  # a GPU's steps are only launched here
        # Samples on the host are gathered on the host, so their order must be on the host.
        place = None if backend.xp is np or on_host(data.train.x) else backend
        shape, joined = data.data.image_shape, self.length.joined
        self._batches = Batches(orders, data.samples, config, place, shape, offsets=data.offsets_of(), joined=joined)
        self._evaluator = Evaluator(self.active, data, self.lam)
        self._patience = Patience.of(network, config)
        # For the unfinished epoch: the figures of its steps, and the seconds of steps from an earlier training.
        self._metrics: StepMetrics | None = None
        self._seconds_before = 0.0
        if start is not None:
            check_start(start, network, self.length, config.optimiser)
            self._restore(start)
        if len(self.active):
            self._set_up()

    @property
    def step(self) -> int:
        """Steps taken."""
        return self.active.state.step

    def run(self, final: Sequence[str] = SETS) -> TrainResult:
        """Train to the end, or until a callback stops it, and evaluate the sets of `final`.

        Raises:
            DivergedError: No network is left.
        """
        if not len(self.active):  # a chunk without active networks; other chunks continue
            if self.active.diverged and not self.active.stopped:
                raise self._all_diverged()
            return self.result(final)
        for epoch in range(len(self.history), self.length.epochs):
            self._epoch(epoch)
            if self.stopped:
                break
        return self.result(final, interrupted=self.stopped and self.step < self.length.steps and len(self.active) > 0)

    def state(self) -> TrainState:
        """Return the state from which this training can continue to the same result, bit for bit."""
        done = max(0, self.step - len(self.history) * self.length.steps_per_epoch)
        xp, replicas = self.network.backend.xp, self.network.replicas
        metrics = (self._metrics or StepMetrics.empty(xp, 0, replicas)).part(0, done)
        return TrainState(
            **self.active.saved(),
            step_metrics=tuple(np.array(self.network.backend.to_numpy(values)) for values in metrics.arrays()),
            history=self.history.columns(),
            seconds_evaluation=self.seconds_evaluation,
            seconds_of_epoch=self._seconds_before,
            best={} if self._patience is None else self._patience.saved(),
        )

    def _restore(self, start: TrainState) -> None:
        """Continue from a state."""
        self.active.restore(start)
        self.history = History(self.eta[0], start.history)
        if self._patience is not None:
            self._patience.restore(start, self.history)
        self.seconds_evaluation, self._seconds_before = start.seconds_evaluation, start.seconds_of_epoch
        if start.validated and self.history.epochs and self.history.epochs[-1].step == start.step:
            self._evaluator.validated = start.step, self.history.epochs[-1].validation
        done = len(start.step_metrics[0])
        if done:
            first = start.epochs * self.length.steps_per_epoch
            count = min(self.length.steps_per_epoch, self.length.steps - first)
            self._metrics = StepMetrics.empty(self.network.backend.xp, count, self.network.replicas)
            for values, before in zip(self._metrics.arrays(), start.step_metrics, strict=True):
                values[:done] = self.network.backend.asarray(before)

    def _set_up(self) -> None:
        """Prepare training and evaluation of the active replicas."""
        active, train, config, asarray = self.active, self.data.train, self.config, self.network.backend.asarray
        self._evaluator.set_up()
        orders = tuple(self.orders[r] for r in active.numbers)
        replicas, weights = self.network.replicas, self._weights
        same = same_order(orders, self.data.offsets_of(active.numbers))
        hyper = Hyperparameters.of(config, replicas, asarray, active.numbers, same, weights)
        hyper = hyper.with_dropout(config, orders, active.numbers)
        self._eta_on_device = asarray(np.ascontiguousarray(self.eta[:, active.numbers]))
        largest = config.batch_size + self.length.joined
        self._stepper: Stepper = make_stepper(
            active.living, train.x, train.labels, hyper, config.stepper, largest, config
        )

    def _epoch(self, epoch: int) -> None:
        """Train, evaluate and record one epoch; record nothing if training was stopped before its first step."""
        xp, length = self.network.backend.xp, self.length
        first = epoch * length.steps_per_epoch
        count = min(length.steps_per_epoch, length.steps - first)
        begin = time.perf_counter()
        metrics = self._metrics = self._metrics or StepMetrics.empty(xp, count, self.network.replicas)
        begun = self.step - first
        done = self._train_epoch(epoch, first, count, metrics)
        loss, correct, penalty = (self.network.backend.to_numpy(values)[:done] for values in metrics.arrays())
        seconds = self._seconds_before + time.perf_counter() - begin
        if done == begun:
            return
        self._seconds_before = seconds
        if done < count:
            self._checkpoint()
        self._metrics, self._seconds_before = None, 0.0
        self._leave_out_diverged(loss, penalty, first)
        self.active.write_back()
        begin = time.perf_counter()
        validation = self._validate()
        if self.config.train_metrics == "full":
            training = self._evaluator("train")
        else:
            training = running_metrics(loss, correct, penalty, self._batches.sizes(done), self.lam)
        evaluation = time.perf_counter() - begin
        self.seconds_evaluation += evaluation
        eta, training = self.eta[self.step - 1], self.active.only_active(training)
        record = EpochRecord(epoch + 1, self.step, eta, training, validation, seconds, evaluation)
        self.history.append(record)
        if self.chunk == (0, self.population):
            for callback in self.callbacks:
                callback.on_epoch_end(record)
        if done == count:
            self._stop_those_without_patience()
            self._checkpoint()

    def _stop_those_without_patience(self) -> None:
        """Judge the epoch that has ended, and stop networks that have waited too long for a better one."""
        if self._patience is None:
            return
        late = self._patience.after_epoch(self.history, self.active)
        if late and self.step < self.length.steps:
            self.active.stop(late, len(self.history))
            self._go_on_without()

    def _go_on_without(self) -> None:
        """Train the networks that are left, if there are any."""
        if len(self.active):
            self._set_up()
        else:
            self.stopped = True

    def _train_epoch(self, epoch: int, first: int, count: int, metrics: StepMetrics) -> int:
        """Take the remaining steps of an epoch of `count` steps; return the number of steps done."""
        done, before = self.step - first, 0
        with np.errstate(all="ignore"):  # overflow shows in the metrics, with its step
            for batches in self._batches.of_epoch(epoch):
                left = batches[max(0, done - before) : count - before]
                before += int(batches.shape[0])
                done += self._take_steps(left, first, done, metrics)
                if self.stopped or done == count:
                    break
        if self.network.backend.xp is not np and epoch + 1 < self.length.epochs and not self.stopped:
            self._batches.prepare(epoch + 1)  # while the device is at work
        return done

    def _take_steps(self, batches: Array, first: int, done: int, metrics: StepMetrics) -> int:
        """Take the steps of `batches` in short calls; return the number of steps taken before a stop."""
        taken, wanted, active = 0, int(batches.shape[0]), self.active
        while taken < wanted and not self.stopped:
            at = done + taken
            until_pruning = next((step - first - at for step in self._prune_at if step > first + at), wanted)
            until_look = _STEPS_A_LOOK - (first + at) % _STEPS_A_LOOK
            size = min(self._steps_a_call, wanted - taken, until_pruning, until_look)
            begin = time.perf_counter()
            eta = self._eta_on_device[first + at : first + at + size]
            active.take_steps(self._stepper, batches[taken : taken + size], eta, metrics.part(at, at + size))
            if time.perf_counter() - begin < _SECONDS_A_CALL / 2:
                self._steps_a_call = min(2 * self._steps_a_call, _STEPS_A_CALL)
            taken += size
            at += size
            prune = self.step in self._prune_at
            # On a GPU, reading losses makes the host wait, so they are read only once an epoch, and before pruning.
            if self.network.backend.xp is np or prune:
                loss, penalty = (self.network.backend.to_numpy(v)[:at] for v in (metrics.loss, metrics.penalty))
                lost = first_lost(loss[:, active.numbers], penalty[:, active.numbers], self.network.dtype) < at
                if prune or self.step % _STEPS_A_LOOK == 0 or lost.all():
                    self._leave_out_diverged(loss, penalty, first)
            for callback in self.callbacks:
                callback.on_steps(size)
            asked = any(callback.should_stop() for callback in self.callbacks)
            self.stopped = self.stopped or asked
            if prune and not self.stopped:
                self._prune()
        return taken

    def _prune(self) -> None:
        """Evaluate the validation set, and let callbacks prune the population."""
        begin = time.perf_counter()
        self.active.write_back()
        figures = self._validate()
        if self._patience is not None:
            figures = self._patience.standing(figures, self.history, self.active.stopped)
        self.seconds_evaluation += time.perf_counter() - begin
        first, end = self.chunk
        around = first, self.population - end
        validation = Metrics(*(np.pad(values, around, constant_values=np.nan) for values in figures.arrays()))
        point = PruningPoint(self.step, tuple(first + int(r) for r in self.active.numbers), self.chunk, validation)
        asked = [callback for callback in self.callbacks if self.step in callback.prune_at]
        pruned = {int(replica) for callback in asked for replica in callback.on_prune(point)}
        if dropped := [replica - first for replica in point.replicas if replica in pruned]:
            self.active.drop(dropped)
            self._go_on_without()

    def _validate(self) -> Metrics:
        """Return validation figures of the present parameters, and leave out replicas without a finite loss."""
        metrics, lost = self._evaluator.validate()
        self._leave_out([(int(r), self.step - 1, float(metrics.losses[r])) for r in lost])
        # Replicas that were pruned in the meantime, or have diverged, have no figures.
        return self.active.only_active(metrics)

    def _leave_out_diverged(self, losses: Values, penalties: Values, first: int) -> None:
        """Leave out replicas that diverged, by the losses and penalties (k, R) of the steps from `first` on."""
        numbers, sizes = self.active.numbers, self._batches.sizes(len(losses))
        rows = first_lost(losses[:, numbers], penalties[:, numbers], self.network.dtype)
        lost = [(int(r), int(row)) for r, row in zip(numbers, rows, strict=True) if row < len(losses)]
        self._leave_out([(r, first + row, float(losses[row, r] / sizes[row])) for r, row in lost])

    def _all_diverged(self) -> DivergedError:
        network = self.network
        normalised = network.config.normalises
        return all_diverged(self.active.diverged, self.config, network.replicas, self.history, normalised=normalised)

    def _leave_out(self, lost: list[tuple[int, int, float]]) -> None:
        """Remove diverged replicas from the training; `lost` has each replica with its step and loss.

        Raises:
            DivergedError: No replica is left.
        """
        if lost:
            self.active.leave_out({r: Divergence(step, float(self.eta[step, r]), loss) for r, step, loss in lost})
            if not len(self.active) and not self.active.stopped:
                raise self._all_diverged()
            self._go_on_without()

    def _checkpoint(self) -> None:
        """Let callbacks save the training."""
        ends = self.stopped or self.step == self.length.steps
        for callback in self.callbacks:
            callback.on_checkpoint(SavePoint(self.network, self.chunk, len(self.history), self.step, ends, self.state))

    def result(self, final: Sequence[str], *, interrupted: bool = False) -> TrainResult:
        """Evaluate the sets of `final` and return the result."""
        begin = time.perf_counter()
        epochs, weights = len(self.history), []
        if self._patience is not None:
            weights = self._patience.epochs_of_weights(self.active, epochs)
            if self._patience.finish(self.active):
                self._evaluator.validated = None
                self._evaluator.set_up()
        figures = self._evaluator.final(final, self.config.views)
        self.seconds_evaluation += time.perf_counter() - begin
        return TrainResult(
            history=self.history,
            **figures,
            views=self.config.views,
            epochs=epochs,
            steps=self.step,
            seconds_training=[record.seconds_training for record in self.history.epochs],
            seconds_evaluation=self.seconds_evaluation,
            seconds_transforms=self.data.seconds,
            device=self.network.backend.device,
            interrupted=interrupted,
            diverged=self.active.diverged,
            dropped=self.active.dropped,
            stopped=self.active.stopped,
            weights=weights,
        )
