"""``xpnet data fetch`` against a server that cuts, stalls, lies about lengths and sends wrong bytes."""

from __future__ import annotations

import dataclasses
import io
import tarfile
from pathlib import Path

import cifar_files
import pytest
from archive_server import (
    FOLDER,
    Answer,
    Server,
    cut,
    cut_without_length,
    drip,
    endless,
    hang_up,
    stall,
    status,
    too_long_a_claim,
    too_short_a_claim,
    whole,
    wrong_bytes,
)

from xpnet.data import download, load_data
from xpnet.data import published as known
from xpnet.data.readers import archive as archive_module
from xpnet.errors import DataError


def fetched(server: Server, **options) -> Path:
    return download.fetch("cifar10", source=server.url, **options).folder


def test_what_is_fetched_is_found_and_loads(tmp_path: Path, server: Server, archive: bytes):
    seen: list[tuple[int, int | None]] = []
    folder = fetched(server, progress=lambda done, total: seen.append((done, total)))
    assert folder == tmp_path / "data" / FOLDER
    assert server.requests == ["/mirror/cifar-10-python.tar.gz"]
    assert seen[-1] == (len(archive), len(archive))
    assert load_data("cifar10").location == str(folder)
    assert sorted(path.name for path in folder.parent.iterdir()) == [FOLDER]  # nothing else is left
    again = download.fetch("cifar10", source=server.url)
    assert (again.folder, again.already, len(server.requests)) == (folder, True, 1)
    (folder / "test_batch").write_bytes(b"damaged")
    assert not download.fetch("cifar10", source=server.url, force=True).already
    assert load_data(folder).features == 3072
    assert sorted(path.name for path in folder.parent.iterdir()) == [FOLDER]


def test_the_url_of_the_file_itself(server: Server):
    download.fetch("cifar10", source=f"{server.url}/other-name.tar.gz")
    assert server.requests == ["/mirror/other-name.tar.gz"]


def test_the_published_place_is_the_default(server: Server, monkeypatch: pytest.MonkeyPatch):
    assert known.HOME == "https://www.cs.toronto.edu/~kriz/"
    monkeypatch.setattr(download, "HOME", f"{server.url}/")
    assert download.fetch("cifar10").folder.is_dir()


@pytest.mark.parametrize(
    "harm", [cut, cut_without_length, stall, wrong_bytes, too_long_a_claim, hang_up, status(503), status(429)]
)
def test_another_attempt_follows_a_bad_one(server: Server, harm: Answer, archive: bytes):
    if harm is too_long_a_claim:  # which is told from the published size where that is known
        key = ("cifar10", "python")
        known.ARCHIVES[key] = dataclasses.replace(known.ARCHIVES[key], size=None)
    server.answers = [harm, harm, whole]
    assert load_data(fetched(server)).features == 3072
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("harm", "message", "attempts"),
    [
        (cut, r"could not be fetched in 4 attempts \(.*; try a mirror, or a file that you have, with --from", 4),
        (stall, r"could not be fetched in 4 attempts \(.*timed out", 4),
        (
            wrong_bytes,
            r"4 attempts \(sent other bytes than the published cifar-10-python.tar.gz: MD5 [0-9a-f]{32} instead",
            4,
        ),
        (cut_without_length, "sent other bytes than the published", 4),
        (too_long_a_claim, r"has [0-9,]+ bytes, and the published cifar-10-python.tar.gz [0-9,]+; check the URL", 1),
        (too_short_a_claim, r"has [0-9,]+ bytes, and the published", 1),
        (endless, r"sends more than the [0-9,]+ bytes of cifar-10-python.tar.gz", 1),
        (status(404), "the server answers 404 Not Found; check the URL", 1),
        (status(500), "could not be fetched in 4 attempts", 4),
        (hang_up, "could not be fetched in 4 attempts", 4),
    ],
)
def test_what_never_comes_right_leaves_nothing(
    tmp_path: Path, server: Server, harm: Answer, message: str, attempts: int
):
    server.answers = [harm]
    with pytest.raises(DataError, match=message) as caught:
        fetched(server)
    assert "\n" not in str(caught.value)
    assert server.url in str(caught.value)
    assert len(server.requests) == attempts
    assert list((tmp_path / "data").iterdir()) == []


def test_a_server_that_drips_has_stalled(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(download, "_SLOW_SECONDS", 0.3)
    server.answers = [drip, whole]
    assert fetched(server).is_dir()
    assert len(server.requests) == 2


def test_nobody_is_there(archive: bytes):
    with pytest.raises(DataError, match=r"http://127.0.0.1:9/x.tar.gz: could not be fetched in 4 attempts"):
        download.fetch("cifar10", source="http://127.0.0.1:9/x.tar.gz")


@pytest.mark.parametrize("url", ["http://[", "http://127.0.0.1:no/x", "http://127.0.0.1:9/a b/ü.tar.gz"])
def test_url_that_is_wrong_is_one_sentence(archive: bytes, url: str):
    with pytest.raises(DataError, match="could not be fetched in 4 attempts") as caught:
        download.fetch("cifar10", source=url)
    assert url in str(caught.value)


def test_an_interrupt_leaves_nothing(tmp_path: Path, server: Server):
    def interrupt(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetched(server, progress=interrupt)
    assert list((tmp_path / "data").iterdir()) == []


class TestFiles:
    def test_a_file_that_one_has(self, tmp_path: Path, archive: bytes):
        (tmp_path / "mine.tar.gz").write_bytes(archive)
        result = download.fetch("cifar10", source=str(tmp_path / "mine.tar.gz"))
        assert (result.notes, load_data("cifar10").features) == ((), 3072)
        assert (tmp_path / "mine.tar.gz").read_bytes() == archive

    @pytest.mark.parametrize("mode", ["w", "w:bz2", "w:xz"])
    def test_recompressed_copy_comes_with_one_line_of_warning(self, tmp_path: Path, archive: bytes, mode: str):
        cifar_files.write_archive(tmp_path / "mine.tar.gz", tmp_path / "made" / FOLDER, mode)
        result = download.fetch("cifar10", source=str(tmp_path / "mine.tar.gz"))
        (note,) = result.notes
        assert "is not the published cifar-10-python.tar.gz (its MD5 is " in note
        assert load_data("cifar10").features == 3072

    @pytest.mark.parametrize("cut", [10, 1000, -10])
    def test_one_that_was_interrupted_is_never_taken_for_whole(self, tmp_path: Path, archive: bytes, cut: int):
        (tmp_path / "mine.tar.gz").write_bytes(archive[:cut])
        with pytest.raises(DataError, match=r"mine.tar.gz: cannot be read to its end|has no folder|has no "):
            download.fetch("cifar10", source=str(tmp_path / "mine.tar.gz"))
        assert list((tmp_path / "data").iterdir()) == []

    @pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
    def test_damage_to_one_is_a_sentence(self, tmp_path: Path, archive: bytes, mode: str):
        folder = tmp_path / "made" / FOLDER
        content = bytearray(cifar_files.write_archive(tmp_path / "a.tar", folder, mode).read_bytes())
        for at in range(len(content) // 3, len(content) // 3 + 30):
            content[at] ^= 0x5A
        (tmp_path / "a.tar").write_bytes(content)
        with pytest.raises(DataError, match=r"a\.tar: cannot be read to its end"):
            download.fetch("cifar10", source=str(tmp_path / "a.tar"))
        assert list((tmp_path / "data").iterdir()) == []

    def test_a_well_formed_archive_of_something_else(self, tmp_path: Path, archive: bytes):
        with tarfile.open(tmp_path / "mine.tar.gz", "w:gz") as tar:
            add(tar, f"{FOLDER}/data_batch_1", b"something else")
        with pytest.raises(DataError, match="data_batch_1: "):
            download.fetch("cifar10", source=str(tmp_path / "mine.tar.gz"))
        assert list((tmp_path / "data").iterdir()) == []

    def test_what_cannot_be_fetched(self, tmp_path: Path, archive: bytes, monkeypatch: pytest.MonkeyPatch):
        with pytest.raises(DataError, match="from = nothing: is no file, and no http or https URL"):
            download.fetch("cifar10", source="nothing")
        with pytest.raises(DataError, match=r"cifar100 \(matlab\): is none of those that can be fetched: cifar10"):
            download.fetch("cifar100", "matlab")
        monkeypatch.setenv("XPNET_DATA", str(tmp_path / "made" / "a.tar.gz"))
        with pytest.raises(DataError, match=r"XPNET_DATA = .* is a file; name a folder"):
            download.fetch("cifar10")


def add(tar: tarfile.TarFile, name: str, content: bytes = b"", **fields) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    tar.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize(
    ("fill", "message"),
    [
        (lambda tar: add(tar, "../escaped", b"x"), "holds a path that leaves the archive"),
        (lambda tar: add(tar, "a/../../escaped", b"x"), "holds a path that leaves the archive"),
        (lambda tar: add(tar, f"{FOLDER}/link", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "is no plain file"),
        (lambda tar: add(tar, f"{FOLDER}/link", type=tarfile.LNKTYPE, linkname="../../x"), "is no plain file"),
        (lambda tar: add(tar, f"{FOLDER}/device", type=tarfile.CHRTYPE), "is no plain file"),
        (lambda tar: [add(tar, f"{FOLDER}/{i}") for i in range(1100)], "has more than 1,000 members"),
        (lambda tar: add(tar, "big", bytes(3_000_000)), "unpacks to more than 2,000,000 bytes"),
    ],
)
def test_hostile_archives_are_not_unpacked(tmp_path: Path, archive: bytes, monkeypatch, fill, message: str):
    monkeypatch.setattr(archive_module, "_MOST_BYTES", 2_000_000)
    with tarfile.open(tmp_path / "mine.tar.gz", "w:gz") as tar:
        fill(tar)
    with pytest.raises(DataError, match=message):
        download.fetch("cifar10", source=str(tmp_path / "mine.tar.gz"))
    assert list((tmp_path / "data").iterdir()) == []
    assert not list(tmp_path.glob("**/escaped"))


def test_absolute_names_stay_inside(tmp_path: Path, archive: bytes):
    with tarfile.open(tmp_path / "mine.tar.gz", "w:gz") as tar:
        add(tar, f"{tmp_path}/escaped", b"x")
    with pytest.raises(DataError, match="has no folder cifar-10-batches-py"):
        download.fetch("cifar10", source=str(tmp_path / "mine.tar.gz"))
    assert not (tmp_path / "escaped").exists()
