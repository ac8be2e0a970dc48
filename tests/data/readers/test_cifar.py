from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import cifar_files
import numpy as np
import pytest
from cifar_files import batch, python2, python3, write_archive, write_folder
from data_files import refused
from examples import thorough

from xpnet.data import CIFAR10_HINT, Standardiser, find_cifar10, load_data, read_raw
from xpnet.data.readers import archive, cifar
from xpnet.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "cifar-10-batches-py")


def check_source(path: Path) -> None:
    raw = read_raw(path)
    batches = [batch(seed) for seed in range(6)]
    np.testing.assert_array_equal(raw.x, np.concatenate([b["data"] for b in batches[:5]]))
    np.testing.assert_array_equal(raw.labels, np.concatenate([b["labels"] for b in batches[:5]]))
    np.testing.assert_array_equal(raw.x_test, batches[5]["data"])
    np.testing.assert_array_equal(raw.labels_test, batches[5]["labels"])
    assert raw.x.dtype == raw.x_test.dtype == np.uint8
    assert raw.labels.dtype == raw.labels_test.dtype == np.int64
    assert (raw.name, raw.image_shape, raw.default_split) == ("cifar10", (3, 32, 32), "90/10")


@pytest.mark.parametrize("write", [python2, python3])
def test_reads_the_folder_of_pickles(tmp_path: Path, write: cifar_files.Writer):
    folder = write_folder(tmp_path / "anything", write)
    check_source(folder)
    assert read_raw(folder).location == str(folder)
    assert read_raw(folder).class_names == tuple(f"the {name}" for name in cifar_files.NAMES)


def test_reads_a_folder_that_holds_the_folder_or_the_archive(tmp_path: Path, folder: Path):
    check_source(tmp_path)
    (tmp_path / "other").mkdir()
    write_archive(tmp_path / "other" / "cifar-10-python.tar.gz", folder)
    check_source(tmp_path / "other")


@pytest.mark.parametrize(("name", "mode"), [("a.tar.gz", "w:gz"), ("misnamed", "w:gz"), ("unzipped-by-a-browser", "w")])
def test_reads_the_archive_without_unpacking_it(tmp_path: Path, folder: Path, name: str, mode: str):
    path = write_archive(tmp_path / name, folder, mode)
    before = sorted(tmp_path.rglob("*"))
    check_source(path)
    assert sorted(tmp_path.rglob("*")) == before
    assert read_raw(path).location == str(path)


def test_names_are_known_without_the_meta_file(folder: Path):
    (folder / "batches.meta").unlink()
    assert read_raw(folder).class_names == cifar_files.NAMES


@pytest.mark.parametrize("name", cifar_files.FILES)
def test_a_missing_batch_is_named(tmp_path: Path, folder: Path, name: str):
    (folder / name).unlink()
    refused(f"has no {name}; CIFAR-10 has data_batch_1 to data_batch_5 and test_batch", folder)
    refused(f"a.tar.gz: has no {name};", write_archive(tmp_path / "a.tar.gz", folder))


def replaced(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in (batch(1) | values).items() if value is not None}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            replaced(data=np.zeros((20, 3071), np.uint8)),
            r"shape \(20, 3071\); it must be an array \(n, 3072\) of uint8",
        ),
        (replaced(data=np.zeros(3072, np.uint8)), r"data has the shape \(3072,\)"),
        (replaced(data=np.zeros((0, 3072), np.uint8)), r"data has the shape \(0, 3072\)"),
        (replaced(data="text"), "data is of type bytes; it must be an array"),
        (replaced(labels=20 * [10]), "the label of row 0 is 10; labels must be from 0 to 9"),
        (replaced(labels=[*(19 * [1]), -1]), "the label of row 19 is -1; labels must be from 0 to 9"),
        (replaced(labels=19 * [1]), "has 20 images and 19 labels; there must be one for each"),
        (replaced(labels=20 * ["cat"]), "labels must be a list of whole numbers"),
        (replaced(labels="cat"), "labels must be a list of whole numbers"),
        (replaced(labels=None), "has no key labels; its keys are batch_label, data, filenames"),
        (replaced(data=None), "has no key data; its keys are batch_label, filenames, labels"),
        (python2([1, 2]), "is not a dictionary with data and labels"),
        (b"garbage", "instruction b'g'"),
        (b"", "is cut short: it has 0 bytes"),
    ],
)
def test_a_broken_batch_is_one_sentence(tmp_path: Path, value: Any, message: str):
    folder = write_folder(tmp_path / "c", data_batch_2=value)
    refused(f"^{folder}/data_batch_2: .*{message}", folder)


def test_a_claimed_shape_is_not_believed(tmp_path: Path):
    hostile = b"}(U\x04data" + cifar_files.array((10**9, 3072), b"123") + b"U\x06labels]u."
    folder = write_folder(tmp_path / "c", data_batch_4=hostile)
    refused(r"data_batch_4: data is an array said to be \(1000000000, 3072\) has 3 bytes", folder)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"label_names": ["a"]}, "label_names must be a list of 10 names"),
        ({"label_names": list(range(10))}, "label_names must be a list of 10 names"),
        ({"names": []}, "has no key label_names; its keys are names"),
    ],
)
def test_a_broken_meta_file_is_one_sentence(tmp_path: Path, value: Any, message: str):
    folder = write_folder(tmp_path / "c", **{"batches.meta": value})
    refused(f"batches.meta: {message}", folder)


def test_a_truncated_batch_says_how_many_bytes_there_should_be(folder: Path):
    path = folder / "data_batch_3"
    whole = path.read_bytes()
    path.write_bytes(whole[:50_000])
    # The array's bytes end 10 + 20 * 8 or so before the file does; what comes after is not known.
    end = whole.index(b"tbU\x09filenames")
    refused(
        rf"data_batch_3: is cut short: it has 50,000 bytes and should go on to at least {end:,}; "
        r"a whole published batch has more than 30,720,000 \(10,000 images of 3,072 bytes\)",
        folder,
    )


def test_batches_that_are_too_large_are_not_read(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cifar, "_LARGEST", 1000)
    for path in (folder, write_archive(tmp_path / "a.tar.gz", folder)):
        refused(r"data_batch_1: has 61,\d{3} bytes; a batch of CIFAR-10 has 31 million", path)


@pytest.mark.parametrize("harm", [lambda whole: whole[:20_000], lambda _: b"no archive at all" * 1000])
def test_broken_archive_says_its_size(tmp_path: Path, folder: Path, harm: Any):
    path = write_archive(tmp_path / "a.tar.gz", folder)
    path.write_bytes(harm(path.read_bytes()))
    size = f"{path.stat().st_size:,}"
    refused(rf"a.tar.gz: cannot be read to its end .* {size} bytes, .* 170,498,071", path)


def test_damage_anywhere_is_found_by_the_checksum(tmp_path: Path):
    empty = {"data": np.zeros((3, 3072), np.uint8), "labels": [1, 2, 3]}
    path = write_archive(tmp_path / "a.tar.gz", write_folder(tmp_path / "c", **dict.fromkeys(cifar_files.FILES, empty)))
    whole, expected = path.read_bytes(), read_raw(path)
    rng = np.random.default_rng(2)
    refused = 0
    for _ in range(60):
        broken = bytearray(whole)
        broken[rng.integers(len(whole))] ^= rng.integers(1, 256)
        path.write_bytes(broken)
        try:
            np.testing.assert_array_equal(read_raw(path).x, expected.x)
        except DataError:
            refused += 1
    assert refused > 50  # the others hit the time or the name in gzip's header


def test_an_archive_that_unpacks_to_anything_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(archive, "_MOST_BYTES", 100_000)
    folder = write_folder(tmp_path / "c", data_batch_1=bytes(10**6))
    refused(
        r"a.tar.gz: unpacks to more than 100,000 bytes; CIFAR-10 has 186 million",
        write_archive(tmp_path / "a.tar.gz", folder),
    )


def test_links_in_an_archive_are_not_followed(tmp_path: Path, folder: Path):
    real = (folder / "test_batch").rename(tmp_path / "outside")
    (folder / "test_batch").symlink_to(real)
    refused("has no test_batch", write_archive(tmp_path / "a.tar.gz", folder))


class TestFinding:
    def test_nothing_is_found_where_there_is_nothing(self):
        assert find_cifar10() is None
        assert load_data().name == "patterns"

    def test_asking_for_it_says_where_it_was_looked_for_and_how_to_get_it(self, tmp_path: Path):
        with pytest.raises(DataError, match="data = cifar10: is not in ") as caught:
            load_data("cifar10")
        assert str(caught.value).endswith(CIFAR10_HINT)
        assert str(tmp_path / "data") in str(caught.value)
        assert "https://www.cs.toronto.edu/~kriz/cifar.html" in CIFAR10_HINT
        assert "cifar-10-python.tar.gz" in CIFAR10_HINT
        assert "XPNET_DATA" in CIFAR10_HINT

    @pytest.mark.parametrize("place", [".", "data", "cache/xpnet", "named"])
    @pytest.mark.parametrize("what", ["the folder itself", "a folder that holds it", "the archive"])
    def test_it_is_found(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, what: str):
        monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / "cache" / name))
        monkeypatch.setenv("XPNET_DATA", str(tmp_path / "named"))
        where = (tmp_path / place).resolve()
        where.mkdir(parents=True, exist_ok=True)
        if what == "the folder itself":
            expected = write_folder(where)
        elif what == "a folder that holds it":
            expected = write_folder(where / "cifar-10-batches-py")
        else:
            expected = write_archive(where / "cifar-10-python.tar.gz", write_folder(tmp_path / "made" / "here"))
        assert find_cifar10() == expected
        assert load_data().name == load_data("cifar10").name == "cifar10"
        assert load_data().location == str(expected)

    def test_the_variable_goes_first_and_may_name_the_archive(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        folder = write_folder(tmp_path)
        path = write_archive(tmp_path / "mine.tar.gz", folder)
        assert find_cifar10() == folder
        monkeypatch.setenv("XPNET_DATA", str(path))
        assert find_cifar10() == path

    def test_an_incomplete_copy_is_an_error_and_not_passed_over(self, folder: Path):
        (folder / "data_batch_1").unlink()
        with pytest.raises(DataError, match="has no data_batch_1;"):
            load_data()


@pytest.mark.cifar
class TestPublished:
    def test_sizes_names_and_counts(self, cifar: Path):
        data = load_data(cifar)
        assert (data.name, data.split, data.classes, data.features) == ("cifar10", "45k", 10, 3072)
        assert data.train.x.shape == (45_000, 3072)
        assert (len(data.validation), len(data.test)) == (5_000, 10_000)
        assert data.class_names == cifar_files.NAMES
        pool = np.concatenate([data.train.labels, data.validation.labels])
        assert (np.bincount(pool) == 5_000).all()
        assert (np.bincount(data.test.labels) == 1_000).all()

        exact = data.train.x[:, :50].astype(np.float64)
        np.testing.assert_allclose(data.standardiser.mean[:50], exact.mean(axis=0), rtol=1e-13)
        np.testing.assert_allclose(data.standardiser.std[:50], exact.std(axis=0), rtol=1e-12)
        expected = (data.test.x[:100] - data.standardiser.mean) / data.standardiser.std
        np.testing.assert_allclose(data.standardiser(data.test.x[:100]), expected, rtol=1e-6, atol=1e-6)
        assert isinstance(data.standardiser, Standardiser)

    @thorough
    def test_the_first_batch_trains_and_the_second_validates(self, cifar: Path):
        data = load_data(cifar, "b1b2")
        assert len(data.train) == len(data.validation) == 10_000
        np.testing.assert_array_equal(data.validation.x, read_raw(cifar).x[10_000:20_000])

    @thorough
    def test_the_archive(self, cifar: Path, tmp_path: Path):
        path = tmp_path / "cifar-10-python.tar.gz"
        inner = cifar / "cifar-10-batches-py"
        plain = write_archive(tmp_path / "plain.tar", inner if inner.is_dir() else cifar, "w")
        with gzip.open(path, "wb", compresslevel=0) as file:
            file.write(plain.read_bytes())
        raw, expected = read_raw(path), read_raw(cifar)
        np.testing.assert_array_equal(raw.x, expected.x)
        np.testing.assert_array_equal(raw.labels_test, expected.labels_test)
