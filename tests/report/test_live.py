"""The pages that draw runs and searches while they train."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from report_cases import search, small

import xpnet
from xpnet.analysis.layer_history import Recorder
from xpnet.cli import main
from xpnet.data import Dataset
from xpnet.errors import RunError
from xpnet.report.live import LivePage
from xpnet.report.live_folder import FolderSite
from xpnet.report.live_server import LiveServer
from xpnet.runs.experiment import alone_in
from xpnet.tuning.leases import this_worker


def ask(page: LivePage | LiveServer, path: str, host: str | None = None) -> tuple[int, str, http.client.HTTPResponse]:
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
        assert [seen["charts"][0]["x"] for seen in look.seen] == [[1], [1, 2], [1, 2, 3]]
        last = look.seen[-1]
        assert (last["done"], last["of"], last["title"], last["ended"]) == (3, 3, "A <run>", False)
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
        page.server.asked = 0.0  # nobody waits for the end
    with pytest.raises(OSError, match="refused"):
        http.client.HTTPConnection("127.0.0.1", port, timeout=5).connect()


def test_live_page_with_a_recorder_has_the_layers(blobs: Dataset):
    config = xpnet.NetworkConfig(inputs=blobs.features, classes=blobs.classes, hidden=(8, 6))
    network, train = xpnet.Network(config, seed=0, replicas=2), xpnet.TrainConfig(epochs=2)
    recorder = Recorder(network, blobs, train)
    with LivePage("run", layers=recorder.history) as page:
        assert [chart["x"] for chart in page.figures()["charts"]] == [[0]] * 6
        xpnet.train(network, blobs, train, callbacks=[recorder, page])
        charts = {chart["title"]: chart for chart in page.figures()["charts"]}
    dead = charts["Units that no sample activates"]
    assert (dead["x"], list(dead["curves"]), dead["percent"]) == ([0, 1, 2], ["layer 1", "layer 2", "layer 3"], True)
    spread = charts["Spread of the outputs by their mean"]["curves"]["layer 3"]
    assert spread == pytest.approx(recorder.history["relative_spread"].mean(axis=1)[:, 2])


def test_live_page_answers_only_requests_that_name_its_address():
    with LivePage("run") as page:
        assert page.server._server.server_address[0] == "127.0.0.1"
        status, text, answer = ask(page, "/")
        assert (status, 'script src="/live.js"' in text) == (200, True)
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert not re.search(r"https?://", text)
        assert ask(page, "/live.js")[0] == 200
        assert ask(page, "/figures", "localhost:" + str(page.port))[0] == 200
        for host in ("example.com", "127.0.0.1", f"127.0.0.1.example.com:{page.port}"):
            assert ask(page, "/figures", host)[0] == 403
        assert [ask(page, path)[0] for path in ("/../live.py", "/at/", "/at//", "/at/run/", "/live.html")] == [404] * 5
        with pytest.raises(RunError, match="cannot be used"):
            LivePage("run", port=page.port)
        page.server.asked = 0.0


def of_search(folder: Path, workers: list[dict], **trial) -> None:
    """Make a search's folder look as it does while it runs."""
    found = json.loads((folder / "search.json").read_text())
    found["trials"][1] |= {"state": "running", "validation": None, "curve": []} | trial
    found |= {"workers": workers, "interrupted": None, "test": None}
    (folder / "search.json").write_text(json.dumps(found))
    (folder / "search.toml").write_text("")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a run, a search that runs, and what no page may show."""
    home = tmp_path / "runs"
    small(out=str(home / "a run"))
    small("--lambda", "0.001,0.1", out=str(home / "deep" / os.fsdecode(b"caf\xe9")))
    search(home / "search")
    me = this_worker("cpu")
    of_search(home / "search", [me], worker=me["worker"])
    shutil.copytree(home / "a run", tmp_path / "outside")
    (home / "link").symlink_to(tmp_path / "outside")
    return home


def texts(table: dict) -> list[list[str]]:
    return [[cell["text"] for cell in row] for row in table["rows"]]


def test_folder_site_lists_runs_and_searches_with_links_to_their_pages(folder: Path):
    site = FolderSite(folder)
    server = LiveServer(site)
    index = json.loads(ask(server, "/figures")[1])
    assert (index["kind"], index["title"], index["ended"]) == ("runs", "runs", False)
    assert index["state"] == "runs: 2 finished; searches: 1"
    searches, runs = index["tables"]
    assert texts(searches)[0][:3] == ["search", "searching", "15 of 16"]
    assert {row[0] for row in texts(runs)} == {"a run", "deep/caf\udce9"}
    links = {row[0]["text"]: row[0]["link"] for table in index["tables"] for row in table["rows"]}
    assert links == {"search": "/at/search/", "a run": "/at/a%20run/", "deep/caf\udce9": "/at/deep/caf%E9/"}
    for name, link in links.items():
        status, text, _ = ask(server, link)
        assert (status, "<main>" in text) == (200, True)
        figures = json.loads(ask(server, f"{link}figures")[1])
        assert figures["kind"] == ("search" if name == "search" else "run")
        assert figures["home"] is True
    two = site.figures("deep/caf\udce9")["charts"][2]
    assert list(two["curves"]) == ["seed 0, lambda 0.001", "seed 0, lambda 0.1"]
    server.close(linger=False)


@pytest.mark.guarantee("supply-chain")
def test_folder_site_shows_nothing_outside_its_folder(folder: Path):
    server = LiveServer(FolderSite(folder))
    outside = ("../outside", "%2e%2e/outside", "a%20run/../../outside", "link", "/etc", str(folder), "deep", "%00", "")
    for path in (*outside, "a%20run/checkpoints", "..%2foutside"):
        assert ask(server, f"/at/{path}/figures")[0] == 404, path
        assert ask(server, f"/at/{path}/")[0] == 404, path
    for path in ("/a%20run/config.toml", "/at/a%20run/config.toml", "/at/a%20run/model.safetensors", "/at/a%20run"):
        assert ask(server, path)[0] == 404, path
    assert ask(server, "/at/a%20run/figures", "example.com")[0] == 403
    server.close(linger=False)


def test_folder_site_of_a_run_follows_it_to_its_end(tmp_path: Path):
    run = small(out=str(tmp_path / "run"))
    metrics, history = run / "metrics.json", (run / "history.csv").read_text().splitlines(keepends=True)
    end = metrics.read_bytes()
    metrics.unlink()
    (run / "history.csv").write_text("".join(history[:2]))
    site = FolderSite(run)
    found = site.figures()
    assert (found["state"], found["done"], found["of"]) == ("unfinished, epoch 1 of 3", 1, 3)
    assert found["note"] == f"Nobody trains it; to go on with it: xpnet train --resume {run}"
    with alone_in(run):
        (run / "history.csv").write_text("".join(history[:3]) + history[3][:9])  # a line that is being written
        found = site.figures()
        assert (found["state"], found["note"], site.ended) == ("training, epoch 2 of 3", "", False)
        assert found["charts"][0]["x"] == [1, 2]
    (run / "history.csv").write_text("".join(history))
    metrics.write_bytes(end)
    assert (site.figures()["state"], site.ended) == ("finished", True)
    (run / "config.toml").write_text("broken = ")
    assert site.figures()["state"].startswith("cannot be read: ")


def test_search_page_has_trials_the_best_and_the_workers(folder: Path):
    site = FolderSite(folder / "search")
    found = site.figures()
    assert found["state"] == "searching, 11 complete, 3 pruned, 1 failed, 1 running; 1 worker"
    assert (found["done"], found["of"], site.ended) == (15, 16, False)
    workers, trials = found["tables"]
    assert texts(workers)[0][1:] == ["cpu", "at work", "1"]
    assert texts(trials)[0][:3] == ["1", "running", "-"]
    assert texts(trials)[1][1] == "best so far"
    first, *others = found["charts"]
    assert first["x"] == [number for number in range(16) if number not in (1, 3)]
    complete = [value or 0.0 for value in first["curves"]["complete"]]
    assert [value or 0.0 for value in first["curves"]["best so far"]] == np.maximum.accumulate(complete).tolist()
    assert first["joined"] == ["best so far"]
    assert [chart["title"] for chart in others] == ["Validation accuracy by \u03bb", "Validation accuracy by eta_max"]
    assert all(chart["log_x"] for chart in others)


def test_search_page_says_when_nobody_is_at_work(folder: Path):
    gone = this_worker("cpu") | {"born": "1"}
    if not gone["place"]:
        pytest.skip("this system does not say when a process was born")
    of_search(folder / "search", [gone])
    state = FolderSite(folder / "search").figures()["state"]
    assert state.startswith("nobody is at work, ")
    assert state.endswith(f"xpnet search --resume {folder / 'search'} goes on")
    of_search(folder / "search", [gone | {"place": "elsewhere"}])
    assert "searching" in FolderSite(folder / "search").figures()["state"]


def test_folder_site_without_runs_is_refused(tmp_path: Path):
    with pytest.raises(RunError, match="holds neither runs nor searches"):
        FolderSite(tmp_path)
    with pytest.raises(RunError, match="there is no such folder"):
        FolderSite(tmp_path / "none")


def test_train_watch_names_the_address_and_ends_with_the_run(capsys: pytest.CaptureFixture[str]):
    main(["train", "--data", "patterns:300/60", "--hidden", "8", "--epochs", "1", "--watch", "--out", "run", "--json"])
    printed = capsys.readouterr()
    assert re.search(r"watch it at http://127\.0\.0\.1:\d+/ until it ends", printed.err)
    assert json.loads(printed.out)["epochs"] == 1


def test_search_watch_serves_its_folder_until_it_ends(capsys: pytest.CaptureFixture[str], monkeypatch):
    seen = []
    close = LiveServer.close

    def look(self, **how) -> None:
        seen.append(json.loads(ask(self, "/figures")[1]))
        close(self, linger=False)

    monkeypatch.setattr(LiveServer, "close", look)
    line = ["search", "lambda", "--data", "patterns:300/60", "--hidden", "4", "--epochs", "1", "--trials", "2"]
    main([*line, "--final", "none", "--figures", "none", "--watch", "--out", "found", "--quiet"])
    assert (seen[0]["kind"], seen[0]["done"], seen[0]["of"], seen[0]["ended"]) == ("search", 2, 2, True)
    with pytest.raises(SystemExit):
        main([*line, "--watch", "--launcher", "slurm"])
    assert "xpnet report FOLDER --watch" in capsys.readouterr().err


def test_report_watch_ends_with_the_run_it_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch):
    run = small(out=str(tmp_path / "run"))
    for wrong in (["--zip"], ["--out", "x.html"], [str(run)]):
        with pytest.raises(SystemExit):
            main(["report", str(run), "--watch", *wrong])
        assert "leave other options out" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["report", str(run), "--watch"])
    assert "has ended already" in capsys.readouterr().err
    metrics = (run / "metrics.json").read_bytes()
    (run / "metrics.json").unlink()
    timer = threading.Timer(0.2, (run / "metrics.json").write_bytes, [metrics])
    timer.start()
    main(["report", str(run), "--watch"])
    printed = capsys.readouterr()
    assert re.search(r"watch it at http://127\.0\.0\.1:\d+/ until the run ends, or Ctrl-C", printed.err)
    assert printed.out == f"the run has ended; xpnet report {run} writes its page\n"
