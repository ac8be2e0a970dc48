"""Features in memory: raw ones standardised batch by batch, rows on the disk, and how much it takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import harms
import numpy as np
import pytest
from data_files import few_examples
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import xpnet
from xpnet.backend import get_backend
from xpnet.data import Rows, StandardisedRows, Standardiser, data_from_arrays, load_data
from xpnet.data.readers import npy
from xpnet.ops import get_ops
from xpnet.training.device_data import stays_raw, to_device
from xpnet.utils.lazy_arrays import FileRows


def images(rows: int = 400, d: int = 12, dtype: str = "uint8") -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(9)
    labels = np.arange(rows) % 3
    x = np.clip(rng.normal(90 + 40 * labels[:, None], 30, (rows, d)), 0, 255).astype(dtype)
    return x, labels


def trained(data, dtype: str):
    net = xpnet.Network(xpnet.NetworkConfig(inputs=data.features, hidden=(6,), classes=3), dtype=dtype, replicas=2)
    result = xpnet.train(net, data, xpnet.TrainConfig(epochs=2, batch_size=20))
    return net.parameters["W1"], result.test


class TestRawAndFloat:
    @pytest.mark.parametrize("kind", ["uint8", "float32", "float64"])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_both_train_to_the_same_network(self, kind: str, dtype: str):
        x, labels = images(dtype=kind)
        (raw, raw_test), (copy, copy_test) = (
            trained(data_from_arrays(x, labels, in_memory=form), dtype) for form in ("raw", "float")
        )
        # Bytes are the same to the last bit; floating features differ in how often they are rounded.
        tolerance = 0 if kind == "uint8" else {"float32": 1e-5, "float64": 1e-12}[dtype]
        np.testing.assert_allclose(raw, copy, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(raw_test.losses, copy_test.losses, rtol=max(tolerance, 1e-15))

    @few_examples
    @given(
        x=hnp.arrays(np.float32, (7, 3), elements=st.integers(-9999, 9999).map(lambda v: v / 8)),
        offset=st.sampled_from([0.0, 1e3, 1e5]),
    )
    def test_floating_rows_read_as_what_the_standardiser_stores(self, x, offset):
        x = x + np.float32(offset)
        standardiser = Standardiser.fit(x)
        rows = np.array([3, 0, 3])
        for dtype, limit in (("float32", 3e-6), ("float64", 1e-12)):
            stored = standardiser(x, dtype)[rows]
            # Of the size of the largest value: what is subtracted from one that is close to the mean is exact.
            scale = max(1.0, float(np.abs(stored).max()))
            lazy = standardiser.lazily(x, dtype)
            for values in (lazy[rows], get_ops(get_backend("cpu")).gather(rows, lazy)):
                assert values.dtype == dtype
                np.testing.assert_allclose(values, stored, atol=limit * scale, rtol=0)

    def test_the_rule(self, monkeypatch):
        backend = get_backend("cpu")
        small = data_from_arrays(*images(dtype="float32"))
        assert not stays_raw(small, backend, "float32")
        assert isinstance(to_device(small, backend, "float32").train.x, np.ndarray)
        monkeypatch.setattr("xpnet.training.device_data._SLACK", 0)
        assert stays_raw(small, backend, "float32")  # two copies of one size are more than 1.2 of one
        assert isinstance(to_device(small, backend, "float32").train.x, StandardisedRows)
        monkeypatch.setattr("xpnet.training.device_data.keeps_bytes", lambda _: False)
        pixels = data_from_arrays(*images())
        assert stays_raw(pixels, backend, "float32")
        assert not stays_raw(pixels, backend, "float64")  # bytes are an eighth of the copy
        monkeypatch.setattr("xpnet.training.device_data.free_memory", lambda _: 1000)
        assert stays_raw(pixels, backend, "float64")
        assert not stays_raw(data_from_arrays(*images(), in_memory="float"), backend, "float64")


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a pair of .npy files that is taken for a large one."""
    x, labels = images()
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", labels)
    monkeypatch.setattr(npy, "MAPPED_FROM", 1000)
    return tmp_path / "x.npy"


class TestOnTheDisk:
    @pytest.mark.parametrize("kind", ["uint8", "float32", "float64", "float16", "int16", ">f4", "bool"])
    @pytest.mark.parametrize("mapped", [True, False])
    def test_rows_on_the_disk_train_like_those_in_memory(self, pair: Path, monkeypatch, kind: str, mapped: bool):
        x, labels = images()
        x = x > 100 if kind == "bool" else x.astype(kind)
        np.save(pair, x)
        if not mapped:

            def refuse(*_):
                raise OSError(12, "Cannot allocate memory")

            monkeypatch.setattr(np, "memmap", refuse)
        on_disk, in_memory = load_data(pair, test_fraction=0.2), data_from_arrays(x, labels, test_fraction=0.2)
        assert isinstance(on_disk.train.x, Rows)
        assert isinstance(on_disk.train.x.table, np.ndarray if mapped else FileRows)
        np.testing.assert_array_equal(on_disk.test.x[:], in_memory.test.x)
        assert on_disk.train.x.dtype == in_memory.train.x.dtype
        np.testing.assert_array_equal(on_disk.standardiser.mean, in_memory.standardiser.mean)
        (a, a_test), (b, b_test) = (trained(data, "float64") for data in (on_disk, in_memory))
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)
        assert a_test.accuracy == b_test.accuracy

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["uint8", "float32"])
    def test_the_split_stepper_reads_them_where_they_are(self, pair: Path, kind: str):
        rng = np.random.default_rng(0)
        x, labels = rng.integers(0, 256, (600, 3072), np.uint8).astype(kind), np.arange(600) % 10
        np.save(pair, x)
        np.save(pair.with_name("y.npy"), labels)
        found = []
        for data in (load_data(pair), data_from_arrays(x, labels, in_memory="raw")):
            net = xpnet.Network(xpnet.NetworkConfig(inputs=3072, hidden=(50,)))
            xpnet.train(net, data, xpnet.TrainConfig(epochs=1))
            found.append(net.parameters["W1"])
        np.testing.assert_array_equal(*found)

    def test_values_that_are_not_finite_are_found_there_too(self, pair: Path):
        x = images(dtype="float32")[0]
        x[377, 5] = np.nan
        np.save(pair, x)
        with pytest.raises(
            xpnet.XpnetError, match=r"x.npy has 1 values that are not finite, the first in row 377, col"
        ):
            load_data(pair)

    @pytest.mark.guarantee("concurrency")
    def test_a_file_that_is_replaced_while_it_is_read_is_read_as_it_was(self, pair: Path, harm):
        whole, data = load_data(pair).train.x[:], load_data(pair)
        replacing = "import os, sys, numpy as np; np.save('new.npy', np.zeros(3)); os.replace('new.npy', sys.argv[1])"
        subprocess.run([sys.executable, "-c", replacing, str(pair)], check=True)
        assert isinstance(data.train.x, Rows)
        np.testing.assert_array_equal(data.train.x[:], whole)
        assert len(np.load(pair)) == 3
        harm.did("data files replaced while they were mapped")

    def test_a_file_that_is_cut_while_it_is_read(self, pair: Path, monkeypatch):
        monkeypatch.setattr(np, "memmap", lambda *_: (_ for _ in ()).throw(OSError(12, "no room")))
        data = load_data(pair)
        pair.write_bytes(pair.read_bytes()[:1000])
        with pytest.raises(OSError, match="has become shorter"):
            data.train.x[:]


@pytest.mark.parametrize(
    ("x", "y"),
    [("x", "y"), ("x_train", "y_train"), ("pets_x", "pets_y"), ("features", "labels"), ("pets", "pets_labels")],
)
def test_pairs_of_npy_files(tmp_path: Path, x: str, y: str):
    values, labels = images(90)
    np.save(tmp_path / f"{x}.npy", values)
    np.save(tmp_path / f"{y}.npy", labels)
    data = load_data(tmp_path / f"{x}.npy")
    expected = data_from_arrays(values, labels)
    np.testing.assert_array_equal(data.train.x, expected.train.x)
    np.testing.assert_array_equal(data.test.labels, expected.test.labels)
    if x in ("x", "x_train"):
        assert load_data(tmp_path).features == 12
    np.save(tmp_path / "x_test.npy", values[:7])
    np.save(tmp_path / "y_test.npy", labels[:7])
    np.testing.assert_array_equal(load_data(tmp_path / f"{x}.npy").test.x, values[:7])
    assert len(load_data(tmp_path / f"{x}.npy", test_fraction=0.5).test) == 45
    np.save(tmp_path / "elsewhere.npy", labels[::-1].copy())
    assert len(load_data(tmp_path / f"{x}.npy", target=str(tmp_path / "elsewhere.npy")).test) == 9


LARGER = """
import resource, sys, numpy as np, xpnet
from xpnet.config.training import TrainConfig
def train(data):
    net = xpnet.Network(xpnet.NetworkConfig(inputs=data.features, hidden=(4,), classes=10))
    return xpnet.train(net, data, TrainConfig(epochs=1, batch_size=500))
train(xpnet.data_from_arrays(np.ones((600, 3072), np.uint8), np.arange(600) % 10, in_memory="raw"))
size = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (size + 150 * 2**20,) * 2)
try:
    np.fromfile(sys.argv[1], np.uint8)
except MemoryError:
    print("does not fit")
data = xpnet.load_data(sys.argv[1], "20000/1000", data_seed=3)
result = train(data)
print(type(data.train.x.table).__name__, result.test.accuracies.shape)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space are Linux's")
def test_data_larger_than_the_address_space_trains(tmp_path: Path):
    shape = (100_000, 3072)  # 307 MB, twice what the process may take
    header = np.lib.format.header_data_from_array_1_0(np.empty((0, 3072), np.uint8)) | {"shape": shape}
    with (tmp_path / "x.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        start = file.tell()
        file.truncate(start + shape[0] * shape[1])  # a file of zeros that takes no room
    np.save(tmp_path / "y.npy", np.arange(shape[0]) % 10)
    out = harms.run_python(LARGER, tmp_path / "x.npy", MALLOC_ARENA_MAX="1").splitlines()
    assert out == ["does not fit", "FileRows (1,)"]
