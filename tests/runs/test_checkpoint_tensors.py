"""Checkpoints of correct check sums and wrong content: refused in one sentence."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from xpnet.errors import RunError
from xpnet.runs.checkpoints import read_checkpoint

SOURCE = Path(__file__).parents[1] / "fixtures" / "xpnet-checkpoint-1" / "step-000000045.json"
pytestmark = pytest.mark.guarantee("untrusted")


def written(tensors: dict[str, Any] | None = None, drop: str = "", **changed: Any) -> Path:
    """Write the checkpoint of the fixtures with other tensors or another description, signed as if they were right."""
    found = load(SOURCE.with_suffix(".safetensors").read_bytes()) | (tensors or {})
    content = save({name: tensor for name, tensor in found.items() if tensor is not None})
    about = json.loads(SOURCE.read_text())["checkpoint"]
    about |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} | changed
    about.pop(drop, None)
    body = json.dumps(about, sort_keys=True)
    path = Path(SOURCE.name)
    path.write_text(json.dumps({"checksum": hashlib.sha256(body.encode()).hexdigest(), "checkpoint": about}))
    path.with_suffix(".safetensors").write_bytes(content)
    return path


def test_checkpoint_that_is_right_is_read():
    assert read_checkpoint(written())[0].step == 45


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"drop": "step"}, "is not the description of a checkpoint: has no step"),
        ({"step": -1}, "step: must be a whole number of at least 0"),
        ({"step": "45"}, "step: must be a whole number"),
        ({"seconds": [1]}, "seconds: must have 2 values"),
        ({"score": None}, "score: must be a number, and is null"),
        ({"bytes": 2**50}, "bytes, and had"),
        ({"epoch": 2}, r"history.step is int64 \(1,\), not \(2,\)"),
        ({"tensors": {"alive": None}}, "it has no alive"),
        ({"tensors": {"alive": np.array([0, 2])}}, "alive are not numbers of its 2 networks, each once"),
        ({"tensors": {"alive": np.array([0, 0])}}, "alive are not numbers"),
        ({"tensors": {"alive": np.array([0.0, 1.0])}}, "alive is float64"),
        ({"tensors": {"diverged.replica": np.array([0])}}, r"diverged.step is int64 \(0,\), not \(1,\)"),
        ({"tensors": {"parameters.W1": np.zeros((3, 4, 5), np.float32)}}, "for 3 networks"),
        ({"tensors": {"parameters.W1": np.zeros((2, 4, 5), np.float64)}}, "parameters.W2 is float32"),
        ({"tensors": {"velocities.W1": np.zeros((2, 4, 6), np.float32)}}, "velocities.W1 is of no parameter"),
        ({"tensors": {"velocities.W7": np.zeros((2, 4, 5), np.float32)}}, "velocities.W7 is of no parameter"),
        ({"tensors": {"totals.loss": np.zeros((5, 3))}}, r"totals.loss is float64 \(5, 3\), not \(5, 2\)"),
        ({"tensors": {"totals.correct": np.zeros((5, 2))}}, "totals.correct is float64"),
        ({"tensors": {"history.train.losses": np.zeros((1, 3))}}, r"history.train.losses is float64 \(1, 3\)"),
        ({"tensors": {"totals.loss": np.zeros(())}}, r"totals.loss is float64 \(\), not \(0, 2\)"),
        ({"tensors": {"more": np.zeros(1)}}, "it has the tensor more"),
    ],
)
def test_wrong_tensors_are_refused(changes, words):
    path = written(**changes)
    with pytest.raises(RunError, match=words) as caught:
        read_checkpoint(path)
    assert path.stem in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
