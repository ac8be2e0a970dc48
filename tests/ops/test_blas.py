"""NumPy's own BLAS: products in place, and its threads."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from xpnet.ops import blas
from xpnet.ops.blas import blas_threads, numpy_blas, on_all_cores, one_blas_thread, rows_contiguous

BLAS = numpy_blas()
needs_blas = pytest.mark.skipif(BLAS is None, reason="NumPy's BLAS has no functions that can be called")


@needs_blas
@examples(20)
@given(st.tuples(*[st.integers(1, 9)] * 3), st.booleans(), st.booleans(), st.integers(0, 1000))
def test_a_product_is_added_in_place(sizes, single, apart, seed):
    n, d, m = sizes
    rng = np.random.default_rng(seed)
    dtype = np.float32 if single else np.float64
    x, g, W = (rng.standard_normal((a, 2 * b if apart else b)).astype(dtype) for a, b in ((n, d), (n, m), (d, m)))
    x, g, W = x[:, :d], g[:, :m], W[:, :m]  # rows that may lie apart
    assert all(map(rows_contiguous, (x, g, W)))
    expected = 0.75 * W - 2 * (x.T @ g)
    BLAS.add_product(x, g, W, -2.0, 0.75)
    np.testing.assert_allclose(W, expected, rtol=1e-4 if single else 1e-12, atol=1e-5 if single else 1e-13)


def test_what_blas_cannot_take_as_it_lies_is_told():
    a = np.zeros((4, 6))
    assert rows_contiguous(a)
    assert rows_contiguous(a[:, :3])
    assert not rows_contiguous(a.T)
    assert not rows_contiguous(a[:, ::2])


@needs_blas
@pytest.mark.usefixtures("blas_as_usual")
def test_blocks_of_one_thread_may_overlap_in_any_order():
    before = BLAS.threads
    entered, leave = threading.Event(), threading.Event()

    def other():
        with one_blas_thread():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with one_blas_thread():
        thread.start()
        entered.wait(10)
        with one_blas_thread():
            assert BLAS.threads == 1
    assert BLAS.threads == 1  # the other thread still needs it
    assert blas_threads() == before
    leave.set()
    thread.join()
    assert BLAS.threads == before


def test_threads_are_not_counted_while_another_thread_changes_them():
    counter = threading.Thread(target=blas_threads)
    with blas._lock:
        counter.start()
        counter.join(0.05)
        assert counter.is_alive()
    counter.join()


@needs_blas
def test_a_single_job_leaves_the_threads_of_blas_asleep():
    before = BLAS.threads
    assert on_all_cores([lambda: BLAS.threads]) == [1]
    assert BLAS.threads == before


def test_jobs_on_all_cores_keep_their_order_and_their_context():
    with np.errstate(divide="ignore"):
        results = on_all_cores([lambda i=i: float(np.log(np.zeros(1))[0]) + i for i in range(5)], 3)
    assert results == [-np.inf] * 5
    assert on_all_cores([lambda i=i: i for i in range(7)], 2) == list(range(7))
    with pytest.raises(ZeroDivisionError):
        on_all_cores([lambda: 1 // 0, lambda: 1], 2)
