"""Training a network: what goes in, what comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from xpnet.config.arguments import function, kind, seeds, some_of, takes, whole_numbers
from xpnet.config.definitions import Length, TrainConfig
from xpnet.config.fields import optional
from xpnet.data import Dataset
from xpnet.errors import ConfigError
from xpnet.nn.initialisers import per_replica
from xpnet.nn.layers import parameter_shapes
from xpnet.nn.network import Network
from xpnet.training.device_data import DeviceData
from xpnet.training.history import EpochRecord
from xpnet.training.pruning import PruningPoint, PruningPoints
from xpnet.training.result import TrainResult, all_diverged
from xpnet.training.state import Standing, TrainState, misfit
from xpnet.training.trainer import SETS, Trainer
from xpnet.training.validate import on_device_of, order_seeds
from xpnet.training.verdicts import judged


@takes(
    network=kind(Network),
    config=optional(kind(TrainConfig)),
    start=optional(kind(TrainState)),
    orders=optional(seeds),
    marks=whole_numbers,
    final=some_of(*SETS),
    **dict.fromkeys(("on_epoch", "on_steps", "should_stop", "on_mark", "on_checkpoint"), optional(function)),
)
def train(
    network: Network,
    data: Dataset | DeviceData,
    config: TrainConfig | None = None,
    *,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    on_steps: Callable[[int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    orders: Sequence[int] | None = None,
    marks: Iterable[int] = (),
    on_mark: Callable[[PruningPoint], Iterable[int]] | None = None,
    final: Sequence[str] = SETS,
    start: TrainState | None = None,
    on_checkpoint: Callable[[Standing], None] | None = None,
) -> TrainResult:
    """Train `network` in place and evaluate it; the test set is evaluated once, at the end.

    A replica of a population whose loss becomes infinite or not a number, or whose weights outgrow their type, is
    left out: its tensors and its figures are not a number from there on, and the others go on without it.

    Args:
        network: R networks of one architecture.
        data: A data set, or one that :func:`to_device` has prepared for several runs.
        config: How to train.
        on_epoch: Called with each epoch's record.
        on_steps: Called with the number of steps just taken, every few hundredths of a second.
        should_stop: Asked after every few steps; training ends when it returns True.
        orders: Seed of each replica's order of samples; :func:`order_seeds` of the settings if not given.
        marks: Steps after which validation figures are taken and `on_mark` is asked.
        on_mark: Returns the replicas that are to be dropped: they stay as they are, and the others go on
            without them, in less time.
        final: Sets that are evaluated at the end; figures of others are not a number.
        start: Where an earlier training of the same settings stood; this one goes on from there to the same end.
        on_checkpoint: Called after every epoch, and when training is stopped within one, with how the training
            stands; called, that returns the snapshot.

    Returns:
        The history, and the figures of full passes over the three sets; `network` holds the trained weights.

    Raises:
        ConfigError: An argument is not of its type, or the data, the network, the settings and `start` do not fit
            together.
        DivergedError: The loss became infinite or not a number, for all replicas.
    """
    config = config or TrainConfig()
    data = on_device_of(network, data, config)
    length = config.length(int(data.train.x.shape[0]))
    if start is not None:
        _check_start(start, network, length)
    network.learn_about(data.data)

    own = order_seeds(config, network.seeds) if orders is None else per_replica("orders", orders, network.replicas)
    at_marks = PruningPoints(marks, on_mark, length.steps)
    loop = Trainer(network, data, config, length, on_steps, should_stop, own, at_marks, start)
    loop.on_checkpoint = on_checkpoint
    interrupted = False
    rows = [{"seed": seed} for seed in network.seeds]
    if not len(loop.alive):  # a part of a population of which others are left
        if loop.diverged:
            raise all_diverged(loop.diverged, config, network.replicas, loop.history)
        return judged(loop.result(False, final), network.config, config, data.data, rows)
    for epoch in range(len(loop.history), length.epochs):
        record = loop.epoch(epoch)
        if record is not None:
            loop.history.append(record)
            if on_epoch is not None:
                on_epoch(record)
            if not loop.within_epoch:
                loop.checkpoint()
        if loop.stopped:
            interrupted = loop.state.step < length.steps and len(loop.alive) > 0
            break
    return judged(loop.result(interrupted, final), network.config, config, data.data, rows)


def _check_start(start: TrainState, network: Network, length: Length) -> None:
    """Refuse a snapshot that is of another network, or of a training in which it would stand elsewhere.

    Raises:
        ConfigError: It is.
    """
    why = misfit(start, parameter_shapes(network.config, network.replicas), str(network.dtype))
    done = len(start.totals[0])
    at = min(start.epochs * length.steps_per_epoch + done, length.steps)
    if not why and start.epochs > length.epochs:
        why = f"it has trained {start.epochs} epochs already, and {length.epochs} are asked for"
    if not why and start.step != at:
        why = f"it stands at step {start.step}, which would be step {at} with epochs of {length.steps_per_epoch} steps"
    if why:
        raise ConfigError(f"start: the network cannot go on from it, {why}")
