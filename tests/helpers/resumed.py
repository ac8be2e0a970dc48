"""A training that is stopped and goes on, on any backend: it ends with the bits of one that was never stopped."""

from __future__ import annotations

from typing import Any

import numpy as np
from calls import Calls

import xpnet


def check_resumed(
    backend: Any,
    data: Any,
    hidden: tuple[int, ...],
    dtype: str,
    config: Any,
    stops: list[int],
    replicas: int = 2,
    **architecture: Any,
) -> None:
    """Train networks whole, and stopped after about so many steps; both must end alike."""

    def run(start: Any = None, stop: int | None = None) -> Any:
        settings = xpnet.NetworkConfig(inputs=data.features, hidden=hidden, classes=data.classes, **architecture)
        network = xpnet.Network(settings, backend=backend, dtype=dtype, replicas=replicas)
        steps: list[int] = []
        kept: list[Any] = []
        result = xpnet.train(
            network,
            data,
            config,
            start=start,
            callbacks=[
                Calls(
                    on_steps=steps.append,
                    should_stop=lambda: stop is not None and sum(steps) >= stop,
                    on_checkpoint=lambda point: kept.append(point.state()),
                )
            ],
        )
        return network, result, kept[-1]

    whole, expected, _ = run()
    for stop in stops:
        *_, snapshot = run(stop=stop)
        assert 0 < snapshot.step < expected.steps
        again, result, _ = run(start=snapshot)
        for name, tensor in whole.parameters.items():
            np.testing.assert_array_equal(backend.to_numpy(again.parameters[name]), backend.to_numpy(tensor))
        np.testing.assert_array_equal(result.history["validation_loss"], expected.history["validation_loss"])
