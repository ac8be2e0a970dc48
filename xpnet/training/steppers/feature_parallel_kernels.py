"""The work of each thread of the feature-parallel stepper: its share of the first layer's features.

Two of three arguments are None: `of_bytes` and `of_numbers`, which have the location and the scale (3, d) of features
that are still to be standardised, and `memmove`, the address of what copies others.  A branch for something that is
None is left out before the code is compiled.
"""

from __future__ import annotations

from xpnet.ops.numba_intrinsics import AS_IT_IS, TRANSPOSED, compiled, gemm, raise_flag, read_flag, wait_for
from xpnet.ops.numba_kernels import gather_bytes, gather_floats, gather_scaled

# Value of a flag, in place of a step's number, that tells the workers to return.
LEAVE = 2**62


@compiled(fastmath={"reassoc"})
def _squares(W):
    total = W.dtype.type(0)
    for w in W.flat:
        total += w * w
    return total


@compiled
def forward_share(calls, x, of_bytes, of_numbers, memmove, rows, first, batch, W, s):
    """Gather the batch's features from `first` on, and set s (n, m) to their part of x W; return sum(W**2)."""
    if of_bytes is not None:
        gather_bytes(rows, x, first, of_bytes[0], of_bytes[1], of_bytes[2], batch)
    if of_numbers is not None:
        gather_scaled(rows, x, first, of_numbers[0], of_numbers[1], of_numbers[2], batch)
    if memmove is not None:
        gather_floats(rows, x, first, batch, memmove)
    (n, d), m = batch.shape, W.shape[1]
    one, zero = W.dtype.type(1), W.dtype.type(0)
    gemm(calls[0], AS_IT_IS, AS_IT_IS, n, m, d, one, batch.ctypes.data, d, W.ctypes.data, m, zero, s.ctypes.data, m)
    return _squares(W)


@compiled
def update_share(calls, batch, g, W, keep):
    """Compute W <- keep W - batch' g in place."""
    (n, d), m = batch.shape, W.shape[1]
    minus = -W.dtype.type(1)
    gemm(calls[0], TRANSPOSED, AS_IT_IS, d, m, n, minus, batch.ctypes.data, d, g.ctypes.data, m, keep, W.ctypes.data, m)


@compiled
def work(calls, x, of_bytes, of_numbers, memmove, perm, first, batch, W, s, g, keep, squares, flags, mine, leader):
    """Take the steps of `perm` (k, n) for one share of the features, synchronised with the leader."""
    for t in range(len(perm)):
        squares[t] = forward_share(calls, x, of_bytes, of_numbers, memmove, perm[t], first, batch, W, s)
        raise_flag(flags, mine, t + 1)
        wait_for(flags, leader, t + 1, calls[1])
        if read_flag(flags, leader) == LEAVE:
            return
        update_share(calls, batch, g, W, keep[t])


@compiled
def lead_forward(calls, x, of_bytes, of_numbers, memmove, rows, first, batch, W, parts, t, flags, apart):
    """Compute the leader's share, and sum all shares in parts[0]; return sum(W**2) of the leader's share."""
    squares = forward_share(calls, x, of_bytes, of_numbers, memmove, rows, first, batch, W, parts[0])
    for worker in range(1, len(parts)):
        wait_for(flags, worker * apart, t + 1, calls[1])
        s, part = parts[0], parts[worker]
        for i in range(s.shape[0]):
            for j in range(s.shape[1]):
                s[i, j] += part[i, j]
    return squares


@compiled
def lead_update(calls, batch, g, W, keep, t, flags, mine):
    """Let the workers use the gradient `g` at the first layer's output, and update the leader's share."""
    raise_flag(flags, mine, t + 1)
    update_share(calls, batch, g, W, keep)
