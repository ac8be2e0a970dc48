"""A kernel on the emulator beside its definition."""

from __future__ import annotations

import numpy as np
import pytest
from strict import gpu_backend

from xpnet.ops import activations, moments, reference
from xpnet.ops.cuda_ops import CudaOps

# Of the largest number of a result: sums are taken in another order.
TOLERANCE = {"float32": 1e-5, "float64": 3e-14}


class Both:
    """The kernels, on a pretended device, beside the reference."""

    def __init__(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            backend = gpu_backend(patch)
            self.xp, self.ops = backend.xp, CudaOps(backend)

    def to(self, value):
        if isinstance(value, np.ndarray):
            return self.xp.asarray(value)
        if isinstance(value, (list, tuple)):
            parts = [self.to(v) for v in value]
            return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
        return value

    def back(self, value):
        if isinstance(value, self.xp.ndarray):
            return value._a.copy()
        if isinstance(value, tuple):
            return tuple(self.back(v) for v in value if isinstance(v, self.xp.ndarray))
        return value

    def __call__(self, name, *arguments, dtype, **options):
        """Compare results, and what was changed in place; forwards, backwards and into memory used before."""
        expected_arguments = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
        definition = next(
            getattr(module, name) for module in (reference, activations, moments) if hasattr(module, name)
        )
        expected = definition(np, *expected_arguments, **options)
        seen, out = [], None
        for self.xp.backwards in (False, True, False):
            given_arguments = [self.to(a) for a in arguments]
            more = {} if name in WITHOUT_OUT else {"out": out}
            result = getattr(self.ops, name)(*given_arguments, **options, **more)
            fields = self.back(result) if isinstance(result, (tuple, self.xp.ndarray)) else ()
            changed = [self.back(a) for a in given_arguments if isinstance(a, self.xp.ndarray)]
            seen.append((fields if isinstance(fields, tuple) else (fields,), changed))
            out = result if more and name not in FRESH else None
        for fields, changed in seen[1:]:
            for a, b in zip((*fields, *changed), (*seen[0][0], *seen[0][1]), strict=True):
                np.testing.assert_array_equal(a, b, err_msg=f"{name}: the order of threads shows")
        wanted = expected if isinstance(expected, tuple) else (expected,)
        for got, want in zip(seen[0][0], [w for w in wanted if isinstance(w, np.ndarray)], strict=False):
            assert got.shape == want.shape, name
            close(got, want, dtype, name)
        arrays = [a for a in expected_arguments if isinstance(a, np.ndarray)]
        for got, want in zip(seen[0][1], arrays, strict=True):
            close(got, want, dtype, f"{name}, in place")
        return seen[0][0]


def close(got, want, dtype, name):
    scale = float(np.abs(want.astype(float)).max(initial=1.0))
    np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE[dtype] * scale, err_msg=name)


WITHOUT_OUT = {"softmax", "tally", "scale_gradient"} | {
    f"{start}_{kind}_inference" for start in ("bias", "batch_norm") for kind in ("relu", "activation")
}


# Their `out` holds addresses of the tensors of one call.
FRESH = {"average", "descend", "descend_with_momentum", "descend_adamw", "descend_lion"}
