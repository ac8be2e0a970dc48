"""Tables of numbers, booleans and categories with missing cells: what columns are, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import data_files
import numpy as np
import pytest
from data_files import few_examples, refused
from hypothesis import given
from hypothesis import strategies as st

import xpnet
from xpnet.config.definitions import DataConfig
from xpnet.data import NamedColumns, load_data, read_raw
from xpnet.data.readers import csv
from xpnet.data.readers.csv import read_csv
from xpnet.errors import DataError


def table(tmp_path: Path, cells: list[str], *, name: str = "p.csv") -> Path:
    """Write a table of a column `b` with these cells, beside numbers and labels."""
    rows = (f"{i},{cell},{'xy'[i % 2]}\n" for i, cell in enumerate(cells))
    (tmp_path / name).write_text("a,b,label\n" + "".join(rows))
    return tmp_path / name


@pytest.mark.parametrize("kind", ["csv", "quoted", "parquet", "columns"])
def test_same_table_is_the_same_from_every_source(tmp_path: Path, kind: str):
    people = data_files.people()
    labels = people["label"]
    expected = NamedColumns.of({name: values for name, values in people.items() if name != "label"})
    assert [column.kind for column in expected.columns] == ["number", "category", "boolean", "number"]
    assert expected.columns[1].categories == ("", "baker", "clerk", "smith")
    if kind == "parquet":
        path = data_files.write_parquet(tmp_path / "p.parquet", columns=people)
    else:
        path = data_files.write_columns(tmp_path / "p.csv", people)
    if kind == "quoted":
        path.write_text(path.read_text().replace("clerk", '"clerk"').replace("baker", " baker "))
    if kind == "columns":
        data = xpnet.data_from_arrays(dict(zip(expected.names, list(people.values())[:4], strict=True)), labels)
        parts = data.train, data.validation, data.test
        columns, x, y = data.columns, *(np.concatenate([getattr(p, of) for p in parts]) for of in ("x", "labels"))
    else:
        raw = read_raw(path)
        columns, x, y = raw.columns, np.concatenate([raw.x, raw.x_test]), np.concatenate([raw.labels, raw.labels_test])
    assert [(c.kind, c.categories[:0] or c.categories) for c in columns if c.kind == "category"] == [
        ("category", ("", "baker", "clerk", "smith"))
    ]
    assert [bool(c.gap) for c in columns] == [True, True, False, False]
    found = sorted(
        (*map(repr, row), label) for row, label in zip(x.astype(np.float32).tolist(), y.tolist(), strict=True)
    )
    rich = [int(label == "rich") for label in labels]
    wanted = zip(expected.x.astype(np.float32).tolist(), rich, strict=True)
    assert found == sorted((*map(repr, row), label) for row, label in wanted)


@few_examples
@given(
    st.lists(st.sampled_from(["1", "2.5", "-3", "01", "1.0", "", "NA", "red", "blue", "0.1"]), min_size=4, max_size=40)
)
def test_text_in_a_late_row_is_as_in_the_first(tmp_path_factory: Any, cells: list[str]):
    path = table(tmp_path_factory.mktemp("t"), cells)
    whole = read_csv(path, DataConfig())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv, "_CHARACTERS", 1)
        parts = read_csv(path, DataConfig())
    assert parts.kinds == whole.kinds
    np.testing.assert_array_equal(parts.x, whole.x)
    column = whole.kinds[1]
    if column.kind == "category":
        names = {"01": "1", "1.0": "1", "NA": ""}
        assert [column.categories[int(code)] for code in whole.x[:, 1]] == [names.get(cell, cell) for cell in cells]
    else:
        numbers = [np.float32(cell) if cell not in ("", "NA") else np.nan for cell in cells]
        np.testing.assert_array_equal(whole.x[:, 1].astype(np.float32), numbers)


_ODD = ["", "NA", "x", "inf", "1e400", "-0", "true", "2024-01-01", "1_0", " 3 ", "\u00fc", "=1+1", "0x10", "1,5", '"']


@few_examples
@given(
    odd=st.lists(st.tuples(st.integers(0, 59), st.integers(0, 3), st.sampled_from(_ODD)), max_size=25),
    numeric=st.sampled_from(["standard", "robust", "quantile", "ple"]),
)
def test_table_with_odd_cells_is_encoded_or_refused_in_one_sentence(tmp_path_factory: Any, odd: Any, numeric: str):
    people = data_files.people(60)
    columns = list(people.values())
    for row, column, cell in odd:
        columns[column][row] = cell
    path = data_files.write_columns(tmp_path_factory.mktemp("t") / "p.csv", people)
    try:
        data = load_data(path, numeric=numeric)
    except DataError as error:
        lines = str(error).splitlines()
    else:
        lines = []
    if lines:
        assert len(lines) == 1
        return
    for part in (data.train, data.validation, data.test):
        assert np.isfinite(data.transform(part.x, "float64")).all()


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["0", "1", "2", "3+"] * 8, "category"),  # a text that comes again and again among few numbers
        (["1", "2", "3"] * 9 + ["crew"] * 20, "category"),
        (["true", "False", "TRUE", ""] * 8, "boolean"),
        (["", "NA", "?", "null"] * 8, "number"),
        (["2", "3", "nan", "N/A"] * 8, "number"),
        ([f"{i}" for i in range(30)], "number"),
        ([f"name {i}" for i in range(18)], "category"),  # so few rows may have categories of their own
    ],
)
def test_kind_of_a_column_follows_from_its_cells(tmp_path: Path, cells: list[str], kind: str):
    assert read_raw(table(tmp_path, cells)).columns[1].kind == kind


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["0", "1", "2"] * 9 + ["x"], r"p.csv: line 29, column 1 \(b\): 'x' is not a finite number$"),
        ([f"{i}" for i in range(30)] + ["unknown"] * 5, r"line 32, column 1 \(b\): 'unknown' is not a finite number$"),
        (["0", "1", "2"] * 9 + ["1e200"], r"line 29, column 1 \(b\): 1e200 is beyond 1e\+150"),
        ([f"name {i}" for i in range(40)], r"column 1 \(b\): is text or identifiers, 40 different values in 40 rows"),
        (
            ["2024-01-31", "2024-2-1"] * 9,
            r"column 1 \(b\): holds dates or times, such as 2024-01-31; .* --drop-columns b$",
        ),
        (["31.12.2024 10:00"] * 9, r"holds dates or times"),
        (["10:30", "9:15:00"] * 9, r"holds dates or times"),
    ],
)
def test_columns_that_teach_nothing_are_named_and_can_be_left_out(tmp_path: Path, cells: list[str], message: str):
    path = table(tmp_path, cells)
    refused(message, path)
    for name in ("b", "1"):
        assert load_data(path, drop_columns=name).feature_names == ("a",)


def test_texts_without_end_are_refused_while_they_are_read(tmp_path: Path):
    path = table(tmp_path, [f"{i}" for i in range(10_002)] + ["x"])
    refused(r"line 10004, column 1 \(b\): 'x' is not a finite number$", path)
    path = table(tmp_path, [f"n{i}" for i in range(10_001)])
    refused(r"column 1 \(b\): has more than 10,000 different texts", path)


def test_settings_of_tables_without_an_effect_are_refused(tmp_path: Path):
    path = table(tmp_path, ["1", "2"] * 10)
    refused("max_categories = 8: has no effect on p, which has no columns of categories", path, max_categories=8)
    refused("drop_columns = c: .* has no such column; its columns are a, b, label", path, drop_columns="c")
    refused("drop_columns = label: .* has its labels in this column", path, drop_columns="label")
    refused("numeric = ple: is for columns of tables, and this data has pictures", "patterns:100/20", numeric="ple")
    refused("has no effect on patterns", "patterns:100/20", drop_columns="a")
    mixed = table(tmp_path, ["r", "g"] * 10)
    refused("in_memory = raw: has no effect on columns that are encoded", mixed, in_memory="raw")


def test_test_table_has_the_columns_of_the_training_table(tmp_path: Path):
    train = table(tmp_path, ["r", "g", "g"] * 10, name="train.csv")
    (tmp_path / "test.csv").write_text("a,b,label\n1,g,x\n,new,y\n3,r,x\n")
    data = load_data(train)
    np.testing.assert_array_equal(data.test.x[:, 1], [0, 2, 1])
    assert data.columns[0].gap.endswith("test.csv: line 3, column 0 (a)")
    assert np.isfinite(data.transform(data.test.x)).all()
    (tmp_path / "test.csv").write_text("a,b,label\n1,7,x\n2,8,y\n")
    refused(r"test.csv: column 1 \(b\): holds numbers, where the training data has categories such as g, r$", train)
    (tmp_path / "test.csv").write_text("a,b,label\nq,r,x\nq,r,y\n")
    refused(r"test.csv: column 0 \(a\): holds categories such as q, where the training data has numbers$", train)


def test_table_of_numbers_alone_is_standardised_as_ever(tmp_path: Path):
    data = load_data(table(tmp_path, [f"{i % 7}" for i in range(40)]))
    assert data.transform.plain
    assert data.train.x.dtype == np.uint8
    gaps = load_data(table(tmp_path, [f"{i % 7}" if i % 9 else "" for i in range(40)]))
    assert gaps.notes[-1] == "2 columns (2 of numbers, 1 with missing cells) become 3 inputs"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": [1, 2], "b": [1]}, "x_train: column b has 1 values, and a has 2"),
        ({"a": [[1], [2]]}, r"x_train: column a: has the shape \(2, 1\)"),
        ({"a": [[1], [2, 3]]}, "x_train: column a: has values of different lengths"),
        ({"a": [1, np.inf]}, "x_train: column a: row 1: inf is not a finite number"),
        ({"a": [object(), None]}, "x_train: column a: holds a object"),
        ({"a": np.array([np.zeros(2), None], object)}, "x_train: column a: holds a ndarray"),
        ({"a": np.zeros(2, "M8[D]")}, "x_train: column a: holds dates or times"),
        ({"a": [1j, 2]}, "x_train: column a: is an array of complex128"),
        ({"a": ["\ud800", "b"]}, "x_train: column a: holds a text with half of a character"),
        ({"\ud800": [1, 2]}, "x_train: the name .* cannot be written"),
        ({}, "x_train has no values"),
    ],
)
def test_columns_in_memory_that_cannot_be_used(columns: dict[str, Any], message: str):
    with pytest.raises(DataError, match=message):
        xpnet.data_from_arrays(columns, [0, 1])


def test_columns_in_memory_may_be_of_many_types():
    table = NamedColumns.of(
        {
            "masked": np.ma.masked_equal(np.arange(3), 1),
            "mixed": [1, "1.0", None],
            "object": np.array([True, None, False], object),
            "big": np.array([2**40, -1, 0]),
            "numbers": np.array([1, None, 2.5], object),
        }
    )
    assert [c.kind for c in table.columns] == ["number", "category", "boolean", "number", "number"]
    np.testing.assert_array_equal(table.x, [[0, 1, 1, 2**40, 1], [np.nan, 1, np.nan, -1, np.nan], [2, 0, 0, 0, 2.5]])


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["no", "yes", "no"] * 10, ("no", "yes")),
        ([True, False, False] * 10, ("0", "1")),
        (np.array([7, 3, 3] * 10), ("3", "7")),
        (np.array(["b", 2, "b"] * 10, object), ("2", "b")),
    ],
)
def test_labels_in_memory_may_be_texts(labels: Any, names: tuple[str, ...]):
    x = np.arange(90.0).reshape(30, 3)
    data = xpnet.data_from_arrays(x, labels, x[:3], labels[:3])
    assert data.class_names == names
    assert [names[c] for c in data.test.labels] == [str(int(y) if isinstance(y, bool) else y) for y in labels[:3]]
    with pytest.raises(DataError, match="labels_test and labels_train: one has texts"):
        xpnet.data_from_arrays(x, ["a", "b"] * 15, x[:3], [0, 1, 0])


def test_missing_numbers_of_an_array_are_filled():
    x = np.arange(90.0).reshape(30, 3)
    x[4, 2] = np.nan
    data = xpnet.data_from_arrays(x, np.arange(30) % 2)
    assert data.inputs in (3, 4)
    for part in (data.train, data.validation, data.test):
        assert np.isfinite(data.transform(part.x)).all()


def test_parquet_with_a_nan_that_signals_has_a_missing_number(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    values = np.arange(40.0)
    values.view(np.uint64)[7] = 0x7FF0000000000001  # as damage may leave it; computing with it would warn
    pq.write_table(pa.table({"x": values, "label": ["a", "b"] * 20}), tmp_path / "t.parquet")
    data = xpnet.load_data(tmp_path / "t.parquet")
    inputs = np.concatenate([data.transform(part.x) for part in (data.train, data.validation, data.test)])
    assert np.isfinite(inputs).all()
    assert sum(np.isnan(part.x).sum() for part in (data.train, data.validation, data.test)) == 1
