"""The files of figures that commands draw in their folders, by kind of command: names and contents.

Each function takes the figures of a result and the kinds of pictures, and is called in the process that draws
(:mod:`xpnet.report.drawing_process`), which loads the modules of the charts.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from xpnet.report.figure import chart_files, panel_files

if TYPE_CHECKING:
    from xpnet.analysis.layer_history import LayerHistory
    from xpnet.analysis.lr_suggestion import LRRange
    from xpnet.reproduction import Experiment, Outcome
    from xpnet.training.history import History
    from xpnet.training.population import Population
    from xpnet.training.result import TrainResult

# The stems of the files.
CURVES, RANGE, DIAGNOSIS = "curves", "lr_range", "diagnosis"
Files = dict[str, bytes]


def drawn(name: str, *arguments: Any) -> Files:
    """Return the files of a function of this module, by its name."""
    files: Files = getattr(sys.modules[__name__], name)(*arguments)
    return files


def curves(history: History, title: str, kinds: Sequence[str]) -> Files:
    """Return the curves of a training; see :func:`xpnet.report.curves_chart.curves`."""
    from xpnet.report import curves_chart

    return chart_files(curves_chart.curves(history, title), CURVES, kinds)


def population(population: Population, result: TrainResult, title: str, kinds: Sequence[str]) -> Files:
    """Return the curves of networks that differ in settings; see :mod:`xpnet.report.population_chart`."""
    from xpnet.report import population_chart

    return chart_files(population_chart.population_figure(population, result, title), CURVES, kinds)


def lr_range(test: LRRange, title: str, kinds: Sequence[str]) -> Files:
    """Return the curves of a range test; see :func:`xpnet.report.lr_range_chart.range_figure`."""
    from xpnet.report.lr_range_chart import range_figure

    return chart_files(range_figure(test, title), RANGE, kinds)


def diagnosis(history: LayerHistory, population: Population, title: str, samples: int, kinds: Sequence[str]) -> Files:
    """Return the measures of the layers; see :func:`xpnet.report.diagnosis_chart.diagnosis_figure`."""
    from xpnet.report.diagnosis_chart import diagnosis_figure

    return chart_files(diagnosis_figure(history, population, title, samples), DIAGNOSIS, kinds)


def search(found: Mapping[str, Any], kinds: Sequence[str]) -> Files:
    """Return the figures of a search, with their data; see :func:`xpnet.report.search_chart.search_panels`."""
    from xpnet.report.search_chart import search_panels

    files: Files = {}
    for panel in search_panels(found):
        files |= panel_files(panel, kinds)
    return files


def reproduction(experiment: Experiment, outcome: Outcome, kinds: Sequence[str]) -> Files:
    """Return the figures of an experiment of a report, with their data; see :mod:`xpnet.report.reproduction_chart`."""
    from xpnet.report.reproduction_chart import reproduction_files

    return reproduction_files(experiment, outcome, kinds)
