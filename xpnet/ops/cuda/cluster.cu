// What the blocks of a cluster, and all blocks of a grid, tell each other; and the layers of one network but the first
// with the samples of a batch divided among the blocks of a cluster.  See persistent.cu.
//
// Within a cluster, a block writes to its own shared memory alone, and reads that of the others (`peer`).  The cluster's
// barrier orders both: what was written before it is there behind it, and what was read before it may be overwritten.

#define CLUSTER 8  // blocks of a cluster: as many as every GPU with clusters grants

#ifndef EMULATED
// The same place in the shared memory of another block of the cluster.
template <typename T>
__device__ __forceinline__ const T* peer(const T* at, unsigned int rank) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    unsigned long long there;
    asm("mapa.u64 %0, %1, %2;" : "=l"(there) : "l"(at), "r"(rank));
    return reinterpret_cast<const T*>(there);
#else
    return at;
#endif
}

// All threads of a cluster wait for each other; what one wrote to its block's shared memory before is seen by all.  A
// barrier that releases everything would first wait until all writes to device memory have reached its cache, which takes
// longer than all else here; a fence of shared memory alone does not, where the compiler knows it.  What a thread has read
// of other blocks it has also used before, so these reads are done.
__device__ __forceinline__ void cluster_barrier() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#if __CUDACC_VER_MAJOR__ * 100 + __CUDACC_VER_MINOR__ >= 1208
    asm volatile("fence.release.sync_restrict::shared::cta.cluster;\nbarrier.cluster.arrive.relaxed.aligned;" ::: "memory");
#else
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#endif
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

// Write to device memory what other blocks read once a flag says so.
template <typename T>
__device__ __forceinline__ void tell(T* at, const T& value) {
    *at = value;
}

// Set a flag: what this thread, and before a barrier its block, wrote is there for those who see it.
__device__ __forceinline__ void store_release(unsigned int* flag, unsigned int value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 700
    asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(flag), "r"(value) : "memory");
#endif
}

__device__ __forceinline__ unsigned int load_acquire(const unsigned int* flag) {
    unsigned int value = 0;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 700
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(flag) : "memory");
#endif
    return value;
}

// End the kernel with an error, which all blocks and the host get.
__device__ __forceinline__ void give_up() { asm volatile("trap;"); }

// Four numbers that other blocks wrote to device memory, from its cache that all blocks share.
__device__ __forceinline__ real4 load_told(const real* at) {
    if constexpr (sizeof(real) == 4) {
        const float4 v = __ldcg(reinterpret_cast<const float4*>(at));
        return real4{real(v.x), real(v.y), real(v.z), real(v.w)};
    } else {
        const double2 a = __ldcg(reinterpret_cast<const double2*>(at)), b = __ldcg(reinterpret_cast<const double2*>(at) + 1);
        return real4{real(a.x), real(a.y), real(b.x), real(b.y)};
    }
}
#endif

constexpr long long PATIENCE = 1ll << 32;  // cycles of the clock, some seconds: whoever waits longer waits for ever

// Wait until a flag has `number` or, as its numbers only grow, a later one.
__device__ void wait_for(const unsigned int* flag, unsigned int number) {
    const long long begin = clock64();
    while (int(load_acquire(flag) - number) < 0)
        if (clock64() - begin > PATIENCE) give_up();
}

// What a block has in shared memory beside what `Plan` says; it lies before that.
struct Own {
    int rows;                   // of W1, a multiple of four
    int at_W1, at_V1;           // (rows, padded), velocities with MOMENTUM
    int at_scales;              // whole, rest and factor of its features (3, rows)
    int at_raw;                 // bytes of the next batch (n, rows)
    int at_x;                   // inputs of two batches (2, n, rows)
    int at_product;             // x W1 of these features (n, padded)
    int at_g1;                  // dJ/d(x W1) * eta of all samples (n, padded), where the product was
    int at_dW;                  // this block's part of the gradients of the other layers, laid out as their weights are
    int at_sums;                // what this block tells its cluster (2, 3, WIDTH)
    int at_told;                // what the cluster's blocks told this one (CLUSTER, 3, WIDTH)
    int at_part;                // numbers of each thread (3, THREADS)
    int at_order;               // samples of two batches (2, n), in eight bytes each
    int at_warps;               // figures of each warp (4, THREADS / 32), in eight bytes each
    int unused[2];
};

// A block of a cluster, which has some of the samples in all layers but the first.
struct Member {
    Upper u;         // its n is the number of samples of this block
    const Own* own;
    int rank;        // in its cluster
    int n, each;     // samples of a batch, and of a block, at most
    int first;       // the block's first sample
};

__device__ int samples_of(const Member& t, int rank) { return max(0, min(t.each, t.n - rank * t.each)); }

// The sums that this block tells, in one of two places, which take turns: the others may still read the last ones while
// it writes the next ones.
__device__ real* sums_at(const Member& t, int turn) { return t.u.memory + t.own->at_sums + turn % 2 * 3 * WIDTH; }

// Sum K values of each unit j = threadIdx.x % WIDTH over the block's threads, to be told.
template <int K>
__device__ void tell_sums(const Member& t, const real (&values)[K], int turn) {
    real* part = t.u.memory + t.own->at_part;
#pragma unroll
    for (int k = 0; k < K; ++k) part[k * THREADS + threadIdx.x] = values[k];
    __syncthreads();
    for (int at = threadIdx.x; at < K * WIDTH; at += THREADS) {
        const real* from = part + at / WIDTH * THREADS + at % WIDTH;
        real sum = 0;
#pragma unroll
        for (int group = 0; group < GROUPS; ++group) sum += from[group * WIDTH];
        sums_at(t, turn)[at] = sum;
    }
}

// Behind the cluster's barrier: fetch the K sums of each unit that all its blocks tell.
template <int K>
__device__ void fetch_sums(const Member& t, int turn) {
    const real* from = sums_at(t, turn);
    real* to = t.u.memory + t.own->at_told;
    for (int k = 4 * threadIdx.x; k < CLUSTER * K * WIDTH; k += 4 * THREADS) {
        const int rank = k / (K * WIDTH), at = k % (K * WIDTH);
        *reinterpret_cast<real4*>(to + rank * 3 * WIDTH + at) = load4(peer(from + at, rank));
    }
    __syncthreads();
}

// The sum of what they told of number k of this thread's unit, in the order of their ranks.
__device__ real told_sum(const Member& t, int k) {
    const real* from = t.u.memory + t.own->at_told + k * WIDTH + threadIdx.x % WIDTH;
    real sum = 0;
#pragma unroll
    for (int rank = 0; rank < CLUSTER; ++rank) sum += from[rank * 3 * WIDTH];
    return sum;
}

// Products for few samples: a thread has four numbers of one sample, and S lanes share them, each over every S-th four
// of the sum.  Padding as for `small_product`.

// C (n, m) = A (n, k) B (k, m), or with TRANSPOSED = A (n, k) B' (k, m), where rows of B have `lda` numbers.
template <bool TRANSPOSED, int S>
__device__ void thin_product(const real* A, int lda, const real* B, real* C, int ldc, int n) {
    constexpr int AT_ONCE = TRANSPOSED ? 1 : 2;  // of a thread's sums: as registers allow
    const int across = ldc / 4, tiles = n * across, s = threadIdx.x % S;
    for (int base = 0; base < tiles; base += THREADS / S) {  // all threads go round as often: they hand on sums
        const int tile = base + threadIdx.x / S;
        const bool mine = tile < tiles;
        const int j = mine ? 4 * (tile % across) : 0, i = mine ? tile / across : 0;
        real c[4] = {};
#pragma unroll AT_ONCE
        for (int q = 4 * s; q < lda; q += 4 * S) {
            const real4 a = load4(A + i * lda + q);
            if constexpr (TRANSPOSED) {
#pragma unroll
                for (int o = 0; o < 4; ++o) c[o] += dot4(a, load4(B + (j + o) * lda + q));
            } else {
                const real4 b0 = load4(B + q * ldc + j), b1 = load4(B + (q + 1) * ldc + j);
                const real4 b2 = load4(B + (q + 2) * ldc + j), b3 = load4(B + (q + 3) * ldc + j);
                c[0] += a.x * b0.x + a.y * b1.x + a.z * b2.x + a.w * b3.x;
                c[1] += a.x * b0.y + a.y * b1.y + a.z * b2.y + a.w * b3.y;
                c[2] += a.x * b0.z + a.y * b1.z + a.z * b2.z + a.w * b3.z;
                c[3] += a.x * b0.w + a.y * b1.w + a.z * b2.w + a.w * b3.w;
            }
        }
        share_sums<4, S>(c, s);
#pragma unroll
        for (int k = 0; k < 4 / S; ++k)
            if (mine) C[i * ldc + j + s * (4 / S) + k] = c[k];
    }
}

template <bool TRANSPOSED>
__device__ void thin_product(const real* A, int lda, const real* B, real* C, int ldc, int n) {
    const int tiles = n * (ldc / 4);
    if (4 * tiles <= THREADS) thin_product<TRANSPOSED, 4>(A, lda, B, C, ldc, n);
    else if (2 * tiles <= THREADS) thin_product<TRANSPOSED, 2>(A, lda, B, C, ldc, n);
    else thin_product<TRANSPOSED, 1>(A, lda, B, C, ldc, n);
}

// Y' G (k, m) in tiles of four by four numbers, by `use(row, column, four numbers)`.  S lanes share a tile: each sums over
// every S-th sample, and then has some of its rows.
template <int S, typename Use>
__device__ void gradient_tiles(const real* Y, int ldy, const real* G, int ldg, int n, Use use) {
    const int across = ldg / 4, tiles = ldy / 4 * across, s = threadIdx.x % S;
    for (int base = 0; base < tiles; base += THREADS / S) {
        const int tile = base + threadIdx.x / S;
        const bool mine = tile < tiles;
        const int j = mine ? 4 * (tile % across) : 0, q = mine ? 4 * (tile / across) : 0;
        real d[16] = {};
#pragma unroll 4
        for (int i = s; i < n; i += S) {
            const real4 y = load4(Y + i * ldy + q), g = load4(G + i * ldg + j);
            const real of[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
            for (int p = 0; p < 4; ++p) {
                d[4 * p] += of[p] * g.x;
                d[4 * p + 1] += of[p] * g.y;
                d[4 * p + 2] += of[p] * g.z;
                d[4 * p + 3] += of[p] * g.w;
            }
        }
        share_sums<16, S>(d, s);
#pragma unroll
        for (int p = 0; p < 4 / S; ++p)
            if (mine) use(q + s * (4 / S) + p, j, real4{d[4 * p], d[4 * p + 1], d[4 * p + 2], d[4 * p + 3]});
    }
}

template <typename Use>
__device__ void gradient_tiles(const real* Y, int ldy, const real* G, int ldg, int n, Use use) {
    const int tiles = ldy / 4 * (ldg / 4);
    if (4 * tiles <= THREADS) gradient_tiles<4>(Y, ldy, G, ldg, n, use);
    else if (2 * tiles <= THREADS) gradient_tiles<2>(Y, ldy, G, ldg, n, use);
    else gradient_tiles<1>(Y, ldy, G, ldg, n, use);
}

// Four weights move by their gradient; `velocities` are null without MOMENTUM.  Returns the sum of their squares before.
__device__ double move_four(real* at, real* velocities, real4 d, const Push& push, real decay) {
    const real4 w = load4(at);
#if MOMENTUM
    real4 v = load4(velocities);
    const real4 after = {pushed(push, w.x, v.x, d.x + decay * w.x), pushed(push, w.y, v.y, d.y + decay * w.y),
                         pushed(push, w.z, v.z, d.z + decay * w.z), pushed(push, w.w, v.w, d.w + decay * w.w)};
    *reinterpret_cast<real4*>(velocities) = v;
#else
    const real4 after = {decay * w.x - d.x, decay * w.y - d.y, decay * w.z - d.z, decay * w.w - d.w};
#endif
    *reinterpret_cast<real4*>(at) = after;
    return (double)w.x * w.x + (double)w.y * w.y + (double)w.z * w.z + (double)w.w * w.w;
}

// A number of the block of units moves, in this block's shared memory.
__device__ void move_own_unit(const Upper& u, int at, real step) {
    real& p = units_of(u)[at];
#if MOMENTUM
    p = pushed(push_of(u.memory, u.plan, u.momentum.nesterov), p, u.memory[u.plan->at_unit_velocities + at], step);
#else
    p -= step;
#endif
}

// A figure of the step: its sum over each warp's lanes waits until `tell_figures`, behind a barrier, adds the warps.
enum { OF_W1, OF_LOSS, OF_RIGHT, OF_UPPER };

__device__ double* warps_of(const Member& t, int which) {
    return reinterpret_cast<double*>(t.u.memory + t.own->at_warps) + which * (THREADS / 32);
}

__device__ void keep_figure(const Member& t, int which, double value) {
    for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffff, value, offset);
    if (threadIdx.x % 32 == 0) warps_of(t, which)[threadIdx.x / 32] = value;
}
