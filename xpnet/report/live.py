"""A page that draws a run while it trains, served on the loopback address by the process that trains.

The standard library's server answers only requests that name this address, so that no other page in the browser can
read it under a name of its own (DNS rebinding); nothing is written, and the server ends with the run.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from types import TracebackType
from typing import Any

import numpy as np

from xpnet.errors import RunError
from xpnet.training.callback import Callback, TrainPlan
from xpnet.training.history import EpochRecord, evenly
from xpnet.training.result import TrainResult

HOST = "127.0.0.1"
# Most points of a curve, and most networks with a curve of their own.
_POINTS, _NETWORKS = 500, 6
# A page that has asked within so many seconds gets the end of the run, for which the server waits as long at most.
_LINGER = 2.5
_POLICY = "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'"
_FILES = {"/": ("live.html", "text/html"), "/live.js": ("live.js", "text/javascript")}


class LivePage(Callback):
    """Callback that serves a page which draws the run; a context manager that closes the server.

    Args:
        title: The run in a few words.
        names: Name of each network; empty for a single one.
        port: The port; 0 takes a free one.

    Raises:
        RunError: The port is taken.
    """

    def __init__(self, title: str, names: Sequence[str] = (), port: int = 0) -> None:
        self._title, self._names = title, list(names)
        self._records: list[EpochRecord] = []
        self._of, self._conclusion, self._ended = 1, "", False
        self._lock, self._asked, self._told = threading.Lock(), 0.0, threading.Event()
        try:
            self._server = ThreadingHTTPServer((HOST, port), _handler(self))
        except OSError as error:
            raise RunError(f"watch: port {port} of {HOST} cannot be used ({error.strerror}); leave it out") from None
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port of the server."""
        return int(self._server.server_port)

    @property
    def address(self) -> str:
        """The address of the page."""
        return f"http://{HOST}:{self.port}/"

    def __enter__(self) -> LivePage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._ended = True
        if time.monotonic() - self._asked < _LINGER:
            self._told.wait(_LINGER)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

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

    def figures(self) -> dict[str, Any]:
        """Return what the page draws."""
        with self._lock:
            records, ended, conclusion = list(self._records), self._ended, self._conclusion
        self._asked = time.monotonic()
        count, seconds = len(records), sum(record.seconds_training for record in records)
        state = "ended" if ended else "training"
        state = (
            f"{state}, epoch {count} of {self._of}, {seconds:.1f} s of training" if count else "no epoch has ended yet"
        )
        some = [records[at] for at in evenly(count, _POINTS).tolist()] if count else []
        return {
            "title": self._title,
            "state": state,
            "epoch": count,
            "of": self._of,
            "ended": ended,
            "conclusion": conclusion,
            "epochs": [record.epoch for record in some],
            "charts": self._charts(some) if some else [],
        }

    def told(self) -> None:
        """Remember that a page has got what it asked for."""
        with self._lock:
            if self._ended:
                self._told.set()

    def _charts(self, records: Sequence[EpochRecord]) -> list[dict[str, Any]]:
        charts = []
        for name, column in (("loss", "losses"), ("accuracy", "accuracies")):
            curves = {
                words: _means([getattr(getattr(record, which), column) for record in records])
                for which, words in (("train", "training"), ("validation", "validation"))
            }
            title = name.capitalize() + (f", mean of {len(self._names)} networks" if len(self._names) > 1 else "")
            charts.append({"title": title, "curves": curves, "percent": name == "accuracy"})
        if 1 < len(self._names) <= _NETWORKS:
            values = np.array([record.validation.accuracies for record in records])
            curves = {name: _listed(values[:, r]) for r, name in enumerate(self._names) if r < values.shape[1]}
            charts.append({"title": "Validation accuracy by network", "curves": curves, "percent": True})
        rates = {"rate": _means([record.eta for record in records])}
        return [*charts, {"title": "Learning rate", "curves": rates, "percent": False}]


def _means(values: Sequence[Any]) -> list[float | None]:
    """Return the mean of the finite values of each epoch, None if there are none."""
    known = [array[np.isfinite(array)] for array in map(np.asarray, values)]
    return [float(one.mean()) if one.size else None for one in known]


def _listed(values: Any) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def _handler(page: LivePage) -> type[BaseHTTPRequestHandler]:
    """Return the class that answers requests for `page`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers.get("Host") not in (f"{HOST}:{page.port}", f"localhost:{page.port}"):
                self.send_error(403, "Name the loopback address")
                return
            path = self.path.partition("?")[0]
            if path == "/figures":
                self._send(json.dumps(page.figures()).encode(), "application/json")
                page.told()
            elif path in _FILES:
                name, kind = _FILES[path]
                self._send(
                    (resources.files("xpnet.report") / "templates" / name).read_bytes(), f"{kind}; charset=utf-8"
                )
            else:
                self.send_error(404)

        def _send(self, content: bytes, kind: str) -> None:
            self.send_response(200)
            for name, value in (
                ("Content-Type", kind),
                ("Content-Length", str(len(content))),
                ("Cache-Control", "no-store"),
                ("Content-Security-Policy", _POLICY),
                ("X-Content-Type-Options", "nosniff"),
            ):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Say nothing: requests are of no interest in a terminal."""

    return Handler
