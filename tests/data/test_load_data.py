from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_files import refused

from xpnet.data import load_data


@pytest.mark.parametrize(
    ("source", "sizes", "location"),
    [
        ("patterns", (9000, 1000, 2000), "patterns"),
        ("patterns:10000", (9000, 1000, 2000), "patterns"),
        ("patterns:300", (270, 30, 2000), "patterns:300/2000"),
        ("patterns:300/50", (270, 30, 50), "patterns:300/50"),
    ],
)
def test_patterns_by_name(source: str, sizes: tuple[int, int, int], location: str):
    data = load_data(source)
    assert (len(data.train), len(data.validation), len(data.test)) == sizes
    assert (data.name, data.location) == ("patterns", location)


def test_a_location_finds_the_data_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    np.savez(tmp_path / "mine.npz", x=np.arange(60.0).reshape(20, 3), y=np.arange(20) % 2)
    for source in ("patterns:50/20", "mine.npz", Path("mine.npz")):
        monkeypatch.chdir(tmp_path)
        first = load_data(source)
        monkeypatch.chdir("/")
        second = load_data(first.location, first.split)
        np.testing.assert_array_equal(first.train.x, second.train.x)
        assert (first.name, first.location, first.split) == (second.name, second.location, second.split)


def test_a_split_can_be_asked_for():
    data = load_data("patterns:100/10", "30/20")
    assert (data.split, len(data.train), len(data.validation)) == ("30/20", 30, 20)
    refused("split = 45k: asks for 50,000 samples, but patterns has 100;", "patterns:100/10", "45k")


def test_a_malformed_split_is_found_before_the_data_is_read():
    refused(r"^split = 'half'", "no-such-file", "half")


@pytest.mark.parametrize(
    "name", ["patterns:", "patterns:many", "patterns:10/", "patterns:10/5/3", "patterns:-5", "patterns:1e4"]
)
def test_malformed_patterns_say_what_is_right(name: str):
    refused(f"^data = {name}: must be patterns, patterns:N .* or patterns:N/M", name)


@pytest.mark.parametrize("name", ["patterns:9", "patterns:0", "patterns:100/9"])
def test_too_few_patterns(name: str):
    refused("images are fewer than its 10 classes", name)


def test_what_cannot_be_read_says_what_is_accepted(tmp_path: Path):
    accepted = (
        "it can be cifar10, cifar100, mnist, fashion-mnist, patterns, patterns:N/M, a folder or .tar.gz of CIFAR-10"
    )
    refused(f"data = nothing: there is no such file or folder; {accepted}", "nothing")
    refused(f"data = {tmp_path}: is a folder without CIFAR-10's data_batch_1, .*; {accepted}", tmp_path)
    for name, content in (("note", b"hello"), ("empty", b""), ("odd", b"\x01\x02\x03,")):
        (tmp_path / name).write_bytes(content)
        refused(f"{name}: is of no known kind; {accepted}", tmp_path / name)
    np.save(tmp_path / "x.npy", np.zeros(3))
    refused(f"data = {tmp_path}/x.npy: needs its labels in {tmp_path}/y.npy, which is not", tmp_path / "x.npy")
    (tmp_path / "data_batch_1.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(109))
    (tmp_path / "batch").write_bytes(b"\x80\x02}.")
    for name in ("data_batch_1.mat", "batch"):
        refused(f"{name}: is a single file; pass the folder of all of CIFAR-10's; {accepted}", tmp_path / name)


def test_a_name_that_is_too_long_for_a_file_is_one_sentence():
    refused(r"^data = aaa", 5000 * "a")


def test_the_home_folder_may_be_abbreviated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    np.savez(tmp_path / "mine.npz", x=np.arange(60.0).reshape(20, 3), y=np.arange(20) % 2)
    assert load_data("~/mine.npz").location == str(tmp_path / "mine.npz")
