"""Text from anybody: sizes, encodings, depth and numbers have limits, and going beyond one is a sentence at once."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from harms import bounded

from xpnet.errors import RunError, XpnetError, one_line, printable
from xpnet.utils import schema
from xpnet.utils.parsing import DEPTH, DIGITS, MOST_JSON, MOST_TOML, MOST_VALUES, read_bytes, read_json, read_toml

pytestmark = [
    pytest.mark.guarantee("untrusted"),
    pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space are Linux's"),
]
MEGABYTE = MOST_TOML - 100


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a." * (MEGABYTE // 2) + "a = 1", "line 1 has a key of more than 16 parts"),
        ("\n[" + "a." * (MEGABYTE // 2) + "a]", "line 2 has a key of more than 16 parts"),
        ('"\\"".' * 50_000 + "a = 1", "line 1 has a key of more than 16 parts"),
        ("'a b' . " * 20 + "a = 1", "line 1 has a key of more than 16 parts"),
        ("a" * MEGABYTE, "is not TOML"),
        ('"a' * (MEGABYTE // 2), "is not TOML"),
        ("a = " + "[" * MEGABYTE, "more than 16 levels"),
        ("a = " + "[" * 20 + "]" * 20, r"a\[0\].* has more than 16 levels"),
        ("x" * (MOST_TOML + 1), "is larger than 1,048,576 bytes"),
        ("a = 1\nb = " + "9" * 5000, "has a number of more than 300 digits"),
        ("a = 1\nb = 0x" + "f" * 5000, "b is a number of more than 300 digits"),
        ("a = nan", "a = nan: must be a finite number"),
        ("a = [[1e999]]", r"a\[0\]\[0\] = inf: must be a finite number"),
        (b"a = 1\nb = '\xff'", r"is not text in UTF-8 \(line 2, invalid start byte\)"),
        ("a = 1\na = 2", r"is not TOML \(Cannot overwrite"),
        ("a = 1\x00", "is not TOML"),
    ],
)
def test_toml_beyond_a_limit(content, words):
    assert_refused(read_toml, content, words)


def assert_refused(read, content, words):
    path = Path("file")
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with bounded(), pytest.raises(RunError, match=words) as caught:
        read(path, RunError)
    assert len(str(caught.value).splitlines()) == 1
    assert str(path) in str(caught.value)


def test_lists_of_numbers_are_no_long_keys(tmp_path):
    numbers = [i + 0.5 for i in range(100)]
    (tmp_path / "f.toml").write_text(f"a = {numbers}\nb.c.d = 'x.y.z'\n")
    assert read_toml(tmp_path / "f.toml", RunError) == {"a": numbers, "b": {"c": {"d": "x.y.z"}}}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[" * MOST_JSON, "more than 1,000,000 values"),
        ('{"a":' * 100_000, "more than 16 levels"),
        ('{"a": ' + "[" * 20 + "]" * 20 + "}", r"a\[0\].* has more than 16 levels"),
        ("{" + '"k":0,' * MOST_VALUES + '"z":0}', "more than 1,000,000 values"),
        (" " * (MOST_JSON + 1), "is larger than 33,554,432 bytes"),
        ('{"a": 1,\n"b": }', "is not JSON .*line 2 column 6"),
        ('{"a": 1, "a": 2}', "a stands twice in one object"),
        ('{"a": {"b": [1, NaN]}}', r"a.b\[1\] = nan: must be a finite number"),
        ('{"a": 1e999}', "a = inf: must be a finite number"),
        ('{"a": ' + "9" * 5000 + "}", "has a number of more than 300 digits"),
        ('{"a": ' + "9" * 1000 + "}", "a is a number of more than 300 digits"),
        ('{"a": ["\\ud800"]}', r"a\[0\] holds text that is none: half of a character"),
        ('{"\\udc00": 1}', "half of a character"),
        ("[1]", "holds a list, not an object"),
        ("", "is not JSON"),
        (b'{"a":\n"\xff"}', "line 2 is not UTF-8"),
    ],
)
def test_json_beyond_a_limit(content, words):
    assert_refused(read_json, content, words)


@pytest.mark.slow
def test_the_largest_file_within_the_limits_takes_bounded_memory(tmp_path):
    pairs = ",".join(f'"{i:x}":.5'.replace(":.", ":0.") for i in range(MOST_VALUES - 2))
    (tmp_path / "f.json").write_text("{" + pairs + "}")
    with bounded():
        assert len(read_json(tmp_path / "f.json", RunError)) == MOST_VALUES - 2


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name, words in {
        "pipe": "it is a named pipe, and must be a regular file",
        "zero": "it is a link, which may lead out of its folder",
        "loop": "it is a link",
        "none": "there is no such file",
        "": "it is a folder, and must be a regular file",
        "a\0b": "is no path of a file",
    }.items():
        with bounded(), pytest.raises(RunError, match=words):
            read_bytes(tmp_path / name, 100, RunError)
    with bounded(), pytest.raises(RunError, match=r"zero: cannot be read \(it is a device"):
        read_bytes(tmp_path / "zero", 100, RunError, links=True)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, naïve 猫 🐈", "plain, naïve 猫 🐈"),
        ("a\nb\x1b[2Jc\x07", r"a\nb\x1b[2Jc\x07"),
        ("\u202eabc\u2028", r"\u202eabc\u2028"),
        ("half \ud800", r"half \ud800"),
    ],
)
def test_messages_are_one_harmless_line(text, shown):
    assert str(XpnetError(text)) == one_line(text) == printable(text) == shown
    assert len(str(XpnetError(f"{'x' * 10**6}{text}"))) < 2100


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"a": {"b": [1, "x"]}, "n": 0}, r"f: a.b\[1\]: must be a number of at least 0, and is 'x'"),
        ({"a": {"b": [-1]}, "n": 0}, r"f: a.b\[0\]: must be a number of at least 0, and is -1"),
        ({"a": {"b": [True]}, "n": 0}, r"f: a.b\[0\]: must be a number of at least 0, and is true"),
        ({"a": {"b": 1}, "n": 0}, "f: a.b: must be a list, and is 1"),
        ({"a": {}, "n": 0}, "f: a: has no b"),
        ({"a": [], "n": 0}, "f: a: must be an object, and is a list"),
        ({"a": {"b": []}, "n": 1.5}, "f: n: must be a whole number or null, and is 1.5"),
        ({"a": {"b": []}, "n": None, "x\n": 1}, r"f: has the key x\\n; known are a, n, t"),
        ({"a": {"b": []}, "n": None, "t": 3}, "f: t: must be text, and is 3"),
    ],
)
def test_shapes_name_the_key(value, words):
    number = schema.either("a whole number or null", schema.optional(schema.whole()))
    shape = schema.record(
        {"a": schema.record({"b": schema.items(schema.number(0))}), "n": number}, {"t": schema.text}, closed=True
    )
    schema.check({"a": {"b": [0, 1.5]}, "n": 3, "t": ""}, shape, "f", RunError)
    with pytest.raises(RunError, match=words):
        schema.check(value, shape, "f", RunError)


def test_the_page_of_files_states_the_limits_that_are_kept():
    from xpnet.config import fields, length, settings
    from xpnet.nn import tensor_file
    from xpnet.report import search_file
    from xpnet.runs import records
    from xpnet.tuning import journal

    page = (Path(__file__).parents[2] / "docs" / "files.md").read_text()
    mebibytes = {
        "a TOML file": MOST_TOML,
        "a JSON file": MOST_JSON,
        "a line of a journal": journal.MOST_LINE,
        "the header of a safetensors file": tensor_file.MOST_HEADER,
    }
    for what, limit in mebibytes.items():
        assert f"| {what} | {limit // 2**20} MiB" in page
    for words in (
        f"{MOST_VALUES:,} values, {DEPTH} levels",
        f"{DEPTH} levels, {DEPTH} parts of a dotted key",
        f"finite, {DIGITS} digits",
        f"| hidden layers | {fields.MOST_LAYERS:,}, each of {fields.MOST_UNITS:,} units |",
        f"| networks of a population | {settings.MOST_NETWORKS:,} |",
        f"| {records.MOST_EPOCHS:,} epochs, of all networks that a run may have;",
        f"{records.MOST_HISTORY_LINE:,} bytes a line |",
        f"| {search_file.MOST_TRIALS:,} trials, {journal.MOST_LINE // 2**20} MiB a line",
        f"| steps of a training | {length.MOST_STEPS:,} |",
    ):
        assert words in page
