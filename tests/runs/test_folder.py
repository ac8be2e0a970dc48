"""The run folder: nothing is overwritten, and what is written can be read."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from xpnet.config.settings import read_config
from xpnet.errors import ConfigError, RunError
from xpnet.runs.folder import create_run_folder, write_config
from xpnet.utils.atomic_files import write_new


def test_folder_that_exists_is_refused(tmp_path):
    assert create_run_folder(tmp_path / "a" / "b").is_dir()
    with pytest.raises(RunError, match=r"b: exists already, and nothing is overwritten; type --out .*b_2$"):
        create_run_folder(tmp_path / "a" / "b")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be made"):
        create_run_folder(tmp_path / "file" / "run")


def test_folders_named_by_the_time_never_collide():
    assert len({create_run_folder(None) for _ in range(5)}) == 5


def test_write_new_refuses_a_file_that_exists(tmp_path):
    path = tmp_path / "f"
    write_new(path, b"first")
    with pytest.raises(RunError, match="exists already"):
        write_new(path, b"second")
    assert path.read_bytes() == b"first"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
    with pytest.raises(RunError, match="cannot be written"):
        write_new(tmp_path / "none" / "f", b"")


@pytest.mark.guarantee("concurrency")
@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("number", [7, None])
def test_write_new_race_one_writer_wins(tmp_path, harm, monkeypatch, number, links):
    if not links:  # as on FAT

        def refuse(*_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr("os.link", refuse)
    if number is not None:  # processes of two containers that share a folder may have one number
        monkeypatch.setattr("os.getpid", lambda: number)
    contents = [bytes([writer]) * 200_000 for writer in range(4)]
    rounds = harm.times(10, 200)
    with ThreadPoolExecutor(len(contents)) as pool:
        begin = Barrier(len(contents))

        def write(path, content):
            begin.wait()
            try:
                write_new(path, content)
            except RunError as error:
                return str(error)
            return None

        for at in range(rounds):
            path = tmp_path / str(at)
            said = list(pool.map(write, [path] * len(contents), contents))
            assert said.count(None) == 1
            assert path.read_bytes() == contents[said.index(None)]
            assert all(one is None or "exists already" in one for one in said)
    assert len(list(tmp_path.iterdir())) == rounds
    harm.did("files written at once under one name", rounds * len(contents))


def test_written_config_is_read_again(tmp_path):
    values = {"hidden": [50, 30], "lambda": 1e-3, "init": "he", "data": 'a "quoted" path', "batch_norm": True}
    write_config(tmp_path, values)
    assert read_config(tmp_path) == read_config(tmp_path / "config.toml") == values


def test_config_that_cannot_be_read_is_named(tmp_path):
    path = tmp_path / "config.toml"
    with pytest.raises(ConfigError, match="there is no such file"):
        read_config(path)
    for content, words in ((b"a = = 1", r"is not TOML \(.*line 1"), (b"\xff\xfe", r"is not text in UTF-8 \(line 1")):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=words):
            read_config(path)


def test_write_error_names_the_file_and_not_its_temporary_one(tmp_path, monkeypatch):
    def only_read(path, *_, **__):
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "unlink", only_read)
    with pytest.raises(RunError, match=r"report\.html: cannot be written \(Read-only file system\)"):
        write_new(tmp_path / "report.html", b"")
