"""The training loop: steps, epochs, evaluation, and all that a training is in its middle."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from xpnet.backend import Array
from xpnet.config.definitions import Length, TrainConfig
from xpnet.data import on_host
from xpnet.nn.network import Network
from xpnet.training.device_data import DeviceData
from xpnet.training.evaluation import Evaluation, finite
from xpnet.training.history import EpochRecord, History, Metrics, Values, running_metrics
from xpnet.training.pruning import PruningPoint, PruningPoints
from xpnet.training.result import Divergence, TrainResult, all_diverged, first_lost
from xpnet.training.schedules import learning_rates
from xpnet.training.state import Standing, TrainState
from xpnet.training.steppers import Hyperparameters, State, StepMetrics, Stepper, make_stepper
from xpnet.training.validate import batches_of_epoch, sizes_of_batches

# The loop looks up from the stepper this often: for Ctrl-C and for progress.
_SECONDS_A_CALL = 0.05
_STEPS_A_CALL = 50
# On the CPU replicas that are lost are left out at multiples of so many steps: not when a call happens to end,
# since in float32 the others' last bits depend on who is trained beside them.
_STEPS_A_LOOK = 50
SETS = ("train", "validation", "test")


class Trainer:
    """One training: its state, what it has recorded, and the steps that bring it on."""

    def __init__(
        self,
        network: Network,
        data: DeviceData,
        config: TrainConfig,
        length: Length,
        on_steps: Callable[[int], None] | None,
        should_stop: Callable[[], bool] | None,
        orders: tuple[int, ...],
        marks: PruningPoints,
        start: TrainState | None = None,
    ) -> None:
        self.orders, self.marks = orders, marks
        self.on_checkpoint: Callable[[Standing], None] | None = None
        self.network, self.data, self.config, self.length = network, data, config, length
        self.on_steps, self.should_stop = on_steps, should_stop
        backend, replicas = network.backend, network.replicas
        self.lam = np.broadcast_to(np.asarray(config.lam, float), (replicas,))
        self.rho = np.broadcast_to(np.asarray(config.momentum, float), (replicas,))
        with_momentum = bool(self.rho.any())
        self.state = State(
            network.parameters,
            {name: backend.xp.zeros_like(p) for name, p in network.parameters.items()} if with_momentum else {},
            network.running,
        )
        # The replicas that are trained, by number: those that have neither diverged nor been dropped.
        self.alive = np.arange(replicas)
        self.diverged: dict[int, Divergence] = {}
        self.dropped: dict[int, int] = {}
        self.eta = learning_rates(config, length, replicas)
        self._set_up(network)
        self.history = History(self.eta[0])
        self.seconds_training: list[float] = []
        self.seconds_evaluation = 0.0
        self.stopped = self.within_epoch = False
        # A GPU's steps are only launched here: how long they take is not seen.
        self._steps_a_call = 1 if backend.xp is np else _STEPS_A_CALL
        # Samples that stay on the host are gathered there.
        self._host_rows = backend.xp is np or on_host(data.train.x)
        self._prepared: tuple[int, list[Array]] | None = None
        self._validated: tuple[int, Metrics] | None = None
        # Figures of the steps of the epoch that is not finished, and how long they took.
        self._totals: StepMetrics | None = None
        self._seconds_before = 0.0
        if start is not None:
            self._go_on_from(start)

    def _go_on_from(self, start: TrainState) -> None:
        """Take over what a snapshot holds."""
        backend, xp = self.network.backend, self.network.backend.xp
        for home, tensors in (
            (self.network.parameters, start.parameters),
            (self.network.running, start.running),
            (self.state.velocities, start.velocities),
        ):
            for name in home.keys() & tensors.keys():  # velocities are lost where there is no momentum any more
                home[name][...] = backend.asarray(tensors[name])
        self.state.step = start.step
        self.diverged, self.dropped = dict(start.diverged), dict(start.dropped)
        self.history = History(self.eta[0], start.history)
        self.seconds_training = [record.seconds_training for record in self.history.epochs]
        self.seconds_evaluation, self._seconds_before = start.seconds_evaluation, start.seconds_of_epoch
        if start.validated and self.history.epochs and self.history.epochs[-1].step == start.step:
            self._validated = start.step, self.history.epochs[-1].validation
        done = len(start.totals[0])
        if done:
            first = start.epochs * self.length.steps_per_epoch
            count = min(self.length.steps_per_epoch, self.length.steps - first)
            self._totals = StepMetrics.empty(xp, count, self.network.replicas)
            for whole, part in zip(self._totals.arrays(), start.totals, strict=True):
                whole[:done] = backend.asarray(part)
        if 0 < len(start.alive) < self.network.replicas:
            self._keep(np.asarray(start.alive, np.int64))
        self.alive = np.asarray(start.alive, np.int64)

    def snapshot(self) -> TrainState:
        """Return everything from which this training goes on to the same end, to the last bit."""
        self._hand_back()
        network = self.network
        to_numpy, replicas = network.backend.to_numpy, network.replicas
        velocities = {}
        for name, tensor in self.state.velocities.items():
            whole = np.zeros((replicas, *tensor.shape[1:]), network.dtype)
            whole[self.alive] = to_numpy(tensor)
            velocities[name] = whole
        done = self.state.step - len(self.history) * self.length.steps_per_epoch
        totals = StepMetrics.empty(np, 0, replicas) if self._totals is None or done <= 0 else self._totals.part(0, done)
        return TrainState(
            step=self.state.step,
            parameters={name: np.array(to_numpy(p)) for name, p in network.parameters.items()},
            running={name: np.array(to_numpy(p)) for name, p in network.running.items()},
            velocities=velocities,
            alive=tuple(map(int, self.alive)),
            diverged=dict(self.diverged),
            dropped=dict(self.dropped),
            totals=tuple(np.array(to_numpy(part)) for part in totals.arrays()),
            history=self.history.columns(),
            seconds_evaluation=self.seconds_evaluation,
            seconds_of_epoch=self._seconds_before,
        )

    def checkpoint(self) -> None:
        """Let the training be saved as it stands."""
        if self.on_checkpoint is not None:
            ends = self.stopped or self.state.step == self.length.steps
            self.on_checkpoint(Standing(len(self.history), self.state.step, ends, self.snapshot))

    def _set_up(self, living: Network) -> None:
        """Make what trains and evaluates `living`, the replicas that are left."""
        self.living = living
        sets = {which: getattr(self.data, which) for which in SETS}
        self._evaluations = {which: Evaluation(living, part.x, part.labels) for which, part in sets.items()}
        self.stepper = self._make_stepper()

    def _make_stepper(self) -> Stepper:
        train, backend = self.data.train, self.network.backend
        rho = backend.asarray(self.rho[self.alive]) if self.state.velocities else None
        orders = tuple(self.orders[r] for r in self.alive)
        hyper = Hyperparameters(backend.asarray(self.lam[self.alive]), rho, self.config.nesterov, orders)
        self.eta_on_device = backend.asarray(np.ascontiguousarray(self.eta[:, self.alive]))
        config = self.config
        return make_stepper(self.living, train.x, train.labels, hyper, config.stepper, config.batch_size, config)

    def epoch(self, epoch: int) -> EpochRecord | None:
        """Train one epoch and evaluate; None if training was stopped before its first step."""
        backend, length = self.network.backend, self.length
        first = epoch * length.steps_per_epoch
        count = min(length.steps_per_epoch, length.steps - first)
        begin = time.perf_counter()
        totals = self._totals = self._totals or StepMetrics.empty(backend.xp, count, self.network.replicas)
        done = begun = self.state.step - first
        met = 0
        with np.errstate(all="ignore"):  # what overflows is found in the totals, with its step
            for batches in self._batches(epoch):
                size = int(batches.shape[0])
                perm = batches[max(0, done - met) : count - met]
                met += size
                done += self._steps(perm, first, done, totals)
                if self.stopped or done == count:
                    break
        if backend.xp is not np and epoch + 1 < length.epochs and not self.stopped:
            self._prepared = epoch + 1, self._batches(epoch + 1)  # while the device is at work
        loss, correct, penalty = (backend.to_numpy(part)[:done] for part in totals.arrays())
        seconds = self._seconds_before + time.perf_counter() - begin
        if done == begun:
            return None
        self._seconds_before = seconds
        self.within_epoch = done < count
        if self.within_epoch:
            self.checkpoint()
        self._totals, self._seconds_before = None, 0.0
        self.seconds_training.append(seconds)
        self._freeze(loss, penalty, first)
        self._hand_back()
        begin = time.perf_counter()
        validation = self._validate()
        if self.config.train_metrics == "full":
            training = self._evaluate("train")
        else:
            sizes = sizes_of_batches(done, int(self.data.train.x.shape[0]), self.config)
            training = running_metrics(loss, correct, penalty, sizes, self.lam)
        evaluation = time.perf_counter() - begin
        self.seconds_evaluation += evaluation
        return EpochRecord(
            epoch + 1,
            self.state.step,
            self.eta[self.state.step - 1],
            self._of_living(training),
            validation,
            seconds,
            evaluation,
        )

    def result(self, interrupted: bool, final: Sequence[str]) -> TrainResult:
        """Evaluate the sets of `final` and return what was learned."""
        begin = time.perf_counter()
        nothing = np.full(self.network.replicas, np.nan)
        unknown = Metrics(nothing, nothing, nothing)
        train, validation, test = (self._at_end(which) if which in final else unknown for which in SETS)
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
            diverged=self.diverged,
            dropped=self.dropped,
        )

    def _at_end(self, which: str) -> Metrics:
        if which == "validation" and self._validated is not None and self._validated[0] == self.state.step:
            return self._of_living(self._validated[1])
        return self._evaluate(which)

    def _steps(self, perm: Array, first: int, done: int, totals: StepMetrics) -> int:
        """Run the steps of `perm` in short calls; return how many were taken before a stop."""
        taken, wanted = 0, int(perm.shape[0])
        while taken < wanted and not self.stopped:
            at = done + taken
            size = min(self._steps_a_call, wanted - taken, self.marks.until_next(first + at) or wanted)
            size = min(size, _STEPS_A_LOOK - (first + at) % _STEPS_A_LOOK)
            begin = time.perf_counter()
            self._take(perm[taken : taken + size], first + at, totals.part(at, at + size))
            if time.perf_counter() - begin < _SECONDS_A_CALL / 2:
                self._steps_a_call = min(2 * self._steps_a_call, _STEPS_A_CALL)
            taken += size
            at += size
            # On a GPU a look at the losses would make the host wait: there it is once an epoch, and at marks.
            if self.network.backend.xp is np or self.state.step in self.marks:
                loss, penalty = (self.network.backend.to_numpy(part)[:at] for part in (totals.loss, totals.penalty))
                self._freeze(loss, penalty, first, now=self.state.step in self.marks)
            if self.on_steps is not None:
                self.on_steps(size)
            self.stopped = self.should_stop is not None and self.should_stop()
            if self.state.step in self.marks and not self.stopped:
                self._at_mark()
        return taken

    def _at_mark(self) -> None:
        """Tell how the population stands, and go on without the replicas that are dropped."""
        begin = time.perf_counter()
        self._hand_back()
        validation = self._validate()
        self.seconds_evaluation += time.perf_counter() - begin
        chunk = 0, self.network.replicas
        dropped = self.marks.to_drop(PruningPoint(self.state.step, tuple(map(int, self.alive)), chunk, validation))
        self.dropped |= dict.fromkeys(dropped, self.state.step)
        if len(dropped) == len(self.alive):
            self.alive, self.stopped = self.alive[:0], True
        elif dropped:
            self._keep(np.flatnonzero(~np.isin(self.alive, dropped)))

    def _validate(self) -> Metrics:
        """Return validation figures of the parameters as they are; replicas without a finite loss are frozen."""
        if self._validated is None or self._validated[0] != self.state.step:
            metrics = self._evaluate("validation")
            if len(self.alive):
                lost = self.alive[~(finite(self.living) & np.isfinite(metrics.losses[self.alive]))]
                self._leave_out(lost, np.full(len(lost), self.state.step - 1), metrics.losses[lost])
            self._validated = self.state.step, metrics
        # Those that were dropped since, or are found to have diverged, have none.
        return self._of_living(self._validated[1])

    def _take(self, perm: Array, step: int, totals: StepMetrics) -> None:
        """Take the steps of `perm` with the replicas that are alive, from the training's step `step` on."""
        xp, size = self.network.backend.xp, int(perm.shape[0])
        eta = self.eta_on_device[step : step + size]
        if len(self.alive) == self.network.replicas:
            self.stepper.run(self.state, perm, eta, totals)
        else:
            alive = self.network.backend.asarray(self.alive)
            some = StepMetrics.empty(xp, size, len(self.alive))
            rows = perm if perm.ndim == 2 else perm[:, self.alive if self._host_rows else alive]
            self.stepper.run(self.state, rows, eta, some)
            for whole, part in zip(totals.arrays(), some.arrays(), strict=True):
                whole[:, alive] = part

    def _freeze(self, losses: Values, penalties: Values, first: int, now: bool = True) -> None:
        """Stop training replicas that were lost in steps with these losses and penalties (k, R), from `first` on.

        If not `now`, at the next step at which that is done, or at once if no other replica is left.
        """
        rows = first_lost(losses[:, self.alive], penalties[:, self.alive], self.network.dtype)
        lost = rows < len(losses)
        if now or self.state.step % _STEPS_A_LOOK == 0 or lost.all():
            gone, rows = self.alive[lost], rows[lost]
            sizes = sizes_of_batches(len(losses), int(self.data.train.x.shape[0]), self.config)
            self._leave_out(gone, first + rows, losses[rows, gone] / sizes[rows])

    def _leave_out(self, lost: NDArray[np.int64], steps: NDArray[np.int64], losses: Values) -> None:
        """Go on without replicas that have diverged at steps with losses (l,), and let their tensors be no numbers.

        What these are at the moment says nothing, and depends on when it was noticed.

        Raises:
            DivergedError: No replica is left.
        """
        if not len(lost):
            return
        for r, step, loss in zip(lost.tolist(), steps.tolist(), losses.tolist(), strict=True):
            self.diverged[r] = Divergence(step, float(self.eta[step, r]), loss)
        keep = np.flatnonzero(~np.isin(self.alive, lost))
        if len(keep):
            self._keep(keep)
        gone = self.network.backend.asarray(lost)
        for tensors in (self.network.parameters, self.network.running):
            for tensor in tensors.values():
                tensor[gone] = np.nan
        if not len(keep):
            raise all_diverged(self.diverged, self.config, self.network.replicas, self.history)

    def _keep(self, columns: NDArray[np.int64]) -> None:
        """Go on with some of the living replicas, on copies of their tensors."""
        self._hand_back()
        self.state = self.state.select(self.network.backend.asarray(columns))
        self.alive = self.alive[columns]
        self._set_up(self.network.sharing([*map(int, self.alive)], self.state.parameters, self.state.running))

    def _hand_back(self) -> None:
        """Write what the living replicas have learned into the network, where they train on copies."""
        if len(self.alive) in (0, self.network.replicas):
            return
        alive = self.network.backend.asarray(self.alive)
        for home, trained in (
            (self.network.parameters, self.state.parameters),
            (self.network.running, self.state.running),
        ):
            for name, tensor in trained.items():
                home[name][alive] = tensor

    def _of_living(self, metrics: Metrics) -> Metrics:
        """Return figures that are not a number for the replicas that are not trained any more."""
        if len(self.alive) == self.network.replicas:
            return metrics
        living = np.where(np.isin(np.arange(self.network.replicas), self.alive), 1.0, np.nan)
        return Metrics(metrics.accuracies * living, metrics.losses * living, metrics.costs * living)

    def _batches(self, epoch: int) -> list[Array]:
        """Return an epoch's order of samples: full batches (k, n) or (k, R, n), then an incomplete one."""
        if self._prepared is not None and self._prepared[0] == epoch:
            return self._prepared[1]
        ordered = batches_of_epoch(self.orders, epoch, int(self.data.train.x.shape[0]), self.config)
        return ordered if self._host_rows else [self.network.backend.asarray(b) for b in ordered]

    def _evaluate(self, which: str) -> Metrics:
        """Return figures (R,) of a full pass of the living replicas."""
        if len(self.alive) == 0:
            figures = [np.empty(0)] * 3
        else:
            with np.errstate(all="ignore"):
                found = self._evaluations[which](self.lam[self.alive])
            figures = [found.accuracies, found.losses, found.costs]
        whole = np.full((3, self.network.replicas), np.nan)
        whole[:, self.alive] = figures
        return Metrics(*whole)
