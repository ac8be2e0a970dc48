"""The server of live pages: Python's own, on the loopback address alone.

It answers only requests that name this address, so that no other page in the browser can read it under a name of its
own (DNS rebinding), only for the places that its site knows, and writes nothing.
"""

from __future__ import annotations

import json
import os
import threading
import time
import urllib.parse
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any, Protocol

from xpnet.errors import RunError

HOST = "127.0.0.1"
# What the address of a page other than the first begins with; the name of its run follows, and a slash.
AT = "/at/"
# A page that has asked within so many seconds gets the end, for which the server waits as long at most.
_LINGER = 2.5
# Seconds that a request may take to arrive.
_PATIENCE = 10
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_CLOSED = "This page is no longer served: what it shows is the last that was heard."
_ERROR = """<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>%(message)s</title>
<main><h1>%(message)s</h1><p>There is no page at this address; <a href="/">the first page</a> leads to all.</p></main>
</html>
"""
_FILES = {"live.html": "text/html", "live.js": "text/javascript"}


class Site(Protocol):
    """What a server shows: pages by their places; the place of the first one is empty."""

    def has(self, place: str, /) -> bool:
        """Return whether there is a page at a place."""

    def figures(self, place: str, /) -> Mapping[str, Any]:
        """Return what the page at a place draws; its ``"ended"`` says whether nothing will change any more."""


class LiveServer:
    """Serves a site from a thread of its own, until it is closed.

    Args:
        site: What it shows.
        port: The port; 0 takes a free one.

    Raises:
        RunError: The port is taken.
    """

    def __init__(self, site: Site, port: int = 0) -> None:
        self.asked, self.closing = 0.0, False
        self._told = threading.Event()
        try:
            self._server = ThreadingHTTPServer((HOST, port), _handler(self, site))
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
        """The address of the first page."""
        return f"http://{HOST}:{self.port}/"

    def close(self, *, linger: bool = True) -> None:
        """End the server; with `linger`, only after a page that has just asked has got the end."""
        self.closing = True
        if linger and time.monotonic() - self.asked < _LINGER:
            self._told.wait(_LINGER)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def sent(self, figures: Mapping[str, Any]) -> None:
        """Remember that a page has got these figures."""
        self.asked = time.monotonic()
        if figures["ended"]:
            self._told.set()


def address_of(place: str) -> str:
    """Return the path of the page at a place."""
    return f"{AT}{urllib.parse.quote(os.fsencode(place))}/" if place else "/"


def _place_of(path: str) -> tuple[str, str]:
    """Return the place and the rest of a path."""
    if not path.startswith(AT):
        return "", path.removeprefix("/")
    name, _, rest = path.removeprefix(AT).rpartition("/")
    return os.fsdecode(urllib.parse.unquote_to_bytes(name)), rest


def _handler(server: LiveServer, site: Site) -> type[BaseHTTPRequestHandler]:
    """Return the class that answers requests."""

    class Handler(BaseHTTPRequestHandler):
        timeout = _PATIENCE
        error_message_format = _ERROR

        def do_GET(self) -> None:
            if self.headers.get("Host") not in (f"{HOST}:{server.port}", f"localhost:{server.port}"):
                self.send_error(403, "Name the loopback address")
                return
            path = self.path.partition("?")[0]
            if path == "/live.js":
                self._send_file("live.js")
                return
            place, rest = _place_of(path)
            if rest not in ("", "figures") or (path.startswith(AT) and not place) or not site.has(place):
                self.send_error(404)
            elif rest:
                figures = site.figures(place)
                if server.closing and not figures["ended"]:
                    figures = {**figures, "ended": True, "note": _CLOSED}
                self._send(json.dumps(figures).encode(), "application/json")
                server.sent(figures)
            else:
                self._send_file("live.html")

        def _send_file(self, name: str) -> None:
            content = (resources.files("xpnet.report") / "templates" / name).read_bytes()
            self._send(content, f"{_FILES[name]}; charset=utf-8")

        def _send(self, content: bytes, kind: str) -> None:
            self.send_response(200)
            for name, value in (
                ("Content-Type", kind),
                ("Content-Length", str(len(content))),
                ("Cache-Control", "no-store"),
                ("Content-Security-Policy", _POLICY),
                ("X-Content-Type-Options", "nosniff"),
                ("Referrer-Policy", "no-referrer"),
            ):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Say nothing: requests are of no interest in a terminal."""

    return Handler
