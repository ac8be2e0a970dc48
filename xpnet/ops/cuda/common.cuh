// What every kernel here uses.  REAL is float or double; the host puts this text before the kernels' own.
//
// Shapes are those of xpnet/ops/reference.py: R replicas, n samples, d inputs, m outputs, c classes, all
// row by row; replica r of a tensor begins at r * stride, and a stride of 0 is a tensor that all share.
// Every sum has a fixed order, so that the same input gives the same bits.

typedef REAL real;
typedef long long int64;
typedef unsigned char uint8;

// Shared memory whose size the launch gives.
#ifndef DYNAMIC_MEMORY
#define DYNAMIC_MEMORY extern __shared__ __align__(32) uint8 dynamic_memory[]
#endif

DYNAMIC_MEMORY;

// Four neighbours, moved at once.
struct alignas(4) bytes4 { uint8 x, y, z, w; };
struct alignas(4 * sizeof(real)) real4 { real x, y, z, w; };

__device__ real4 load4(const real* at) { return *reinterpret_cast<const real4*>(at); }

// Copies of BYTES (4 or 8) to shared memory, for which a thread does not wait: all that it begins are on their way at
// once, and take no registers.  `copies_done` waits for those of its own thread.
#ifndef EMULATED
template <int BYTES>
__device__ __forceinline__ void copy_later(void* to, const void* from) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    const unsigned int at = __cvta_generic_to_shared(to);
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(at), "l"(from), "n"(BYTES) : "memory");
#else
    for (int k = 0; k < BYTES / 4; ++k) static_cast<int*>(to)[k] = static_cast<const int*>(from)[k];
#endif
}

__device__ __forceinline__ void copies_done() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}
#endif

// Lanes s = 0 ... S - 1 of a group have parts of N sums; lane s gets sums s N / S to (s + 1) N / S in d[0 ... N / S).
// All lanes of a warp take part.
template <int N, int S>
__device__ __forceinline__ void share_sums(real* d, int s) {
    if constexpr (S > 1) {
        const bool upper = s & (S / 2);
#pragma unroll
        for (int k = 0; k < N / 2; ++k) {
            const real given = upper ? d[k] : d[k + N / 2], kept = upper ? d[k + N / 2] : d[k];
            d[k] = kept + __shfl_xor_sync(0xffffffff, given, S / 2);
        }
        share_sums<N / 2, S / 2>(d, s);
    }
}

// The largest over a warp, and of equal ones the first.
__device__ void warp_argmax(real& value, int& index) {
    for (int offset = 16; offset > 0; offset /= 2) {
        const real other = __shfl_xor_sync(0xffffffff, value, offset);
        const int at = __shfl_xor_sync(0xffffffff, index, offset);
        if (other > value || (other == value && at < index)) {
            value = other;
            index = at;
        }
    }
}

__device__ real warp_sum(real value) {
    for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffff, value, offset);
    return value;
}

// Returns the largest score (that of class 0 if all are NaN), the sum of exp(s - largest), and the first best class.
__device__ void warp_softmax(const real* s, int c, int lane, real& largest, real& sum, int& best) {
    best = lane < c ? lane : 0;
    largest = s[best];
    for (int k = lane + 32; k < c; k += 32) {
        if (s[k] > largest) {
            largest = s[k];
            best = k;
        }
    }
    warp_argmax(largest, best);
    sum = 0;
    for (int k = lane; k < c; k += 32) sum += exp(s[k] - largest);
    sum = warp_sum(sum);
}

// Sum `value` over the threads of a column (threadIdx.y, a power of two of them) of a block (columns, rows).
// `part` holds blockDim.x * blockDim.y numbers; all threads of the column get the sum.
template <typename T>
__device__ T column_sum(T value, T* part) {
    const int width = blockDim.x, at = threadIdx.y * width + threadIdx.x;
    part[at] = value;
    __syncthreads();
    for (int half = blockDim.y / 2; half > 0; half /= 2) {
        if (threadIdx.y < half) part[at] += part[at + half * width];
        __syncthreads();
    }
    const T sum = part[threadIdx.x];
    __syncthreads();  // `part` may be written again
    return sum;
}

// Sum `value` over the threads of a block of one dimension (a power of two of them).
__device__ double block_sum(double value, double* part) {
    part[threadIdx.x] = value;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];
        __syncthreads();
    }
    const double sum = part[0];
    __syncthreads();
    return sum;
}

// Return true to the threads of the block that gets here last of `blocks`; `counter` is ready for the next launch.
// What every block wrote before is then visible to that block.
__device__ bool is_last_block(unsigned int* counter, unsigned int blocks) {
    __shared__ bool last;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0 && threadIdx.y == 0) last = atomicInc(counter, blocks - 1) == blocks - 1;
    __syncthreads();
    __threadfence();
    return last;
}

// Sums over a replica's weights, made by several blocks without atomics on numbers: each block leaves its part,
// and the last one adds the parts in their order.
struct Squares {
    double* parts;           // (R, blocks)
    unsigned int* counters;  // (R,)
    double* totals;          // (R,), which the sum is added to
};

// Add `value` of all threads of the blocks (gridDim.x) of replica blockIdx.y to its total.
__device__ void add_squares(double value, const Squares& squares) {
    __shared__ double part[256];
    const int r = blockIdx.y;
    const double of_block = block_sum(value, part);
    if (threadIdx.x == 0) squares.parts[(int64)r * gridDim.x + blockIdx.x] = of_block;
    if (is_last_block(squares.counters + r, gridDim.x)) {
        double rest = 0;
        for (int i = threadIdx.x; i < gridDim.x; i += blockDim.x) rest += squares.parts[(int64)r * gridDim.x + i];
        const double total = block_sum(rest, part);
        if (threadIdx.x == 0) squares.totals[r] += total;
    }
}
