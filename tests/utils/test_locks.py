"""Locks between processes: one at a time, and none that outlives its process."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from xpnet.errors import RunError
from xpnet.utils.locks import only_one, try_lock

HOLDER = """
import sys
from pathlib import Path
from types import SimpleNamespace
from xpnet.errors import RunError
from xpnet.utils.locks import only_one
try:
    with only_one(Path(sys.argv[1]), "somebody else is here"):
        print("in", flush=True)
        sys.stdin.readline()
except RunError as error:
    print(error, flush=True)
"""


class Holder:
    """A process that asks for a lock, and keeps it until it is told to let go."""

    def __init__(self, path: Path) -> None:
        command = [sys.executable, "-c", HOLDER, str(path)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Holder:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def says(self) -> str:
        return self._process.stdout.readline().strip()

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    def let_go(self) -> None:
        self._process.communicate("\n")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "config.toml").write_text("seed = 1\n")
    return tmp_path / "config.toml"


@pytest.mark.guarantee("concurrency")
def test_one_process_at_a_time(path: Path, harm):
    with Holder(path) as first:
        assert first.says() == "in"
        with Holder(path) as second:
            assert second.says() == "somebody else is here"
        with pytest.raises(RunError, match=r"^another trains here$"), only_one(path, "another trains here"):
            pass
        first.let_go()
    with only_one(path, "another trains here"), Holder(path) as third:
        assert third.says() == "somebody else is here"
    harm.did("locks asked for while another process had them", 3)
    assert [found.name for found in path.parent.iterdir()] == ["config.toml"]
    assert path.read_text() == "seed = 1\n"


@pytest.mark.guarantee("concurrency")
def test_a_killed_process_lets_go(path: Path, harm):
    for _ in range(2):
        with Holder(path) as holder:
            assert holder.says() == "in"
            holder.kill()
        with only_one(path, "another trains here"):
            pass
        harm.did("holders of a lock killed")


def test_a_program_that_the_holder_starts_does_not_keep_the_lock(path: Path):
    with only_one(path, "another trains here"):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        with only_one(path, "another trains here"):
            pass
    finally:
        child.communicate(b"\n")


@pytest.mark.parametrize("by", ["another file", "nothing"])
def test_a_file_that_was_replaced_meanwhile_is_not_held(path: Path, monkeypatch, by: str):
    def late(file) -> bool:
        path.with_name("new").write_text("seed = 2\n")
        path.with_name("new").replace(path)
        if by == "nothing":
            path.unlink()
        return True

    monkeypatch.setattr("xpnet.utils.locks.try_lock", late)
    with pytest.raises(RunError, match="another trains here"), only_one(path, "another trains here"):
        pass


def test_a_file_that_is_not_there(tmp_path: Path):
    with (
        pytest.raises(RunError, match=r"none: cannot be opened for writing \(No such file"),
        only_one(tmp_path / "none", "another trains here"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_on_windows_a_byte_behind_the_end_of_the_file_is_locked(path: Path, monkeypatch):
    """Others can still read the file: Windows lets no process read a byte that another has locked."""
    locked: set[int] = set()

    def locking(handle: int, mode: int, count: int) -> None:
        assert (mode, count) == ("at once", 1)
        if (byte := os.lseek(handle, 0, os.SEEK_CUR)) in locked:
            raise PermissionError(errno.EACCES, "Permission denied")
        locked.add(byte)

    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK="at once"))
    monkeypatch.setattr(sys, "platform", "win32")
    with (
        only_one(path, "another"),
        pytest.raises(RunError, match="another trains here"),
        only_one(path, "another trains here"),
    ):
        pass
    (byte,) = locked
    assert byte > path.stat().st_size == len("seed = 1\n")


class TestWithoutLocks:
    @pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
    def test_so_does_a_file_system_without_them_and_says_so(self, path: Path, monkeypatch, caplog, code: int):
        import fcntl

        def refuse(*_: object) -> None:
            raise OSError(code, "no locks")

        monkeypatch.setattr(fcntl, "flock", refuse)
        with only_one(path, "another"), only_one(path, "another"):
            pass
        words = f"{path.parent}: its file system has no locks (no locks); nothing keeps a second process out of this"
        assert [message.startswith(words) for message in caplog.messages] == [True]

    def test_any_other_error_is_not_hidden(self, path: Path, monkeypatch):
        import fcntl

        def refuse(*_: object) -> None:
            raise OSError(errno.EIO, "the disk is broken")

        monkeypatch.setattr(fcntl, "flock", refuse)
        with path.open("rb+") as file, pytest.raises(OSError, match="the disk is broken"):
            try_lock(file)


def test_a_pipe_is_refused_with_a_reason(tmp_path: Path):
    os.mkfifo(tmp_path / "lock")
    why = r"lock: cannot be opened for writing \(it is a named pipe, and must be a regular file\)"
    with pytest.raises(RunError, match=why), only_one(tmp_path / "lock", "taken"):
        pass


def test_lock_that_is_held_for_an_instant_is_waited_for(tmp_path: Path):
    path = tmp_path / "file"
    path.touch()
    looks = path.open("rb+")
    assert try_lock(looks)
    timer = threading.Timer(0.03, looks.close)
    timer.start()
    with only_one(path, "another trains here"):
        assert looks.closed
