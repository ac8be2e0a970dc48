"""Processes that fetch one data set at once, and some that are killed over it: what is there is whole."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import together
from archive_server import FOLDER, Server, headers, whole
from together import Caller, ready

from xpnet.data import download, load_data

pytestmark = pytest.mark.guarantee("concurrency")

# A small archive passes for the published one by its checksum.
FETCH = """
import dataclasses, sys
from xpnet.cli import main
from xpnet.data.published import ARCHIVES
md5, size, *arguments = arguments
key = ("cifar10", "python")
ARCHIVES[key] = dataclasses.replace(ARCHIVES[key], md5=md5, size=int(size))
main(["data", "fetch", "cifar10", "--quiet", *arguments])
"""


@pytest.fixture
def fetches(archive: bytes, server: Server) -> list[str]:
    """Return what a process needs to know to fetch the archive from the server."""
    return [hashlib.md5(archive).hexdigest(), str(len(archive)), "--from", server.url]


@pytest.fixture
def callers(fetches: list[str]) -> Iterator[list[Caller]]:
    with ready("info", "--quiet") as made:
        yield made


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--force"]])
def test_processes_that_fetch_one_set_at_once(callers, server, fetches, tmp_path, harm, options):
    made, rounds = contents(tmp_path / "made" / FOLDER), harm.times(5, 40)
    for number in range(rounds):
        if not options:
            for path in (tmp_path / "data").glob(f"{FOLDER}/*"):
                path.unlink()
            if number:
                (tmp_path / "data" / FOLDER).rmdir()
        done = together.at_once(callers, *([*fetches, *options] for _ in callers), python=FETCH)
        assert [one.code for one in done] == [0] * len(callers), done
        assert contents(tmp_path / "data" / FOLDER) == made
        assert [path.name for path in (tmp_path / "data").iterdir()] == [FOLDER]
    harm.did("fetches of one data set at once", rounds * len(callers))


def in_halves(go_on: threading.Event):
    """Return an answer that sends half of the archive and then waits."""

    def answer(handler: BaseHTTPRequestHandler, content: bytes) -> None:
        headers(handler, len(content))
        handler.wfile.write(content[: len(content) // 2])
        handler.wfile.flush()
        go_on.wait()

    return answer


@pytest.mark.slow
def test_one_that_is_killed_leaves_the_others_whole(callers, server, fetches, tmp_path, harm):
    data, rounds = tmp_path / "data", harm.times(1, 3)
    for caller in callers[:rounds]:
        go_on = threading.Event()
        server.requests.clear()
        server.answers = [in_halves(go_on), whole]
        caller.ask(*fetches, "--force", python=FETCH)
        # The file is there before it is asked for: who asks first is to get one half.
        while not server.requests or not [*data.glob(".fetching-*/tmp*"), *data.glob(".fetching-*/*.gz")]:
            assert not caller.has_ended()
        (left,) = data.glob(".fetching-*")
        assert download.fetch("cifar10", source=server.url, force=True).folder == data / FOLDER
        assert left.is_dir()  # what another process works on is its own
        caller.kill()
        go_on.set()
        assert left.is_dir()  # nobody was left to take it away
        download.fetch("cifar10", source=server.url, force=True)
        assert [path.name for path in data.iterdir()] == [FOLDER]
        assert contents(data / FOLDER) == contents(tmp_path / "made" / FOLDER)
        assert load_data("cifar10").location == str(data / FOLDER)
    harm.did("processes killed while they fetch", rounds)


def test_a_folder_that_another_put_there_meanwhile_is_replaced_whole(server, tmp_path, monkeypatch, harm):
    fetched = download.fetch("cifar10", source=server.url).folder
    rename, others = Path.rename, iter(["between"] * 3)

    def late(path: Path, target: Path) -> Path:
        if Path(target) == fetched and next(others, None):
            # Another process is faster each time.
            (tmp_path / "other").mkdir()
            (tmp_path / "other" / "whole").write_text("other")
            rename(tmp_path / "other", target)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", late)
    download.fetch("cifar10", source=server.url, force=True)
    assert contents(fetched) == contents(tmp_path / "made" / FOLDER)
    assert [path.name for path in (tmp_path / "data").iterdir()] == [FOLDER]
    assert next(others, None) is None
    harm.did("folders put back while they were replaced", 3)


def test_one_that_is_always_put_back_is_one_sentence(server, tmp_path, monkeypatch):
    fetched = download.fetch("cifar10", source=server.url).folder
    rename = Path.rename

    def late(path: Path, target: Path) -> Path:
        if Path(target) == fetched:
            (fetched / "other").mkdir(parents=True)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", late)
    with pytest.raises(download.DataError, match="is put back by others again and again"):
        download.fetch("cifar10", source=server.url, force=True)


def test_what_may_still_be_worked_on_is_left_alone_where_there_are_no_locks(server, tmp_path, monkeypatch):
    (tmp_path / "data" / ".fetching-x").mkdir(parents=True)
    (tmp_path / "data" / ".fetching-x" / "lock").write_bytes(b"")
    monkeypatch.setattr(download, "try_lock", lambda file, instead: None)
    download.fetch("cifar10", source=server.url)
    assert (tmp_path / "data" / ".fetching-x").is_dir()
    monkeypatch.undo()
    monkeypatch.setenv("XPNET_DATA", str(tmp_path / "data"))
    with download._work_folder(tmp_path / "data"):
        assert not (tmp_path / "data" / ".fetching-x").exists()
