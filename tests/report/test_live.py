"""The page that draws a run while it trains."""

from __future__ import annotations

import http.client
import json
import re

import pytest

import xpnet
from xpnet.cli import main
from xpnet.data import Dataset
from xpnet.errors import RunError
from xpnet.report.live import LivePage


def ask(page: LivePage, path: str, host: str | None = None) -> tuple[int, str, http.client.HTTPResponse]:
    """Return the status, the body and the answer to a request."""
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=10)
    connection.request("GET", path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body, answer


class Look(xpnet.Callback):
    """Asks the page after every epoch."""

    def __init__(self, page: LivePage) -> None:
        self.page, self.seen = page, []

    def on_epoch_end(self, record) -> None:
        self.seen.append(json.loads(ask(self.page, "/figures")[1]))


def test_live_page_has_the_curves_of_each_epoch(blobs: Dataset):
    config = xpnet.NetworkConfig(inputs=blobs.features, classes=blobs.classes, hidden=(8,))
    with LivePage("A <run>", ["seed 0", "seed 1"]) as page:
        assert page.address == f"http://127.0.0.1:{page.port}/"
        assert json.loads(ask(page, "/figures")[1])["state"] == "no epoch has ended yet"
        look = Look(page)
        network = xpnet.Network(config, seed=0, replicas=2)
        result = xpnet.train(network, blobs, xpnet.TrainConfig(epochs=3), callbacks=[page, look])
        assert [seen["epochs"] for seen in look.seen] == [[1], [1, 2], [1, 2, 3]]
        last = look.seen[-1]
        assert (last["epoch"], last["of"], last["title"], last["ended"]) == (3, 3, "A <run>", False)
        titles = [chart["title"] for chart in last["charts"]]
        assert titles == [
            "Loss, mean of 2 networks",
            "Accuracy, mean of 2 networks",
            "Validation accuracy by network",
            "Learning rate",
        ]
        values = result.history["validation_accuracy"]
        assert last["charts"][1]["curves"]["validation"] == pytest.approx(values.mean(axis=1))
        assert last["charts"][2]["curves"]["seed 1"] == pytest.approx(values[:, 1])
        assert json.loads(ask(page, "/figures")[1])["conclusion"] == result.conclusion.text
        port = page.port
        page._asked = 0.0  # nobody waits for the end
    with pytest.raises(OSError, match="refused"):
        http.client.HTTPConnection("127.0.0.1", port, timeout=5).connect()


def test_live_page_answers_only_requests_that_name_its_address():
    with LivePage("run") as page:
        assert page._server.server_address[0] == "127.0.0.1"
        status, text, answer = ask(page, "/")
        assert (status, 'script src="live.js"' in text) == (200, True)
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert not re.search(r"https?://", text)
        assert ask(page, "/live.js")[0] == 200
        assert ask(page, "/figures", "localhost:" + str(page.port))[0] == 200
        for host in ("example.com", "127.0.0.1", f"127.0.0.1.example.com:{page.port}"):
            assert ask(page, "/figures", host)[0] == 403
        assert ask(page, "/../live.py")[0] == 404
        with pytest.raises(RunError, match="cannot be used"):
            LivePage("run", port=page.port)
        page._asked = 0.0


def test_train_watch_names_the_address_and_ends_with_the_run(capsys: pytest.CaptureFixture[str]):
    main(["train", "--data", "patterns:300/60", "--hidden", "8", "--epochs", "1", "--watch", "--out", "run", "--json"])
    printed = capsys.readouterr()
    assert re.search(r"watch it at http://127\.0\.0\.1:\d+/ until it ends", printed.err)
    assert json.loads(printed.out)["epochs"] == 1
