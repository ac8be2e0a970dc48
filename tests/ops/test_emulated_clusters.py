"""The emulator runs blocks that wait for each other as a GPU may, and tells what a GPU would not forgive."""

from __future__ import annotations

import emulator
import numpy as np
import pytest

pytestmark = pytest.mark.skipif(emulator.compiler() is None, reason="there is no C++ compiler")

CODE = """
#define DYNAMIC_MEMORY static unsigned char* dynamic_memory = nullptr
DYNAMIC_MEMORY;
extern "C" __global__ void __cluster_dims__(2, 1, 1) neighbours(int* x, int before, int after) {
    int* s = reinterpret_cast<int*>(dynamic_memory);
    s[threadIdx.x] = 10 * blockIdx.x + threadIdx.x;
    if (before) cluster_barrier();
    x[blockIdx.x * blockDim.x + threadIdx.x] = *peer(s + threadIdx.x, 1 - blockIdx.x % 2);
    if (after) cluster_barrier();
}
extern "C" __global__ void __cluster_dims__(1, 1, 1) relay(int* x, unsigned* flags, int releases, int patience) {
    const unsigned b = blockIdx.x;
    __shared__ int own;
    if (b > 0 && threadIdx.x == 0) {
        const long long begin = clock64();
        while (load_acquire(flags + b - 1) == 0)
            if (patience && clock64() - begin > (1ll << 32)) give_up();
    }
    if (threadIdx.x == 0) own = b == 0 ? 1 : x[b - 1] + 1;
    __syncthreads();
    if (threadIdx.x == 1) tell(x + b, own);
    __syncthreads();
    if (threadIdx.x == 0 && releases) store_release(flags + b, 1);
    else if (threadIdx.x == 0 && b != 1) flags[b] = 1;
}
"""


@pytest.fixture(scope="module")
def kernels():
    return emulator.program(CODE, ("-DREAL=float",))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("early", [False, True])
def test_block_reads_the_memory_of_its_cluster_behind_a_barrier(kernels, early, seed):
    def run(before, after):
        x = np.full(16, -7, np.int32)
        arguments = (x.ctypes.data, np.int32(before), np.int32(after))
        kernels["neighbours"]((4,), (4,), arguments, 64, early, seed)
        return x.reshape(4, 4)

    expected = 10 * np.array([[1], [0], [3], [2]]) + np.arange(4)
    np.testing.assert_array_equal(run(before=True, after=True), expected)
    with pytest.raises(emulator.EmulationError, match="a block has ended whose memory is read"):
        run(before=False, after=False)
    if not early:  # what nobody has told
        assert not (run(before=False, after=True) == expected).any()


def relayed(kernels, releases, patience, seed, early=False):
    x, flags = np.zeros(5, np.int32), np.zeros(5, np.uint32)
    arguments = (x.ctypes.data, flags.ctypes.data, np.int32(releases), np.int32(patience))
    kernels["relay"]((5,), (2,), arguments, 0, early, seed)
    return x.tolist()


@pytest.mark.parametrize("seed", range(3))
def test_block_waits_for_a_flag_of_another_on_every_schedule(kernels, seed):
    for early in (False, True):
        assert relayed(kernels, True, True, seed, early) == [1, 2, 3, 4, 5]


def test_flag_that_never_comes_ends_the_kernel(kernels):
    with pytest.raises(emulator.EmulationError, match="a block gives up: it waits for what does not come"):
        relayed(kernels, False, True, 0)
    with pytest.raises(emulator.EmulationError, match="blocks wait for each other for ever"):
        relayed(kernels, False, False, 1)


def test_grid_has_whole_clusters(kernels):
    x = np.zeros(16, np.int32)
    with pytest.raises(emulator.EmulationError, match="the grid has no whole number of clusters"):
        kernels["neighbours"]((3,), (4,), (x.ctypes.data, np.int32(1), np.int32(1)), 64)
