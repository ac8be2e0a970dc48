"""Training a network."""

from __future__ import annotations

from collections.abc import Sequence

from xpnet.config.arguments import kind, seeds, some_of, takes
from xpnet.config.fields import optional
from xpnet.config.training import TrainConfig
from xpnet.data import Dataset
from xpnet.nn.initialisers import per_replica
from xpnet.nn.network import Network
from xpnet.training.batches import order_seeds
from xpnet.training.callback import Callback, TrainPlan, callbacks_of
from xpnet.training.device_data import DeviceData
from xpnet.training.evaluator import SETS
from xpnet.training.outcome_warnings import judged
from xpnet.training.result import TrainResult
from xpnet.training.state import TrainState
from xpnet.training.trainer import Trainer
from xpnet.training.validate import on_device_of


@takes(
    network=kind(Network),
    config=optional(kind(TrainConfig)),
    callbacks=callbacks_of,
    start=optional(kind(TrainState)),
    orders=optional(seeds),
    final=some_of(*SETS),
)
def train(
    network: Network,
    data: Dataset | DeviceData,
    config: TrainConfig | None = None,
    *,
    callbacks: Sequence[Callback] = (),
    orders: Sequence[int] | None = None,
    final: Sequence[str] = SETS,
    start: TrainState | None = None,
) -> TrainResult:
    """Train `network` in place and evaluate it; the test set is evaluated once, at the end.

    If the loss of a replica becomes infinite or NaN, or its weights overflow their type, the replica is left out: its
    tensors and its figures are NaN from then on, and the others continue without it.

    Args:
        network: R networks of one architecture.
        data: A data set, or one that :func:`to_device` has prepared for several trainings.
        config: How to train.
        callbacks: Instances of :class:`xpnet.Callback`, called during training.
        orders: Seed of each replica's order of samples; by default :func:`order_seeds` of the settings.
        final: Sets to evaluate at the end; figures of other sets are NaN.
        start: The state of an earlier training with the same settings, from which this one continues to the same
            result.

    Returns:
        The history, and the figures of full passes over the three sets; `network` holds the trained weights.

    Raises:
        ConfigError: An argument is not of its type, or the data, the network, the settings and `start` do not fit
            together.
        DivergedError: The loss became infinite or NaN, for all replicas.
    """
    config = config or TrainConfig()
    data = on_device_of(network, data, config)
    network.learn_about(data.data)
    own = order_seeds(config, network.seeds) if orders is None else per_replica("orders", orders, network.replicas)
    trainer = Trainer(network, data, config, orders=own, callbacks=callbacks, start=start)
    plan = TrainPlan(trainer.length, (trainer.chunk,), tuple(trainer.history.epochs))
    for callback in callbacks:
        callback.on_train_begin(plan)
    rows = [{"seed": seed} for seed in network.seeds]
    result = judged(trainer.run(final), network.config, config, data.data, rows, network)
    for callback in callbacks:
        callback.on_train_end(result)
    return result
