"""Where searches are kept: journals that outlive killed writers, databases, and what cannot be opened."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import postgresql
import pytest
import sqlalchemy.exc
from optuna.exceptions import StorageInternalError
from search_cases import points

from xpnet.errors import ConfigError, RunError
from xpnet.tuning import journal as journal_module
from xpnet.tuning import open_storage
from xpnet.tuning.leases import LeaseWatch, has_ended, this_worker
from xpnet.tuning.storage import absolute, check_exists, close_storage, database_errors, without_password
from xpnet.tuning.trial_queue import TrialQueue

LEASE = {"worker": "a", "place": "", "pid": 1, "born": "", "device": "cpu", "beat": 1, "time": 2e9, "seconds": 60.0}


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "j"


@pytest.fixture
def write(path, monkeypatch):
    """Return a function that writes an attribute of a study into a journal."""
    monkeypatch.setattr(journal_module, "_PATIENCE", 0.2)
    queue = TrialQueue(open_storage(path), "study", {"of": "another"})
    return lambda key: queue.storage.set_study_user_attr(queue.id, key, 1)


def attributes(path: Path) -> set[str]:
    """Return the attributes of the study, as another process reads them."""
    queue = TrialQueue(open_storage(path), "study")
    return set(queue.storage.get_study_user_attrs(queue.id))


def test_journal_is_read_again(path, begin):
    one = begin(storage=open_storage(path)).run()
    again = begin(storage=open_storage(path))
    assert points(again.run().outcome) == points(one.outcome)
    assert {t.state.name for t in again.queue.trials()} == {"COMPLETE"}


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
@pytest.mark.parametrize("scheme", ["", "sqlite:///"])
def test_storage_that_is_no_regular_file_is_refused_and_nothing_appears_beside_it(tmp_path, scheme):
    """Neither a lock nor SQLite's own journal: beside /dev/null they would stay for all users of a machine."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "folder").mkdir()
    for name, kind in {"pipe": "named pipe", "link": "named pipe", "folder": "folder"}.items():
        words = rf"{name}: cannot be opened \((it is a {kind}, |Is a dir).*; name another file"
        with pytest.raises(RunError, match=words):
            open_storage(f"{scheme}{tmp_path / name}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "link", "pipe"]


@pytest.mark.parametrize("left", [b'{"op_code":5,"wor', b"{", b'{"op_code": 0}'])
def test_unfinished_line_of_a_killed_writer_is_cut_off(path, begin, left):
    one = begin(storage=open_storage(path), trials=2).run()
    content = path.read_bytes()
    path.write_bytes(content + left)
    again = begin(storage=open_storage(path), trials=2)
    assert points(again.run().outcome) == points(one.outcome)
    assert path.read_bytes().startswith(content)
    assert all(json.loads(line) for line in path.read_bytes().splitlines())


def test_journal_that_a_crash_has_cut_can_be_finished(path, begin):
    how = {"trials": 2, "settings": {"dtype": "float64"}}
    expected = begin(storage=open_storage(path), **how).run()
    content = path.read_bytes()
    for size in range(0, len(content), max(1, len(content) // 12)):
        path.write_bytes(content[:size])
        one = begin(storage=open_storage(path), **how)
        one.queue.watch.clock = iter(range(0, 10**9, 1000)).__next__
        assert points(one.run().outcome) == points(expected.outcome), size


def test_lock_ends_with_its_process(path, write):
    holder = (
        "import os, sys, pathlib\n"
        "from xpnet.tuning.journal import locked\n"
        "with locked(pathlib.Path(sys.argv[1]), 1.0):\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", holder, str(path)], timeout=60)
    assert killed.returncode == -9
    write("still")  # would wait half a minute for Optuna's own lock
    assert attributes(path) == {"about", "still"}


def test_lock_whose_holder_stands_still_is_waited_for_once(path, write, monkeypatch):
    waits, real = [], journal_module.locked

    def watched(path, patience):
        waits.append(patience)
        return real(path, patience)

    with real(path, 1.0) as alone:
        assert alone
        monkeypatch.setattr(journal_module, "locked", watched)
        for number in range(4):
            write(f"a{number}")
        assert waits == [0.2, 0, 0, 0]
        # The holder, if it goes on, could cut off an unfinished line, and what follows it.
        with path.open("ab") as file:
            file.write(b'{"op')
        with pytest.raises(RunError, match="is locked by a process that does not go on"):
            write("b")
    write("c")
    assert attributes(path) == {"about", "c"} | {f"a{number}" for number in range(4)}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_database_keeps_a_search(tmp_path, begin, kind, request):
    url = f"sqlite:///{tmp_path / 'db'}" if kind == "sqlite" else request.getfixturevalue("postgresql_url")
    how = {"trials": 4, "draw": "tpe", "prune": "median", "final": "same", "settings": {"dtype": "float64"}}
    memory = begin(["lambda", "width=3,4"], **how).run()
    results = []
    for _ in range(2):
        storage = open_storage(url)
        results.append(begin(["lambda", "width=3,4"], storage, **how).run())
        close_storage(storage)
    one, again = results
    assert points(memory.outcome) == points(one.outcome) == points(again.outcome)
    assert again.final == one.final


class DriverError(Exception):
    """An error of a driver."""


@pytest.mark.parametrize(
    ("kind", "cause", "words"),
    [
        ("OperationalError", DriverError("server closed\n\tit"), "the database went away in the middle: server closed"),
        ("InterfaceError", DriverError("closed already"), "the database went away in the middle: closed already"),
        ("OperationalError", sqlite3.OperationalError("disk is full"), "failed in the middle: disk is full"),
        ("DataError", DriverError("value too long"), "failed in the middle: value too long"),
    ],
)
def test_database_error_is_reported_in_the_words_of_the_driver(kind, cause, words):
    wrapped = StorageInternalError("An exception is raised during the commit.\nThis typically happens due to")
    wrapped.__cause__ = getattr(sqlalchemy.exc, kind)("INSERT", {}, cause)
    with pytest.raises(RunError) as found, database_errors():
        raise wrapped
    failed, _, why = words.partition(": ")
    assert str(found.value).startswith(f"storage: {failed} of the search ({why}); ")
    assert str(found.value).endswith("--resume goes on from what it holds")


@pytest.mark.slow
def test_server_that_goes_away_during_a_search_is_reported(begin):
    programs = postgresql.binaries()
    if programs is None:
        pytest.skip("needs PostgreSQL's server programs (Debian: postgresql)")
    with postgresql.server(programs) as url:
        cluster = Path(url.partition("host=")[2]) / "data"
        storage = open_storage(url)
        one = begin(storage=storage, trials=8)
        words = r"^storage: the database went away in the middle of the search \(.*\); when it is there again, --resume"
        with pytest.raises(RunError, match=words) as found, database_errors():
            one.run(on_change=lambda _: postgresql.stop(programs, cluster))
        assert "typically" not in str(found.value)
        close_storage(storage)
        with pytest.raises(RunError, match="cannot be opened"):
            open_storage(url)


@pytest.mark.parametrize(
    ("location", "error", "words"),
    [
        ("nothing://host/db", ConfigError, "is no URL of a database"),
        ("sqlite:////no/such/folder/db", RunError, "cannot be opened"),
        ("postgresql://xpnet:secret@127.0.0.1:1/none", RunError, r"xpnet@127\.0\.0\.1:1/none: cannot be opened"),
        ("sqlite://", ConfigError, "is in memory"),
        ("sqlite:///:memory:", ConfigError, "is in memory"),
        ("mysql://host/db", ConfigError, "driver is not installed"),
        ("no/such/folder/journal", RunError, "cannot be opened"),
        ("text", RunError, "is not a journal of a search"),
    ],
)
def test_storage_that_cannot_be_opened_is_named_without_its_password(location, error, words):
    Path("text").write_text("hello\nworld\n")
    with pytest.raises(error, match=words) as found:
        open_storage(location)
    assert "secret" not in str(found.value)
    assert "\n" not in str(found.value)


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
def test_without_password_keeps_the_rest(url, shown):
    assert without_password(url) == shown


def test_storages_are_found_from_any_folder():
    here = Path.cwd()
    assert absolute("file") == str(here / "file")
    assert absolute("sqlite:///db") == f"sqlite:///{here / 'db'}"
    assert absolute("sqlite:////abs/db") == "sqlite:////abs/db"
    assert absolute("postgresql://host/db") == "postgresql://host/db"
    check_exists("postgresql://host/db")
    for location in ("file", "sqlite:///db"):
        with pytest.raises(RunError, match="is not there"):
            check_exists(location)
    assert list(here.iterdir()) == []


@pytest.mark.thorough
def test_workers_that_begin_at_once_on_a_new_database_all_open_it(tmp_path):
    """One makes the tables; the others wait for them."""
    with ThreadPoolExecutor(4) as pool:
        for storage in pool.map(open_storage, [f"sqlite:///{tmp_path / 'db'}"] * 4):
            assert storage.get_all_studies() == []
            close_storage(storage)


# -- leases -------------------------------------------------------------------------------------


@pytest.fixture
def now() -> list[float]:
    return [0.0]


@pytest.fixture
def watch(now) -> LeaseWatch:
    return LeaseWatch(place="", clock=lambda: now[0])


def test_lease_is_good_as_long_as_beats_are_seen(watch, now):
    for beat in range(5):
        assert not watch.expired("lease:a", {**LEASE, "beat": beat}, 60.0)
        now[0] += 59
    assert not watch.expired("lease:a", {**LEASE, "beat": 4}, 60.0)
    now[0] += 2
    assert watch.expired("lease:a", {**LEASE, "beat": 4}, 60.0)
    assert not watch.expired("lease:a", {**LEASE, "beat": 5}, 60.0)  # it was only late


@pytest.mark.parametrize("clock", [2e9 + 86400, 2e9 - 86400])
def test_clocks_of_machines_are_not_compared(watch, monkeypatch, clock):
    monkeypatch.setattr("time.time", lambda: clock)
    assert not watch.expired("lease:a", LEASE, 60.0)


def test_lease_that_was_never_written_or_has_ended_expires(watch, now):
    assert not watch.expired("trial:3", None, 60.0)
    now[0] = 61.0
    assert watch.expired("trial:3", None, 60.0)
    assert watch.expired("lease:a", {**LEASE, "ended": True}, 60.0)


def test_process_of_this_machine_that_has_ended_is_known_at_once(now):
    ask = "import json; from xpnet.tuning.leases import this_worker; print(json.dumps(this_worker()))"
    gone = json.loads(subprocess.run([sys.executable, "-c", ask], capture_output=True, check=True).stdout)
    me = this_worker()
    assert gone["place"] == me["place"] != ""
    assert has_ended(gone, me["place"])
    assert not has_ended(me, me["place"])
    assert not has_ended(gone, "another machine")
    assert has_ended(me | {"born": "1"}, me["place"])  # another process has the number now
    assert LeaseWatch(place=me["place"], clock=lambda: now[0]).expired("lease:a", LEASE | gone, 60.0)


@pytest.mark.slow
def test_search_in_a_journal_does_not_load_the_library_for_databases():
    code = (
        "import sys\n"
        "from xpnet.cli import main\n"
        "main(sys.argv[1:])\n"
        "assert not {'sqlalchemy', 'alembic'} & sys.modules.keys()"
    )
    small = "lambda=1e-4,1e-3 --data patterns:60/20 --hidden 2 --epochs 1 --batch-size 20 --figures none --out s"
    command = [sys.executable, "-c", code, "search", *small.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
