"""CSV and Parquet: targets, headers, labels by name, missing values, test sets."""

from __future__ import annotations

import gzip
from pathlib import Path

import data_files
import numpy as np
import pytest
from data_files import few_examples, refused
from hypothesis import given
from hypothesis import strategies as st

import xpnet
from xpnet.config.definitions import DataConfig
from xpnet.data import growing_table, load_data, read_raw
from xpnet.data.growing_table import GrowingTable
from xpnet.data.readers import parquet
from xpnet.data.readers.csv import read_csv
from xpnet.errors import MissingExtraError


def rows_of(raw) -> dict[bytes, str]:
    """Return every sample with the name of its class."""
    parts = ((raw.x, raw.labels), (raw.x_test, raw.labels_test))
    return {row.astype(np.float32).tobytes(): raw.class_names[c] for x, y in parts for row, c in zip(x, y, strict=True)}


def expected(rows: int = 60) -> dict[bytes, str]:
    _, x, labels = data_files.table(rows)
    return {row.astype(np.float32).tobytes(): label for row, label in zip(x, labels, strict=True)}


@pytest.mark.parametrize("target", ["animal", "2", "-3"])
@pytest.mark.parametrize("kind", ["csv", "semicolons", "tabs", "gzip", "bom", "parquet"])
def test_a_table_and_its_target(tmp_path: Path, kind: str, target: str):
    path = tmp_path / "pets.csv"
    if kind == "parquet":
        data_files.write_parquet(path)  # what a file is does not depend on its name
    else:
        data_files.write_csv(path, delimiter={"semicolons": ";", "tabs": "\t"}.get(kind, ","))
    if kind == "gzip":
        path.write_bytes(gzip.compress(path.read_bytes()))
    if kind == "bom":
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    raw = read_raw(path, target=target)
    assert rows_of(raw) == expected()
    assert raw.class_names == ("cat", "dog", "emu")
    assert raw.feature_names == ("height", "weight", "age", "tail")
    assert (raw.name, raw.x.dtype, raw.image_shape) == ("pets", np.float32, None)


def test_a_table_without_header(tmp_path: Path):
    path = data_files.write_csv(tmp_path / "p.csv", header=False)
    for header in (None, False):
        raw = read_raw(path, target="2", header=header)
        assert rows_of(raw) == expected()
        assert raw.feature_names == ()
    refused(r"p.csv: needs --target, .*; it has 5 columns without names", path)
    refused(r"target = animal: .* has no such column; it has 5 columns without names", path, target="animal")
    assert len(read_raw(path, target="2", header=True).labels) + 6 == 59  # the first row taken for names


def test_a_header_of_numbers_has_to_be_asked_for(tmp_path: Path):
    (tmp_path / "p.csv").write_text("1,2,3\n" + "0.5,1.5,0\n2.5,3.5,1\n" * 6)
    assert len(read_raw(tmp_path / "p.csv", target="2").labels) == 11
    raw = read_raw(tmp_path / "p.csv", target="3", header=True)
    assert raw.feature_names == ("1", "2")


def test_a_first_line_that_may_name_columns_is_told(tmp_path: Path):
    path = tmp_path / "p.csv"
    path.write_text("0,1,2\n" + "0.5,1.5,0\n2.5,3.5,1\n" * 6)
    assert read_raw(path, target="2").notes == (
        f"{path}: its first line, 0 to 2, is a sample; if it names columns, pass --header",
    )
    for header in (True, False):
        assert read_raw(path, target="2", header=header).notes == ()
    assert read_csv(path, DataConfig(), wanted=("a", "b", "c")).columns.notes == read_raw(path, target="2").notes
    assert read_csv(path, DataConfig(), wanted=("0", "1", "2")).columns.notes == ()
    path.write_text("0.0,1,2\n" + "0.5,1.5,0\n" * 6)
    (said,) = read_csv(path, DataConfig(), wanted=("0", "1", "2")).columns.notes
    assert said.endswith("its first line is a sample, and its columns are those that the network knows, in their order")
    assert read_csv(path, DataConfig(), wanted=()).columns.notes == ()


def test_labels_that_are_texts_are_not_told_as_numbers(tmp_path: Path):
    (tmp_path / "p.csv").write_text("x,label\n" + "1,1_0\n2,2_0\n" * 6)
    raw = read_raw(tmp_path / "p.csv")
    assert (raw.class_names, raw.notes) == (("1_0", "2_0"), ())


def test_usual_names_need_no_target(tmp_path: Path):
    data_files.write_csv(tmp_path / "p.csv")
    (tmp_path / "q.csv").write_text((tmp_path / "p.csv").read_text().replace("animal", "Label"))
    assert rows_of(read_raw(tmp_path / "q.csv")) == expected()
    refused(r"p.csv: needs --target, .* its columns are height, weight, animal, age, tail", tmp_path / "p.csv")
    refused(r"target = anmial: .* has no such column; did you mean animal?", tmp_path / "p.csv", target="anmial")
    refused(r"target = 5: .* has the columns 0 to 4", tmp_path / "p.csv", target="5")


@pytest.mark.parametrize(
    ("labels", "names", "numbers"),
    [
        ("0 1 2 1", ("0", "1", "2"), [0, 1, 2, 1]),
        ("0 1 3 1", ("0", "1", "3"), [0, 1, 2, 1]),  # without a class of no sample
        ("1 2 3 2", ("1", "2", "3"), [0, 1, 2, 1]),
        ("1 1.0 2 +2", ("1", "2"), [0, 0, 1, 1]),  # numbers that are equal are one class
        ("-1.0 1.0 -1 1", ("-1.0", "1.0"), [0, 1, 0, 1]),
        ("9007199254740993 9007199254740992 1e0 1", ("1", "9007199254740992", "9007199254740993"), [2, 1, 0, 0]),
        ("1e-99999999 1e99999999 0 0.0", ("0", "1e-99999999", "1e99999999"), [1, 2, 0, 0]),
        ("1_0 10 a a", ("10", "1_0", "a"), [1, 0, 2, 2]),
        ("7 -1 10 7", ("-1", "7", "10"), [1, 0, 2, 1]),  # sorted as numbers
        ("1.5 0.5 1.5 0.5", ("0.5", "1.5"), [1, 0, 1, 0]),
        ("b a ü a", ("a", "b", "ü"), [1, 0, 2, 0]),
        ("2.0 1.0 0.0 1.0", ("0", "1", "2"), [2, 1, 0, 1]),
    ],
)
def test_labels_become_classes_and_keep_their_names(tmp_path: Path, labels: str, names, numbers):
    texts = labels.split() * 5
    (tmp_path / "p.csv").write_text("x,label\n" + "".join(f"{i},{t}\n" for i, t in enumerate(texts)))
    raw = read_raw(tmp_path / "p.csv")
    assert raw.class_names == names
    of_row = {int(x): int(y) for x, y in zip(raw.x[:, 0], raw.labels, strict=True)}
    of_row |= {int(x): int(y) for x, y in zip(raw.x_test[:, 0], raw.labels_test, strict=True)}
    assert of_row == dict(enumerate(numbers * 5))


def csv_with(line: int, text: bytes) -> bytes:
    lines = [b"a,b,label"] + [b"1.5,2,cat", b"3,4.5,dog"] * 10
    lines[line - 1] = text
    return b"\n".join(lines) + b"\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (csv_with(5, b"1,2, "), r"line 5, column 2 \(label\): the value is missing"),
        (csv_with(7, b"1,red,cat"), r"line 7, column 1 \(b\): 'red' is not a finite number$"),
        (csv_with(7, b'1,"2,5",cat'), r"line 7, column 1 \(b\): '2,5' is not a finite number; decimals need a point"),
        (csv_with(7, b"1,inf,cat"), r"line 7, column 1 \(b\): 'inf' is not a finite number"),
        (csv_with(6, b"1,2,cat,9"), "line 6: has 4 columns, and the first line 3"),
        (csv_with(6, b"1,2\0,cat"), "line 6: has a NUL byte"),
        (csv_with(8, b"1,2,caf\xe9"), "line 8: has the byte 0xe9, which is not UTF-8; save it as UTF-8"),
        (csv_with(3, b"1,2,cat").decode().encode("utf-16"), "is in UTF-16; save it as UTF-8"),
        (b"a,b,label\n", "has no rows beneath its header"),
        (b"a,b,label\n1,2,cat\n3,4,cat\n", "has the label cat alone; there must be at least 2 classes"),
        (
            b"a,label\n" + b"".join(b"%d,%d.5\n" % (i, i) for i in range(50)),
            "50 different numbers .* this is a regression target",
        ),
        (b"a,label\n" + b"".join(b"%d,n%d\n" % (i, i) for i in range(50)), "50 different labels in 50 rows"),
        (b"label\ncat\ndog\n", "has a column of labels alone"),
        (b"a,a,label\n1,2,3\n", r"target = a: .* has 2 columns of that name; give its number"),
    ],
)
def test_a_broken_table_is_one_sentence_with_line_and_column(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "p.csv").write_bytes(content)
    refused(message, tmp_path / "p.csv", target="a" if "twice" in message or "of that name" in message else None)


def test_quoted_cells_may_hold_anything(tmp_path: Path):
    (tmp_path / "p.csv").write_text('"a ""x""","b\nc",label\n' + '1,2,"cat, grey"\n3,4,"dog\nbig"\n' * 6)
    raw = read_raw(tmp_path / "p.csv")
    assert raw.feature_names == ('a "x"', "b\nc")
    assert raw.class_names == ("cat, grey", "dog\nbig")


def test_small_whole_numbers_stay_bytes_and_large_ones_keep_their_digits(tmp_path: Path):
    (tmp_path / "p.csv").write_text("a,b,label\n" + "0,255,0\n1,2,1\n" * 6)
    assert read_raw(tmp_path / "p.csv").x.dtype == np.uint8
    (tmp_path / "p.csv").write_text("a,b,label\n" + "0,16777217,0\n1,2,1\n" * 6)
    raw = read_raw(tmp_path / "p.csv")
    assert raw.x.dtype == np.float64
    assert 16777217 in raw.x


@few_examples
@given(st.data())
def test_what_a_csv_file_holds_is_what_comes_out(tmp_path_factory, data):
    d = data.draw(st.integers(1, 5))
    value = st.floats(-1e6, 1e6, width=32) | st.integers(0, 255)
    rows = data.draw(st.lists(st.lists(value, min_size=d, max_size=d), min_size=4, max_size=12))
    path = tmp_path_factory.mktemp("csv") / "p.csv"
    delimiter = data.draw(st.sampled_from(",;\t|"))
    lines = [delimiter.join([*(repr(v) for v in row), "ab"[i % 2]]) for i, row in enumerate(rows)]
    path.write_text(delimiter.join([*(f"c{i}" for i in range(d)), "label"]) + "\n" + "\n".join(lines))
    read = read_csv(path, DataConfig())
    np.testing.assert_array_equal(read.x, np.array(rows, np.float32))
    assert [read.labels.names[c] for c in read.labels.codes()] == ["ab"[i % 2] for i in range(len(rows))]


def test_a_column_of_the_smallest_numbers_keeps_them(tmp_path: Path):
    c = np.arange(60) % 2
    values = np.random.default_rng(0).normal(4.0 * c, 1)
    rows = "".join(f"{v!r}e-200,{w!r},{i}\n" for v, w, i in zip(values.tolist(), values.tolist(), c, strict=True))
    (tmp_path / "p.csv").write_text("a,b,label\n" + rows)
    data = load_data(tmp_path / "p.csv")
    z = data.standardiser(data.train.x)
    np.testing.assert_allclose(z[:, 0], z[:, 1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("value", ["1e308", "-1e308", "1e151"])
@pytest.mark.parametrize("quoted", [False, True])
def test_values_that_cannot_be_squared_are_told_with_their_place(tmp_path: Path, value: str, quoted: bool):
    lines = ["a,b,label", *(40 * ["1.5,2,cat", "3,4.5,dog"])]
    lines[50] = f'1,"{value}",dog' if quoted else f"1,{value},dog"
    (tmp_path / "p.csv").write_text("\n".join(lines) + "\n")
    place = rf"p.csv: line 51, column 1 \(b\): {value} is beyond 1e\+150, which cannot be squared"
    refused(place, tmp_path / "p.csv")


def test_values_of_parquet_that_cannot_be_squared_are_told_with_their_place(tmp_path: Path):
    b = np.ones(30)
    for value, message in ((-1e308, r"-1e\+308 is beyond 1e\+150"), (np.inf, "'inf' is not a finite number")):
        b[7] = value
        data_files.write_parquet(
            tmp_path / "p.parquet", columns={"a": np.arange(30.0), "b": b, "label": np.arange(30) % 2}
        )
        refused(rf"p.parquet: row 7, column 1 \(b\): {message}", tmp_path / "p.parquet")


class TestTestSets:
    def test_a_tenth_of_every_class_without_anything_said(self, tmp_path: Path):
        raw = read_raw(data_files.write_csv(tmp_path / "p.csv", 300), target="animal")
        assert np.bincount(raw.labels_test).tolist() == [10, 10, 10]

    @pytest.mark.parametrize("fraction", [0.2, 0.5, 0.999, 1e-6])
    def test_a_fraction_is_stratified_and_seeded(self, tmp_path: Path, fraction: float):
        path = data_files.write_csv(tmp_path / "p.csv", 300)
        raw = read_raw(path, target="animal", test_fraction=fraction)
        each = min(99, max(1, round(100 * fraction)))
        assert np.bincount(raw.labels_test).tolist() == [each, each, each]
        assert rows_of(raw) == expected(300)
        again = read_raw(path, target="animal", test_fraction=fraction)
        other = read_raw(path, target="animal", test_fraction=fraction, data_seed=1)
        np.testing.assert_array_equal(again.x_test, raw.x_test)
        assert not np.array_equal(other.x_test, raw.x_test)

    def test_a_table_called_test_is_the_test_set(self, tmp_path: Path):
        train = data_files.write_csv(tmp_path / "pets_train.csv", 60)
        test = data_files.write_csv(tmp_path / "pets_test.csv", 30, seed=5)
        raw = read_raw(train, target="animal")
        _, x, labels = data_files.table(30, seed=5)
        np.testing.assert_array_equal(raw.x_test, x.astype(np.float32))  # in its own order
        assert [raw.class_names[c] for c in raw.labels_test] == labels
        assert raw.about["test file"] == str(test)
        assert len(read_raw(train, target="animal", test_fraction=0.5).labels_test) == 30

    def test_a_folder_with_train_and_test(self, tmp_path: Path):
        data_files.write_csv(tmp_path / "train.csv", 60)
        assert len(read_raw(tmp_path, target="animal").labels_test) == 6
        data_files.write_csv(tmp_path / "test.csv", 30, seed=5)
        data_files.write_csv(tmp_path / "sample_submission.csv", 30)
        assert len(read_raw(tmp_path, target="animal").labels_test) == 30

    def test_one_that_does_not_go_with_it_is_refused(self, tmp_path: Path):
        train = data_files.write_csv(tmp_path / "train.csv", 60)
        (tmp_path / "test.csv").write_text(train.read_text().replace("cat", "lynx"))
        refused(r"test.csv has the class lynx, which is none of those known: cat, dog, emu", train, target="animal")
        (tmp_path / "test.csv").write_text(train.read_text().replace("height", "length"))
        refused(r"test.csv: has other columns than .*or pass --test-fraction", train, target="animal")
        assert load_data(train, target="animal", test_fraction=0.1).classes == 3


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": [1.0, 3.0, 2.0], "label": ["x", None, "x"]}, r"row 1, column 1 \(label\): the value is missing"),
        ({"a": [1.0, 2.0, np.inf], "label": ["x", "y", "x"]}, r"row 2, column 0 \(a\): 'inf' is not a finite number"),
        ({"a": [[1], [2]], "label": ["x", "y"]}, r"column 0 \(a\): is of type list.*; it must be numbers or texts, or"),
        (
            {"a": np.zeros(2, "M8[s]"), "label": ["x", "y"]},
            r"column 0 \(a\): holds dates or times; .* with --drop-columns a$",
        ),
        ({"a": np.zeros(0), "label": np.zeros(0, int)}, "has no rows"),
        ({"a": np.ones(2), "label": [[1], [2]]}, r"column 1 \(label\): is of type .*; labels are numbers or texts"),
    ],
)
def test_parquet_says_what_is_wrong(tmp_path: Path, columns, message: str):
    data_files.write_parquet(tmp_path / "p.parquet", columns=columns)
    refused(message, tmp_path / "p.parquet")


def test_parquet_takes_no_header_and_must_be_complete(tmp_path: Path):
    path = data_files.write_parquet(tmp_path / "p.parquet")
    refused("header = true: has no meaning", path, target="animal", header=True)
    path.write_bytes(path.read_bytes()[:-20])
    refused("is not a whole Parquet file", path, target="animal")


@pytest.mark.parametrize("largest", [255.0, 0.1, 1e9])
def test_parquet_read_a_column_at_a_time_is_what_it_is_at_once(tmp_path: Path, monkeypatch, largest: float):
    x = np.random.default_rng(0).integers(0, 255, (400, 5)).astype(float)
    if largest > 255:
        x += 0.1
    x[210, 3] = largest
    labels = [("cat", "dog", "ant")[i % 3] for i in range(400)]
    columns = {f"c{i}": x[:, i] for i in range(5)} | {"label": labels}
    columns = {name: columns[name] for name in ("c0", "c1", "label", "c2", "c3", "c4")}
    data_files.write_parquet(tmp_path / "p.parquet", columns=columns, row_group_size=150)
    monkeypatch.setattr(parquet, "_ROWS", 100)
    at_once = parquet.read_parquet(tmp_path / "p.parquet", DataConfig())
    monkeypatch.setattr(parquet, "_TOGETHER", 1)
    one_by_one = parquet.read_parquet(tmp_path / "p.parquet", DataConfig())
    np.testing.assert_array_equal(at_once[1], one_by_one[1])
    assert at_once[1].dtype == one_by_one[1].dtype
    assert at_once[2].names == one_by_one[2].names == ["cat", "dog", "ant"]
    np.testing.assert_array_equal(at_once[2].codes(), np.arange(400) % 3)
    if largest == 255:
        np.testing.assert_array_equal(one_by_one[1], x)
    if largest > 255:
        # Beside a number that float32 cannot hold, a row keeps its digits.
        np.testing.assert_array_equal(one_by_one[1][200:300], x[200:300])
        np.testing.assert_array_equal(one_by_one[1][:200], x[:200].astype(np.float32))


def test_labels_of_parquet_that_are_not_a_number_are_missing(tmp_path: Path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    labels = np.where(np.arange(30) == 7, np.nan, np.arange(30) % 2)
    for column in (pa.array(labels), pa.array(labels).dictionary_encode(), pa.array(labels.astype(np.float16))):
        pq.write_table(pa.table([np.arange(30.0), column], names=["a", "label"]), tmp_path / "p.parquet")
        refused(r"p.parquet: row 7, column 1 \(label\): the value is missing", tmp_path / "p.parquet")
    labels = np.where(np.arange(30) % 2, np.inf, 1)
    pq.write_table(pa.table([np.arange(30.0), labels], names=["a", "label"]), tmp_path / "p.parquet")
    assert load_data(tmp_path / "p.parquet").class_names == ("1", "inf")


def test_parquet_reads_no_column_that_is_left_alone(tmp_path: Path):
    inner = {"a": 1, "b": [1, 2]}
    columns = {"deep": [inner] * 30, "x": np.arange(30.0), "y": np.arange(30.0) + 0.5}
    data_files.write_parquet(tmp_path / "p.parquet", columns=columns)
    x = parquet.read_parquet(tmp_path / "p.parquet", DataConfig(), wanted=("y", "x")).x
    np.testing.assert_array_equal(x, np.stack([columns["y"], columns["x"]], axis=1))


@few_examples
@given(
    chunks=st.lists(st.sampled_from([np.uint8, np.float32, np.float64]), min_size=1, max_size=6),
    rows=st.integers(1, 9),
    width=st.integers(1, 4),
)
def test_rows_keep_their_values_as_their_type_grows(chunks, rows: int, width: int):
    rng = np.random.default_rng(rows)
    growing, parts = GrowingTable(), [rng.integers(0, 255, (rows, width)).astype(kind) for kind in chunks]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(growing_table, "CHUNK_BYTES", 5)
        for part in parts:
            growing.add(part)
    found = growing.finish()
    np.testing.assert_array_equal(found, np.concatenate(parts))
    assert found.dtype == np.result_type(*chunks)


def test_parquet_without_pyarrow_says_how_to_get_it(tmp_path: Path, monkeypatch):
    (tmp_path / "p.parquet").write_bytes(b"PAR1" + bytes(20))
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    words = r"a Parquet file needs pyarrow, which is not installed: pip install 'xpnet\[parquet\]'"
    with pytest.raises(MissingExtraError, match=words):
        load_data(tmp_path / "p.parquet", target="0")


def test_a_table_trains(tmp_path: Path):
    data = load_data(data_files.write_csv(tmp_path / "p.csv", 300), target="animal")
    net = xpnet.Network(xpnet.NetworkConfig(inputs=4, hidden=(8,), classes=3))
    result = xpnet.train(net, data, xpnet.TrainConfig(epochs=20, batch_size=10, eta=0.1, schedule="constant"))
    assert result.test.accuracy > 0.8
    assert (net.class_names, net.feature_names) == (("cat", "dog", "emu"), ("height", "weight", "age", "tail"))
    net.save(tmp_path / "m.safetensors")
    assert xpnet.load(tmp_path / "m.safetensors").feature_names == net.feature_names
