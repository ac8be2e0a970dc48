"""Pipes are not waited for, links are not followed, and what a file system lacks is gone without."""

from __future__ import annotations

import ast
import contextlib
import errno
import json
import os
import re
import shutil
import socket
import struct
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from harms import not_waited_for
from pictures import draw_nothing
from PIL import Image

import xpnet
from xpnet.analysis.prediction_inputs import read_inputs
from xpnet.cli import main
from xpnet.errors import DataError, RunError
from xpnet.tuning import open_storage
from xpnet.tuning.trial_queue import TrialQueue
from xpnet.utils import file_system
from xpnet.utils.atomic_files import replace_whole, write_new
from xpnet.utils.file_system import open_regular, put_new, sync_folder

kinds = pytest.mark.guarantee("kinds-of-files")
systems = pytest.mark.guarantee("file-systems")
PACKAGE = Path(xpnet.__file__).parent
SMALL = ["--data", "patterns:200/40", "--hidden", "4", "--device", "cpu", "--batch-size", "50"]
COMMANDS = {
    "train": ["train", *SMALL, "--epochs", "2", "--out", "run"],
    "report": ["report", "run"],
    "diagnose": ["diagnose", "run", "--out", "diagnosis"],
    "lr-range": ["lr-range", *SMALL, "--steps", "20", "--out", "range"],
    "search": ["search", "lambda=0,1e-3", *SMALL, "--cycles", "1", "--n-s", "4", "--out", "search"],
}


def told(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """Run a command that must end as expected without waiting; return what it says on standard error."""
    left = 0
    with not_waited_for():
        try:
            main(arguments)
        except SystemExit as stop:
            left = int(stop.code or 0)
    err = capsys.readouterr().err
    assert left == code, err
    return err


def made(kind: str, path: Path, target: Path) -> Path:
    """Put something that is no file of its own at `path`."""
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(target.absolute())
    return path


# -- kinds of files -----------------------------------------------------------------------------------------


@kinds
def test_one_function_opens_files():
    """Others open files of the package, of the kernel, or new ones in a folder that no other process knows."""
    opening = re.compile(
        r"(open|np\.(load|fromfile|memmap)|.*\.(open|truncate|touch|(read|write)_(text|bytes)|ZipFile|is_zipfile"
        r"|ParquetFile|GzipFile))"
    )
    quick = re.compile(r"open\(|memmap|fromfile|(touch|truncate|_text|_bytes|[Zz]ip[Ff]ile|File)\(")
    found = set()
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        for node in ast.walk(ast.parse(text)) if quick.search(text) else ():
            if isinstance(node, ast.Call) and opening.fullmatch(name := ast.unparse(node.func)):
                of_an_open_file = bool(node.args) and ast.unparse(node.args[0]) in ("file", "opened", "self._file")
                if not of_an_open_file and "/proc" not in name and "/sys" not in name:
                    found.add(f"{path.relative_to(PACKAGE)}: {name}")
    assert sorted(found) == [
        "cli/__init__.py: Path(os.devnull).open",
        "cli/__init__.py: os.open",  # the same
        "config/recipes.py: files('xpnet.config').joinpath(name).read_text",  # of the package
        "config/shared.py: archive.open",  # of an open file
        "config/shared.py: zipfile.ZipFile",
        "data/download.py: (work / 'new').open",
        "data/download.py: path.open",  # a new file
        "data/readers/archive.py: tarfile.open",  # of an open file, as those below
        "data/readers/compressed.py: archive.open",
        "data/readers/compressed.py: gzip.GzipFile",
        "data/readers/parquet.py: pq.ParquetFile",
        "exporters/torch_file.py: zipfile.ZipFile",  # in memory
        "ops/cuda/kernels.py: (FOLDER / name).read_text",
        "ops/numba_cache.py: file.read_bytes",
        "ops/numba_cache.py: path.read_bytes",
        "report/live_server.py: (resources.files('xpnet.report') / 'templates' / name).read_bytes",
        "report/page.py: (files / 'page.css').read_text",
        "report/page.py: (files / 'page.js').read_text",
        "reproduction/experiments.py: path.open",
        "runs/records.py: self._file.truncate",
        "runs/share.py: zipfile.ZipFile",  # in memory
        "tuning/journal.py: file.truncate",
        "utils/atomic_files.py: temporary.open",  # a new file
        "utils/file_system.py: open",
        "utils/file_system.py: os.open",
    ]


@kinds
@pytest.mark.parametrize("mode", ["rb", "ab", "rb+"])
def test_what_is_no_regular_file_is_refused_and_not_waited_for(mode, harm):
    Path("file").write_bytes(b"content")
    Path("folder").mkdir()
    os.mkfifo("pipe")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind("socket")
        for name, words in {
            "folder": "folder",
            "pipe": "named pipe",
            "socket": "socket|No such device",
            "/dev/zero": "device",
            "none/file": "No such file",
        }.items():
            for links in (True, False):
                path = Path(name)
                if links and not path.is_absolute():
                    path = Path(f"to {path.name}")
                    path.unlink(missing_ok=True)
                    path.symlink_to(name)
                with not_waited_for(), pytest.raises(OSError, match=words + "|Is a directory"):
                    open_regular(path, mode, links=links)
                harm.did("places with a pipe, a socket, a device or a folder for a file")
    with open_regular(Path("file"), mode) as file:
        assert not os.get_inheritable(file.fileno())
    assert Path("file").read_bytes() == b"content"


@kinds
@pytest.mark.parametrize("mode", ["rb", "ab", "rb+", "wb"])
def test_links_are_followed_where_a_user_has_named_them(mode, harm):
    Path("file").write_bytes(b"content")
    Path("link").symlink_to("file")
    Path("nowhere").symlink_to("new")
    for name in ("link", "nowhere"):
        with pytest.raises(OSError, match="it is a link, which may lead out of its folder"):
            open_regular(Path(name), mode)
        harm.did("links that lead out of a folder")
    assert not Path("new").exists()
    assert Path("file").read_bytes() == b"content"
    with open_regular(Path("link"), mode, links=True) as file:
        assert mode == "wb" or file.seek(0, os.SEEK_END) == 7


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    """A run and a search."""
    home = tmp_path_factory.mktemp("folders")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        draw_nothing(patch)
        main([*COMMANDS["train"], "--quiet"])
        main([*COMMANDS["search"], "--quiet", "--final", "none"])
    return home


@kinds
@pytest.mark.parametrize("kind", ["pipe", "link"])
@pytest.mark.parametrize("name", ["study.journal", "study.journal.lock", "search.toml"])
def test_a_search_waits_for_no_pipe_and_writes_outside_of_no_folder(folders, capsys, kind, name, harm):
    shutil.copytree(folders / "search", "search")
    shutil.copyfile(Path("search") / name, "outside")
    made(kind, Path("search") / name, Path("outside"))
    before = Path("outside").read_bytes()
    err = told(capsys, "search", "--resume", "search", code=2)
    harm.did("searches with a pipe or a link in the place of a file")
    assert len(err.strip().splitlines()) <= 3  # the device, the data, and one sentence
    if name == "search.toml" and kind == "pipe":  # it is none, so it is no search
        assert "is not the folder of a search" in err
    else:
        assert f"{name}: " in err
        assert ("it is a link" if kind == "link" else "it is a named pipe") in err
    assert Path("outside").read_bytes() == before


@kinds
def test_a_storage_that_a_user_names_may_be_a_link(folders, capsys, harm):
    shutil.copytree(folders / "search", "search")
    Path("search/study.journal").rename("journal")
    Path("link").symlink_to("journal")
    told(capsys, "search", "--resume", "search", "--storage", "link")
    assert Path("journal.lock").is_file()  # as for those who name the file itself
    with not_waited_for(), pytest.raises(RunError, match=r"pipe: cannot be opened \(it is a named pipe"):
        open_storage(made("pipe", Path("pipe"), Path()))
    harm.did("searches with a pipe or a link in the place of a file")


@kinds
@pytest.mark.parametrize("kind", ["pipe", "link"])
@pytest.mark.parametrize(
    "name",
    ["config.toml", "history.csv", "metrics.json", "environment.json", "model.safetensors", "checkpoints/.lock"],
)
def test_a_run_that_is_resumed_waits_for_no_pipe_and_writes_outside_of_no_folder(folders, capsys, kind, name, harm):
    shutil.copytree(folders / "run", "run")
    (Path("run") / "model.safetensors").unlink()
    Path("run/checkpoints/.lock").unlink()
    target = folders / "run" / name
    before = target.read_bytes()
    made(kind, Path("run") / name, target)
    # A link gives way to the file; a pipe stays, and the run says what it could not write.
    needed = name in ("config.toml", "checkpoints/.lock")
    told(capsys, "train", "--resume", "run", code=2 if needed or kind == "pipe" else 0)
    harm.did("runs with a pipe or a link in the place of a file")
    assert target.read_bytes() == before
    if kind == "link" and name.endswith((".csv", ".json")):  # they were written anew
        assert (Path("run") / name).is_file()
        assert not (Path("run") / name).is_symlink()


@kinds
def test_a_lock_that_is_a_link_makes_no_file_elsewhere(folders, capsys, harm):
    from xpnet.runs.experiment import alone_in

    shutil.copytree(folders / "run", "run")
    made("link", Path("run/checkpoints/.lock"), Path("elsewhere"))
    with pytest.raises(RunError, match=r"\.lock: cannot be written \(it is a link"), alone_in(Path("run")):
        pass
    harm.did("links that lead out of a folder")
    assert not Path("elsewhere").exists()


@kinds
def test_files_that_a_user_names_may_be_links(folders, capsys):
    for name, target in {
        "settings.toml": folders / "run" / "config.toml",
        "model.safetensors": folders / "run" / "model.safetensors",
        "checkpoint.json": max((folders / "run" / "checkpoints" / "0-1").glob("step-*.json")),
        "linked": folders / "run",
        "data.csv": Path("real.csv"),
    }.items():
        Path(name).symlink_to(target.absolute())
    Path("real.csv").write_text("a,b,label\n" + "".join(f"{i},{i % 3},{i % 2}\n" for i in range(40)))
    network = xpnet.load(folders / "run")
    for name in ("model.safetensors", "checkpoint.json", "linked"):
        np.testing.assert_array_equal(xpnet.load(name).parameters["W1"], network.parameters["W1"])
    told(capsys, "train", "--config", "settings.toml", "--out", "again", "--quiet")
    told(capsys, "train", "--data", "data.csv", "--epochs", "1", "--batch-size", "5", "--hidden", "2", "--quiet")
    assert "seed" in (folders / "run" / "config.toml").read_text()


@kinds
def test_images_that_are_pipes_are_left_out_of_predictions(harm):
    network = xpnet.Network(xpnet.NetworkConfig(inputs=16, classes=3, hidden=()))
    network.image_shape = (1, 4, 4)
    Path("images").mkdir()
    for name in ("images/0.png", "elsewhere.png"):
        Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4)).save(name)
    os.mkfifo("images/1.png")
    made("link", Path("images/2.png"), Path("elsewhere.png"))
    with not_waited_for():
        inputs = read_inputs([Path("images")], network)
        assert inputs.names == ["images/0.png", "images/2.png"]
        assert inputs.notes == ["warning: images/1.png: left out (it is a named pipe, and must be a regular file)"]
        with pytest.raises(
            DataError, match=r"1\.png: cannot be read \(it is a named pipe, and must be a regular file\)"
        ):
            read_inputs([Path("images/1.png")], network)
    harm.did("places with a pipe, a socket, a device or a folder for a file", 2)


@kinds
@pytest.mark.parametrize("name", ["x.csv", "x.npy", "x.npz", "x.parquet", "x.tar.gz", "x.ubyte", "images/a/0.png"])
def test_data_that_is_a_pipe_is_not_waited_for(name, harm):
    for folder in ("images/a", "images/b"):
        Path(folder).mkdir(parents=True)
        Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(Path(folder) / "1.png")
    os.mkfifo(name)
    where = name.partition("/")[0]
    with not_waited_for(), contextlib.suppress(DataError):
        (note,) = xpnet.load_data(where).notes
        assert "left out 1 file: a/0.png (a link, or no file)" in note
    harm.did("places with a pipe, a socket, a device or a folder for a file")


@kinds
def test_kept_code_is_read_from_regular_files_alone():
    pytest.importorskip("numba")
    from xpnet.ops.numba_cache import CodeFiles

    files = CodeFiles(Path(), "name", "source")
    files.save("key", 5)
    assert files.load("key") == 5
    (kept,) = Path().glob("*.code")
    kept.rename("elsewhere")
    for kind in ("pipe", "link"):
        made(kind, kept, Path("elsewhere"))
        with not_waited_for():
            assert files.load("key") is None


# -- what file systems lack ---------------------------------------------------------------------------------


@pytest.fixture
def said(monkeypatch) -> list[str]:
    """What is told of the file system."""
    words: list[str] = []
    monkeypatch.setattr(file_system, "tell", words.append)
    return words


@pytest.fixture
def refused(monkeypatch):
    """Let the system refuse what some file systems lack."""

    def refuse(call: str, code: int) -> None:
        def no(*_: object, **__: object) -> None:
            raise OSError(code, os.strerror(code))

        sync = os.fsync

        def no_folders(handle: int) -> None:
            if os.path.isdir(f"/proc/self/fd/{handle}"):  # noqa: PTH112
                no()
            sync(handle)

        monkeypatch.setattr(call, no_folders if call == "os.fsync" else no)

    return refuse


@systems
@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK])
def test_without_hard_links_files_are_renamed_and_none_is_overwritten(refused, said, code, harm):
    refused("os.link", code)
    write_new(Path("f"), b"first")
    write_new(Path("g"), b"first")
    with pytest.raises(RunError, match="f: exists already; nothing is overwritten"):
        write_new(Path("f"), b"second")
    harm.did("calls that a file system refused", 3)
    assert Path("f").read_bytes() == b"first"
    assert sorted(path.name for path in Path().iterdir()) == ["f", "g"]
    (words,) = said
    assert words == f".: its file system has no hard links ({os.strerror(code)}); files are renamed instead"


@systems
def test_what_cannot_be_renamed_either_leaves_nothing(refused, said, monkeypatch):
    refused("os.link", errno.EPERM)
    Path("temporary").write_bytes(b"content")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "the disk is broken")))
    with pytest.raises(OSError, match="the disk is broken"):
        put_new(Path("temporary"), Path("f"))
    assert not Path("f").exists()
    assert said == []


@systems
@pytest.mark.parametrize("code", [errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EOPNOTSUPP])
def test_folders_that_cannot_be_synchronised_are_written_all_the_same(refused, said, code, harm):
    refused("os.fsync", code)
    for number in range(3):
        replace_whole(Path("f"), b"%d" % number)
        assert Path("f").read_bytes() == b"%d" % number
    harm.did("calls that a file system refused", 3)
    assert len(said) == 1
    assert said[0].startswith(".: its file system has no synchronised folders (")


@systems
def test_a_disk_that_breaks_while_a_folder_is_synchronised_is_not_hidden(refused, said):
    refused("os.fsync", errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        sync_folder(Path())
    assert said == []


@systems
def test_a_folder_that_cannot_be_read_is_not_synchronised(said, monkeypatch):
    def no(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("os.open", no)
    sync_folder(Path())
    assert said == []


@systems
@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_without_locks_the_writers_of_a_journal_come_one_after_another(refused, said, code, harm):
    refused("fcntl.flock", code)
    journal = Path("study.journal").absolute()
    TrialQueue(open_storage(journal), "study", {"of": "another"})
    with journal.open("ab") as file:
        file.write(b'{"op_code":5,"wor')  # of somebody who was killed

    def write(writer: int) -> None:
        queue = TrialQueue(open_storage(journal), "study")
        for number in range(5):
            queue.storage.set_study_user_attr(queue.id, f"{writer}-{number}", number)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(write, range(3)))
    harm.did("calls that a file system refused", 15)
    assert all(json.loads(line) for line in journal.read_bytes().splitlines())
    attributes = TrialQueue(open_storage(journal), "study").storage.get_study_user_attrs(0)
    assert len(attributes) == 1 + 15
    assert sorted(path.name for path in Path().iterdir()) == ["study.journal", "study.journal.lock"]
    (words,) = said
    assert "has no locks (" in words
    assert words.endswith("a search's journal is locked by a file beside it instead")


@systems
def test_every_command_works_without_links_locks_and_synchronised_folders(refused, capsys, harm):
    for call, code in {"os.link": errno.EPERM, "os.fsync": errno.EINVAL, "fcntl.flock": errno.ENOLCK}.items():
        refused(call, code)
    err = "".join(told(capsys, *arguments) for arguments in COMMANDS.values())
    harm.did("commands on file systems that lack links, locks and synchronised folders", len(COMMANDS))
    for what in ("hard links", "synchronised folders", "locks"):
        assert err.count(f"its file system has no {what} (") == 1
    assert err.count(": its file system has no ") == 3
    for name in ("run/model.safetensors", "run/report.html", "diagnosis/diagnosis.json", "range/lr_range.csv"):
        assert Path(name).stat().st_size > 0
    assert json.loads(Path("search/search.json").read_text())["winner"] == "winner"
    assert not [*Path().rglob("*.tmp"), *Path().rglob("*.lock.lock")]


def fat16(path: Path) -> None:
    """Make an image of an empty FAT file system of 16 MiB, sector by sector."""
    sectors, of_a_table = 32_767, 64
    boot = bytearray(512)
    boot[:11] = b"\xeb\x3c\x90MSWIN4.1"
    # Bytes of a sector, sectors of a cluster, reserved ones, tables, entries of the root, sectors, medium, geometry.
    struct.pack_into("<HBHBHHBHHHII", boot, 11, 512, 4, 1, 2, 512, sectors, 0xF8, of_a_table, 32, 64, 0, 0)
    struct.pack_into("<BBBI11s8s", boot, 36, 0x80, 0, 0x29, 1, b"XPNET      ", b"FAT16   ")
    boot[510:] = b"\x55\xaa"
    table = b"\xf8\xff\xff\xff".ljust(512 * of_a_table, b"\0")
    with path.open("wb") as file:
        file.write(bytes(boot) + 2 * table)
        file.truncate(512 * sectors)


@systems
def test_every_command_works_on_a_real_fat_file_system(capsys, monkeypatch, harm):
    fat16(Path("image"))
    disk = Path("disk").absolute()
    disk.mkdir()
    mount = ["mount", "-t", "vfat", "-o", "loop", "image", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no FAT file system can be mounted here (needs root, loop devices and the kernel's vfat)")
    home = Path.cwd()
    try:
        monkeypatch.chdir(disk)
        err = "".join(told(capsys, *arguments) for arguments in COMMANDS.values())
        harm.did("commands on a FAT file system", len(COMMANDS))
        assert err.count("its file system has no hard links (") == 1
        assert json.loads(Path("search/search.json").read_text())["winner"] == "winner"
        assert Path("run/report.html").stat().st_size > 0
    finally:
        monkeypatch.chdir(home)
        subprocess.run(["umount", str(disk)], check=True)
