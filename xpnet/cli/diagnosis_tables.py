"""The outcome of a diagnosis for people: tables of the last statistics, and sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from xpnet.analysis.verdict_words import LayerVerdict, grouped, in_a_sentence
from xpnet.cli.console import number as number_text
from xpnet.cli.console import percent
from xpnet.cli.tables import table
from xpnet.utils.plural import counted

if TYPE_CHECKING:
    from xpnet.analysis.layer_history import LayerHistory
    from xpnet.nn.network import Network
    from xpnet.training.population import Population

# Number of networks in the printed tables; the files have all of them.
_SHOWN = 4
COLUMNS = {
    "s_std": "s std",
    "s_spread": "s spread",
    "y_mean": "y mean",
    "y_std": "y std",
    "gradient_rms": "dJ/ds",
    "W_rms": "W",
    "W_gradient_rms": "dJ/dW",
    "update_ratio": "\N{GREEK SMALL LETTER ETA}|dJ/dW|/|W|",
    "dead": "dead",
    "inactive": "inactive",
    "effective_rank": "rank",
    "similarity": "cosine",
    "relative_spread": "spread/mean",
}


def statistics_tables(history: LayerHistory, population: Population) -> list[Table]:
    """Return the last diagnosis: a table for each of the first networks, with a row for each layer."""
    last = history.statistics[-1]
    tables = []
    for r, row in enumerate(population.rows[:_SHOWN]):
        which = "" if len(population) == 1 else ", ".join(f"{name} {value}" for name, value in row.items()) + ", "
        rows = [
            [str(layer + 1), *(_cell(name, float(getattr(last.diagnosis, name)[r, layer])) for name in COLUMNS)]
            for layer in range(last.diagnosis.s_std.shape[1])
        ]
        tables.append(table(["layer", *COLUMNS.values()], rows, title=f"{which}epoch {last.epoch}"))
    return tables


def _cell(name: str, value: float) -> str:
    if np.isnan(value):
        return "-"
    if name in ("dead", "inactive"):
        return f"{100 * value:.0f} %"
    if name == "effective_rank":
        return f"{value:.2f}"
    return f"{value:.4f}" if name == "similarity" else f"{value:.1e}"


def verdicts_in_words(verdicts: Sequence[LayerVerdict], networks: int) -> list[str]:
    """Return the verdicts on the first networks, a line for layers of which the same is said, and a conclusion."""
    shown = [verdict for verdict in verdicts if verdict.replica < _SHOWN]
    which = "network {}, " if networks > 1 else ""
    lines = [f"{which.format(one.replica)}{layers}: {one.words}" for layers, one in grouped(shown)]
    return [*lines, *([f"conclusion: {in_a_sentence(shown, networks)}"] if shown else [])]


def networks_in_words(history: LayerHistory) -> list[str]:
    """Return a line on how each of the first networks classifies the samples at the end."""
    found, lines = history.statistics[-1].diagnosis, []
    several = len(found.loss) > 1
    for r in range(min(_SHOWN, len(found.loss))):
        if np.isnan(found.loss[r]):
            lines.append(f"network {r}: diverged")
            continue
        classes = int(found.predicted[r])
        says = "every sample gets the same class" if classes == 1 else f"{classes} different classes are predicted"
        which = f"network {r}: " if several else ""
        lines.append(f"{which}loss {number_text(found.loss[r])}, accuracy {percent(found.accuracy[r])}; {says}")
    if len(found.loss) > _SHOWN:
        lines.append(f"diagnosis.csv has {counted(len(found.loss) - _SHOWN, 'network')} more")
    return lines


def no_dead_units(network: Network) -> list[str]:
    """Return a line on why no shares of dead units are shown, for an activation that has none."""
    from xpnet.ops.activations import ACTIVATIONS

    activation = network.config.activation
    if ACTIVATIONS[activation].rests:
        return []
    return [f"dead, inactive: not measured, since outputs of {activation} are not exactly 0 for a range of inputs"]


def repetition(repeated: dict[str, Any] | None) -> list[str]:
    """Return a line on whether the network equals that of the run, if they can be compared."""
    if repeated is None:
        return []
    if repeated["identical"]:
        return ["the repeated network is that of the run, bit for bit"]
    difference = f"the repeated network differs from the run's by up to {repeated['largest_difference']:.1e}: "
    why = "other hardware, libraries or networks beside it round differently, or the data or the settings have changed"
    return [difference + why]
