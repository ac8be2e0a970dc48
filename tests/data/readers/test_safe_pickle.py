from __future__ import annotations

import contextlib
import os
import pickle
import pickletools
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import cifar_files
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpnet.data.readers import safe_pickle
from xpnet.data.readers.safe_pickle import CutShortError, PickledArray, read_pickle
from xpnet.errors import DataError

IMAGES = np.arange(12, dtype=np.uint8).reshape(3, 4)
VALUE: dict[str, Any] = {"labels": [0, 255, 256, 65_536, -1], "data": IMAGES, "name": "x"}


class Attack:
    """Runs a command when it is unpickled by Python's own pickle."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def check_value(read: Any) -> None:
    assert read["labels"] == VALUE["labels"]
    assert read["name"] in ("x", b"x")
    array = read["data"].to_numpy()
    assert array.dtype == np.uint8
    np.testing.assert_array_equal(array, IMAGES)


def test_reads_what_python_2_wrote():
    check_value(read_pickle(cifar_files.python2(VALUE), "f"))


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("key", [str, str.encode])
def test_reads_what_python_3_writes(protocol: int, key: Any):
    check_value(read_pickle(pickle.dumps({key(k): v for k, v in VALUE.items()}, protocol=protocol), "f"))


def test_reads_arrays_in_fortran_order():
    read = read_pickle(pickle.dumps({"data": np.asfortranarray(IMAGES)}, protocol=2), "f")
    np.testing.assert_array_equal(read["data"].to_numpy(), IMAGES)


def test_reads_every_kind_of_value():
    value = {"a": [None, True, False, (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), 2**40, "ü"], "b": {"c": []}}
    assert read_pickle(pickle.dumps(value, protocol=4), "f") == value
    assert read_pickle(pickle.dumps({"a": ["x" * 300, b"y" * 300]}, protocol=4), "f")["a"] == ["x" * 300, b"y" * 300]


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (os.system, ("touch hacked",), "posix.system|nt.system"),
        (eval, ("open('hacked', 'w')",), r"(__builtin__|builtins).eval"),
        (getattr, ("", "join"), r"(__builtin__|builtins).getattr"),
        (np.dtype, ("O",), "dtype 'O'"),
        (np.fromfile, ("/dev/zero",), r"numpy.*fromfile"),
    ],
)
def test_runs_nothing(protocol: int, function: Any, arguments: tuple[Any, ...], name: str):
    attack = pickle.dumps({"data": Attack(function, *arguments)}, protocol=protocol)
    with pytest.raises(DataError, match=f"^f: .*{name}"):
        read_pickle(attack, "f")
    assert not Path("hacked").exists()


@pytest.mark.parametrize(
    "attack",
    [
        b"cnumpy\nndarray\nK\x05\x85R.",  # ndarray called
        b"cnumpy\nndarray\n(K\x01tb.",  # ndarray given a state
        b"cnumpy.core.multiarray\n_reconstruct\nK\x01K\x00\x85U\x01b\x87R.",  # _reconstruct of something else
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\ndtype\nK\x00\x85U\x01b\x87R.",
        b"c_codecs\nencode\nX\x01\x00\x00\x00aU\x05utf-8\x86R.",
        b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x03\x00\x00\x00hext R.",
        b"U\x02idK\x01\x85R.",  # a string called
        b"]K\x01b.",  # a list given a state
        b"}]K\x01s.",  # a list as a key
        b"}(U\x01au.",  # a key without a value
        b"}K\x01a.",  # a dictionary appended to
        b"e.",
        b".",
        b"h\x07.",
        b"K\x01\x87.",
        b"X\x01\x00\x00\x00\xff.",  # no UTF-8
    ],
)
def test_refuses_nonsense(attack: bytes):
    with pytest.raises(DataError, match=r"^f: "):
        read_pickle(b"\x80\x02" + attack, "f")


@pytest.mark.parametrize("dtype", ["O8", "i8", "V8", "S1", "u1,u1"])
def test_refuses_arrays_of_other_types(dtype: str):
    with pytest.raises(DataError, match=f"f: holds an array of dtype '{dtype}' instead of 'u1'"):
        read_pickle(b"\x80\x02" + cifar_files.array((1,), b"12345678", dtype) + b".", "f")


def test_protocol_5_is_refused_by_name():
    with pytest.raises(DataError, match=r"_frombuffer|instruction"):
        read_pickle(pickle.dumps({"data": IMAGES}, protocol=5), "f")


@pytest.mark.parametrize("shape", [(10**12,), (10**6, 10**6), (2,), ()])
def test_a_shape_is_compared_with_the_bytes_that_are_there(shape: tuple[int, ...]):
    array = read_pickle(cifar_files.array(shape, b"123") + b".", "f")
    assert isinstance(array, PickledArray)
    with pytest.raises(ValueError, match="has 3 bytes"):
        array.to_numpy()


def test_refuses_negative_shapes_and_arrays_without_a_state():
    with pytest.raises(DataError):
        read_pickle(cifar_files.array((-1, -3), b"123") + b".", "f")
    bare = read_pickle(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R.", "f")
    with pytest.raises(ValueError, match="None"):
        bare.to_numpy()


@pytest.mark.parametrize(
    ("claim", "least"),
    [(b"T\xff\xff\xff\xff", 2**32 - 1), (b"B\xff\xff\xff\x7f", 2**31 - 1), (b"X\xff\xff\xff\xff", 2**32 - 1)],
)
def test_sets_no_memory_aside_for_what_is_claimed(claim: bytes, least: int):
    content = b"\x80\x02" + claim + b"abc"
    tracemalloc.start()
    try:
        with pytest.raises(CutShortError, match=f"f: is cut short: it has 10 bytes .* at least {least + 7:,}"):
            read_pickle(content, "f")
        assert read_pickle(b"\x80\x02]r\xff\xff\xff\xff.", "f") == []  # a slot of the memo that costs 32 GB elsewhere
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()


def test_text_is_encoded_no_more_than_the_file_holds(monkeypatch: pytest.MonkeyPatch):
    text = b"X\xe8\x03\x00\x00" + 1000 * b"a" + b"q\x00"
    again = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R"
    assert read_pickle(text + again + b".", "f") == 1000 * b"a"
    with pytest.raises(DataError, match="encodes more text than it holds"):
        read_pickle(text + 100 * again + b".", "f")


def test_messages_are_short_and_printable():
    for attack in (
        b"cos\x1b[2J" + 10_000 * b"a" + b"\nsystem\n.",
        pickle.dumps({"data": Attack(np.dtype, "O\x1b[2J\n")}, 2)[:-1].replace(b"O8", b"\x1b\n") + b".",
    ):
        with pytest.raises(DataError) as caught:
            read_pickle(b"\x80\x02" + attack, "f")
        assert len(str(caught.value)) < 250
        assert str(caught.value).isprintable()


def peak_of(content: bytes) -> int:
    """Return the bytes that reading a pickle takes, or refusing it."""
    tracemalloc.start()
    try:
        with contextlib.suppress(DataError):
            read_pickle(content, "f")
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.guarantee("data-memory")
def test_a_key_that_stands_in_many_dictionaries_is_kept_once(harm: Any):
    key = b"k" * (2**20 - 1)
    content = b"]q\x00T" + struct.pack("<I", len(key)) + key + b"q\x01a(" + 3000 * b"}h\x01Ns" + b"e."
    assert len(read_pickle(content, "f")) == 3001
    assert peak_of(content) < 5e6
    harm.did("bombs", 1)


@pytest.mark.guarantee("data-memory")
@pytest.mark.parametrize(
    "some",
    [b"]\x94", b"}K\x01\x94U\x02abs", b"(", b"U\x02ab\x94", b"]K\x01a", b"M\xff\xff\x85", b"X\x02\0\0\0\xc3\xa4\x94"],
)
def test_many_small_values_take_less_than_the_slack(some: bytes, harm: Any, monkeypatch: pytest.MonkeyPatch):
    """Hold the memory of a hundredth of all instructions against a hundredth of 50 MB."""
    monkeypatch.setattr(safe_pickle, "_MOST_INSTRUCTIONS", 5_000)
    monkeypatch.setattr(safe_pickle, "_MOST_CONTAINERS", 100)
    assert peak_of(5_000 * some) < 0.5 * 2**20
    harm.did("bombs", 1)


@pytest.mark.guarantee("data-memory")
def test_a_long_text_takes_no_four_bytes_a_sign(harm: Any):
    text = 3 * 2**20 * b"a" + "\U0001f600".encode()
    assert peak_of(b"X" + struct.pack("<I", len(text)) + text + b".") < 1e5
    letters = bytes(range(256)) * 2**14
    assert read_pickle(pickle.dumps(letters, 2), "f") == letters
    harm.did("bombs", 1)


@pytest.mark.parametrize("depth", [100, 9_000])
def test_nesting_is_no_matter(depth: int):
    deep = depth * b"]" + (depth - 1) * b"a"
    assert len(read_pickle(deep + b".", "f")) == 1
    tuples = b")" + depth * b"\x85"  # whose hash would overflow the stack
    for attack in (
        tuples + b"U\x01a\x93.",
        deep + b"U\x01a\x93.",
        b"cnumpy\ndtype\n" + deep + b"\x85R.",
        b"}" + deep + b"K\x01s.",
    ):
        with pytest.raises(DataError, match=r"^f: "):
            read_pickle(attack, "f")


def test_long_shapes_are_not_multiplied():
    with pytest.raises(DataError, match="not a pickle of CIFAR-10"):
        read_pickle(cifar_files.array(100_000 * (2**62,), b"") + b".", "f")


def test_has_few_instructions(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(safe_pickle, "_MOST_INSTRUCTIONS", 1000)
    with pytest.raises(DataError, match="more than 1,000 pickle instructions"):
        read_pickle(1001 * b"]", "f")


def test_knows_no_instruction_that_calls_or_imports():
    known = {op.name for op in pickletools.opcodes if op.code.encode("latin-1") in safe_pickle._HANDLERS}
    assert len(known) == len(safe_pickle._HANDLERS)
    risky = {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "BYTEARRAY8", "LONG4"}
    assert not known & (risky | {"BINBYTES8", "BINUNICODE8", "NEXT_BUFFER", "DUP"})
    for op in pickletools.opcodes:
        if op.name not in known and op.name != "STOP":
            with pytest.raises(DataError, match="f: holds the pickle instruction"):
                read_pickle(b"\x80\x02" + op.code.encode("latin-1") + 20 * b"\0", "f")


def test_every_beginning_of_a_pickle_is_cut_short():
    whole = cifar_files.python2(VALUE)
    for length in range(len(whole)):
        with pytest.raises(CutShortError, match=f"it has {length} bytes"):
            read_pickle(whole[:length], "f")


@given(data=st.data())
def test_broken_bytes_are_refused_if_they_cannot_be_read(data: st.DataObject):
    content = bytearray(cifar_files.python2(VALUE) if data.draw(st.booleans()) else pickle.dumps(VALUE, 4))
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    # Either it is still a pickle, or it is refused; nothing else may come out.
    with contextlib.suppress(DataError):
        read_pickle(bytes(content), "f")
