"""Where searches are kept: journals that outlive killed writers, databases, and what cannot be opened."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import postgresql
import pytest
import sqlalchemy.exc
from optuna.exceptions import StorageInternalError
from search_cases import points, session

from xpnet.errors import ConfigError, RunError
from xpnet.tuning import journal as journal_module
from xpnet.tuning import open_storage
from xpnet.tuning.leases import LeaseWatch, has_ended, this_worker
from xpnet.tuning.storage import absolute, check_exists, close_storage, database_errors, without_password
from xpnet.tuning.trial_queue import TrialQueue

LEASE = {"worker": "a", "place": "", "pid": 1, "born": "", "device": "cpu", "beat": 1, "time": 2e9, "seconds": 60.0}


def test_a_journal_is_read_again(tmp_path, blobs):
    one = session(blobs, storage=open_storage(tmp_path / "j")).run()
    again = session(blobs, storage=open_storage(tmp_path / "j"))
    assert points(again.run().outcome) == points(one.outcome)
    assert {t.state.name for t in again.queue.trials()} == {"COMPLETE"}


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
@pytest.mark.parametrize("scheme", ["", "sqlite:///"])
def test_nothing_appears_beside_a_storage_that_is_no_regular_file(tmp_path, scheme):
    """Neither a lock nor SQLite's own journal: beside /dev/null they would stay for all users of a machine."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "folder").mkdir()
    for name, kind in {"pipe": "named pipe", "link": "named pipe", "folder": "folder"}.items():
        with pytest.raises(
            RunError, match=rf"{name}: cannot be opened \((it is a {kind}, |Is a dir).*; name another file"
        ):
            open_storage(f"{scheme}{tmp_path / name}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "link", "pipe"]


@pytest.mark.parametrize("left", [b'{"op_code":5,"wor', b"{", b'{"op_code": 0}'])
def test_a_line_that_a_killed_writer_left_unfinished_is_cut_off(tmp_path, blobs, left):
    path = tmp_path / "j"
    one = session(blobs, storage=open_storage(path), trials=2).run()
    whole = path.read_bytes()
    path.write_bytes(whole + left)
    again = session(blobs, storage=open_storage(path), trials=2)
    assert points(again.run().outcome) == points(one.outcome)
    assert path.read_bytes().startswith(whole)
    assert all(json.loads(line) for line in path.read_bytes().splitlines())


def test_a_journal_may_be_cut_anywhere(tmp_path, blobs):
    """As after a crash of the machine: what is left of the file is a search that can be finished."""
    path = tmp_path / "j"
    expected = session(blobs, storage=open_storage(path), trials=2, settings={"dtype": "float64"}).run()
    whole = path.read_bytes()
    for size in range(0, len(whole), max(1, len(whole) // 25)):
        path.write_bytes(whole[:size])
        one = session(blobs, storage=open_storage(path), trials=2, settings={"dtype": "float64"})
        one.queue.watch.clock = iter(range(0, 10**9, 1000)).__next__
        assert points(one.run().outcome) == points(expected.outcome), size


def test_the_lock_ends_with_the_process_that_held_it(tmp_path):
    path = tmp_path / "j"
    queue = TrialQueue(open_storage(path), "study", {"of": "another"})
    holder = (
        "import os, sys, pathlib\n"
        "from xpnet.tuning.journal import locked\n"
        "with locked(pathlib.Path(sys.argv[1]), 1.0):\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", holder, str(path)], timeout=60)
    assert killed.returncode == -9
    queue.storage.set_study_user_attr(queue.id, "still", "writable")  # would wait half a minute for Optuna's own lock
    assert TrialQueue(open_storage(path), "study").storage.get_study_user_attrs(queue.id)["still"] == "writable"


def test_a_lock_whose_holder_stands_still_is_waited_for_once(tmp_path, monkeypatch):
    path = tmp_path / "j"
    monkeypatch.setattr(journal_module, "_PATIENCE", 0.3)
    queue = TrialQueue(open_storage(path), "study", {"of": "another"})
    with journal_module.locked(path, 1.0) as alone:
        assert alone
        begin = time.monotonic()
        for number in range(20):
            queue.storage.set_study_user_attr(queue.id, f"a{number}", number)
        assert 0.3 <= time.monotonic() - begin < 3
        # What was left unfinished could be cut off by the one who stands still, with what follows it.
        with path.open("ab") as file:
            file.write(b'{"op')
        with pytest.raises(RunError, match="is locked by a process that does not go on"):
            queue.storage.set_study_user_attr(queue.id, "b", 1)
    queue.storage.set_study_user_attr(queue.id, "c", 1)
    attributes = TrialQueue(open_storage(path), "study").storage.get_study_user_attrs(queue.id)
    assert set(attributes) == {"about", "c"} | {f"a{number}" for number in range(20)}


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_databases(tmp_path, blobs, kind, request):
    url = f"sqlite:///{tmp_path / 'db'}" if kind == "sqlite" else request.getfixturevalue("postgresql_url")
    space, how = ["lambda", "width=3,4"], {"trials": 5, "draw": "tpe", "prune": "median", "final": "same"}
    settings = {"dtype": "float64"}
    memory = session(blobs, space, settings=settings, **how).run()
    results = []
    for _ in range(2):
        storage = open_storage(url)
        results.append(session(blobs, space, storage, settings, **how).run())
        close_storage(storage)
    one, again = results
    assert points(one.outcome) == points(memory.outcome)
    assert points(again.outcome) == points(one.outcome)
    assert again.final == one.final


class DriverError(Exception):
    """What a driver raises."""


@pytest.mark.parametrize(
    ("kind", "says", "words"),
    [
        ("OperationalError", DriverError("server closed\n\tit"), "the database went away in the middle: server closed"),
        ("InterfaceError", DriverError("closed already"), "the database went away in the middle: closed already"),
        ("OperationalError", sqlite3.OperationalError("disk is full"), "failed in the middle: disk is full"),
        ("DataError", DriverError("value too long"), "failed in the middle: value too long"),
    ],
)
def test_a_database_that_fails_in_the_middle_is_told_in_the_words_of_its_driver(kind, says, words):
    wrapped = StorageInternalError("An exception is raised during the commit.\nThis typically happens due to")
    wrapped.__cause__ = getattr(sqlalchemy.exc, kind)("INSERT", {}, says)
    with pytest.raises(RunError) as found, database_errors():
        raise wrapped
    what, _, why = words.partition(": ")
    assert str(found.value).startswith(f"storage: {what} of the search ({why}); ")
    assert str(found.value).endswith("--resume goes on from what it holds")


@pytest.mark.slow
def test_a_server_that_goes_away_in_the_middle_is_told(tmp_path, blobs):
    programs = postgresql.binaries()
    if programs is None:
        pytest.skip("needs PostgreSQL's server programs (Debian: postgresql)")
    with postgresql.server(programs) as url:
        cluster = Path(url.partition("host=")[2]) / "data"
        storage = open_storage(url)
        one = session(blobs, storage=storage, trials=8)

        def end(_: object) -> None:
            postgresql.stop(programs, cluster)

        words = r"^storage: the database went away in the middle of the search \(.*\); when it is there again, --resume"
        with pytest.raises(RunError, match=words) as found, database_errors():
            one.run(on_change=end)
        assert "typically" not in str(found.value)
        close_storage(storage)
        with pytest.raises(RunError, match="cannot be opened"):
            open_storage(url)


@pytest.mark.parametrize(
    ("where", "error", "words"),
    [
        ("nothing://host/db", ConfigError, "is no URL of a database"),
        ("sqlite:////no/such/folder/db", RunError, "cannot be opened"),
        ("postgresql://xpnet:secret@127.0.0.1:1/none", RunError, r"xpnet@127\.0\.0\.1:1/none: cannot be opened"),
        ("sqlite://", ConfigError, "is in memory"),
        ("sqlite:///:memory:", ConfigError, "is in memory"),
        ("mysql://host/db", ConfigError, "driver is not installed"),
        ("no/such/folder/journal", RunError, "cannot be opened"),
    ],
)
def test_what_cannot_be_opened_is_said_without_its_password(where, error, words):
    with pytest.raises(error, match=words) as found:
        open_storage(where)
    assert "secret" not in str(found.value)
    assert "\n" not in str(found.value)


def test_a_file_that_is_no_journal(tmp_path):
    (tmp_path / "j").write_text("hello\nworld\n")
    with pytest.raises(RunError, match="is not a journal of a search"):
        open_storage(tmp_path / "j")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@host:1/db?x=a:b@c", "postgresql://me@host:1/db?x=a:b@c"),
        ("postgresql://me:sec@ret@host/db", "postgresql://me@host/db"),
        ("postgresql://me:sec/ret@host/db", "postgresql://me@host/db"),
        ("postgresql://host/db?user=me&password=secret", "postgresql://host/db?user=me"),
        ("postgresql://host/db?password=secret&user=me", "postgresql://host/db?user=me"),
        ("postgresql://xpnet@/study?host=/tmp/a", "postgresql://xpnet@/study?host=/tmp/a"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("sqlite:///file", "sqlite:///file"),
        ("a/file", "a/file"),
    ],
)
def test_passwords_are_left_out(url, shown):
    assert without_password(url) == shown


def test_storages_are_found_from_any_folder():
    here = Path.cwd()
    assert absolute("file") == str(here / "file")
    assert absolute("sqlite:///db") == f"sqlite:///{here / 'db'}"
    assert absolute("sqlite:////abs/db") == "sqlite:////abs/db"
    assert absolute("postgresql://host/db") == "postgresql://host/db"
    check_exists("postgresql://host/db")
    for where in ("file", "sqlite:///db"):
        with pytest.raises(RunError, match="is not there"):
            check_exists(where)
    assert list(here.iterdir()) == []


def test_workers_that_begin_at_once_on_a_new_database(tmp_path):
    """One makes the tables; the others wait for them."""
    begin = "import sys; from xpnet.tuning import open_storage; open_storage(sys.argv[1])"
    url = f"sqlite:///{tmp_path / 'db'}"
    workers = [
        subprocess.Popen([sys.executable, "-c", begin, url], stderr=subprocess.PIPE, text=True) for _ in range(4)
    ]
    assert [(worker.communicate()[1], worker.returncode) for worker in workers] == [("", 0)] * 4


# -- leases -------------------------------------------------------------------------------------


def watch(now: list[float], place: str = "") -> LeaseWatch:
    return LeaseWatch(place=place, clock=lambda: now[0])


def test_a_lease_is_good_as_long_as_beats_are_seen(monkeypatch):
    monkeypatch.setattr("time.time", lambda: 2e9)
    now = [0.0]
    one = watch(now)
    for beat in range(5):
        assert not one.expired("lease:a", {**LEASE, "beat": beat}, 60.0)
        now[0] += 59
    assert not one.expired("lease:a", {**LEASE, "beat": 4}, 60.0)
    now[0] += 2
    assert one.expired("lease:a", {**LEASE, "beat": 4}, 60.0)
    assert not one.expired("lease:a", {**LEASE, "beat": 5}, 60.0)  # it was only late


def test_clocks_of_machines_are_not_compared(monkeypatch):
    for other in (2e9 + 86400, 2e9 - 86400):
        monkeypatch.setattr("time.time", lambda other=other: other)
        assert not watch([0.0]).expired("lease:a", LEASE, 60.0)


def test_a_lease_that_was_never_written_and_one_that_has_ended():
    now = [0.0]
    one = watch(now)
    assert not one.expired("trial:3", None, 60.0)
    now[0] = 61.0
    assert one.expired("trial:3", None, 60.0)
    assert one.expired("lease:a", {**LEASE, "ended": True}, 60.0)


def test_a_process_of_this_machine_that_has_ended_is_known_at_once():
    ask = "import json; from xpnet.tuning.leases import this_worker; print(json.dumps(this_worker()))"
    gone = json.loads(subprocess.run([sys.executable, "-c", ask], capture_output=True, check=True).stdout)
    me = this_worker()
    assert me["place"]
    assert gone["place"] == me["place"]
    assert has_ended(gone, me["place"])
    assert not has_ended(me, me["place"])
    assert not has_ended(gone, "another machine")
    assert has_ended(me | {"born": "1"}, me["place"])  # another process has the number now
    assert watch([0.0], me["place"]).expired("lease:a", LEASE | gone, 60.0)
