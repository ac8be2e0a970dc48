"""Model files: read as they were written, or refused in one sentence; those of earlier formats are read forward."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harms import bounded
from harms_of_text import overwrite
from safetensors.numpy import save_file

import xpnet
from xpnet.errors import RunError
from xpnet.nn.model_file import read_model, write_model
from xpnet.nn.tensor_file import MOST_HEADER, tensors_in
from xpnet.runs.checkpoints import read_checkpoint

FIXTURES = Path(__file__).parents[1] / "fixtures"
# What the network of the fixtures holds, and says of two samples.
SHA256 = "f65fe91930258d9c21afbcfac284d6cbb5147fca9ca0e29eb0987ca98fa2a3b2"
PROBABILITIES = [
    [[0.2846442, 0.3509872, 0.3643686], [0.3741470, 0.5788656, 0.0469875]],
    [[0.0828436, 0.7532143, 0.1639421], [0.1976037, 0.6166094, 0.1857869]],
]
linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space are Linux's")


def sum_of(tensors: Any) -> str:
    return hashlib.sha256(b"".join(tensors[name].tobytes() for name in sorted(tensors))).hexdigest()


@pytest.mark.parametrize("version", [1, 2])
def test_models_of_every_format_are_read(version):
    network = xpnet.load(FIXTURES / f"xpnet-model-{version}.safetensors")
    assert sum_of(network.parameters) == SHA256
    probe = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
    found = network.predict_proba(probe)
    np.testing.assert_allclose(found, PROBABILITIES, atol=1e-6)
    assert network.class_names == ("ash", "birch", "cedar")
    assert network.seeds == (0, 1)
    assert network.config.hidden == (5,)


def test_checkpoints_of_the_first_format_are_read():
    snapshot, about = read_checkpoint(FIXTURES / "xpnet-checkpoint-1" / "step-000000045.json")
    assert sum_of(snapshot.parameters) == SHA256
    assert (snapshot.step, snapshot.epochs, snapshot.alive) == (45, 1, (0, 1))
    assert snapshot.velocities.keys() == snapshot.parameters.keys()
    assert snapshot.history["validation.accuracies"][0].tolist() == [0.85, 0.6]
    assert [total.shape for total in snapshot.step_metrics] == [(5, 2)] * 3
    assert snapshot.step_metrics[0].sum() == pytest.approx(19.381629467010498)
    assert about["settings"] == {"n_s": 5, "lambda": 0.005}


def test_equal_models_are_equal_files(tmp_path):
    network = xpnet.load(FIXTURES / "xpnet-model-1.safetensors")
    for name in ("a", "b"):
        network.save(tmp_path / name)
    content = (tmp_path / "a").read_bytes()
    assert content == (tmp_path / "b").read_bytes() == (FIXTURES / "xpnet-model-2.safetensors").read_bytes()


def test_tensors_come_in_the_order_of_their_names():
    content = (FIXTURES / "xpnet-model-2.safetensors").read_bytes()
    for _ in range(5):
        assert list(tensors := tensors_in(content, "m")) == sorted(tensors)


def refused(path: Path, content: bytes) -> str:
    overwrite(path, content)
    words = ""
    try:
        xpnet.load(path)
    except RunError as error:
        words = str(error)
    assert str(path) in words
    assert len(words.splitlines()) == 1
    return words


@pytest.mark.guarantee("corruption")
def test_a_flipped_bit_anywhere_is_noticed(tmp_path, harm):
    """One bit of every byte, or all of them."""
    whole = (FIXTURES / "xpnet-model-2.safetensors").read_bytes()
    bits = harm.times(1, 8)
    for place in range(len(whole)):
        for bit in range(bits):
            content = bytearray(whole)
            content[place] ^= 1 << (bit + (place if bits == 1 else 0)) % 8
            harm.did("bits flipped")
            refused(tmp_path / "m.safetensors", bytes(content))


@pytest.mark.guarantee("corruption")
def test_a_cut_anywhere_is_noticed(tmp_path, harm):
    whole = (FIXTURES / "xpnet-model-2.safetensors").read_bytes()
    for size in range(0, len(whole), harm.times(7, 1)):
        harm.did("files cut")
        assert "is not a whole safetensors file" in refused(tmp_path / "m.safetensors", whole[:size])
    assert BROKEN in refused(tmp_path / "m.safetensors", whole + b"\0")


def test_a_check_sum_that_is_left_out_is_not_forgotten(tmp_path):
    """A file does not pass for one of the format that had none."""
    whole = (FIXTURES / "xpnet-model-2.safetensors").read_bytes()
    found = refused(tmp_path / "m.safetensors", whole.replace(b"xpnet-model-2", b"xpnet-model-1"))
    assert "has the key sha256" in found
    found = refused(tmp_path / "m.safetensors", whole.replace(b"xpnet-model-2", b"xpnet-model-3"))
    assert "it names xpnet-model-3 for xpnet-model-2" in found


def file_of(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


DESCRIPTION = {"format": "xpnet-model-1", "seeds": [0], "class_names": [], "config": {"inputs": 2, "classes": 2}}
METADATA = {"xpnet": json.dumps(DESCRIPTION)}
F32 = {"dtype": "F32", "shape": [1, 2, 2], "data_offsets": [0, 16]}
BROKEN = "is not a whole safetensors file"


def claims(tensors: Any, metadata: Any = METADATA) -> bytes:
    return file_of({"__metadata__": metadata, **tensors}, bytes(16))


@linux
@pytest.mark.guarantee("untrusted")
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "claims 0 bytes, and the file has 0"),
        ((2**60).to_bytes(8, "little") + b"{}", "claims 1,152,921,504,606,846,976 bytes, and the file has 2"),
        ((2**64 - 1).to_bytes(8, "little"), "claims 18,446,744,073,709,551,615 bytes"),
        ((MOST_HEADER + 1).to_bytes(8, "little") + bytes(MOST_HEADER + 1), "bytes, and may have 8,388,608"),
        (file_of(b"["), "is not JSON"),
        (file_of(b'{"a":' * 1000), "more than 16 levels"),
        (file_of(b"[" * 10**6), "more than 16 levels"),
        (file_of(b'{"a":1,' + b'"b":[],' * 10**5 + b'"c":1}'), "stands twice"),
        (file_of(b"[" + b"[]," * 1_000_000 + b"1]"), "more than 1,000,000 values"),
        (file_of(b"\xff{}"), "is not UTF-8"),
        (file_of([]), "holds a list"),
        (file_of({}), "names no xpnet-model-2"),
        (claims({}, {"xpnet": 3}), "names no xpnet-model-2"),
        (claims({}, {"xpnet": "{}", "more": ""}), "names no xpnet-model-2"),
        (claims({}, {"xpnet": "[" * 5000}), "its description: has more than 16 levels"),
        (claims({}, {"xpnet": json.dumps({"format": "xpnet-model-9"})}), "it names xpnet-model-9"),
        (claims({"a": F32}), "has no parameters.W1"),
        (claims({"parameters.W1": {**F32, "dtype": "I64", "shape": [2, 1]}}), "no parameters.W1 of floating numbers"),
        (claims({"parameters.W1": {**F32, "dtype": "F16", "shape": [2, 4]}}), f"{BROKEN} .parameters.W1 is float16"),
        (claims({"a": {**F32, "dtype": "BF16"}}), BROKEN),
        (claims({"a": {**F32, "dtype": "BF16", "shape": [8]}}), BROKEN),
        (claims({"a": {**F32, "shape": [0, 2**52], "data_offsets": [0, 0]}, "b": F32}), "has no parameters.W1"),
        (claims({"a": {**F32, "shape": [0, 2**62], "data_offsets": [0, 0]}, "b": F32}), BROKEN),
        *(
            (claims({"a": {**F32, **change}}), BROKEN)
            for change in (
                *(
                    {"shape": shape}
                    for shape in ([2**52, 2**52], [2**60], [-1, -4], [1, 2, 2.0], [2] * 40, "4", [4, "1"])
                ),
                *({"data_offsets": places} for places in ([4, 20], [0], [16, 0], [0, 2**63], [-16, 0], None)),
                {"shape": [1, 1, 2], "data_offsets": [0, 8]},
            )
        ),
        (claims({"a": 3}), BROKEN),
        (claims({"a": F32, "b": F32}), BROKEN),
    ],
)
def test_headers_that_claim_what_is_not_there(tmp_path, content, words):
    with bounded():
        found = refused(tmp_path / "m.safetensors", content)
    assert re.search(words, found), found


GONE = "gone"


def described(path: Path, config: Any = None, drop: str = "", tensors: Any = None, **changed: Any) -> None:
    """Write a model whose check sum is right and whose description is not."""
    model = read_model(FIXTURES / "xpnet-model-2.safetensors")
    about = {
        "config": dataclasses.asdict(model.config) | (config or {}),
        "seeds": list(model.seeds),
        "class_names": list(model.class_names),
        **changed,
    }
    if config == {"inputs": GONE}:
        about["config"].pop("inputs")
    about.pop(drop, None)
    found = {**model.tensors, **model.transform.tensors()}
    found |= tensors or {}
    write_model(path, {name: t for name, t in found.items() if t is not None}, about)


W1 = np.zeros((2, 4, 5), np.float32)


@linux
@pytest.mark.guarantee("untrusted")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"drop": "config"}, "its description: has no config"),
        ({"drop": "class_names"}, "its description: has no class_names"),
        ({"drop": "seeds"}, "its description: has no seeds"),
        ({"mean": 1}, "its description: has the key mean"),
        ({"config": {"widht": 3}}, "config: got an unexpected keyword argument 'widht'"),
        ({"config": {"inputs": GONE}}, "its description: config: has no inputs"),
        ({"config": {"inputs": 10**12}}, "parameters.W1 is float32"),
        ({"config": {"hidden": [10**12]}}, "config: hidden = "),
        ({"config": {"hidden": [1] * 10**5}}, "config.hidden has 100,000 layers, and there are 9 tensors"),
        ({"config": {"hidden": {"a": 1}}}, "config: hidden = "),
        ({"config": {"hidden": None}}, "config: hidden = "),
        ({"config": {"hidden": [[5]]}}, "config: hidden = "),
        ({"config": {"batch_norm": 1}}, "config: batch_norm = 1: must be true or false"),
        ({"config": {"bn_eps": -1}}, "config: bn_eps = -1: must be"),
        ({"config": {"init": ["he"] * 3}}, "config.init has 3 values for 2 networks"),
        ({"config": {"classes": True}}, "config: classes = true: must be"),
        ({"seeds": [0]}, "it has 1 seeds for 2 networks"),
        ({"seeds": [0, -1]}, r"seeds\[1\]: must be a whole number of at least 0, and is -1"),
        ({"seeds": [0, 1.5]}, r"seeds\[1\]: must be a whole number"),
        ({"seeds": "01"}, "seeds: must be a list, and is '01'"),
        ({"class_names": [1, 2, 3]}, r"class_names\[0\]: must be text, and is 1"),
        ({"class_names": ["a"] * 4}, "class_names has 4 names for 3 classes"),
        ({"class_names": ["\ud800"]}, "half of a character"),
        ({"feature_names": ["a"]}, "feature_names has 1 names for 4 features"),
        ({"image_shape": [1, 2]}, "image_shape: must have 3 values"),
        ({"image_shape": [1, 2, 3]}, "images of 1 x 2 x 3 are not 4 features"),
        ({"image_shape": [2, 2, 1]}, "in 1 or 3 channels"),
        ({"image_shape": [2**60, 2**60, 1]}, "image_shape"),
        ({"tensors": {"parameters.W1": W1.astype(np.float64)}}, "is float32 .*, not float64"),
        ({"tensors": {"parameters.W1": W1[:, :3]}}, r"parameters.W1 is float32 \(2, 3, 5\), not float32 \(2, 4, 5\)"),
        ({"tensors": {"parameters.W1": None}}, "has no parameters.W1"),
        ({"tensors": {"parameters.b2": None}}, "it has no parameters.b2"),
        ({"tensors": {"parameters.W9": W1}}, "has the tensor parameters.W9, which is none of its network"),
        ({"tensors": {"running.var1": np.full((2, 1, 5), -1, np.float32)}}, "running.var1 has a variance below 0"),
        ({"tensors": {"standardise.std": np.zeros(4)}}, "std above 0"),
        ({"tensors": {"standardise.std": np.ones(3)}}, r"mean \(4,\) and std \(3,\) must be two"),
        ({"tensors": {"standardise.mean": None}}, "it has no standardise.mean"),
        ({"tensors": {"standardise.std": None}}, "it has no standardise.std"),
        ({"tensors": {"standardise.more": np.ones(4)}}, "it has an unknown standardise.more"),
    ],
)
def test_descriptions_that_are_wrong(tmp_path, changes, words):
    path = tmp_path / "m.safetensors"
    described(path, **changes)
    with bounded():
        found = refused(path, path.read_bytes())
    assert re.search(words, found), found


def test_what_other_programs_wrote_is_no_model(tmp_path):
    save_file({"a": np.zeros(3, np.float32)}, tmp_path / "m.safetensors")
    with pytest.raises(RunError, match="is not a model that this version of xpnet reads; it names no xpnet-model-2"):
        xpnet.load(tmp_path / "m.safetensors")


def test_a_model_of_the_first_release_names_one_seed(tmp_path):
    model = read_model(FIXTURES / "xpnet-model-1.safetensors")
    about = {"format": "xpnet-model-1", "config": dataclasses.asdict(model.config), "seed": 7, "class_names": []}
    save_file(dict(model.tensors), tmp_path / "m.safetensors", {"xpnet": json.dumps(about)})
    assert xpnet.load(tmp_path / "m.safetensors").seeds == (7, 8)
    about.pop("seed")
    save_file(dict(model.tensors), tmp_path / "m.safetensors", {"xpnet": json.dumps(about)})
    with pytest.raises(RunError, match="names no seeds"):
        xpnet.load(tmp_path / "m.safetensors")
