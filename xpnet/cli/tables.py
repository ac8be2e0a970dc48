"""Tables for people, of rich."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.training.history import Metrics, summary
from xpnet.training.population import Population
from xpnet.training.result import TrainResult


def combinations_table(population: Population, result: TrainResult) -> Any:
    """Return one row for each combination of settings: validation and test figures over its seeds.

    The combination with the best validation accuracy is set off, unless all networks are no better than guessing; the
    test set has no say in it, and a network that diverged counts as worse than any that did not.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from xpnet.cli.console import number, percent

    trained = len(result.test.losses)
    combinations = [(c, [r for r in members if r < trained]) for c, members in population.combinations()]
    combinations = [(c, members) for c, members in combinations if members]
    accuracies = [float(np.nan_to_num(result.validation.accuracies[m], nan=-1).mean()) for _, m in combinations]
    best = None if result.none_better else int(np.argmax(accuracies))
    several = max(len(members) for _, members in combinations) > 1
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in combinations[0][0]:
        table.add_column(name, justify="right", no_wrap=True)
    if several:
        table.add_column("runs", justify="right")
    for column in ("validation", "test", "test loss", "test cost"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("")
    for index, (combination, members) in enumerate(combinations):
        cells = [f"{value:g}" if isinstance(value, float) else str(value) for value in combination.values()]
        cells += [str(len(members))] if several else []

        def of(values: Any, members: list[int] = members) -> Any:
            return summary(values[members])

        test: Metrics = result.test
        cells += [percent(of(result.validation.accuracies)), percent(of(test.accuracies))]
        cells += [number(of(test.losses)), number(of(test.costs))]
        gone = sum(r in result.diverged for r in members)
        notes = ["best validation"] if index == best else []
        notes += [f"{gone} of {len(members)} diverged"] if gone and several else []
        table.add_row(*cells, "; ".join(notes), style="bold" if index == best else None)
    return table
