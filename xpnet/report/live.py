"""A page that draws a run while it trains, served on the loopback address by the process that trains."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.report.live_charts import POINTS, layer_charts, live_page, run_charts
from xpnet.report.live_server import LiveServer
from xpnet.training.callback import Callback, TrainPlan
from xpnet.training.history import EpochRecord, evenly
from xpnet.training.result import TrainResult

if TYPE_CHECKING:
    from xpnet.analysis.layer_history import LayerHistory


class LivePage(Callback):
    """Callback that serves a page which draws the run; a context manager that closes the server.

    Args:
        title: The run in a few words.
        names: Name of each network; empty for a single one.
        port: The port; 0 takes a free one.
        layers: Statistics of the layers that somebody records during the training, which the page draws too; such as
            ``Recorder.history`` of :mod:`xpnet.analysis.layer_history`.

    Raises:
        RunError: The port is taken.
    """

    def __init__(
        self, title: str, names: Sequence[str] = (), port: int = 0, layers: LayerHistory | None = None
    ) -> None:
        self._title, self._names, self._layers = title, list(names), layers
        self._records: list[EpochRecord] = []
        self._of, self._conclusion, self._ended = 1, "", False
        self._lock = threading.Lock()
        self.server = LiveServer(self, port)

    @property
    def port(self) -> int:
        """The port of the server."""
        return self.server.port

    @property
    def address(self) -> str:
        """The address of the page."""
        return self.server.address

    def __enter__(self) -> LivePage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._ended = True
        self.server.close()

    def on_train_begin(self, plan: TrainPlan) -> None:
        """Take the length of the training, and the epochs before it was resumed."""
        with self._lock:
            self._of, self._records = plan.length.epochs, list(plan.records)

    def on_epoch_end(self, record: EpochRecord) -> None:
        """Add an epoch to the page."""
        with self._lock:
            self._records.append(record)

    def on_train_end(self, result: TrainResult) -> None:
        """Show the conclusion."""
        with self._lock:
            self._conclusion = "" if result.conclusion is None else result.conclusion.text

    def has(self, place: str) -> bool:
        """Return whether there is a page at a place: the first one alone."""
        return not place

    def figures(self, place: str = "") -> dict[str, Any]:  # noqa: ARG002 - there is one place
        """Return what the page draws."""
        with self._lock:
            records, ended, conclusion = list(self._records), self._ended, self._conclusion
        count, seconds = len(records), sum(record.seconds_training for record in records)
        state = "no epoch has ended yet"
        if count:
            word = "ended" if ended else "training"
            state = f"{word}, epoch {count} of {self._of}, {seconds:.1f} s of training"
        charts = [*(run_charts(_columns(records), self._names) if records else []), *self._layer_charts()]
        known = {"done": count, "of": self._of, "conclusion": conclusion, "charts": charts}
        return live_page("run", self._title, state, ended=ended, **known)

    def _layer_charts(self) -> list[dict[str, Any]]:
        statistics = [] if self._layers is None else list(self._layers.statistics)
        if not statistics:
            return []
        names = vars(statistics[0].diagnosis)
        measures = {name: np.array([getattr(one.diagnosis, name) for one in statistics]) for name in names}
        return layer_charts([one.epoch for one in statistics], measures)


def _columns(records: Sequence[EpochRecord]) -> dict[str, Any]:
    """Return the columns of the epochs that are drawn."""
    records = [records[at] for at in evenly(len(records), POINTS).tolist()]
    columns = {"epoch": [record.epoch for record in records], "eta": [record.eta for record in records]}
    for which in ("train", "validation"):
        for name, field in (("loss", "losses"), ("accuracy", "accuracies")):
            columns[f"{which}_{name}"] = [getattr(getattr(record, which), field) for record in records]
    return {name: np.array(values) for name, values in columns.items()}
