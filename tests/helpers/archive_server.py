"""A server of an archive that answers as badly as servers do."""

from __future__ import annotations

import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FOLDER = "cifar-10-batches-py"
Answer = Callable[[BaseHTTPRequestHandler, bytes], None]


def whole(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    headers(handler, len(content))
    handler.wfile.write(content)


def headers(handler: BaseHTTPRequestHandler, length: int | None) -> None:
    handler.send_response(200)
    if length is not None:
        handler.send_header("Content-Length", str(length))
    handler.end_headers()


def cut(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    headers(handler, len(content))
    handler.wfile.write(content[: len(content) // 2])


def cut_without_length(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    headers(handler, None)
    handler.wfile.write(content[: len(content) // 2])


def stall(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    headers(handler, len(content))
    handler.wfile.write(content[:100])
    handler.wfile.flush()
    time.sleep(1)


def drip(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    headers(handler, len(content))
    for i in range(30):
        handler.wfile.write(content[i : i + 1])
        handler.wfile.flush()
        time.sleep(0.05)


def wrong_bytes(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    whole(handler, content[:-1] + bytes([content[-1] ^ 1]))


def too_long_a_claim(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    headers(handler, len(content) + 10)
    handler.wfile.write(content)


def too_short_a_claim(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    headers(handler, len(content) - 10)
    handler.wfile.write(content)


def endless(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    headers(handler, None)
    for _ in range(100):
        handler.wfile.write(content)


def status(code: int) -> Answer:
    return lambda handler, content: handler.send_error(code)


def hang_up(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    handler.connection.close()


class Server(ThreadingHTTPServer):
    """Gives the answers of a list, one a request, and the last again and again."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, content: bytes) -> None:
        self.answers: list[Answer] = [whole]
        self.requests: list[str] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.requests.append(self.path)
                answer = owner.answers[min(len(owner.requests), len(owner.answers)) - 1]
                answer(self, content)

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that have gone."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/mirror"
