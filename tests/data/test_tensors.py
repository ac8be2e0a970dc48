"""Features, labels and weights come as tensors of other libraries."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet
from xpnet.data.tensors import is_tensor
from xpnet.errors import DataError


class Tensor:
    """A tensor of a library that has nothing but DLPack; on a GPU unless it is brought to the host."""

    def __init__(self, values, *, there=True):
        self.values, self.there = values, there

    def __dlpack__(self, *, dl_device=None, copy=None, **_):
        if self.there and dl_device is None:
            raise BufferError("lies on a GPU")
        return self.values.__dlpack__()

    def __dlpack_device__(self):
        return (2, 0) if self.there else (1, 0)


class Fetched(Tensor):
    """A tensor on a GPU that brings itself to the host, but not by DLPack."""

    def __dlpack__(self, **_):
        raise BufferError("lies on a GPU")

    def get(self):
        return self.values


def of_torch(values):
    return pytest.importorskip("torch").from_numpy(values)


@pytest.mark.parametrize(
    "wrap", [Tensor, lambda values: Tensor(values, there=False), Fetched, of_torch], ids=["gpu", "cpu", "get", "torch"]
)
def test_tensors_are_data_as_arrays_are(wrap):
    rng = np.random.default_rng(0)
    x, labels, weights = rng.standard_normal((60, 5)).astype(np.float32), np.arange(60) % 3, rng.random(60)
    images = rng.integers(0, 256, (60, 4, 6, 3), np.uint8)
    for values in (x, images):
        expected = xpnet.data_from_arrays(values, labels, values[:9], labels[:9], sample_weight=weights)
        given = (wrap(values), wrap(labels), wrap(values[:9]), wrap(labels[:9]))
        data = xpnet.data_from_arrays(*given, sample_weight=wrap(weights))
        np.testing.assert_array_equal(data.train.x, expected.train.x)
        np.testing.assert_array_equal(data.train.weights, expected.train.weights)
        assert (data.image_shape, data.class_names) == (expected.image_shape, ("0", "1", "2"))
        net = xpnet.Network(xpnet.NetworkConfig(inputs=data.inputs, hidden=(3,), classes=3))
        net.learn_about(data)
        np.testing.assert_array_equal(net.predict_proba(wrap(values)), net.predict_proba(values))


def test_tensor_that_numpy_cannot_hold_is_named():
    with pytest.raises(DataError, match=r"x_train is a \w+\.Tensor, which cannot become a NumPy array .*on the host"):
        xpnet.data_from_arrays(Tensor(None), [0, 1])
    torch = pytest.importorskip("torch")
    with pytest.raises(DataError, match=r"labels_train is a torch\.Tensor, which cannot become .*requires? grad"):
        xpnet.data_from_arrays(np.eye(2), torch.ones(2, requires_grad=True))
    with pytest.raises(DataError, match=r"x_train is a torch\.Tensor, which cannot become"):
        xpnet.data_from_arrays(torch.ones(2, 3, dtype=torch.bfloat16), [0, 1])


def test_arrow_arrays_of_texts_are_labels():
    pa = pytest.importorskip("pyarrow")
    labels = pa.array(["ash", "elm"] * 20)
    assert is_tensor(labels)
    assert not any(map(is_tensor, (np.ones(2), np.float32(1), [1, 2], "text")))
    assert xpnet.data_from_arrays(np.eye(40), labels).class_names == ("ash", "elm")
